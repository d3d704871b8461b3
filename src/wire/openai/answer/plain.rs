//! The answer that most are: one choice that says a text and was not cut, with the usual counts. It is read at half of the
//! cost of other answers, which the reader of all of them takes: whatever is odd is not plain.

use super::super::usage::Usage;
use crate::wire::{
    AnswerHead, ChatReply, Choice, Content, Keys, Message, TokenUsage, answer::keep_counts, lenient::Lenient,
    mend,
};
use serde::{Deserialize, de::IgnoredAny};

/// Null, or a list of nothing.
type Nothing = Option<[(); 0]>;

/// The ends that say nothing of an error.
const ENDS: &[&str] = &["stop", "length"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "fields that may be there and say nothing")]
struct Completion {
    #[serde(default)]
    id: String,
    #[serde(default)]
    object: IgnoredAny,
    #[serde(default)]
    created: IgnoredAny,
    #[serde(default)]
    model: String,
    #[serde(default)]
    system_fingerprint: Option<String>,
    #[serde(default)]
    service_tier: Option<String>,
    choices: [OneChoice; 1],
    #[serde(default)]
    usage: Lenient<Option<Box<Usage>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "fields that may be there and say nothing")]
struct OneChoice {
    index: i32,
    message: Text,
    finish_reason: String,
    #[serde(default)]
    logprobs: (),
    #[serde(default)]
    stop_reason: (),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "fields that may be there and say nothing")]
struct Text {
    role: String,
    content: String,
    #[serde(default)]
    refusal: (),
    #[serde(default)]
    annotations: Nothing,
    #[serde(default)]
    audio: (),
    #[serde(default)]
    function_call: (),
    #[serde(default)]
    tool_calls: Nothing,
    #[serde(default)]
    reasoning_content: (),
}

/// Reads a plain answer.
pub(super) fn completion(body: &[u8]) -> Option<ChatReply> {
    let answer: Completion = serde_json::from_slice(body).ok()?;
    let [OneChoice { index, message, finish_reason, .. }] = answer.choices;
    if message.content.is_empty() || message.role.is_empty() || !ENDS.contains(&finish_reason.as_str()) {
        return None;
    }
    let mut extra = Keys::default();
    let usage = answer.usage.0.map(|mut usage| {
        keep_counts(&mut extra, "usage", usage.rest());
        TokenUsage::from(usage)
    });
    Some(ChatReply {
        head: AnswerHead {
            id: answer.id,
            request_id: String::new(),
            model: answer.model,
            system_fingerprint: answer.system_fingerprint.unwrap_or_default(),
            service_tier: answer.service_tier.unwrap_or_default(),
        },
        choice: Choice {
            index,
            message: Message {
                role: message.role,
                content: Content::Text(mend::whole(message.content)),
                ..Message::default()
            },
            finish_reason,
            ..Choice::default()
        },
        more_choices: Vec::new(),
        usage,
        extra,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::any_completion, *};
    use serde_json::{Value, json};

    /// As OpenAI and vLLM answer.
    fn usual() -> [Value; 2] {
        let openai = json!({
            "id": "x", "object": "chat.completion", "created": 1, "model": "m", "service_tier": "default",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "a \u{1f426}", "refusal": null,
                "annotations": []}, "logprobs": null, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12,
                "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0,
                    "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 2}},
            "system_fingerprint": null,
        });
        let vllm = json!({
            "id": "x", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "a", "refusal": null,
                "annotations": null, "audio": null, "function_call": null, "tool_calls": [],
                "reasoning_content": null}, "logprobs": null, "finish_reason": "length", "stop_reason": null}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "prompt_tokens_details": null},
        });
        [openai, vllm]
    }

    fn text(answer: &Value) -> Vec<u8> {
        answer.to_string().into_bytes()
    }

    #[test]
    fn a_plain_answer_reads_as_any_other() {
        for answer in usual() {
            let body = text(&answer);
            let plain = completion(&body);
            assert!(plain.is_some(), "{answer}");
            assert_eq!(plain, any_completion(&body).ok());
        }
    }

    #[test]
    fn whatever_says_more_is_not_plain() {
        for answer in usual() {
            for (at, odd) in [
                ("/error", json!({"message": "no"})),
                ("/citations", json!(["http://u"])),
                ("/choices/0/finish_reason", json!("content_filter")),
                ("/choices/0/finish_reason", json!("tool_calls")),
                ("/choices/0/error", json!({"code": 500})),
                ("/choices/0/logprobs", json!({"content": []})),
                ("/choices/0/message/content", json!("")),
                ("/choices/0/message/content", json!([{"type": "text", "text": "a"}])),
                ("/choices/0/message/refusal", json!("no")),
                ("/choices/0/message/reasoning_content", json!("hm")),
                ("/choices/0/message/tool_calls", json!([{"id": "c"}])),
            ] {
                let mut answer = answer.clone();
                let (object, name) = at.rsplit_once('/').unwrap();
                answer.pointer_mut(object).unwrap()[name] = odd;
                assert_eq!(completion(&text(&answer)), None, "{answer}");
            }
        }
    }
}
