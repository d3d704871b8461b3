//! How a message is written for an OpenAI-speaking server, without a tree in between where it is text alone. Pure.

use super::{message::FIELD, parts::part};
use crate::wire::{Content, Message, Part, PartKind, Reasoning, Recipient, ToolCall};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value, json};

/// A message as it is written.
pub(super) struct Said<'r> {
    pub(super) message: &'r Message,
    pub(super) to: Recipient<'r>,
    /// Whether it stands behind the last question.
    pub(super) in_loop: bool,
}

/// How reasoning goes back: as it came.
#[derive(Default)]
struct Thoughts<'r> {
    /// As OpenRouter's details, at any time.
    details: Vec<Value>,
    /// As a part of the content (Mistral, Databricks).
    parts: Vec<Value>,
    /// As a field of the message.
    field: Option<(&'r str, String)>,
}

impl<'r> Thoughts<'r> {
    fn of(said: &Said<'r>) -> Self {
        let mut thoughts = Self::default();
        for piece in said.message.reasoning.iter().filter(|piece| piece.kind == said.to.kind) {
            match piece.extra.get("type").and_then(Value::as_str) {
                Some("thinking") => thoughts.parts.push(thinking(piece)),
                Some("reasoning") => thoughts.parts.push(summary(piece)),
                Some(_) => thoughts.details.push(detail(piece)),
                None => {
                    let name = piece.extra.get(FIELD).and_then(Value::as_str).unwrap_or("reasoning_content");
                    thoughts.field.get_or_insert((name, String::new())).1.push_str(&piece.text);
                }
            }
        }
        // What is no detail is asked for within a tool loop alone (DeepSeek,
        // <https://api-docs.deepseek.com/guides/thinking_mode#tool-calls>), and costs tokens outside of it.
        if !said.in_loop || said.message.tool_calls.is_empty() {
            (thoughts.parts, thoughts.field) = (Vec::new(), None);
        }
        thoughts
    }
}

impl Serialize for Said<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Message { role, content, name, tool_calls, tool_call_id, refusal, extra, .. } = self.message;
        let role = if role == "developer" && self.to.switches.no_developer_role { "system" } else { role };
        let thoughts = Thoughts::of(self);
        let mut message = serializer.serialize_map(None)?;
        message.serialize_entry("role", role)?;
        match content {
            Content::Text(text) if !thoughts.parts.is_empty() => {
                let mut parts = thoughts.parts;
                if !text.is_empty() {
                    parts.push(json!({"type": "text", "text": text}));
                }
                message.serialize_entry("content", &parts)?;
            }
            Content::Text(text) if text.is_empty() && !tool_calls.is_empty() => {
                message.serialize_entry("content", &())?;
            }
            Content::Text(text) => message.serialize_entry("content", text)?,
            Content::Parts(parts) => {
                // Audio of an answer goes back by its id (<https://platform.openai.com/docs/guides/audio>).
                let id = |part: &Part| match part.kind {
                    PartKind::Audio(_) if role == "assistant" => part.extra.fields.get("id").cloned(),
                    _ => None,
                };
                let audio = parts.iter().find_map(id);
                let parts = parts.iter().filter(|part| audio.is_none() || id(part).is_none());
                let parts =
                    parts.filter(|part| part.kind != PartKind::Opaque || part.extra.is_for(self.to.kind));
                let parts = thoughts.parts.into_iter().chain(parts.map(|each| part(each, self.to)));
                message.serialize_entry("content", &parts.collect::<Vec<_>>())?;
                if let Some(id) = audio {
                    message.serialize_entry("audio", &json!({ "id": id }))?;
                }
            }
        }
        for (field, text) in [("name", name), ("tool_call_id", tool_call_id), ("refusal", refusal)] {
            if !text.is_empty() {
                message.serialize_entry(field, text)?;
            }
        }
        if !tool_calls.is_empty() {
            let calls: Vec<_> = tool_calls.iter().map(|call| tool_call(call, self.to)).collect();
            message.serialize_entry("tool_calls", &calls)?;
        }
        if !thoughts.details.is_empty() {
            message.serialize_entry("reasoning_details", &thoughts.details)?;
        } else if let Some((name, text)) = thoughts.field {
            message.serialize_entry(name, &text)?;
        }
        if extra.is_for(self.to.kind) {
            const WRITTEN: &[&str] = &[
                "role",
                "content",
                "audio",
                "name",
                "tool_call_id",
                "refusal",
                "tool_calls",
                "reasoning_details",
                "reasoning_content",
                "reasoning",
            ];
            for (name, value) in extra.fields.iter().filter(|(name, _)| !WRITTEN.contains(&name.as_str())) {
                message.serialize_entry(name, value)?;
            }
        }
        message.end()
    }
}

