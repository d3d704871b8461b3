//! What the chunks of a streamed answer mean (API reference, "models.streamGenerateContent"). Pure. Each of them is an
//! answer with what is new; the body ends behind the one with the finish reason.

use super::{
    answer::{Answer, Candidate, annotations, check_end, finish_reason},
    parts::Spoken,
};
use crate::wire::{
    AnswerHead, ChatEvent, Keys, RareEvent, ReadError, ReadFrames, Said,
    answer::no_answer,
    lenient::{list, object},
};
use std::collections::BTreeMap;

/// Reads one stream's chunks, in their order.
#[derive(Default)]
pub struct Chunks {
    candidates: BTreeMap<i32, CandidateSoFar>,
    /// The answer's id.
    id: String,
}

#[derive(Default)]
struct CandidateSoFar {
    spoken: Spoken,
    /// Whether it has said anything.
    said: bool,
    called: bool,
    /// What belongs to the whole answer comes again and again: the last is told.
    extra: Keys,
}

impl ReadFrames for Chunks {
    fn read(&mut self, data: &[u8]) -> Result<Said, ReadError> {
        let answer: Answer = object(data)?;
        self.chunk(answer.check(data)?).map(Said::Events)
    }

    /// One whole answer, or an array of chunks, which is what the API sends where nobody asks for events.
    fn whole(&mut self, body: &[u8]) -> Result<Vec<ChatEvent>, ReadError> {
        let mut events = Vec::new();
        for answer in list::<Answer>(body)? {
            events.extend(self.chunk(answer.check(body)?)?);
        }
        let finished = events.iter().any(|event: &ChatEvent| !event.finish_reason.is_empty());
        if finished { Ok(events) } else { Err(no_answer(body)) }
    }
}

impl Chunks {
    /// An event a candidate.
    fn chunk(&mut self, mut answer: Answer) -> Result<Vec<ChatEvent>, ReadError> {
        let head = answer.head();
        if self.id.is_empty() {
            self.id.clone_from(&head.id);
        }
        let usage = answer.usage();
        let mut events = Vec::new();
        for candidate in answer.candidates {
            events.push(self.candidate(candidate, usage.is_some())?);
        }
        // A chunk without candidates is a sign of life all the same.
        if events.is_empty() {
            events.push(ChatEvent::default());
        }
        if let Some(first) = events.first_mut()
            && (head != AnswerHead::default() || !answer.rest.is_empty())
        {
            first.rare().head = head;
            first.rare().extra = answer.rest;
        }
        if let Some(last) = events.last_mut() {
            last.usage = usage;
        }
        Ok(events)
    }

