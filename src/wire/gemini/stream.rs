//! What the chunks of a streamed answer mean (API reference, "models.streamGenerateContent"). Pure. Each of them is an
//! answer with what is new; the body ends behind the one with the finish reason.

use super::answer::{Answer, Spoken, Usage, finish_reason};
use crate::{
    balance::Failure,
    provider::{
        redact::Redactor,
        stream::{Frame, Frames},
    },
    wire::{
        ChatEvent,
        answer::{malformed, parse},
    },
};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Reads one stream's chunks, in their order.
#[derive(Default)]
pub(crate) struct Chunks {
    /// How many tool calls each candidate has made.
    calls: HashMap<i32, i32>,
    /// Whether a finish reason has come.
    finished: bool,
}

impl Frames for Chunks {
    fn read(&mut self, data: &[u8], redactor: &Redactor) -> Result<Frame, Failure> {
        self.chunk(parse(data)?, redactor).map(Frame::Events)
    }

    /// One whole answer, or an array of chunks, which is what the API sends where nobody asks for events.
    fn whole(mut self, body: &[u8], redactor: &Redactor) -> Result<Vec<ChatEvent>, Failure> {
        let answers = if body.trim_ascii_start().starts_with(b"[") {
            let objects: Vec<Map<String, Value>> = serde_json::from_slice(body).map_err(|_| malformed())?;
            let answers = objects.into_iter().map(|object| serde_json::from_value(object.into()));
            answers.collect::<Result<Vec<Answer>, _>>().map_err(|_| malformed())?
        } else {
            vec![parse(body)?]
        };
        let mut events = Vec::new();
        for answer in answers {
            events.extend(self.chunk(answer, redactor)?);
        }
        if self.finished { Ok(events) } else { Err(malformed()) }
    }
}

