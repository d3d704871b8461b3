//! The ways in which servers put a good answer, or an error in the middle of one, otherwise than their protocol's page
//! says. Each holds in every dialect.

use super::{
    dialect::{Dialect, Pieces},
    reply::Step,
};
use axum::body::Bytes;
use serde_json::{Value, json};

/// How a good stream is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `data:` without a space behind it, which the standard takes too.
    NoSpace,
    /// Lines end with a carriage return and a line feed (CRLF).
    CrLf,
    /// Lines end with a carriage return (CR).
    Cr,
    /// A byte order mark before the first line.
    ByteOrderMark,
    /// Every byte by itself.
    Bytes,
    /// Between the events: comments, events without data, `retry`.
    Heartbeats,
    /// No blank line behind the last event.
    Unterminated,
    /// The connection breaks behind the finish reason, before the last word.
    Breaks,
    /// What says why it ends comes twice.
    EndsTwice,
    /// `[DONE]` at the end, whatever the vendor has in its place.
    Done,
    /// An `error` with nothing in it beside every event, and beside a whole answer.
    EmptyErrors,
}

/// How an error stands in a stream, where it is not an event like the vendor's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorForm {
    /// The field `error:`, then `[DONE]`: llama.cpp (<https://github.com/ggml-org/llama.cpp/issues/16109>).
    Field,
    /// JSON over several lines that are no fields: Gemini, when a quota ends in the middle
    /// (<https://github.com/maximhq/bifrost/issues/5262>).
    Bare,
    /// The same on one line, then `[DONE]`.
    BareLine,
    /// An event of type `error` with the error itself as its data.
    Named,
}

/// Lines that say nothing
/// (<https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>).
const HEARTBEATS: &str =
    ": heartbeat\n\ndata:\n\nevent: ping\ndata:\n\n: x\nevent: heartbeat\n\nretry: 3000\n\n";

impl Framing {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::NoSpace,
        Self::CrLf,
        Self::Cr,
        Self::ByteOrderMark,
        Self::Bytes,
        Self::Heartbeats,
        Self::Unterminated,
        Self::Breaks,
        Self::EndsTwice,
        Self::Done,
        Self::EmptyErrors,
    ];

    /// The steps of a stream that is put so.
    pub(super) fn steps(self, pieces: Pieces) -> Vec<Step> {
        let Pieces { start, content, end, done, .. } = pieces;
        let before: Vec<Bytes> = start.into_iter().chain(content).collect();
        let send = |pieces: &[Bytes]| pieces.iter().cloned().map(Step::Send).collect::<Vec<_>>();
        let all = [before.clone(), end.clone(), done.clone()].concat();
        let rewritten = |change: &dyn Fn(&str) -> String| -> Vec<Step> {
            all.iter().map(|piece| Step::Send(change(&String::from_utf8_lossy(piece)).into())).collect()
        };
        match self {
            Self::NoSpace => rewritten(&|text| text.replace("data: ", "data:").replace("event: ", "event:")),
            Self::CrLf => rewritten(&|text| text.replace('\n', "\r\n")),
            Self::Cr => rewritten(&|text| text.replace('\n', "\r")),
            Self::ByteOrderMark => [vec![Step::Send("\u{feff}".into())], send(&all)].concat(),
            Self::Bytes => all.concat().iter().map(|byte| Step::Send(vec![*byte].into())).collect(),
            Self::Heartbeats => rewritten(&|text| format!("{HEARTBEATS}{text}")),
            Self::Unterminated => {
                let mut text = all.concat();
                text.truncate(text.trim_ascii_end().len());
                vec![Step::Send(text.into())]
            }
            Self::Breaks => [send(&before), send(&end), vec![Step::Flush, Step::Break]].concat(),
            Self::EndsTwice => [send(&before), send(&end), send(&end), send(&done)].concat(),
            Self::Done => [send(&all), vec![Step::Send("data: [DONE]\n\n".into())]].concat(),
            Self::EmptyErrors => rewritten(&|text| beside(text)),
        }
    }

    /// A whole answer that is put so.
    pub(super) fn whole(self, body: &Value) -> Value {
        let mut body = body.clone();
        if let Some(fields) = body.as_object_mut().filter(|_| self == Self::EmptyErrors) {
            fields.insert("error".into(), empty_error());
        }
        body
    }
}

/// What some gateways send along with every good answer (<https://github.com/BerriAI/litellm/issues/18407>).
fn empty_error() -> Value {
    json!({"message": "", "type": "", "param": "", "code": null})
}

/// An event with an empty error in its JSON, where that is an object.
fn beside(event: &str) -> String {
    let lines = event.split('\n').map(|line| {
        let object = line.strip_prefix("data: ").and_then(|data| serde_json::from_str::<Value>(data).ok());
        match object {
            Some(Value::Object(mut fields)) => {
                fields.insert("error".into(), empty_error());
                format!("data: {}", Value::Object(fields))
            }
            _ => line.to_owned(),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

impl ErrorForm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Field, Self::Bare, Self::BareLine, Self::Named];

    /// What stands in the stream, for what a script gives as its error.
    pub(super) fn bytes(self, dialect: &dyn Dialect, error: &Value) -> Bytes {
        let around = dialect.around(error);
        match self {
            Self::Field => format!("error: {error}\n\ndata: [DONE]\n\n"),
            Self::Bare => format!("{around:#}\n"),
            Self::BareLine => format!("{around}\n\ndata: [DONE]\n\n"),
            Self::Named => format!("event: error\ndata: {error}\n\n"),
        }
        .into()
    }
}
