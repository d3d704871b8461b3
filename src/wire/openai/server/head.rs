//! What OpenAI's answers have in common, chats and completions: what they say of themselves, their usage, and how they
//! end.

use super::{
    error,
    frames::{DONE, event, write},
};
use crate::wire::{AnswerHead, ErrorReport, Stamp, TokenUsage};
use serde_json::{Map, Value, json};

/// What an answer says of itself, in each piece the same.
#[derive(Default)]
pub(super) struct Head {
    told: AnswerHead,
    created: u64,
}

impl Head {
    /// Takes what a provider says of its answer. What was said first counts.
    pub(super) fn learn(&mut self, said: &AnswerHead) {
        for (own, said) in [
            (&mut self.told.id, &said.id),
            (&mut self.told.model, &said.model),
            (&mut self.told.system_fingerprint, &said.system_fingerprint),
            (&mut self.told.service_tier, &said.service_tier),
        ] {
            if own.is_empty() {
                own.clone_from(said);
            }
        }
    }

    /// Fills in what nobody has said. An id begins with the prefix.
    fn complete(&mut self, stamp: &Stamp, prefix: &str) {
        if self.told.id.is_empty() {
            self.told.id = format!("{prefix}{}", stamp.id);
        }
        if self.told.model.is_empty() {
            self.told.model.clone_from(&stamp.model);
        }
        if self.created == 0 {
            self.created = stamp.created;
        }
    }

    /// An answer, or a piece of one.
    pub(super) fn piece(&mut self, stamp: &Stamp, kind: Kind, choices: Vec<Value>) -> Map<String, Value> {
        self.complete(stamp, kind.prefix);
        let mut out = Map::new();
        out.insert("id".to_owned(), self.told.id.clone().into());
        out.insert("object".to_owned(), kind.object.into());
        out.insert("created".to_owned(), self.created.into());
        out.insert("model".to_owned(), self.told.model.clone().into());
        for (name, text) in
            [("service_tier", &self.told.service_tier), ("system_fingerprint", &self.told.system_fingerprint)]
        {
            if !text.is_empty() {
                out.insert(name.to_owned(), text.clone().into());
            }
        }
        out.insert("choices".to_owned(), choices.into());
        out
    }

    /// Appends what ends a stream, with what was used where the caller is told.
    pub(super) fn end(&mut self, stamp: &Stamp, kind: Kind, used: Option<TokenUsage>, out: &mut Vec<u8>) {
        if let Some(used) = used {
            let mut chunk = self.piece(stamp, kind, Vec::new());
            chunk.insert("usage".to_owned(), usage(&used));
            event(&write(&chunk), out);
        }
        event(DONE, out);
    }
}

/// What an answer is called.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    /// The type of the object.
    pub(super) object: &'static str,
    /// What ids of such answers begin with.
    pub(super) prefix: &'static str,
}

/// OpenAI's word for why an answer ends. The readers have put most vendors' words into OpenAI's. Clients with strict types
/// take no other (<https://github.com/openai/openai-dotnet/issues/394>), so what has no word is an answer that stopped.
pub(super) fn finish_reason(reason: &str) -> &str {
    match reason {
        "stop" | "length" | "tool_calls" | "content_filter" | "function_call" => reason,
        _ => "stop",
    }
}

/// Counts of tokens (API reference, "The chat completion object", `usage`).
pub(super) fn usage(usage: &TokenUsage) -> Value {
    let mut input = json!({"cached_tokens": usage.cached, "audio_tokens": usage.prompt_audio});
    // OpenRouter's (<https://openrouter.ai/docs/guides/best-practices/prompt-caching>).
    if usage.cache_write > 0 {
        input["cache_write_tokens"] = usage.cache_write.into();
    }
    json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.total,
        "prompt_tokens_details": input,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": usage.completion_audio,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}

/// Appends an error that breaks a stream off.
pub(super) fn failure(report: &ErrorReport, out: &mut Vec<u8>) {
    event(&error::body(report), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_first_counts() {
        let (mut head, stamp) = (Head::default(), Stamp { id: "1".into(), created: 7, model: "m".into() });
        let kind = Kind { object: "o", prefix: "p-" };
        let first = head.piece(&stamp, kind, Vec::new());
        head.learn(&AnswerHead { id: "late".into(), model: "late".into(), ..AnswerHead::default() });
        let later = Stamp { created: 8, ..Stamp::default() };
        assert_eq!(head.piece(&later, kind, Vec::new()), first);
        assert_eq!(
            Value::from(first),
            json!({"id": "p-1", "object": "o", "created": 7, "model": "m", "choices": []})
        );
    }
}
