//! What the chunks of a streamed answer mean (API reference, "models.streamGenerateContent"). Pure. Each of them is an
//! answer with what is new; the body ends behind the one with the finish reason.

use super::answer::{Answer, Spoken, Usage, finish_reason};
use crate::wire::{ChatEvent, ReadError, ReadFrames, Said, answer::parse};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Reads one stream's chunks, in their order.
#[derive(Default)]
pub struct Chunks {
    /// How many tool calls each candidate has made.
    calls: HashMap<i32, i32>,
    /// Whether a finish reason has come.
    finished: bool,
}

impl ReadFrames for Chunks {
    fn read(&mut self, data: &[u8]) -> Result<Said, ReadError> {
        self.chunk(parse(data)?).map(Said::Events)
    }

    /// One whole answer, or an array of chunks, which is what the API sends where nobody asks for events.
    fn whole(mut self, body: &[u8]) -> Result<Vec<ChatEvent>, ReadError> {
        let answers = if body.trim_ascii_start().starts_with(b"[") {
            let objects: Vec<Map<String, Value>> =
                serde_json::from_slice(body).map_err(|_| ReadError::MALFORMED)?;
            let answers = objects.into_iter().map(|object| serde_json::from_value(object.into()));
            answers.collect::<Result<Vec<Answer>, _>>().map_err(|_| ReadError::MALFORMED)?
        } else {
            vec![parse(body)?]
        };
        let mut events = Vec::new();
        for answer in answers {
            events.extend(self.chunk(answer)?);
        }
        if self.finished { Ok(events) } else { Err(ReadError::MALFORMED) }
    }
}

impl Chunks {
    /// An event a candidate. Counts come with every chunk, and are totals so far: they are told at the end.
    fn chunk(&mut self, answer: Answer) -> Result<Vec<ChatEvent>, ReadError> {
        let answer = answer.check()?;
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
    use crate::wire::{
        TokenUsage,
        fixtures::{call, end_of, fails, items, reported, same_wherever_cut},
        gemini::answer::PROMPT_BLOCKED,
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

    fn read(chunks: &[&[u8]]) -> Vec<Result<ChatEvent, ReadError>> {
        items(Chunks::default(), chunks)
    }

    fn expected() -> Vec<Result<ChatEvent, ReadError>> {
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

    #[test]
    fn a_stream_means_the_same_wherever_it_is_cut() {
        same_wherever_cut(FIXTURE, read, &expected());
    }

    #[test]
    fn ends_are_told_apart() {
        let end = |text: &str| end_of(Chunks::default(), text);
        let unfinished = FIXTURE.rsplit_once("data: ").unwrap().0;
        assert_eq!(end(FIXTURE), None);
        assert_eq!(end(unfinished), Some(ReadError::EndedEarly));
        assert_eq!(end(""), Some(ReadError::EndedEarly));
        assert_eq!(end("data: {\"candidates\":\n\n"), Some(ReadError::MALFORMED));
        assert_eq!(end("data: {\"choices\":[]}\n\n"), Some(ReadError::MALFORMED));
        let blocked = "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\n\n";
        assert_eq!(reported::<()>(Err(end(blocked).unwrap())).0, PROMPT_BLOCKED);
    }

    #[test]
    fn an_error_in_the_stream_ends_it() {
        let error = json!({"error": {"code": 503, "status": "UNAVAILABLE", "message": "no"}});
        let mut items = read(&[format!("data: {error}\n\n{FIXTURE}").as_bytes()]);
        let error = reported(items.pop().unwrap());
        assert_eq!((items.len(), error), (0, ("503".into(), "no".into())));
    }

    #[test]
    fn json_in_place_of_a_stream_means_the_same() {
        let chunks: Vec<String> = FIXTURE
            .split("\n\n")
            .flat_map(|event| event.split("\r\n\r\n"))
            .map(|event| event.replace("data: ", ""))
            .collect();
        let chunks: Vec<&str> = chunks.iter().map(String::as_str).filter(|chunk| !chunk.is_empty()).collect();
        let events = Chunks::default().whole(format!("[{}]", chunks.join(",\r\n")).as_bytes()).unwrap();
        assert_eq!(events.into_iter().map(Ok).collect::<Vec<_>>(), expected());
        let last = chunks.last().unwrap();
        let events = Chunks::default().whole(last.as_bytes()).unwrap();
        assert_eq!((events.len(), events[0].finish_reason.as_str()), (1, "stop"));

        let error = json!({"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}});
        for body in [error.to_string(), json!([error]).to_string(), format!("[{},{error}]", chunks[1])] {
            assert_eq!(reported(Chunks::default().whole(body.as_bytes())).0, "429", "{body}");
        }
        for body in [&format!("[{}]", chunks[1]), "[]", "{}", "[1"] {
            let read = Chunks::default().whole(body.as_bytes());
            assert_eq!(read.unwrap_err(), ReadError::MALFORMED, "{body}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_it(chunks: Vec<Vec<u8>>) {
            proptest::prop_assert!(fails(Chunks::default(), &chunks));
            proptest::prop_assert!(Chunks::default().whole(&chunks.concat()).is_err());
        }
    }
}