/// A piece of reasoning as Mistral wants it back (<https://docs.mistral.ai/capabilities/reasoning>).
fn thinking(piece: &Reasoning) -> Value {
    let mut out = piece.extra.clone();
    out.insert("thinking".to_owned(), json!([{"type": "text", "text": piece.text}]));
    out.into()
}

/// A piece of reasoning as Databricks wants it back
/// (<https://docs.databricks.com/aws/en/machine-learning/model-serving/query-reason-models>).
fn summary(piece: &Reasoning) -> Value {
    let mut text = json!({"type": "summary_text", "text": piece.text});
    if !piece.signature.is_empty() {
        text["signature"] = piece.signature.clone().into();
    }
    let mut out = piece.extra.clone();
    out.insert("summary".to_owned(), json!([text]));
    out.into()
}

/// A piece of reasoning as OpenRouter wants it back
/// (<https://openrouter.ai/docs/guides/best-practices/reasoning-tokens#preserving-reasoning>).
fn detail(piece: &Reasoning) -> Value {
    let mut out = piece.extra.clone();
    let is_summary = out.get("type").is_some_and(|kind| kind == "reasoning.summary");
    let text = if is_summary { "summary" } else { "text" };
    for (name, value) in
        [(text, &piece.text), ("data", &piece.data), ("signature", &piece.signature), ("id", &piece.id)]
    {
        if !value.is_empty() {
            out.insert(name.to_owned(), value.clone().into());
        }
    }
    // Its own number, where that is another.
    out.entry("index").or_insert(piece.index.into());
    out.into()
}

fn tool_call(call: &ToolCall, to: Recipient<'_>) -> Value {
    let mut out = Map::new();
    out.insert("id".into(), call.id.clone().into());
    if call.kind == "custom" {
        out.insert("type".into(), "custom".into());
        out.insert("custom".into(), json!({"name": call.name, "input": call.arguments}));
    } else {
        out.insert("type".into(), "function".into());
        out.insert("function".into(), json!({"name": call.name, "arguments": call.arguments}));
    }
    call.extra.add_to(&mut out, to.kind);
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Recipient<'_> = Recipient { kind: "openai", model: "m", switches: crate::wire::Switches::NONE };

    #[test]
    fn reasoning_goes_back_to_the_kind_that_made_it() {
        let piece = |kind: &str, extra: Value| Reasoning {
            text: "hm".into(),
            signature: "s".into(),
            kind: kind.into(),
            extra: extra.as_object().unwrap().clone().into(),
            ..Reasoning::default()
        };
        let call =
            ToolCall { id: "c".into(), name: "f".into(), arguments: "{}".into(), ..ToolCall::default() };
        let sent = |piece: Reasoning, in_loop: bool| {
            let message = Message {
                role: "assistant".into(),
                content: Content::Text("a".into()),
                reasoning: vec![piece],
                tool_calls: vec![call.clone()],
                ..Message::default()
            };
            json!(Said { message: &message, to: TO, in_loop })
        };
        let typed = json!({"type": "reasoning.text", "format": "f"});
        let details =
            json!([{"type": "reasoning.text", "format": "f", "text": "hm", "signature": "s", "index": 0}]);
        assert_eq!(sent(piece("openai", typed.clone()), false)["reasoning_details"], details);
        assert_eq!(sent(piece("openai", json!({})), true)["reasoning_content"], "hm");
        // Groq and Mistral refuse the field that they do not send
        // (<https://github.com/vercel/ai/issues/17930>, <https://github.com/janhq/jan/issues/8136>).
        let groq = sent(piece("openai", json!({"field": "reasoning"})), true);
        assert_eq!((&groq["reasoning"], groq.get("reasoning_content")), (&json!("hm"), None));
        let mistral = sent(piece("openai", json!({"type": "thinking", "closed": true})), true);
        let parts = json!([
            {"type": "thinking", "closed": true, "thinking": [{"type": "text", "text": "hm"}]},
            {"type": "text", "text": "a"},
        ]);
        assert_eq!((&mistral["content"], mistral.get("reasoning_content")), (&parts, None));
        let databricks = sent(piece("openai", json!({"type": "reasoning"})), true);
        let summary = json!([{"type": "summary_text", "text": "hm", "signature": "s"}]);
        assert_eq!(databricks["content"][0], json!({"type": "reasoning", "summary": summary}));
        for (kind, extra, in_loop) in [
            ("anthropic", typed, true),
            ("openai", json!({}), false),
            ("openai", json!({"field": "reasoning"}), false),
            ("openai", json!({"type": "thinking"}), false),
        ] {
            let message = sent(piece(kind, extra), in_loop);
            assert_eq!(message.as_object().unwrap().len(), 3, "{message}");
            assert_eq!(message["content"], "a");
        }
    }
}
