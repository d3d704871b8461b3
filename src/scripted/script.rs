//! What a scripted upstream does with a request, in any dialect. A stream first sends everything that comes before its
//! content, so "after 0 chunks" is still before the first content.

use super::{
    Recorded,
    dialect::{self, Answer, Dialect, Pieces},
    echo,
    framing::{ErrorForm, Framing},
    raw::Raw,
    reply::{Reply, Step, json_reply},
};
use axum::{
    body::Bytes,
    http::{HeaderValue, StatusCode, header},
};
use serde_json::{Value, json};
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// What the upstream does with the requests of one key. "Chunks" are a stream's chunks with content; where a script
/// speaks of them and the request is for no stream, the half of the body takes their place.
#[derive(Debug, Clone)]
pub enum Script {
    /// Answers well.
    Answer,
    /// Waits, then does the other.
    Delayed(Duration, Box<Script>),
    /// One after the other, a request each; the last repeats.
    Sequence(VecDeque<Script>),
    /// Does the other until then, and answers well afterwards. See [`Script::for_duration`].
    Until(Instant, Box<Script>),
    /// Fails with a status, a `Retry-After` header, and an error body; without one, with the usual for the status.
    Fail {
        /// The HTTP status.
        status: u16,
        /// The header's text, verbatim.
        retry_after: Option<String>,
        /// The body.
        body: Option<Value>,
    },
    /// Fails with 429 and `Retry-After` = the seconds until then, rounded up; answers well afterwards. See
    /// [`Script::rate_limited_for`].
    RateLimitedUntil(Instant),
    /// Never answers.
    Hang,
    /// Closes the connection without an answer.
    Close,
    /// Breaks the connection after so many chunks.
    BreakAfter(usize),
    /// Goes silent after so many chunks, without closing.
    StallAfter(usize),
    /// Ends the stream cleanly, but without finish reason or `[DONE]`, after so many chunks.
    EndAfter(usize),
    /// Sends an error under status 200 after so many chunks, then ends. The value is what stands under `error`.
    ErrorAfter(usize, Value),
    /// The same in another form, in a stream.
    ErrorAs(ErrorForm, usize, Value),
    /// Waits so long before every chunk.
    Slow(Duration),
    /// Streams its first chunk so many times, its text stretched to so many bytes: an answer as long as it takes.
    Long {
        /// How many.
        chunks: usize,
        /// How long the text of each is.
        bytes: usize,
    },
    /// Streams all but the last word: `[DONE]`, or what the vendor has in its place.
    WithoutDone,
    /// Sends JSON that breaks off.
    MalformedJson,
    /// Sends, under status 200, what is not the protocol.
    NotTheProtocol,
    /// Answers well, and puts its answer otherwise than the protocol's page says.
    Framed(Framing),
    /// Streams where a whole answer was asked for, and the other way round.
    Otherwise,
    /// Sends these bytes.
    Raw(Raw),
}

impl Script {
    /// Fails with a status and the usual error body for it.
    #[must_use]
    pub fn fail(status: u16) -> Self {
        Self::Fail { status, retry_after: None, body: None }
    }

    /// Fails with a status and a `Retry-After` header.
    #[must_use]
    pub fn fail_for(status: u16, retry_after: impl Into<String>) -> Self {
        Self::Fail { status, retry_after: Some(retry_after.into()), body: None }
    }

    /// Fails with a status and what stands under `error` in the body.
    #[must_use]
    pub fn fail_with(status: u16, error: &Value) -> Self {
        Self::Fail { status, retry_after: None, body: Some(json!({ "error": error })) }
    }

    /// One after the other, a request each; the last repeats.
    #[must_use]
    pub fn sequence(scripts: impl IntoIterator<Item = Self>) -> Self {
        Self::Sequence(scripts.into_iter().collect())
    }

