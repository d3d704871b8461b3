//! A streamed answer. Its head waits for the first content, so that failover stays invisible. After some seconds without any,
//! the head goes out, and signs of life between events keep proxies from giving up. What fails later is told in-band.

use super::{
    body::{Body, Broken},
    error::Fault,
    serving::Serving,
    way::route_headers,
    words::Words,
};
use crate::{
    gate::{Gate, Inside, PartysCall, Patience, Refusal, ended_unread},
    invoke::{CallError, ForwardAnswer, Passed, Piece, Relayed, RelayedStream, Streamed, WholeAnswer},
    wire::Output,
};
use bytes::Bytes;
use futures::{future::BoxFuture, stream};
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use http_body::Frame;
use std::{future::pending, time::Duration};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// After so long without a word a sign of life goes out. Proxies give up after 30 s and more.
pub(super) const ALIVE: Duration = Duration::from_secs(15);
/// An answer ends by itself at its deadline. One that is still open this much later has no reader.
const UNREAD: Duration = Duration::from_secs(1);

/// nginx sends what it gathers of an answer at once, unless this says no
/// (<https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering>).
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// An answer whose head may go out.
pub(super) struct Begun {
    status: StatusCode,
    headers: HeaderMap,
    source: Source,
    words: Option<Words>,
    deadline: Instant,
    /// When something was last said.
    said: Instant,
}

/// Where pieces come from.
enum Source {
    /// A call whose first content is still to come.
    Waiting(BoxFuture<'static, Result<Relayed, CallError>>),
    /// A call that is served.
    Relayed(Box<Streamed<Piece>>),
    /// What is passed on unread.
    Passed(Box<Streamed<Passed>>),
}

impl Begun {
    /// One whose first content is there.
    pub(super) fn now(stream: RelayedStream, words: Words, deadline: Instant) -> Self {
        let RelayedStream { mut headers, mut pieces } = stream;
        if let Some(news) = pieces.news() {
            route_headers(&news.route, &mut headers);
        }
        let words = event_headers(&words, &mut headers).then_some(words);
        let source = Source::Relayed(Box::new(pieces));
        Self { status: StatusCode::OK, headers, source, words, deadline, said: Instant::now() }
    }

    /// One whose first content is late, of a call that began then.
    pub(super) fn late(
        call: BoxFuture<'static, Result<Relayed, CallError>>,
        words: Words,
        deadline: Instant,
        began: Instant,
    ) -> Self {
        let mut headers = HeaderMap::new();
        event_headers(&words, &mut headers);
        let (source, words) = (Source::Waiting(call), Some(words));
        Self { status: StatusCode::OK, headers, source, words, deadline, said: began }
    }

