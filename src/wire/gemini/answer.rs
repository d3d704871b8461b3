//! What comes back from Gemini (API reference, "GenerateContentResponse"). Pure. Reads with tolerance: unknown parts are
//! parts that only Gemini knows, unknown fields are handed on, missing ones and nulls are empty. Invariant: what is not the
//! protocol is a failure, never an empty success.

use super::parts::Spoken;
use crate::wire::{
    Annotation, AnswerHead, ChatReply, Choice, EmbeddingReply, ReadError, TokenUsage,
    answer::{check_error, keep_counts, no_answer, vectors},
    lenient::{Any, Number, fields, object},
    vector::Vector,
};
use serde_json::{Map, Value};

/// Reads a whole answer.
pub fn message(body: &[u8]) -> Result<ChatReply, ReadError> {
    let answer: Answer = object(body)?;
    let mut answer = answer.check(body)?;
    let (head, usage) = (answer.head(), answer.usage());
    let mut choices = Vec::new();
    for (place, candidate) in (0..).zip(answer.candidates) {
        let index = candidate.index.index().unwrap_or(place);
        let mut spoken = Spoken::default();
        spoken.add(candidate.content, &head.id);
        spoken.end(&head.id);
        let finish_reason = finish_reason(&candidate.finish_reason, !spoken.calls.is_empty());
        check_end(&candidate.finish_reason, &finish_reason, spoken.is_empty(), usage.is_some())?;
        let extra = Map::from(candidate.rest);
        let annotations = annotations(&extra);
        let mut message = spoken.message();
        message.annotations = annotations;
        choices.push(Choice {
            index,
            message,
            finish_reason,
            logprobs: candidate.logprobs.into_box(),
            extra: extra.into(),
            ..Choice::default()
        });
    }
    let mut choices = choices.into_iter();
    let first = choices.next();
    let choice = first.ok_or(if usage.is_some() { ReadError::NoMessage } else { ReadError::MALFORMED })?;
    Ok(ChatReply { head, choice, more_choices: choices.collect(), usage, extra: answer.rest })
}

/// Reads embeddings; there must be as many as `count`, and they come in the order of the texts.
pub fn embeddings(body: &[u8], count: usize) -> Result<EmbeddingReply, ReadError> {
    let answer: Batch = object(body)?;
    check_error(&answer.error)?;
    if answer.embeddings.is_empty() {
        return Err(no_answer(body));
    }
    let read = answer
        .embeddings
        .into_iter()
        .map(|embedding| embedding.values.floats(""))
        .collect::<Option<Vec<_>>>();
    let read = read.ok_or(ReadError::Malformed("the provider returned an embedding that is no vector"))?;
    Ok(EmbeddingReply {
        vectors: vectors(read, count)?,
        usage: answer.usage.map(|usage| usage.total()).unwrap_or_default(),
    })
}

/// Reads a count of tokens ("models.countTokens").
pub fn count(body: &[u8]) -> Result<u32, ReadError> {
    let answer: Count = object(body)?;
    check_error(&answer.error)?;
    answer.total_tokens.0.map(|_| answer.total_tokens.count()).ok_or_else(|| no_answer(body))
}

/// Reads a list of models, of which only matters that it is one.
pub fn models(body: &[u8]) -> Result<(), ReadError> {
    let answer: Listed = object(body)?;
    check_error(&answer.error)?;
    if answer.models.is_array() { Ok(()) } else { Err(no_answer(body)) }
}

/// The contract's word for a finish reason (API reference, "FinishReason"). One without a word is passed on.
pub(super) fn finish_reason(reason: &str, calls: bool) -> String {
    match reason {
        "STOP" if calls => "tool_calls".into(),
        "STOP" => "stop".into(),
        "MAX_TOKENS" => "length".into(),
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "MODEL_ARMOR" => FILTERED.into(),
        _ => reason.to_ascii_lowercase(),
    }
}

const FILTERED: &str = "content_filter";

/// The code of an error that is a prompt, or an answer, which Gemini has blocked; Gemini has no code for it.
pub const BLOCKED: &str = "BLOCKED";

/// Whether an answer that ends so is one: an empty one that was refused, cut or unusable is an error, and one that says
/// nothing at all is asked for once more.
pub(super) fn check_end(theirs: &str, ours: &str, is_empty: bool, billed: bool) -> Result<(), ReadError> {
    match ours {
        _ if !is_empty => Ok(()),
        FILTERED => Err(ReadError::reported(BLOCKED, format!("the provider blocked the answer: {theirs}"))),
        // The model had no room for more than its thoughts.
        "length" => Ok(()),
        "" | "stop" if billed => Err(ReadError::NoMessage),
        "" => Err(ReadError::MALFORMED),
        "stop" => Err(ReadError::NoMessage),
        _ => Err(ReadError::reported(theirs, format!("the provider broke the answer off: {theirs}"))),
    }
}

