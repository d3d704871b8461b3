//! What Cohere's streamed events mean (API reference, "Chat with Streaming"). Pure. Each says its type in its data.
//! Events of kinds that are not known are signs of life. The last is `message-end`, behind which `[DONE]` may follow: a
//! stream without it broke off.

use super::answer::{Call, Usage, citations, finish_reason, message};
use crate::wire::{
    AnswerHead, ChatEvent, ReadError, ReadFrames, Reasoning, Said, ToolCall,
    answer::{check_error, keep_counts, no_answer, reported},
    error::is_something,
    lenient::{Any, Number, fields, object},
};
use serde_json::{Value, json};

/// Reads one stream's events, in their order.
#[derive(Default)]
pub struct Events {
    /// The indices that Cohere gave the tool calls so far, and whether each has arguments. A call's place among them is its
    /// index here, whatever else Cohere counts along.
    calls: Vec<(i32, bool)>,
}

impl ReadFrames for Events {
    fn read(&mut self, data: &[u8]) -> Result<Said, ReadError> {
        let event: Event = object(data)?;
        check_error(&event.error)?;
        let index = event.index.index().unwrap_or_default();
        let delta = event.delta.unwrap_or_default();
        let gain = delta.message.unwrap_or_default();
        let mut out = match event.kind.as_str() {
            "content-start" | "content-delta" => words(gain.content),
            "tool-plan-delta" => think(gain.tool_plan),
            "tool-call-start" => self.start(index, gain.tool_calls),
            "tool-call-delta" => self.fragment(index, gain.tool_calls),
            "tool-call-end" => self.end(index),
            "citation-start" => {
                let mut out = ChatEvent::default();
                out.rare().annotations = citations(gain.citations);
                out
            }
            "message-start" => {
                let mut out = ChatEvent::default();
                out.rare().head = AnswerHead { id: event.id, ..AnswerHead::default() };
                out
            }
            "message-end" => {
                if is_something(&delta.error) {
                    return Err(reported(&json!({ "message": delta.error })));
                }
                let mut extra = delta.rest;
                let usage = delta.usage.as_deref().map(Usage::total);
                keep_counts(&mut extra, "usage", delta.usage.map(|usage| usage.rest()).unwrap_or_default());
                let finish_reason = finish_reason(delta.finish_reason)?;
                let mut out = ChatEvent { finish_reason, usage, ..ChatEvent::default() };
                if !extra.is_empty() {
                    out.rare().extra = extra;
                }
                out
            }
            "" => return Err(no_answer(data)),
            _ => ChatEvent::default(),
        };
        if !event.logprobs.is_null() {
            out.rare().logprobs = event.logprobs.into_box();
        }
        Ok(Said::Events(vec![out]))
    }

    fn whole(&mut self, body: &[u8]) -> Result<Vec<ChatEvent>, ReadError> {
        Ok(message(body)?.into_events())
    }
}

impl Events {
    fn start(&mut self, index: i32, calls: Vec<Call>) -> ChatEvent {
        let mut out = ChatEvent::default();
        for call in calls {
            let place = i32::try_from(self.calls.len()).unwrap_or(i32::MAX);
            let call = call.start(place);
            self.calls.push((index, !call.arguments.is_empty()));
            out.tool_calls.push(call);
        }
        out
    }

    /// What a call gains that has begun.
    fn fragment(&mut self, index: i32, calls: Vec<Call>) -> ChatEvent {
        let Some((place, says)) = self.open(index) else { return ChatEvent::default() };
        let tool_calls: Vec<_> = calls.into_iter().map(|call| call.fragment(place)).collect();
        *says |= tool_calls.iter().any(|call| !call.arguments.is_empty());
        ChatEvent { tool_calls, ..ChatEvent::default() }
    }

    /// A call without arguments has the same arguments as in a whole answer.
    fn end(&mut self, index: i32) -> ChatEvent {
        let Some((place, says)) = self.open(index) else { return ChatEvent::default() };
        if std::mem::replace(says, true) {
            return ChatEvent::default();
        }
        let call = ToolCall { index: place, arguments: "{}".to_owned(), ..ToolCall::default() };
        ChatEvent { tool_calls: vec![call], ..ChatEvent::default() }
    }

    /// The last call of that index: its place, and whether it has arguments.
    fn open(&mut self, index: i32) -> Option<(i32, &mut bool)> {
        let mut calls = self.calls.iter_mut().enumerate().rev();
        let (place, (_, says)) = calls.find(|(_, (begun, _))| *begun == index)?;
        Some((i32::try_from(place).ok()?, says))
    }
}

/// A part of the content, or what one gains: the one field or the other.
fn words(content: Value) -> ChatEvent {
    let text = |name: &str| content.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let content = content.as_str().map_or_else(|| text("text"), ToOwned::to_owned);
    ChatEvent { content, ..think(text("thinking")) }
}

