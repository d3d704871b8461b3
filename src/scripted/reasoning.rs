//! Reasoning as servers with OpenAI's API show it and want it back: DeepSeek as a text
//! (<https://api-docs.deepseek.com/guides/thinking_mode#tool-calls>), OpenRouter with its proof
//! (<https://openrouter.ai/docs/guides/best-practices/reasoning-tokens#preserving-reasoning>).

use super::{
    Recorded,
    thinking::{signature, thought},
};
use serde_json::{Value, json};

/// Whose reasoning is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reasoning {
    /// DeepSeek's.
    Text,
    /// OpenRouter's.
    Details,
}

impl Reasoning {
    /// What the request asks for.
    pub(super) fn asked(request: &Recorded) -> Option<Self> {
        if request.body.pointer("/thinking/type").is_some_and(|kind| kind == "enabled") {
            return Some(Self::Text);
        }
        // The second is short for the first (<https://openrouter.ai/docs/client-sdks/typescript/models/chatrequestreasoningeffort.md>).
        let effort = request.body.get("reasoning_effort").is_some_and(|effort| effort != "none");
        (request.body.get("reasoning").is_some_and(Value::is_object) || effort).then_some(Self::Details)
    }

    /// The fields of a message that was thought of in that round.
    fn message(self, round: usize) -> Vec<(&'static str, Value)> {
        let text = thought(round);
        match self {
            Self::Text => vec![("reasoning_content", text.into())],
            Self::Details => {
                let details = json!([detail(&json!({"text": text, "signature": signature(&text)}))]);
                vec![("reasoning", text.into()), ("reasoning_details", details)]
            }
        }
    }

    /// Adds them to a message.
    pub(super) fn add_to(self, message: &mut Value, round: usize) {
        if let Some(fields) = message.as_object_mut() {
            fields.extend(self.message(round).into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
    }

    /// The deltas that make them.
    pub(super) fn deltas(self, round: usize) -> Vec<Value> {
        let text = thought(round);
        match self {
            Self::Text => vec![json!({"content": null, "reasoning_content": text})],
            Self::Details => vec![
                json!({"reasoning": text, "reasoning_details": [detail(&json!({ "text": text }))]}),
                json!({"reasoning": null, "reasoning_details": [detail(&json!({"signature": signature(&text)}))]}),
            ],
        }
    }

    /// Why the calls behind the last question are not what they were.
    pub(super) fn altered(self, request: &Recorded) -> Option<String> {
        rounds(request).zip(1..).find_map(|((place, message), round)| {
            let lost = self.message(round).into_iter().find(|(name, value)| {
                // Only the proof counts where there is one.
                *name != "reasoning" && message.get(*name) != Some(value)
            });
            lost.map(|(name, _)| format!("The `{name}` of messages[{place}] must be passed back to the API."))
        })
    }
}

/// The assistant's messages behind the last question, each with its place.
pub(super) fn rounds(request: &Recorded) -> impl Iterator<Item = (usize, &Value)> {
    let messages =
        request.body.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let has_role = |message: &Value, role: &str| message.get("role").is_some_and(|own| own == role);
    let behind = messages.iter().rposition(|message| has_role(message, "user")).map_or(0, |place| place + 1);
    messages.iter().enumerate().skip(behind).filter(move |(_, message)| has_role(message, "assistant"))
}

fn detail(own: &Value) -> Value {
    let mut detail = json!({"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0});
    if let (Some(fields), Some(own)) = (detail.as_object_mut(), own.as_object()) {
        fields.extend(own.clone());
    }
    detail
}