/// What an answer refers to: the pages of a search, and texts that it repeats ("Grounding with Google Search";
/// "CitationMetadata").
pub(super) fn annotations(candidate: &Map<String, Value>) -> Vec<Annotation> {
    let list = |path: [&str; 2]| {
        let items = candidate.get(path[0]).and_then(|object| object.get(path[1]));
        items.and_then(Value::as_array).into_iter().flatten()
    };
    let text =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let pages = list(["groundingMetadata", "groundingChunks"]).map(|chunk| {
        let page = chunk.get("web").or_else(|| chunk.get("retrievedContext")).unwrap_or(chunk);
        Annotation {
            kind: "grounding_chunk".into(),
            url: text(page, "uri"),
            title: text(page, "title"),
            text: text(page, "text"),
            json: chunk.clone(),
        }
    });
    let sources =
        list(["citationMetadata", "citationSources"]).chain(list(["citationMetadata", "citations"]));
    let sources = sources.map(|source| Annotation {
        kind: "citation_source".into(),
        url: text(source, "uri"),
        title: text(source, "title"),
        text: String::new(),
        json: source.clone(),
    });
    pages.chain(sources).collect()
}

fields! {
    /// A whole answer, or a chunk of a streamed one.
    pub(super) struct Answer {
        error: Value,
        pub(super) candidates: Vec<Candidate>,
        prompt_feedback: Option<Box<PromptFeedback>> = "promptFeedback" | "prompt_feedback",
        pub(super) usage: Option<Box<Usage>> = "usageMetadata" | "usage_metadata",
        model_version: String = "modelVersion" | "model_version",
        response_id: String = "responseId" | "response_id",
    }
    ignores []
}

impl Answer {
    /// Itself, where it says anything, reports no error, and the prompt was not blocked.
    pub(super) fn check(self, body: &[u8]) -> Result<Self, ReadError> {
        check_error(&self.error)?;
        let blocked = self.prompt_feedback.as_ref().map(|feedback| feedback.block_reason.as_str());
        if let Some(reason) = blocked.filter(|reason| !reason.is_empty())
            && self.candidates.is_empty()
        {
            return Err(ReadError::reported(BLOCKED, format!("the provider blocked the prompt: {reason}")));
        }
        if self.candidates.is_empty() && self.prompt_feedback.is_none() && self.usage.is_none() {
            return Err(no_answer(body));
        }
        Ok(self)
    }

    pub(super) fn head(&mut self) -> AnswerHead {
        let (id, model) = (std::mem::take(&mut self.response_id), std::mem::take(&mut self.model_version));
        let service_tier = self.usage.as_mut().map(|usage| std::mem::take(&mut usage.service_tier));
        AnswerHead { id, model, service_tier: service_tier.unwrap_or_default(), ..AnswerHead::default() }
    }

    /// What it counts. What counts have no field, such as those by modality, is left in `rest`, as is what else it says of
    /// the prompt.
    pub(super) fn usage(&mut self) -> Option<TokenUsage> {
        let feedback = self.prompt_feedback.take().map(|feedback| feedback.rest).unwrap_or_default();
        keep_counts(&mut self.rest, "promptFeedback", feedback);
        let usage = self.usage.take()?;
        let total = usage.total();
        keep_counts(&mut self.rest, "usageMetadata", usage.rest);
        Some(total)
    }
}

fields! {
    struct PromptFeedback {
        block_reason: String = "blockReason" | "block_reason",
    }
    ignores []
}

fields! {
    pub(super) struct Candidate {
        pub(super) index: Number,
        pub(super) content: Value,
        pub(super) finish_reason: String = "finishReason" | "finish_reason",
        pub(super) logprobs: Any = "logprobsResult" | "logprobs_result",
    }
    ignores []
}

fields! {
    /// Counts of tokens. Thoughts are not part of the candidates' (API reference, "UsageMetadata").
    pub(super) struct Usage {
        prompt: Number = "promptTokenCount" | "prompt_token_count",
        tool_use: Number = "toolUsePromptTokenCount" | "tool_use_prompt_token_count",
        cached: Number = "cachedContentTokenCount" | "cached_content_token_count",
        candidates: Number = "candidatesTokenCount" | "candidates_token_count",
        thoughts: Number = "thoughtsTokenCount" | "thoughts_token_count",
        total: Number = "totalTokenCount" | "total_token_count",
        service_tier: String = "serviceTier" | "service_tier",
    }
    ignores []
}