    fn candidate(&mut self, candidate: Candidate, billed: bool) -> Result<ChatEvent, ReadError> {
        let index = candidate.index.index().unwrap_or_default();
        let so_far = self.candidates.entry(index).or_default();
        so_far.spoken.add(candidate.content, &self.id);
        let theirs = candidate.finish_reason;
        if !theirs.is_empty() {
            so_far.spoken.end(&self.id);
        }
        let new = so_far.spoken.take();
        so_far.said |= !new.is_empty();
        so_far.called |= !new.calls.is_empty();
        so_far.extra.extend(candidate.rest);
        let ours = finish_reason(&theirs, so_far.called);
        let mut event = ChatEvent {
            index,
            reasoning_content: new.thoughts,
            reasoning: new.reasoning,
            tool_calls: new.calls,
            ..ChatEvent::default()
        };
        let mut rare = RareEvent { logprobs: candidate.logprobs.into_box(), ..RareEvent::default() };
        for part in new.parts {
            match part.text() {
                Some(text) => event.content.push_str(text),
                None => rare.parts.push(part),
            }
        }
        if !ours.is_empty() {
            check_end(&theirs, &ours, !so_far.said, billed)?;
            rare.annotations = annotations(&so_far.extra);
            rare.delta_extra = std::mem::take(&mut so_far.extra);
            event.finish_reason = ours;
        }
        if rare != RareEvent::default() {
            event.rare = Some(Box::new(rare));
        }
        Ok(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{
        Reasoning, TokenUsage,
        fixtures::{call, end_of, fails, reported, same_wherever_cut, thought, words},
        gemini::answer::BLOCKED,
    };
    use serde_json::{Value, json};

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
        words(Chunks::default(), chunks)
    }

    fn expected() -> Vec<Result<ChatEvent, ReadError>> {
        let usage = TokenUsage {
            prompt: 10,
            completion: 4,
            total: 14,
            cached: 2,
            reasoning: 1,
            ..TokenUsage::default()
        };
        let mut first = thought("hm");
        first.rare().head = AnswerHead { id: "r".into(), model: "gemini-x".into(), ..AnswerHead::default() };
        let mut signed = call(0, "call_r_0", "f", "{\"a\":1}");
        let id = "call_r_0".to_owned();
        signed.reasoning = vec![Reasoning { signature: "c2ln".into(), id, index: 2, ..Reasoning::default() }];
        let events = [
            first,
            ChatEvent { content: "Grüße 🌍".into(), ..ChatEvent::default() },
            signed,
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
        assert_eq!(reported::<()>(Err(end(blocked).unwrap())).0, BLOCKED);
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
        assert_eq!(events.last().unwrap().finish_reason, "tool_calls");
        let body = format!("[{}]", chunks.join(",\r\n"));
        assert_eq!(read(&[body.as_bytes()]), expected());

        let error = json!({"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}});
        for body in [error.to_string(), json!([error]).to_string(), format!("[{},{error}]", chunks[1])] {
            assert_eq!(reported(Chunks::default().whole(body.as_bytes())).0, "429", "{body}");
        }
        for body in [&format!("[{}]", chunks[1]), "[]", "{}", "[1"] {
            let read = Chunks::default().whole(body.as_bytes());
            assert_eq!(read.unwrap_err(), ReadError::MALFORMED, "{body}");
        }
    }

    #[test]
    fn arguments_in_pieces_are_one_call() {
        let piece = |call: Value| json!({"candidates": [{"content": {"parts": [{"functionCall": call}]}}], "responseId": "r"});
        let mut first = piece(json!({"name": "f", "willContinue": true}));
        first["candidates"][0]["content"]["parts"][0]["thoughtSignature"] = "s".into();
        let text: String = [
            first,
            piece(json!({"partialArgs": [{"jsonPath": "$.place.name", "stringValue": "New ", "willContinue": true}], "willContinue": true})),
            piece(json!({"partialArgs": [{"jsonPath": "$.place.name", "stringValue": "York"}], "willContinue": true})),
            piece(json!({"partialArgs": [{"jsonPath": "$.days[1]", "numberValue": 2}], "willContinue": true})),
            piece(json!({})),
            json!({"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}]}),
        ]
        .iter()
        .map(|chunk| format!("data: {chunk}\n\n"))
        .collect();
        let items: Vec<_> = read(&[text.as_bytes()]).into_iter().map(Result::unwrap).collect();
        let calls: Vec<_> = items.iter().flat_map(|event| &event.tool_calls).collect();
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].arguments, r#"{"place":{"name":"New York"},"days":[null,2]}"#);
        let signed: Vec<_> = items.iter().flat_map(|event| &event.reasoning).collect();
        assert_eq!((signed.len(), signed[0].signature.as_str(), &signed[0].id), (1, "s", &calls[0].id));
        assert_eq!(items.last().unwrap().finish_reason, "tool_calls");
    }

    #[test]
    fn text_behind_a_finish_is_told_before_it() {
        let chunk = |text: &str, finish: Value| {
            let candidate = json!({"content": {"parts": [{"text": text}]}, "finishReason": finish});
            format!(
                "data: {}\n\n",
                json!({"candidates": [candidate], "usageMetadata": {"promptTokenCount": 1}})
            )
        };
        let text = chunk("a", json!("STOP")) + &chunk("b", json!("STOP"));
        let items: Vec<_> = read(&[text.as_bytes()]).into_iter().map(Result::unwrap).collect();
        let told: Vec<_> =
            items.iter().map(|event| (event.content.as_str(), event.finish_reason.as_str())).collect();
        assert_eq!(told, [("a", ""), ("b", ""), ("", "stop")]);
        let empty = chunk("", json!("STOP"));
        assert_eq!(end_of(Chunks::default(), &empty), Some(ReadError::NoMessage));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_it(chunks: Vec<Vec<u8>>) {
            proptest::prop_assert!(fails(Chunks::default(), &chunks));
            proptest::prop_assert!(Chunks::default().whole(&chunks.concat()).is_err());
        }
    }
}
