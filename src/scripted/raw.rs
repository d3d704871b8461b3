//! An answer that is given byte by byte: for what a vendor sends and no dialect says of itself.

use super::reply::{Reply, Step};
use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
};
use serde_json::Value;
use std::{collections::VecDeque, time::Duration};

/// The bytes of an answer, whatever was asked for: its status, its headers, and a body in pieces.
#[derive(Debug, Clone)]
pub struct Raw {
    status: u16,
    headers: HeaderMap,
    steps: VecDeque<Step>,
}

impl Raw {
    /// A body of that media type under status 200.
    #[must_use]
    pub fn new(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        Self { status: 200, headers, steps: VecDeque::new() }.then(body)
    }

    /// JSON.
    #[must_use]
    pub fn json(body: &Value) -> Self {
        Self::new("application/json", body.to_string())
    }

    /// A stream of server-sent events, as it is written.
    #[must_use]
    pub fn stream(text: impl Into<Bytes>) -> Self {
        Self::new("text/event-stream", text)
    }

    /// A stream of server-sent events with these data and nothing behind them.
    #[must_use]
    pub fn events<'v>(events: impl IntoIterator<Item = &'v Value>) -> Self {
        Self::stream(events.into_iter().map(|event| format!("data: {event}\n\n")).collect::<String>())
    }

    /// Under that status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// With that header, in place of one of the same name. One that HTTP has no room for is left out.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// Sends more.
    #[must_use]
    pub fn then(self, bytes: impl Into<Bytes>) -> Self {
        self.step(Step::Send(bytes.into()))
    }

    /// Says nothing for so long.
    #[must_use]
    pub fn wait(self, pause: Duration) -> Self {
        self.step(Step::Flush).step(Step::Wait(pause))
    }

    /// Breaks the connection.
    #[must_use]
    pub fn breaks(self) -> Self {
        self.step(Step::Flush).step(Step::Break)
    }

    /// Says nothing more, and does not close.
    #[must_use]
    pub fn stalls(self) -> Self {
        self.step(Step::Stall)
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }

    pub(super) fn reply(self) -> Reply {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Reply { status, headers: self.headers, steps: self.steps, delay: Duration::ZERO }
    }
}