impl Usage {
    /// As the contract counts: `completion` is all that came out.
    pub(super) fn total(&self) -> TokenUsage {
        let audio = |details: &str| {
            let details = self.rest.get(details).and_then(Value::as_array).into_iter().flatten();
            let audio = details.filter(|one| one.get("modality").is_some_and(|modality| modality == "AUDIO"));
            let counts = audio.filter_map(|one| one.get("tokenCount")).map(|count| Number::of(count).count());
            counts.fold(0, u32::saturating_add)
        };
        let prompt = self.prompt.count().saturating_add(self.tool_use.count());
        let completion = self.candidates.count().saturating_add(self.thoughts.count());
        TokenUsage {
            prompt,
            completion,
            total: self.total.count().max(prompt.saturating_add(completion)),
            cached: self.cached.count(),
            reasoning: self.thoughts.count(),
            prompt_audio: audio("promptTokensDetails"),
            completion_audio: audio("candidatesTokensDetails"),
            ..TokenUsage::default()
        }
    }
}

fields! {
    struct Batch {
        error: Value,
        embeddings: Vec<Embedding>,
        usage: Option<Box<Usage>> = "usageMetadata" | "usage_metadata",
    }
    ignores []
}

fields! {
    struct Embedding {
        values: Vector,
    }
    ignores []
}

fields! {
    struct Count {
        error: Value,
        total_tokens: Number = "totalTokens" | "total_tokens",
    }
    ignores []
}

