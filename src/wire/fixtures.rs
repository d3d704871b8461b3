//! What the tests of the vendors' formats share.

use super::{ChatEvent, ReadError, ReadFrames, Reasoning, StreamReader, ToolCall};

type Items = Vec<Result<ChatEvent, ReadError>>;

/// All that a stream of these chunks says, until it ends.
pub(crate) fn items(frames: impl ReadFrames, chunks: &[&[u8]]) -> Items {
    let mut reader = StreamReader::of_events(frames);
    let mut items = Vec::new();
    for chunk in chunks {
        reader.push(chunk);
        items.extend(reader.by_ref());
    }
    reader.end();
    items.extend(reader);
    items
}

/// The same without the events that say nothing: those are signs of life.
pub(crate) fn words(frames: impl ReadFrames, chunks: &[&[u8]]) -> Items {
    let mut items = items(frames, chunks);
    items.retain(|item| item != &Ok(ChatEvent::default()));
    items
}

/// An event that says nothing but this reasoning.
pub(crate) fn thought(text: &str) -> ChatEvent {
    let piece = Reasoning { text: text.into(), ..Reasoning::default() };
    ChatEvent { reasoning_content: text.into(), reasoning: vec![piece], ..ChatEvent::default() }
}

/// An event that says nothing but this call of a function, or this piece of one.
pub(crate) fn call(index: i32, id: &str, name: &str, arguments: &str) -> ChatEvent {
    let call = ToolCall {
        index,
        id: id.into(),
        kind: if id.is_empty() { String::new() } else { "function".into() },
        name: name.into(),
        arguments: arguments.into(),
        ..ToolCall::default()
    };
    ChatEvent { tool_calls: vec![call], ..ChatEvent::default() }
}

/// Holds what is read of a fixture against what it says, cut in two at every byte, and into single bytes.
pub(crate) fn same_wherever_cut(fixture: &str, read: impl Fn(&[&[u8]]) -> Items, expected: &Items) {
    let bytes = fixture.as_bytes();
    for cut in 0..=bytes.len() {
        let (a, b) = bytes.split_at(cut);
        assert_eq!(&read(&[a, b]), expected, "cut at {cut}");
    }
    assert_eq!(&read(&bytes.chunks(1).collect::<Vec<_>>()), expected, "byte by byte");
}

/// The error that a stream ends with; none where it ends well.
pub(crate) fn end_of(frames: impl ReadFrames, text: &str) -> Option<ReadError> {
    items(frames, &[text.as_bytes()]).pop().and_then(Result::err)
}

/// Whether a stream of these chunks, whatever they are, ends with an error, and no worse.
pub(crate) fn fails(frames: impl ReadFrames, chunks: &[Vec<u8>]) -> bool {
    let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
    items(frames, &chunks).last().is_some_and(Result::is_err)
}

/// What a provider reports as an error: its code or else its type, and its text.
pub(crate) fn reported<T: std::fmt::Debug>(read: Result<T, ReadError>) -> (String, String) {
    match read.unwrap_err() {
        ReadError::Reported(error) => {
            let code = if error.code.is_empty() { error.kind } else { error.code };
            (code, error.message.unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}