fn think(text: String) -> ChatEvent {
    if text.is_empty() {
        return ChatEvent::default();
    }
    let piece = Reasoning { text: text.clone(), ..Reasoning::default() };
    ChatEvent { reasoning_content: text, reasoning: vec![piece], ..ChatEvent::default() }
}

fields! {
    struct Event {
        kind: String = "type",
        id: String,
        error: Value,
        index: Number,
        delta: Option<Box<Delta>>,
        logprobs: Any,
    }
    ignores []
}

fields! {
    struct Delta {
        message: Option<Box<Gain>>,
        finish_reason: String,
        usage: Option<Box<Usage>>,
        /// Why the answer broke off.
        error: Value,
    }
    ignores []
}

fields! {
    /// What the message gains. `message-start` has lists there, empty ones.
    struct Gain {
        content: Value,
        tool_plan: String,
        tool_calls: Vec<Call>,
        citations: Value,
    }
    ignores []
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{
        TokenUsage,
        fixtures::{call, end_of, fails, reported, same_wherever_cut, thought, words},
    };

    /// A plan, thinking, text with a citation, two tool calls whose indices begin after the content's, and an event from
    /// the future.
    const FIXTURE: &str = concat!(
        "event: message-start\ndata: {\"id\":\"x\",\"type\":\"message-start\",\"delta\":{\"message\":{",
        "\"role\":\"assistant\",\"content\":[],\"tool_plan\":\"\",\"tool_calls\":[],\"citations\":[]}}}\n\n",
        "event: tool-plan-delta\ndata: {\"type\":\"tool-plan-delta\",",
        "\"delta\":{\"message\":{\"tool_plan\":\"I will\"}}}\n\n",
        "event: content-start\ndata: {\"type\":\"content-start\",\"index\":0,",
        "\"delta\":{\"message\":{\"content\":{\"type\":\"thinking\",\"thinking\":\"\"}}}}\n\n",
        "event: content-delta\ndata: {\"type\":\"content-delta\",\"index\":0,",
        "\"delta\":{\"message\":{\"content\":{\"thinking\":\"hm\"}}}}\n\n",
        "event: content-end\ndata: {\"type\":\"content-end\",\"index\":0}\n\n",
        "event: content-start\r\ndata: {\"type\":\"content-start\",\"index\":1,",
        "\"delta\":{\"message\":{\"content\":{\"type\":\"text\",\"text\":\"\"}}}}\r\n\r\n",
        "event: content-delta\ndata: {\"type\":\"content-delta\",\"index\":1,\"logprobs\":null,",
        "\"delta\":{\"message\":{\"content\":{\"text\":\"Grüße 🌍\"}}}}\n\n",
        "event: citation-start\ndata: {\"type\":\"citation-start\",\"index\":0,\"delta\":{\"message\":{",
        "\"citations\":{\"start\":0,\"end\":5,\"text\":\"Grüße\",\"sources\":[]}}}}\n\n",
        "event: citation-end\ndata: {\"type\":\"citation-end\",\"index\":0}\n\n",
        "event: content-end\ndata: {\"type\":\"content-end\",\"index\":1}\n\n",
        "event: tomorrow\ndata: {\"type\":\"tomorrow\",\"index\":\n",
        "data: 9}\n\n",
        "event: tool-call-start\ndata: {\"type\":\"tool-call-start\",\"index\":2,\"delta\":{\"message\":{",
        "\"tool_calls\":{\"id\":\"t1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}}}}\n\n",
        "event: tool-call-delta\ndata: {\"type\":\"tool-call-delta\",\"index\":2,\"delta\":{\"message\":{",
        "\"tool_calls\":{\"function\":{\"arguments\":\"{\\\"a\\\":\"}}}}}\n\n",
        "event: tool-call-delta\ndata: {\"type\":\"tool-call-delta\",\"index\":2,\"delta\":{\"message\":{",
        "\"tool_calls\":{\"function\":{\"arguments\":\"1}\"}}}}}\n\n",
        "event: tool-call-end\ndata: {\"type\":\"tool-call-end\",\"index\":2}\n\n",
        "event: tool-call-start\ndata: {\"type\":\"tool-call-start\",\"index\":3,\"delta\":{\"message\":{",
        "\"tool_calls\":{\"id\":\"t2\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}}}}\n\n",
        "event: tool-call-end\ndata: {\"type\":\"tool-call-end\",\"index\":3}\n\n",
        "event: message-end\ndata: {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"TOOL_CALL\",\"usage\":{",
        "\"billed_units\":{\"input_tokens\":3,\"output_tokens\":2},",
        "\"tokens\":{\"input_tokens\":12,\"output_tokens\":4},\"cached_tokens\":2}}}\n\n",
    );

    fn read(chunks: &[&[u8]]) -> Vec<Result<ChatEvent, ReadError>> {
        words(Events::default(), chunks)
    }

    fn expected() -> Vec<Result<ChatEvent, ReadError>> {
        let usage = TokenUsage { prompt: 12, completion: 4, total: 16, cached: 2, ..TokenUsage::default() };
        let mut first = thought("I will");
        first.rare().head.id = "x".into();
        let mut citation = ChatEvent::default();
        citation.rare().annotations =
            citations(json!({"start": 0, "end": 5, "text": "Grüße", "sources": []}));
        let mut last =
            ChatEvent { finish_reason: "tool_calls".into(), usage: Some(usage), ..ChatEvent::default() };
        let billed = json!({"billed_units": {"input_tokens": 3, "output_tokens": 2}});
        last.rare().extra.insert("usage".into(), billed);
        let events = [
            first,
            thought("hm"),
            ChatEvent { content: "Grüße 🌍".into(), ..ChatEvent::default() },
            citation,
            call(0, "t1", "f", ""),
            call(0, "", "", "{\"a\":"),
            call(0, "", "", "1}"),
            call(1, "t2", "g", "{}"),
            last,
        ];
        events.into_iter().map(Ok).collect()
    }

    #[test]
    fn a_stream_means_the_same_wherever_it_is_cut() {
        same_wherever_cut(FIXTURE, read, &expected());
    }

    #[test]
    fn ends_are_told_apart() {
        let ends = |text: &str| end_of(Events::default(), text);
        let end = |delta: &str| format!("data: {{\"type\":\"message-end\",\"delta\":{delta}}}\n\n");
        let (unfinished, _) = FIXTURE.split_once("event: message-end").unwrap();
        assert_eq!(ends(FIXTURE), None);
        assert_eq!(ends(&format!("{FIXTURE}data: [DONE]\n\n")), None);
        assert_eq!(ends("data: [DONE]\n\n"), Some(ReadError::EndedEarly));
        assert_eq!(ends(&end("{\"finish_reason\":\"MAX_TOKENS\"}")), None);
        assert_eq!(ends(unfinished), Some(ReadError::EndedEarly));
        assert_eq!(ends(""), Some(ReadError::EndedEarly));
        assert_eq!(ends(&end("{}")), Some(ReadError::EndedEarly));
        for reason in ["ERROR", "TIMEOUT"] {
            let error = ends(&end(&format!("{{\"finish_reason\":\"{reason}\"}}"))).unwrap();
            assert_eq!(reported::<()>(Err(error)).0, reason);
        }
        for wrong in ["data: {\"type\":\n\n", "data: {\"choices\":[]}\n\n"] {
            assert_eq!(ends(wrong), Some(ReadError::MALFORMED), "{wrong}");
        }
    }

    #[test]
    fn an_error_ends_the_stream() {
        for text in [
            "data: {\"type\":\"message-end\",\"delta\":{\"error\":\"no\",\"finish_reason\":\"ERROR\"}}\n\n",
            "data: {\"type\":\"x\",\"error\":\"no\"}\n\n",
            "event: error\ndata: {\"message\":\"no\"}\n\n",
        ] {
            let mut items = read(&[text.as_bytes(), FIXTURE.as_bytes()]);
            let error = reported(items.pop().unwrap());
            assert_eq!((items.len(), error), (0, (String::new(), "no".into())), "{text}");
        }
    }

    #[test]
    fn a_call_without_arguments_has_an_object() {
        let call = json!({"id": "t", "type": "function", "function": {"name": "f", "arguments": ""}});
        let text: String = [
            json!({"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": call}}}),
            json!({"type": "tool-call-end", "index": 0}),
            json!({"type": "message-end", "delta": {"finish_reason": "TOOL_CALL"}}),
        ]
        .iter()
        .map(|event| format!("data: {event}\n\n"))
        .collect();
        let items = read(&[text.as_bytes()]).into_iter().map(Result::unwrap);
        let arguments: String = items.flat_map(|event| event.tool_calls).map(|call| call.arguments).collect();
        assert_eq!(arguments, "{}");
    }

    #[test]
    fn a_fragment_of_a_call_that_never_began_says_nothing() {
        let stray = "data: {\"type\":\"tool-call-delta\",\"index\":7,\"delta\":{\"message\":{\"tool_calls\":{\"function\":{\"arguments\":\"x\"}}}}}\n\n";
        assert_eq!(read(&[stray.as_bytes(), FIXTURE.as_bytes()]), expected());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_it(chunks: Vec<Vec<u8>>) {
            proptest::prop_assert!(fails(Events::default(), &chunks));
        }
    }
}
