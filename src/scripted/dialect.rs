//! What the dialects of the vendors have in common.

use super::Recorded;
use axum::{body::Bytes, http::StatusCode};
use serde_json::{Value, json};

/// What one vendor's API looks like. It answers the same to the same request.
pub(super) trait Dialect: Sync {
    /// Whether the request is for this vendor, by its path or its headers. Its key is not read yet.
    fn serves(&self, request: &Recorded) -> bool;

    /// The key, where this vendor looks for it and nowhere else.
    fn key<'a>(&self, request: &'a Recorded) -> Option<&'a str>;

    /// The answer to a request; none for an unknown endpoint.
    fn answer(&self, request: &Recorded) -> Option<Answer>;

    /// The same request for a stream, where it is for none, and the other way round.
    fn otherwise(&self, request: &Recorded) -> Recorded {
        let mut other = request.clone();
        if let Some(fields) = other.body.as_object_mut() {
            fields.insert("stream".into(), (!wants_stream(request)).into());
        }
        other
    }

    /// The usual error body of a status. Repeats the key where the vendor might: who reads it must not.
    fn error(&self, status: u16, key: &str) -> Value;

    /// The body around an error that a script gives.
    fn around(&self, error: &Value) -> Value {
        json!({ "error": error })
    }

    /// The same as an event, in the middle of a stream.
    fn event_around(&self, error: &Value) -> Value {
        self.around(error)
    }

    /// One event of a stream.
    fn frame(&self, event: &Value) -> Bytes {
        format!("data: {event}\n\n").into()
    }
}

/// What answers a request.
pub(super) enum Answer {
    /// JSON, all at once.
    Whole(Value),
    /// A body in pieces: events, or audio.
    Pieces(Pieces),
    /// No answer: the vendor finds the request wrong.
    Refused(StatusCode, Value),
}

/// A body in pieces, each of them framed.
pub(super) struct Pieces {
    /// Its media type.
    pub(super) content_type: &'static str,
    /// What comes before any content.
    pub(super) start: Vec<Bytes>,
    /// Those with content.
    pub(super) content: Vec<Bytes>,
    /// What says why it ends and what it cost.
    pub(super) end: Vec<Bytes>,
    /// What says that nothing follows, where the vendor says so.
    pub(super) done: Vec<Bytes>,
}

impl Pieces {
    /// Content and nothing else.
    pub(super) fn plain(content_type: &'static str, content: Vec<Bytes>) -> Self {
        Self { content_type, start: Vec::new(), content, end: Vec::new(), done: Vec::new() }
    }

    /// A stream of server-sent events that says nothing after its end.
    pub(super) fn events(
        dialect: &dyn Dialect,
        start: &[Value],
        content: impl IntoIterator<Item = Value>,
        end: &[Value],
    ) -> Self {
        let frames = |events: &[Value]| events.iter().map(|event| dialect.frame(event)).collect();
        Self {
            start: frames(start),
            end: frames(end),
            ..Self::plain(
                "text/event-stream",
                content.into_iter().map(|event| dialect.frame(&event)).collect(),
            )
        }
    }
}

/// A prompt that has this in it gets every tool called at once, each with its place as its only argument.
pub const CALL_ALL: &str = "call every tool";

/// A prompt that has this in it gets an object of JSON whose only field, `said`, holds what is said otherwise.
pub const IN_JSON: &str = "answer in JSON";

/// Whether these words stand in the request.
pub(super) fn has(request: &Recorded, words: &str) -> bool {
    std::str::from_utf8(&request.raw).is_ok_and(|text| text.contains(words))
}

/// The first word of every answer.
pub(super) const FIRST_WORD: &str = "served ";

/// What the model says. Names the key, so that a test sees who served.
pub(super) fn content(request: &Recorded) -> [String; 3] {
    let (first, last) = (FIRST_WORD.to_owned(), request.named.clone());
    if has(request, IN_JSON) {
        return [format!("{{\"said\": \"{first}"), "by ".to_owned(), format!("{last}\"}}")];
    }
    [first, "by ".to_owned(), last]
}

/// The tools to call, each with its place from 1, and what it is called with. `names` are those of the request.
pub(super) fn calls<'a>(request: &Recorded, names: impl Iterator<Item = &'a str>) -> Vec<Call<'a>> {
    if !has(request, CALL_ALL) {
        return names.take(1).map(|name| Call { name, place: 1, arguments: json!({}) }).collect();
    }
    let call = |(name, place)| Call { name, place, arguments: json!({ "place": place }) };
    names.zip(1..).map(call).collect()
}

/// A call of a tool.
#[derive(Clone)]
pub(super) struct Call<'a> {
    pub(super) name: &'a str,
    pub(super) place: usize,
    pub(super) arguments: Value,
}

impl Call<'_> {
    /// Its arguments as text, in two pieces.
    pub(super) fn pieces(&self) -> [String; 2] {
        let mut text = self.arguments.to_string();
        let rest = text.split_off(1);
        [text, rest]
    }
}

/// A header's text.
pub(super) fn header<'a>(request: &'a Recorded, name: &str) -> Option<&'a str> {
    request.headers.get(name)?.to_str().ok()
}

/// The token of `Authorization: Bearer`.
pub(super) fn bearer(request: &Recorded) -> Option<&str> {
    header(request, "authorization")?.strip_prefix("Bearer ")
}

/// Whether the body asks for a stream, as most vendors have it.
pub(super) fn wants_stream(request: &Recorded) -> bool {
    request.body.get("stream").and_then(Value::as_bool).unwrap_or_default()
}