impl Chunks {
    /// An event a candidate. Counts come with every chunk, and are totals so far: they are told at the end.
    fn chunk(&mut self, answer: Answer, redactor: &Redactor) -> Result<Vec<ChatEvent>, Failure> {
        let answer = answer.check(redactor)?;
        let id = answer.response_id.unwrap_or_default();
        let mut events = Vec::new();
        for candidate in answer.candidates.into_iter().flatten() {
            let index = candidate.index.unwrap_or_default();
            let calls = self.calls.entry(index).or_default();
            let spoken = Spoken::of(candidate.content, &id, *calls);
            *calls = calls.saturating_add(i32::try_from(spoken.tool_calls.len()).unwrap_or(i32::MAX));
            events.push(ChatEvent {
                index,
                content: spoken.text,
                reasoning: spoken.reasoning,
                tool_calls: spoken.tool_calls,
                finish_reason: finish_reason(candidate.finish_reason.unwrap_or_default(), *calls > 0),
                ..ChatEvent::default()
            });
        }
        // A chunk without candidates is a sign of life all the same.
        if events.is_empty() {
            events.push(ChatEvent::default());
        }
        self.finished |= events.iter().any(|event| !event.finish_reason.is_empty());
        if let Some(last) = events.last_mut().filter(|_| self.finished) {
            last.usage = answer.usage_metadata.map(Usage::total);
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        balance::ErrorClass,
        wire::{
            TokenUsage,
            fixtures::{call, end_of, fails, items, redactor, same_wherever_cut},
        },
    };
    use serde_json::json;

    /// Reasoning, text, two tool calls in chunks of their own, a chunk without candidates, and a finish reason that comes
    /// behind the calls.
    const FIXTURE: &str = concat!(
        "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"hm\",\"thought\": true}],\"role\": \"model\"},",
        "\"index\": 0}],\"usageMetadata\": {\"promptTokenCount\": 10,\"totalTokenCount\": 10},",
        "\"modelVersion\": \"gemini-x\",\"responseId\": \"r\"}\r\n\r\n",
        "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"Grüße \"},{\"text\": \"🌍\"}]}}],",
        "\"responseId\": \"r\"}\r\n\r\n",
        "data: {\"usageMetadata\": {\"promptTokenCount\": 10,\n",
        "data: \"totalTokenCount\": 10},\"responseId\": \"r\"}\n\n",
        "data: {\"candidates\": [{\"content\": {\"parts\": [{\"functionCall\": {\"name\": \"f\",\"args\": {\"a\": 1}},",
        "\"thoughtSignature\": \"c2ln\"}]},\"index\": 0}],\"responseId\": \"r\"}\n\n",
        "data: {\"candidates\": [{\"content\": {\"parts\": [{\"functionCall\": {\"id\": \"t\",\"name\": \"g\"}}]}}],",
        "\"responseId\": \"r\"}\n\n",
        "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"\"}]},\"finishReason\": \"STOP\"}],",
        "\"usageMetadata\": {\"promptTokenCount\": 10,\"cachedContentTokenCount\": 2,\"candidatesTokenCount\": 3,",
        "\"thoughtsTokenCount\": 1,\"totalTokenCount\": 14},\"responseId\": \"r\"}\r\n\r\n",
    );

    async fn read(chunks: Vec<Vec<u8>>) -> Vec<Result<ChatEvent, Failure>> {
        items(Chunks::default(), chunks).await
    }

    fn expected() -> Vec<Result<ChatEvent, Failure>> {
        let usage = TokenUsage { prompt: 10, completion: 4, total: 14, cached: 2, reasoning: 1 };
        let events = [
            ChatEvent { reasoning: "hm".into(), ..ChatEvent::default() },
            ChatEvent { content: "Grüße 🌍".into(), ..ChatEvent::default() },
            ChatEvent::default(),
            call(0, "call_r_0", "f", "{\"a\":1}"),
            call(1, "t", "g", "{}"),
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
        let class = async |text: &str| end_of(Chunks::default(), text).await;
        let unfinished = FIXTURE.rsplit_once("data: ").unwrap().0;
        assert_eq!(class(FIXTURE).await, None);
        assert_eq!(class(unfinished).await, Some(ErrorClass::Connection));
        assert_eq!(class("").await, Some(ErrorClass::Connection));
        assert_eq!(class("data: {\"candidates\":\n\n").await, Some(ErrorClass::ServerError));
        assert_eq!(class("data: {\"choices\":[]}\n\n").await, Some(ErrorClass::ServerError));
        let blocked = "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\n\n";
        assert_eq!(class(blocked).await, Some(ErrorClass::ContentFiltered));
    }

    #[tokio::test]
    async fn errors_in_the_stream_are_classified() {
        let table = [
            (429, "RESOURCE_EXHAUSTED", ErrorClass::RateLimited),
            (503, "UNAVAILABLE", ErrorClass::ServerError),
            (500, "INTERNAL", ErrorClass::ServerError),
            (504, "DEADLINE_EXCEEDED", ErrorClass::Timeout),
            (400, "INVALID_ARGUMENT", ErrorClass::BadRequest),
            (404, "NOT_FOUND", ErrorClass::ModelUnavailable),
        ];
        for (code, status, class) in table {
            let error = json!({"error": {"code": code, "status": status, "message": "no, hunter2hunter2"}});
            let items = read(vec![format!("data: {error}\n\n").into_bytes()]).await;
            let [Err(failure)] = items.as_slice() else { panic!("{items:?}") };
            assert_eq!((failure.class, failure.message.as_str()), (class, "no, [removed]"), "{status}");
        }
    }

    #[tokio::test]
    async fn json_in_place_of_a_stream_means_the_same() {
        let chunks: Vec<String> = FIXTURE
            .split("\n\n")
            .flat_map(|event| event.split("\r\n\r\n"))
            .map(|event| event.replace("data: ", ""))
            .collect();
        let chunks: Vec<&str> = chunks.iter().map(String::as_str).filter(|chunk| !chunk.is_empty()).collect();
        let events =
            Chunks::default().whole(format!("[{}]", chunks.join(",\r\n")).as_bytes(), &redactor()).unwrap();
        assert_eq!(events.into_iter().map(Ok).collect::<Vec<_>>(), expected());
        let last = chunks.last().unwrap();
        let events = Chunks::default().whole(last.as_bytes(), &redactor()).unwrap();
        assert_eq!((events.len(), events[0].finish_reason.as_str()), (1, "stop"));

        let error = json!({"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}});
        let table = [
            (error.to_string(), ErrorClass::RateLimited),
            (json!([error]).to_string(), ErrorClass::RateLimited),
            (format!("[{},{error}]", chunks[1]), ErrorClass::RateLimited),
            (format!("[{}]", chunks[1]), ErrorClass::ServerError),
            ("[]".to_owned(), ErrorClass::ServerError),
            ("{}".to_owned(), ErrorClass::ServerError),
            ("[1".to_owned(), ErrorClass::ServerError),
        ];
        for (body, class) in table {
            assert_eq!(
                Chunks::default().whole(body.as_bytes(), &redactor()).unwrap_err().class,
                class,
                "{body}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_it(chunks: Vec<Vec<u8>>) {
            proptest::prop_assert!(fails(Chunks::default(), chunks.clone()));
            proptest::prop_assert!(Chunks::default().whole(&chunks.concat(), &redactor()).is_err());
        }
    }
}
