//! What the tests of the vendors' formats share.

use super::{ChatEvent, ToolCall};
use crate::balance::{ErrorClass, Failure};
use crate::provider::{
    Target,
    redact::Redactor,
    stream::{Frames, chat_events},
};
use futures::{StreamExt, stream};

type Items = Vec<Result<ChatEvent, Failure>>;

/// For a target whose key is `hunter2hunter2`.
pub(crate) fn redactor() -> Redactor {
    let fields = [("api_key".to_owned(), "hunter2hunter2".into())].into();
    Redactor::new(&Target { base_url: "http://a/".parse().unwrap(), model: String::new(), fields })
}

/// All that a stream of these chunks says.
pub(crate) async fn items(frames: impl Frames, chunks: Vec<Vec<u8>>) -> Items {
    chat_events(stream::iter(chunks.into_iter().map(Ok)), redactor(), frames).collect().await
}

/// The same without the events that say nothing: those are signs of life.
pub(crate) async fn words(frames: impl Frames, chunks: Vec<Vec<u8>>) -> Items {
    let mut items = items(frames, chunks).await;
    items.retain(|item| item != &Ok(ChatEvent::default()));
    items
}

/// An event that says nothing but this call of a function, or this piece of one.
pub(crate) fn call(index: i32, id: &str, name: &str, arguments: &str) -> ChatEvent {
    let call = ToolCall {
        index,
        id: id.into(),
        kind: if id.is_empty() { String::new() } else { "function".into() },
        name: name.into(),
        arguments: arguments.into(),
    };
    ChatEvent { tool_calls: vec![call], ..ChatEvent::default() }
}

/// Holds what is read of a fixture against what it says, cut in two at every byte, and into single bytes.
pub(crate) async fn same_wherever_cut(
    fixture: &str,
    read: impl AsyncFn(Vec<Vec<u8>>) -> Items,
    expected: &Items,
) {
    let bytes = fixture.as_bytes();
    for cut in 0..=bytes.len() {
        let (a, b) = bytes.split_at(cut);
        assert_eq!(&read(vec![a.to_vec(), b.to_vec()]).await, expected, "cut at {cut}");
    }
    assert_eq!(&read(bytes.iter().map(|byte| vec![*byte]).collect()).await, expected, "byte by byte");
}

/// The failure that a stream ends with; none where it ends well.
pub(crate) async fn end_of(frames: impl Frames, text: &str) -> Option<ErrorClass> {
    let items = items(frames, vec![text.into()]).await;
    items.last().and_then(|item| item.as_ref().err()).map(|failure| failure.class)
}

/// Whether a stream of these chunks, whatever they are, ends with a failure, and no worse.
pub(crate) fn fails(frames: impl Frames, chunks: Vec<Vec<u8>>) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(items(frames, chunks)).last().is_some_and(Result::is_err)
}