    /// One that is passed on unread.
    pub(super) fn forwarded(answer: ForwardAnswer, deadline: Instant) -> Self {
        let ForwardAnswer { status, headers: told, mut body } = answer;
        let mut headers = HeaderMap::new();
        for name in ["content-type", "content-disposition"] {
            if let Some(value) = told.get(name).and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        if let Some(news) = body.news() {
            route_headers(&news.route, &mut headers);
        }
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        let source = Source::Passed(Box::new(body));
        Self { status, headers, source, words: None, deadline, said: Instant::now() }
    }

    /// The response. It holds the call until its last piece is out, or its reader gone.
    pub(super) fn response(self, door: &Serving, call: (Inside, PartysCall)) -> Response<Body> {
        let pouring = Pouring {
            source: self.source,
            words: self.words,
            call,
            gate: door.gate.clone(),
            stop: door.stop.clone(),
            said: self.said,
        };
        let pieces = stream::unfold(Some(Box::new(pouring)), |pouring| async {
            let mut pouring = pouring?;
            let (piece, goes_on) = pouring.next().await?;
            Some((piece, goes_on.then_some(pouring)))
        });
        let pieces = ended_unread(Box::pin(pieces), Patience::Until(self.deadline + UNREAD), || Err(Broken));
        let body = door.gate.contained_body(Body::pieces(pieces), panicked);
        let mut response = Response::new(Body::Made(Box::new(body)));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// Adds what a stream of events has. False where the answer is none.
fn event_headers(words: &Words, headers: &mut HeaderMap) -> bool {
    let Some(kind) = words.stream_type() else { return false };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(BUFFERING, HeaderValue::from_static("no"));
    true
}

/// An answer that goes out.
struct Pouring {
    source: Source,
    words: Option<Words>,
    call: (Inside, PartysCall),
    gate: Gate,
    stop: CancellationToken,
    /// When something was last said.
    said: Instant,
}

/// What comes next.
enum Next {
    Served(Result<Relayed, CallError>),
    Piece(Option<Result<Piece, CallError>>),
    Passed(Option<Result<Passed, CallError>>),
    /// It has been silent for long.
    Silence,
    Stopped,
    Panicked,
}

impl Pouring {
    /// The next bytes, and whether more follow. None at the end.
    async fn next(&mut self) -> Option<(Result<Bytes, Broken>, bool)> {
        loop {
            let mut out = Vec::new();
            let goes_on = match self.wait().await {
                Next::Served(Ok(relayed)) => self.served(relayed, &mut out),
                Next::Served(Err(error)) | Next::Piece(Some(Err(error))) | Next::Passed(Some(Err(error))) => {
                    return Some(self.failed(error.into()));
                }
                Next::Panicked => return Some(self.failed(Refusal::Panicked.into())),
                Next::Stopped => return Some(self.failed(Refusal::Draining.into())),
                Next::Piece(Some(Ok(piece))) => {
                    self.say(piece, &mut out);
                    true
                }
                Next::Passed(Some(Ok(piece))) => {
                    out.extend_from_slice(&piece.bytes);
                    true
                }
                Next::Piece(None) | Next::Passed(None) => {
                    self.call.0.ended("OK");
                    if let Some(words) = &mut self.words {
                        let (writer, stamp) = words.writer();
                        writer.end(stamp, &mut out);
                    }
                    false
                }
                Next::Silence => {
                    if let Some(words) = &mut self.words {
                        out.extend_from_slice(words.writer().0.keep_alive());
                    }
                    true
                }
            };
            self.said = Instant::now();
            if !out.is_empty() {
                return Some((Ok(out.into()), goes_on));
            }
            if !goes_on {
                return None;
            }
        }
    }

    async fn wait(&mut self) -> Next {
        let silence = async {
            match self.words {
                Some(_) => sleep_until(self.said + ALIVE).await,
                None => pending().await,
            }
        };
        let (source, gate) = (&mut self.source, &self.gate);
        let next = async {
            match source {
                Source::Waiting(call) => match gate.contained(call).await {
                    Ok(served) => Next::Served(served),
                    Err(_) => Next::Panicked,
                },
                Source::Relayed(pieces) => Next::Piece(pieces.next().await),
                Source::Passed(pieces) => Next::Passed(pieces.next().await),
            }
        };
        tokio::select! {
            biased;
            next = next => next,
            () = self.stop.cancelled() => Next::Stopped,
            () = silence => Next::Silence,
        }
    }

    /// The first content has come after all.
    fn served(&mut self, relayed: Relayed, out: &mut Vec<u8>) -> bool {
        match relayed {
            Relayed::Stream(stream) => {
                self.source = Source::Relayed(Box::new(stream.pieces));
                true
            }
            Relayed::Whole(served) => {
                self.call.0.ended("OK");
                if let (Some(words), WholeAnswer::Translated(Output::Chat(reply))) =
                    (&mut self.words, served.reply)
                {
                    let (writer, stamp) = words.writer();
                    for event in reply.into_events() {
                        writer.event(stamp, event, out);
                    }
                    writer.end(stamp, out);
                }
                false
            }
        }
    }

    fn say(&mut self, piece: Piece, out: &mut Vec<u8>) {
        match (piece, self.words.as_mut().map(Words::writer)) {
            (Piece::Bytes(bytes), _) => out.extend_from_slice(&bytes),
            (Piece::Same { frame, events }, Some((writer, _))) => {
                for event in &events {
                    writer.heard(event);
                }
                writer.frame(&frame.name, &frame.data, out);
            }
            (Piece::Translated(event), Some((writer, stamp))) => writer.event(stamp, event, out),
            // What has no words has no frames.
            (Piece::Same { .. } | Piece::Translated(_), None) => {}
        }
    }

    /// Tells of the failure in-band, or breaks off what has no words for it.
    fn failed(&mut self, fault: Fault) -> (Result<Bytes, Broken>, bool) {
        self.call.0.ended(fault.outcome);
        let Some(words) = &mut self.words else { return (Err(Broken), false) };
        let (writer, stamp) = words.writer();
        let mut out = Vec::new();
        writer.error(stamp, &fault.report, &mut out);
        (Ok(out.into()), false)
    }
}

/// What an answer that has panicked ends with: it breaks off.
fn panicked() -> Result<Frame<Bytes>, Broken> {
    Err(Broken)
}