fields! {
    struct Listed {
        error: Value,
        models: Value,
    }
    ignores []
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Content, Message, Part, PartKind, Reasoning, ToolCall, fixtures::reported};
    use serde_json::json;

    fn read(body: &Value) -> Result<ChatReply, ReadError> {
        message(body.to_string().as_bytes())
    }

    #[test]
    fn a_full_answer_is_read() {
        let reply = read(&json!({
            "candidates": [{
                "content": {"role": "model", "parts": [
                    {"text": "hm", "thought": true},
                    {"text": "a", "thoughtSignature": "x"},
                    {"executableCode": {"language": "PYTHON", "code": "1"}},
                    {"text": "b"},
                    {"functionCall": {"id": "t1", "name": "f", "args": {"z": 1, "a": 2}}, "thoughtSignature": "y"},
                    {"functionCall": {"name": "g"}},
                ]},
                "finishReason": "STOP", "index": 0, "safetyRatings": [],
            }],
            "promptFeedback": {"safetyRatings": []},
            "usageMetadata": {
                "promptTokenCount": 10, "cachedContentTokenCount": 4, "candidatesTokenCount": 5,
                "thoughtsTokenCount": 6, "toolUsePromptTokenCount": 2, "totalTokenCount": 23,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 10}],
            },
            "modelVersion": "gemini-x-001", "responseId": "r1",
        }))
        .unwrap();
        let call = |index, id: &str, name: &str, arguments: &str| ToolCall {
            index,
            id: id.into(),
            kind: "function".into(),
            name: name.into(),
            arguments: arguments.into(),
            ..ToolCall::default()
        };
        let code =
            json!({"executableCode": {"language": "PYTHON", "code": "1"}}).as_object().unwrap().clone();
        let text = |text: &str| Part::from(PartKind::Text(text.into()));
        let piece = |index, text: &str, signature: &str, id: &str| Reasoning {
            text: text.into(),
            signature: signature.into(),
            id: id.into(),
            index,
            ..Reasoning::default()
        };
        let message = Message {
            role: "assistant".into(),
            content: Content::Parts(vec![text("a"), Part::opaque(code), text("b")]),
            tool_calls: vec![call(0, "t1", "f", "{\"z\":1,\"a\":2}"), call(1, "call_r1_1", "g", "{}")],
            reasoning_content: "hm".into(),
            reasoning: vec![piece(0, "hm", "", ""), piece(1, "", "x", ""), piece(4, "", "y", "t1")],
            ..Message::default()
        };
        let usage = TokenUsage {
            prompt: 12,
            completion: 11,
            total: 23,
            cached: 4,
            reasoning: 6,
            ..TokenUsage::default()
        };
        let head = AnswerHead { id: "r1".into(), model: "gemini-x-001".into(), ..AnswerHead::default() };
        let choice = Choice { message, finish_reason: "tool_calls".into(), ..Choice::default() };
        let counts =
            json!({"usageMetadata": {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": 10}]}});
        let extra = counts.as_object().unwrap().clone();
        assert_eq!(
            reply,
            ChatReply { head, choice, usage: Some(usage), extra: extra.into(), ..ChatReply::default() }
        );
    }

    #[test]
    fn media_and_grounding_are_handed_on() {
        let reply = read(&json!({"candidates": [
            {"index": 1, "content": {"parts": [{"text": "two"}]}, "finishReason": "MAX_TOKENS"},
            {"index": 0, "finishReason": "STOP",
                "content": {"parts": [{"text": "look"}, {"inlineData": {"mimeType": "image/png", "data": "YWJj"}, "thoughtSignature": "s"}]},
                "groundingMetadata": {"groundingChunks": [{"web": {"uri": "http://u", "title": "t"}}]},
                "logprobsResult": {"chosenCandidates": []}},
        ]}))
        .unwrap();
        let Content::Parts(parts) = &reply.more_choices[0].message.content else { panic!("{reply:?}") };
        assert!(matches!(&parts[1].kind, PartKind::Image(media) if media.mime_type == "image/png"));
        let grounded = &reply.more_choices[0];
        assert_eq!(grounded.message.reasoning[0].index, 1);
        assert_eq!(grounded.message.annotations[0].url, "http://u");
        assert!(grounded.extra.contains_key("groundingMetadata") && grounded.logprobs.is_some());
        assert_eq!(reply.choice.finish_reason, "length");
    }

    #[test]
    fn finish_reasons_have_the_contracts_words() {
        let table = [
            ("STOP", "stop"),
            ("MAX_TOKENS", "length"),
            ("SAFETY", "content_filter"),
            ("RECITATION", "content_filter"),
            ("BLOCKLIST", "content_filter"),
            ("PROHIBITED_CONTENT", "content_filter"),
            ("SPII", "content_filter"),
            ("IMAGE_SAFETY", "content_filter"),
            ("MALFORMED_FUNCTION_CALL", "malformed_function_call"),
            ("OTHER", "other"),
        ];
        for (theirs, ours) in table {
            let content = json!({"parts": [{"text": "x"}]});
            let reply = read(&json!({"candidates": [{"content": content, "finishReason": theirs}]})).unwrap();
            assert_eq!(reply.choice.finish_reason, ours);
        }
        let empty = |theirs: &str| read(&json!({"candidates": [{"finishReason": theirs}]}));
        assert_eq!(reported(empty("SAFETY")).0, BLOCKED);
        for theirs in ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "OTHER"] {
            assert_eq!(reported(empty(theirs)).0, theirs);
        }
        assert_eq!(empty("STOP"), Err(ReadError::NoMessage));
        assert_eq!(empty("MAX_TOKENS").unwrap().choice.finish_reason, "length");
    }

    #[test]
    fn a_call_without_any_id_gets_one() {
        let parts = json!([{"functionCall": {"name": "f", "args": null}}]);
        let reply = read(&json!({"candidates": [{"content": {"parts": parts}}]})).unwrap();
        assert_eq!(reply.choice.message.tool_calls[0].id, "call_0");
    }

    #[test]
    fn a_blocked_prompt_is_filtered() {
        let blocked = json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}});
        let text = "the provider blocked the prompt: PROHIBITED_CONTENT";
        assert_eq!(reported(read(&blocked)), (BLOCKED.into(), text.into()));
    }

    #[test]
    fn what_is_not_the_protocol_is_a_failure() {
        let bodies = [
            json!({}),
            json!([]),
            json!("x"),
            json!({"candidates": []}),
            json!({"candidates": [{}]}),
            json!({"candidates": "x"}),
            json!({"choices": []}),
        ];
        for body in bodies {
            assert_eq!(read(&body).unwrap_err(), ReadError::MALFORMED, "{body}");
        }
        let error = json!({"error": {"code": 429, "message": "no"}});
        assert_eq!(reported(read(&error)), ("429".into(), "no".into()));
    }

    #[test]
    fn embeddings_counts_and_models_are_read() {
        let bytes = |body: Value| body.to_string().into_bytes();
        let two = bytes(json!({
            "embeddings": [{"values": [0.5, 1]}, {"values": [2]}], "usageMetadata": {"promptTokenCount": 3},
        }));
        let reply = embeddings(&two, 2).unwrap();
        assert_eq!(reply.vectors, [vec![0.5, 1.0], vec![2.0]]);
        assert_eq!(reply.usage, TokenUsage { prompt: 3, total: 3, ..TokenUsage::default() });
        assert!(matches!(embeddings(&two, 3), Err(ReadError::Malformed(_))));
        assert_eq!(count(&bytes(json!({"totalTokens": 7}))), Ok(7));
        assert_eq!(models(&bytes(json!({"models": [{}], "nextPageToken": "x"}))), Ok(()));
        let nothing = bytes(json!({}));
        assert_eq!(embeddings(&nothing, 0).unwrap_err(), ReadError::MALFORMED);
        assert_eq!(count(&nothing).unwrap_err(), ReadError::MALFORMED);
        assert_eq!(models(&nothing).unwrap_err(), ReadError::MALFORMED);
    }
}
