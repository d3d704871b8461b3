//! What a client has heard of a streamed chat, as far as it says how the chat may go on after a break.

use crate::wire::{ChatEvent, Nesting, RareEvent};

/// A longer text is not gone on with.
const MAX_TEXT: usize = 1 << 20;

/// What has been passed on of one answer.
#[derive(Debug, Default)]
pub(super) struct Heard {
    text: String,
    /// Whether it was anything else than the text of one choice.
    mixed: bool,
    /// Whether a choice has ended.
    finished: bool,
    /// The tool call that is being written.
    call: Option<OpenCall>,
    /// Whether a tool call was complete: the client may have acted on it.
    called: bool,
}

/// A tool call that is being written.
#[derive(Debug)]
struct OpenCall {
    choice: i32,
    index: i32,
    /// Of its arguments.
    nesting: Nesting,
}

impl OpenCall {
    /// Takes the next piece of the arguments. Returns whether they are complete with it.
    fn closes(&mut self, piece: &str) -> bool {
        piece.bytes().any(|byte| self.nesting.closes(byte))
    }
}

impl Heard {
    /// Takes the next piece.
    pub(super) fn hear(&mut self, event: &ChatEvent) {
        for call in &event.tool_calls {
            let is_open = |open: &&mut OpenCall| (open.choice, open.index) == (event.index, call.index);
            if let Some(open) = self.call.as_mut().filter(is_open) {
                self.called |= open.closes(&call.arguments);
                continue;
            }
            // Models write one after the other.
            self.called |= self.call.is_some();
            let mut open = OpenCall { choice: event.index, index: call.index, nesting: Nesting::default() };
            self.called |= open.closes(&call.arguments);
            self.call = Some(open);
        }
        self.finished |= !event.finish_reason.is_empty();
        self.mixed |= event.index != 0
            || !(event.tool_calls.is_empty() && event.reasoning.is_empty())
            || !(event.reasoning_content.is_empty() && event.refusal.is_empty())
            || event.rare.as_deref().is_some_and(|rare| !is_plain(rare))
            || self.text.len() + event.content.len() > MAX_TEXT;
        if !self.mixed {
            self.text.push_str(&event.content);
        }
    }

    /// Whether all of it may be declared void.
    pub(super) const fn may_be_void(&self) -> bool {
        !(self.called || self.finished)
    }

    /// The text, where there was nothing else and it is not at its end.
    pub(super) fn plain_text(&self) -> Option<&str> {
        (!(self.mixed || self.finished)).then_some(&self.text)
    }
}

/// Whether there is nothing in it that has to go along with the text.
fn is_plain(rare: &RareEvent) -> bool {
    let RareEvent { head: _, parts, annotations, logprobs, stop_sequence, delta_extra: _, extra: _ } = rare;
    parts.is_empty() && annotations.is_empty() && logprobs.is_none() && stop_sequence.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ToolCall;

    fn text(content: &str) -> ChatEvent {
        ChatEvent { content: content.to_owned(), ..ChatEvent::default() }
    }

    fn call(index: i32, arguments: &str) -> ChatEvent {
        let call = ToolCall { index, arguments: arguments.to_owned(), ..ToolCall::default() };
        ChatEvent { tool_calls: vec![call], ..ChatEvent::default() }
    }

    fn heard(events: &[ChatEvent]) -> Heard {
        let mut heard = Heard::default();
        for event in events {
            heard.hear(event);
        }
        heard
    }

    #[test]
    fn a_complete_tool_call_cannot_be_void() {
        let half = [text("Let me see. "), call(0, r#"{"a": "}\"""#), call(0, ", [")];
        assert!(heard(&half).may_be_void());
        let whole = [&half[..], &[call(0, "1]}")]].concat();
        assert!(!heard(&whole).may_be_void());
        assert!(!heard(&[call(0, r#"{"a""#), call(1, "")]).may_be_void(), "the first is over");
        assert!(!heard(&[call(0, "{}")]).may_be_void());
        let end = ChatEvent { finish_reason: "stop".to_owned(), ..ChatEvent::default() };
        assert!(!heard(&[text("a"), end]).may_be_void());
    }

    #[test]
    fn only_plain_text_is_gone_on_with() {
        let plain = [text("one "), text("two ")];
        assert_eq!(heard(&plain).plain_text(), Some("one two "));
        let reasoning = ChatEvent { reasoning_content: "hm".to_owned(), ..ChatEvent::default() };
        let second = ChatEvent { index: 1, ..text("other") };
        let end = ChatEvent { finish_reason: "stop".to_owned(), ..ChatEvent::default() };
        for other in [reasoning, second, end, call(0, "{"), text(&"x".repeat(MAX_TEXT + 1))] {
            assert_eq!(heard(&[&plain[..], &[other]].concat()).plain_text(), None);
        }
    }
}
