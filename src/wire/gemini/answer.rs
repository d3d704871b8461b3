//! What comes back from Gemini (API reference, "GenerateContentResponse"). Pure. Reads with tolerance: unknown parts and
//! fields are ignored, missing ones and nulls are empty. Invariant: what is not the protocol is a failure, never an empty
//! success.

use crate::wire::{
    ChatReply, Content, EmbeddingReply, Message, ReadError, TokenUsage, ToolCall,
    answer::{check_error, parse, vectors},
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};

/// Reads a whole answer.
pub fn message(body: &[u8]) -> Result<ChatReply, ReadError> {
    let answer: Answer = parse(body)?;
    let answer = answer.check()?;
    let id = answer.response_id.unwrap_or_default();
    let candidate = answer.candidates.into_iter().flatten().next().ok_or(ReadError::MALFORMED)?;
    if candidate.content.is_none() && candidate.finish_reason.is_none() {
        return Err(ReadError::MALFORMED);
    }
    let spoken = Spoken::of(candidate.content, &id, 0);
    let finish_reason =
        finish_reason(candidate.finish_reason.unwrap_or_default(), !spoken.tool_calls.is_empty());
    Ok(ChatReply {
        message: Message {
            role: "assistant".into(),
            content: Content::Text(spoken.text),
            tool_calls: spoken.tool_calls,
            reasoning: spoken.reasoning,
            ..Message::default()
        },
        finish_reason,
        usage: answer.usage_metadata.map(Usage::total).unwrap_or_default(),
        model: answer.model_version.unwrap_or_default(),
        system_fingerprint: String::new(),
    })
}

/// Reads embeddings; there must be as many as `count`, and they come in the order of the texts.
pub fn embeddings(body: &[u8], count: usize) -> Result<EmbeddingReply, ReadError> {
    let answer: Batch = parse(body)?;
    check_error(answer.error)?;
    let embeddings = answer.embeddings.ok_or(ReadError::MALFORMED)?;
    Ok(EmbeddingReply {
        vectors: vectors(embeddings.into_iter().map(|embedding| embedding.values).collect(), count)?,
        usage: answer.usage_metadata.map(Usage::total).unwrap_or_default(),
    })
}

/// Reads a count of tokens ("models.countTokens").
pub fn count(body: &[u8]) -> Result<u32, ReadError> {
    let answer: Count = parse(body)?;
    check_error(answer.error)?;
    answer.total_tokens.ok_or(ReadError::MALFORMED)
}

/// Reads a list of models, of which only matters that it is one.
pub fn models(body: &[u8]) -> Result<(), ReadError> {
    let answer: Models = parse(body)?;
    check_error(answer.error)?;
    answer.models.map(|_| ()).ok_or(ReadError::MALFORMED)
}

/// The contract's word for a finish reason (API reference, "FinishReason"). One without a word is passed on.
pub(super) fn finish_reason(reason: String, calls: bool) -> String {
    match reason.as_str() {
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
        | "IMAGE_RECITATION" => "content_filter".into(),
        _ => reason.to_ascii_lowercase(),
    }
}

/// The code of an error that is a prompt which Gemini has blocked; Gemini has no code for it.
pub const PROMPT_BLOCKED: &str = "PROMPT_BLOCKED";

/// A whole answer, or a chunk of a streamed one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    error: Option<Value>,
    pub(super) candidates: Option<Vec<Candidate>>,
    prompt_feedback: Option<PromptFeedback>,
    pub(super) usage_metadata: Option<Usage>,
    model_version: Option<String>,
    pub(super) response_id: Option<String>,
}

