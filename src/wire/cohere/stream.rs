//! What Cohere's streamed events mean (API reference, "Chat with Streaming"). Pure. Each says its type in its data.
//! Citations, and events of kinds that are not known, are signs of life. The last is `message-end`: a stream without it
//! broke off.

use super::answer::{Call, Usage, Words, finish_reason, message};
use crate::{
    balance::Failure,
    provider::{
        classify,
        redact::Redactor,
        stream::{Frame, Frames},
    },
    wire::{
        ChatEvent,
        answer::{check_error, malformed, parse},
    },
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Reads one stream's events, in their order.
#[derive(Default)]
pub(crate) struct Events {
    /// The indices that Cohere gave the tool calls so far. A call's place among them is its index here, whatever else
    /// Cohere counts along.
    calls: Vec<i64>,
}

impl Frames for Events {
    fn read(&mut self, data: &[u8], redactor: &Redactor) -> Result<Frame, Failure> {
        let event: Event = parse(data)?;
        check_error(event.error, redactor)?;
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
                    return Err(classify::of_value(&json!({ "message": error }), redactor));
                }
                ChatEvent {
                    finish_reason: finish_reason(reason.unwrap_or_default())?,
                    usage: Some(usage.unwrap_or_default().total()),
                    ..ChatEvent::default()
                }
            }
            _ => ChatEvent::default(),
        };
        Ok(Frame::Events(vec![out]))
    }

    fn whole(self, body: &[u8], redactor: &Redactor) -> Result<Vec<ChatEvent>, Failure> {
        Ok(vec![message(body, redactor)?.into()])
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
fn one<T: DeserializeOwned>(gain: Option<Value>) -> Result<T, Failure> {
    gain.and_then(|gain| serde_json::from_value(gain).ok()).ok_or_else(malformed)
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
    use crate::{
        balance::ErrorClass,
        wire::{
            TokenUsage,
            fixtures::{call, end_of, fails, same_wherever_cut, words},
        },
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

    async fn read(chunks: Vec<Vec<u8>>) -> Vec<Result<ChatEvent, Failure>> {
        words(Events::default(), chunks).await
    }

    fn expected() -> Vec<Result<ChatEvent, Failure>> {
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

    #[tokio::test]
    async fn a_stream_means_the_same_wherever_it_is_cut() {
        same_wherever_cut(FIXTURE, read, &expected()).await;
    }

    #[tokio::test]
    async fn ends_are_told_apart() {
        let class = async |text: &str| end_of(Events::default(), text).await;
        let end = |delta: &str| format!("data: {{\"type\":\"message-end\",\"delta\":{delta}}}\n\n");
        let (unfinished, _) = FIXTURE.split_once("event: message-end").unwrap();
        assert_eq!(class(FIXTURE).await, None);
        assert_eq!(class(&end("{\"finish_reason\":\"MAX_TOKENS\"}")).await, None);
        assert_eq!(class(unfinished).await, Some(ErrorClass::Connection));
        assert_eq!(class("").await, Some(ErrorClass::Connection));
        assert_eq!(class(&end("{}")).await, Some(ErrorClass::Connection));
        assert_eq!(class(&end("{\"finish_reason\":\"ERROR\"}")).await, Some(ErrorClass::ServerError));
        assert_eq!(class(&end("{\"finish_reason\":\"TIMEOUT\"}")).await, Some(ErrorClass::Timeout));
        for wrong in [
            "data: {\"type\":\n\n",
            "data: [DONE]\n\n",
            "data: {\"choices\":[]}\n\n",
            "data: {\"type\":\"content-delta\",\"delta\":{}}\n\n",
            "data: {\"type\":\"tool-call-start\",\"delta\":{\"message\":{\"tool_calls\":[]}}}\n\n",
        ] {
            assert_eq!(class(wrong).await, Some(ErrorClass::ServerError), "{wrong}");
        }
    }

    #[tokio::test]
    async fn an_error_ends_the_stream_without_its_secrets() {
        for text in [
            "data: {\"type\":\"message-end\",\"delta\":{\"error\":\"no, hunter2hunter2\",\"finish_reason\":\"ERROR\"}}\n\n",
            "data: {\"type\":\"x\",\"error\":\"no, hunter2hunter2\"}\n\n",
            "event: error\ndata: {\"message\":\"no, hunter2hunter2\"}\n\n",
        ] {
            let items = read(vec![format!("{text}{FIXTURE}").into_bytes()]).await;
            let [Err(failure)] = items.as_slice() else { panic!("{items:?}") };
            assert_eq!((failure.class, failure.message.as_str()), (ErrorClass::ServerError, "no, [removed]"));
        }
    }

    #[tokio::test]
    async fn a_fragment_of_a_call_that_never_began_says_nothing() {
        let stray = "data: {\"type\":\"tool-call-delta\",\"index\":7,\"delta\":{\"message\":{\"tool_calls\":{\"function\":{\"arguments\":\"x\"}}}}}\n\n";
        assert_eq!(read(vec![format!("{stray}{FIXTURE}").into_bytes()]).await, expected());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_it(chunks: Vec<Vec<u8>>) {
            proptest::prop_assert!(fails(Events::default(), chunks));
        }
    }
}
