//! Requests, and the answers to them.

mod requests;
mod streams;

use super::*;
use crate::wire::{ChatEvent, ChatRequest, Stamp};
use serde_json::Value;

fn read_chat(body: &Value) -> Result<ChatRequest, FieldError> {
    match read(body.to_string().as_bytes())?.input {
        Input::Chat(chat) => Ok(*chat),
        other => panic!("{other:?}"),
    }
}

fn stamp() -> Stamp {
    Stamp { id: "1".into(), created: 7, model: "m".into() }
}

/// What a writer makes of a stream.
fn streamed(writer: &mut dyn WriteAnswer, events: impl IntoIterator<Item = ChatEvent>) -> String {
    let mut out = Vec::new();
    for event in events {
        writer.event(&stamp(), event, &mut out);
    }
    writer.end(&stamp(), &mut out);
    String::from_utf8(out).unwrap()
}

/// The frames of a stream: the names of their events and their data. Each has both lines, and the next number.
fn frames(stream: &str) -> Vec<(String, Value)> {
    let frames = stream.split_terminator("\n\n").filter(|frame| !frame.starts_with(':'));
    let frame = |(number, frame): (usize, &str)| {
        let (name, data) = frame.split_once('\n').unwrap();
        let name = name.strip_prefix("event: ").unwrap();
        let mut data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        let fields = data.as_object_mut().unwrap();
        assert_eq!(fields.shift_remove("type").unwrap(), name);
        assert_eq!(fields.shift_remove("sequence_number").unwrap(), number, "{frame}");
        (name.to_owned(), data)
    };
    frames.enumerate().map(frame).collect()
}

/// A stream as a text for people: an event a line. Of a response as a whole stand there its status and its items.
fn shown(stream: &str) -> String {
    let line = |(name, mut data): (String, Value)| {
        let name = name.strip_prefix("response.").unwrap_or(&name).to_owned();
        if let Some(response) = data.get_mut("response") {
            *response = serde_json::json!([response["status"], response["output"]]);
        }
        format!("{name} {data}\n").replace('"', "")
    };
    frames(stream).into_iter().map(line).collect()
}