impl Answer {
    /// Itself, where it says anything, reports no error, and the prompt was not blocked.
    pub(super) fn check(mut self) -> Result<Self, ReadError> {
        check_error(self.error.take())?;
        let blocked = self.prompt_feedback.as_ref().and_then(|feedback| feedback.block_reason.as_deref());
        if let Some(reason) = blocked
            && self.candidates.as_ref().is_none_or(Vec::is_empty)
        {
            let message = format!("the provider blocked the prompt: {reason}");
            return Err(ReadError::reported(PROMPT_BLOCKED, message));
        }
        if self.candidates.is_none() && self.prompt_feedback.is_none() && self.usage_metadata.is_none() {
            return Err(ReadError::MALFORMED);
        }
        Ok(self)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PromptFeedback {
    block_reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate {
    pub(super) index: Option<i32>,
    pub(super) content: Option<Parts>,
    pub(super) finish_reason: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Parts {
    parts: Option<Vec<Part>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    text: Option<String>,
    /// Whether the text is reasoning.
    thought: Option<bool>,
    function_call: Option<FunctionCall>,
}

#[derive(Deserialize)]
struct FunctionCall {
    id: Option<String>,
    name: Option<String>,
    args: Option<Map<String, Value>>,
}

/// What a candidate's parts say together.
#[derive(Default)]
pub(super) struct Spoken {
    pub(super) text: String,
    pub(super) reasoning: String,
    pub(super) tool_calls: Vec<ToolCall>,
}

impl Spoken {
    /// Reads the parts of an answer with that id; so many calls came before. Older models give calls no id. The one made
    /// up then differs from those of other answers, as some vendors ask for that, and this conversation may go to one.
    pub(super) fn of(content: Option<Parts>, answer: &str, before: i32) -> Self {
        let mut spoken = Self::default();
        for part in content.and_then(|content| content.parts).into_iter().flatten() {
            let text = part.text.unwrap_or_default();
            if part.thought == Some(true) {
                spoken.reasoning.push_str(&text);
            } else {
                spoken.text.push_str(&text);
            }
            if let Some(call) = part.function_call {
                let index = before.saturating_add(i32::try_from(spoken.tool_calls.len()).unwrap_or(i32::MAX));
                let made_up = || match answer {
                    "" => format!("call_{index}"),
                    _ => format!("call_{answer}_{index}"),
                };
                spoken.tool_calls.push(ToolCall {
                    index,
                    id: call.id.filter(|id| !id.is_empty()).unwrap_or_else(made_up),
                    kind: "function".into(),
                    name: call.name.unwrap_or_default(),
                    arguments: Value::Object(call.args.unwrap_or_default()).to_string(),
                });
            }
        }
        spoken
    }
}

/// Counts of tokens. Thoughts are not part of the candidates' (API reference, "UsageMetadata").
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the wire's names")]
pub(super) struct Usage {
    prompt_token_count: Option<u32>,
    tool_use_prompt_token_count: Option<u32>,
    cached_content_token_count: Option<u32>,
    candidates_token_count: Option<u32>,
    thoughts_token_count: Option<u32>,
    total_token_count: Option<u32>,
}

impl Usage {
    /// As the contract counts: `completion` is all that came out.
    pub(super) fn total(self) -> TokenUsage {
        let sum =
            |a: Option<u32>, b: Option<u32>| a.unwrap_or_default().saturating_add(b.unwrap_or_default());
        let prompt = sum(self.prompt_token_count, self.tool_use_prompt_token_count);
        let completion = sum(self.candidates_token_count, self.thoughts_token_count);
        TokenUsage {
            prompt,
            completion,
            total: self.total_token_count.unwrap_or(prompt.saturating_add(completion)),
            cached: self.cached_content_token_count.unwrap_or_default(),
            reasoning: self.thoughts_token_count.unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Batch {
    error: Option<Value>,
    embeddings: Option<Vec<Embedding>>,
    usage_metadata: Option<Usage>,
}

#[derive(Deserialize)]
struct Embedding {
    values: Vec<f32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Count {
    error: Option<Value>,
    total_tokens: Option<u32>,
}

#[derive(Deserialize)]
struct Models {
    error: Option<Value>,
    models: Option<Vec<IgnoredAny>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fixtures::reported;
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
                    {"functionCall": {"id": "t1", "name": "f", "args": {"a": 1}}},
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
        };
        let expected = ChatReply {
            message: Message {
                role: "assistant".into(),
                content: Content::Text("ab".into()),
                tool_calls: vec![call(0, "t1", "f", "{\"a\":1}"), call(1, "call_r1_1", "g", "{}")],
                reasoning: "hm".into(),
                ..Message::default()
            },
            finish_reason: "tool_calls".into(),
            usage: TokenUsage { prompt: 12, completion: 11, total: 23, cached: 4, reasoning: 6 },
            model: "gemini-x-001".into(),
            system_fingerprint: String::new(),
        };
        assert_eq!(reply, expected);
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
            let reply = read(&json!({"candidates": [{"finishReason": theirs}]})).unwrap();
            assert_eq!(reply.finish_reason, ours);
        }
    }

    #[test]
    fn a_call_without_any_id_gets_one() {
        let parts = json!([{"functionCall": {"name": "f", "args": null}}]);
        let reply = read(&json!({"candidates": [{"content": {"parts": parts}}]})).unwrap();
        assert_eq!(reply.message.tool_calls[0].id, "call_0");
    }

    #[test]
    fn a_blocked_prompt_is_filtered() {
        let blocked = json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}});
        let text = "the provider blocked the prompt: PROHIBITED_CONTENT";
        assert_eq!(reported(read(&blocked)), (PROMPT_BLOCKED.into(), text.into()));
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
            json!({"usageMetadata": {}}),
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
