//! What Cohere's streamed events mean (API reference, "Chat with Streaming"). Pure. Each says its type in its data.
//! Citations, and events of kinds that are not known, are signs of life. The last is `message-end`: a stream without it
//! broke off.

use super::answer::{Call, Usage, Words, finish_reason, message};
use crate::wire::{
    ChatEvent, ReadError, ReadFrames, Said,
    answer::{check_error, parse, reported},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Reads one stream's events, in their order.
#[derive(Default)]
pub struct Events {
    /// The indices that Cohere gave the tool calls so far. A call's place among them is its index here, whatever else
    /// Cohere counts along.
    calls: Vec<i64>,
}

impl ReadFrames for Events {
    fn read(&mut self, data: &[u8]) -> Result<Said, ReadError> {
        let event: Event = parse(data)?;
        check_error(event.error)?;
        let index = event.index.unwrap_or_default();
        let Delta { message, finish_reason: reason, usage, error } = event.delta.unwrap_or_default();
        let Gain { content, tool_plan, tool_calls } = message.unwrap_or_default();
        let out = match event.kind.as_str() {
            "content-start" | "content-delta" => words(one(content)?),
            "tool-plan-delta" => {
                ChatEvent { reasoning: tool_plan.unwrap_or_default(), ..ChatEvent::default() }
            }
            "tool-call-start" => self.start(index, one(tool_calls)?),
            "tool-call-delta" => self.fragment(index, one(tool_calls)?),
            "message-end" => {
                if let Some(error) = error.filter(|error| !error.is_empty()) {
                    return Err(reported(&json!({ "message": error })));
                }
                ChatEvent {
                    finish_reason: finish_reason(reason.unwrap_or_default())?,
                    usage: Some(usage.unwrap_or_default().total()),
                    ..ChatEvent::default()
                }
            }
            _ => ChatEvent::default(),
        };
        Ok(Said::Events(vec![out]))
    }

    fn whole(self, body: &[u8]) -> Result<Vec<ChatEvent>, ReadError> {
        Ok(vec![message(body)?.into()])
    }
}

impl Events {
    fn start(&mut self, index: i64, call: Call) -> ChatEvent {
        let place = i32::try_from(self.calls.len()).unwrap_or(i32::MAX);
        self.calls.push(index);
        ChatEvent { tool_calls: vec![call.start(place)], ..ChatEvent::default() }
    }

    /// What a call gains that has begun.
    fn fragment(&self, index: i64, call: Call) -> ChatEvent {
        let place = self.calls.iter().rposition(|begun| *begun == index);
        match place.and_then(|place| i32::try_from(place).ok()) {
            Some(place) => ChatEvent { tool_calls: vec![call.fragment(place)], ..ChatEvent::default() },
            None => ChatEvent::default(),
        }
    }
}

/// The one thing that the event is about. `message-start` has lists there, empty ones.
fn one<T: DeserializeOwned>(gain: Option<Value>) -> Result<T, ReadError> {
    gain.and_then(|gain| serde_json::from_value(gain).ok()).ok_or(ReadError::MALFORMED)
}

fn words(words: Words) -> ChatEvent {
    ChatEvent {
        content: words.text.unwrap_or_default(),
        reasoning: words.thinking.unwrap_or_default(),
        ..ChatEvent::default()
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    error: Option<Value>,
    index: Option<i64>,
    delta: Option<Delta>,
}

#[derive(Default, Deserialize)]
struct Delta {
    message: Option<Gain>,
    finish_reason: Option<String>,
    usage: Option<Usage>,
    /// Why the answer broke off.
    error: Option<String>,
}

/// What the message gains.
#[derive(Default, Deserialize)]
struct Gain {
    content: Option<Value>,
    tool_plan: Option<String>,
    tool_calls: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{
        TokenUsage,
        fixtures::{call, end_of, fails, reported, same_wherever_cut, words},
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
        let usage = TokenUsage { prompt: 12, completion: 4, total: 16, cached: 2, reasoning: 0 };
        let events = [
            ChatEvent { reasoning: "I will".into(), ..ChatEvent::default() },
            ChatEvent { reasoning: "hm".into(), ..ChatEvent::default() },
            ChatEvent { content: "Grüße 🌍".into(), ..ChatEvent::default() },
            call(0, "t1", "f", ""),
            call(0, "", "", "{\"a\":"),
            call(0, "", "", "1}"),
            call(1, "t2", "g", "{}"),
            ChatEvent { finish_reason: "tool_calls".into(), usage: Some(usage), ..ChatEvent::default() },
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
        assert_eq!(ends(&end("{\"finish_reason\":\"MAX_TOKENS\"}")), None);
        assert_eq!(ends(unfinished), Some(ReadError::EndedEarly));
        assert_eq!(ends(""), Some(ReadError::EndedEarly));
        assert_eq!(ends(&end("{}")), Some(ReadError::EndedEarly));
        for reason in ["ERROR", "TIMEOUT"] {
            let error = ends(&end(&format!("{{\"finish_reason\":\"{reason}\"}}"))).unwrap();
            assert_eq!(reported::<()>(Err(error)).0, reason);
        }
        for wrong in [
            "data: {\"type\":\n\n",
            "data: [DONE]\n\n",
            "data: {\"choices\":[]}\n\n",
            "data: {\"type\":\"content-delta\",\"delta\":{}}\n\n",
            "data: {\"type\":\"tool-call-start\",\"delta\":{\"message\":{\"tool_calls\":[]}}}\n\n",
        ] {
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
