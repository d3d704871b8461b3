//! What the upstream sends to one request.

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, StatusCode, header},
};
use serde_json::Value;
use std::{collections::VecDeque, time::Duration};

/// What to send.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) delay: Duration,
    pub(super) steps: VecDeque<Step>,
}

impl Default for Reply {
    fn default() -> Self {
        Self {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            delay: Duration::ZERO,
            steps: VecDeque::new(),
        }
    }
}

/// One step of a body.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Send(Bytes),
    /// Sends the same so many times.
    Repeat(Bytes, usize),
    Wait(Duration),
    Stall,
    /// Lets what was sent before go out. Without it, a break takes that along, the head included.
    Flush,
    Break,
}

/// A reply of JSON, all at once.
pub(super) fn json_reply(status: StatusCode, body: &Value) -> Reply {
    let mut reply = Reply { status, ..Reply::default() };
    reply.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply.steps.push_back(Step::Send(body.to_string().into()));
    reply
}