    /// Waits, then does this.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self::Delayed(delay, Box::new(self))
    }

    /// Does this for so long from now, and answers well afterwards.
    #[must_use]
    pub fn for_duration(self, duration: Duration) -> Self {
        Self::Until(Instant::now() + duration, Box::new(self))
    }

    /// Answers 429 for so long from now, saying in `Retry-After` how long that still is.
    #[must_use]
    pub fn rate_limited_for(duration: Duration) -> Self {
        Self::RateLimitedUntil(Instant::now() + duration)
    }

    /// What the next request gets: never a sequence, and nothing that is over.
    pub(super) fn next(&mut self) -> Self {
        match self {
            Self::Sequence(scripts) if scripts.len() > 1 => {
                scripts.pop_front().map_or(Self::Answer, |mut script| script.next())
            }
            Self::Sequence(scripts) => scripts.front_mut().map_or(Self::Answer, Self::next),
            Self::Until(end, script) if Instant::now() < *end => script.next(),
            Self::RateLimitedUntil(end) if Instant::now() < *end => {
                let left = end.saturating_duration_since(Instant::now());
                Self::fail_for(429, (left.as_millis().div_ceil(1000)).to_string())
            }
            Self::Until(..) | Self::RateLimitedUntil(_) => Self::Answer,
            Self::Delayed(delay, script) => script.next().after(*delay),
            other => other.clone(),
        }
    }

    /// What to send to that request; none means never to answer.
    pub(super) fn reply(self, dialect: &dyn Dialect, request: &Recorded) -> Option<Reply> {
        Some(match self {
            Self::Hang => return None,
            Self::Delayed(delay, script) => {
                let reply = script.reply(dialect, request)?;
                Reply { delay: reply.delay + delay, ..reply }
            }
            Self::Raw(raw) => raw.reply(),
            Self::Otherwise => Self::Answer.reply(dialect, &dialect.otherwise(request))?,
            Self::Close => Reply { steps: [Step::Break].into(), ..Reply::default() },
            Self::Fail { status, retry_after, body } => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let mut reply =
                    json_reply(status, &body.unwrap_or_else(|| dialect.error(status.as_u16(), &request.key)));
                if let Some(value) = retry_after.and_then(|text| HeaderValue::from_str(&text).ok()) {
                    reply.headers.insert(header::RETRY_AFTER, value);
                }
                reply
            }
            script => match dialect.answer(request).or_else(|| echo::answer(request)) {
                Some(Answer::Refused(status, body)) => json_reply(status, &body),
                Some(Answer::Whole(body)) => script.whole(dialect, &body),
                Some(Answer::Pieces(pieces)) => script.in_pieces(dialect, pieces),
                None => json_reply(StatusCode::NOT_FOUND, &dialect.error(404, &request.key)),
            },
        })
    }

    fn whole(self, dialect: &dyn Dialect, body: &Value) -> Reply {
        let mut reply = json_reply(StatusCode::OK, body);
        let text = body.to_string();
        let begin = || Step::Send(half(text.as_bytes()));
        reply.steps = match self {
            Self::BreakAfter(_) => [begin(), Step::Flush, Step::Break].into(),
            Self::StallAfter(_) => [begin(), Step::Stall].into(),
            Self::EndAfter(_) | Self::MalformedJson => [begin()].into(),
            Self::ErrorAfter(_, error) | Self::ErrorAs(_, _, error) => {
                return json_reply(StatusCode::OK, &dialect.around(&error));
            }
            Self::Framed(framing) => return json_reply(StatusCode::OK, &framing.whole(body)),
            Self::NotTheProtocol => return json_reply(StatusCode::OK, &json!({"hello": "world"})),
            Self::Slow(delay) => [Step::Wait(delay), Step::Send(text.into())].into(),
            _ => return reply,
        };
        reply
    }

    fn in_pieces(self, dialect: &dyn Dialect, pieces: Pieces) -> Reply {
        let content_type = HeaderValue::from_static(pieces.content_type);
        if let Self::Framed(framing) = self {
            let mut reply = Reply { steps: framing.steps(pieces).into(), ..Reply::default() };
            reply.headers.insert(header::CONTENT_TYPE, content_type);
            return reply;
        }
        let Pieces { start, content, end, done, .. } = pieces;
        let send = |piece: &Bytes| Step::Send(piece.clone());
        let until = |count: usize, last: Vec<Step>| {
            start.iter().chain(content.iter().take(count)).map(send).chain(last).collect()
        };
        let all = || start.iter().chain(&content).chain(&end);
        let steps = match self {
            Self::BreakAfter(count) => until(count, vec![Step::Flush, Step::Break]),
            Self::StallAfter(count) => until(count, vec![Step::Stall]),
            Self::EndAfter(count) => until(count, Vec::new()),
            Self::ErrorAfter(count, error) => {
                until(count, vec![Step::Send(dialect.frame(&dialect.event_around(&error)))])
            }
            Self::ErrorAs(form, count, error) => until(count, vec![Step::Send(form.bytes(dialect, &error))]),
            Self::MalformedJson => {
                let broken = content.first().map(|piece| [&half(piece), &b"\n\n"[..]].concat());
                until(0, broken.map(|broken| Step::Send(broken.into())).into_iter().collect())
            }
            Self::NotTheProtocol => [Step::Send("hello, world\n\n".into())].into(),
            Self::WithoutDone => all().map(send).collect(),
            Self::Long { chunks, bytes } => {
                let long = content.first().map(|piece| Step::Repeat(stretched(piece, bytes), chunks));
                start.iter().map(send).chain(long).chain(end.iter().chain(&done).map(send)).collect()
            }
            Self::Slow(delay) => all()
                .flat_map(|piece| [Step::Wait(delay), send(piece)])
                .chain(done.iter().map(send))
                .collect(),
            _ => all().chain(&done).map(send).collect(),
        };
        let mut reply = Reply { steps, ..Reply::default() };
        reply.headers.insert(header::CONTENT_TYPE, content_type);
        reply
    }
}

/// The same piece with another text of that length in the place of its own.
fn stretched(piece: &Bytes, length: usize) -> Bytes {
    String::from_utf8_lossy(piece).replacen(dialect::FIRST_WORD, &"x".repeat(length), 1).into()
}

/// The first half of it.
fn half(bytes: &[u8]) -> Bytes {
    bytes.iter().take(bytes.len() / 2).copied().collect()
}
