//! A conversation, as clients of OpenAI's API write it (API reference, "Create chat completion", `messages`:
//! <https://platform.openai.com/docs/api-reference/chat/create>).

use super::{
    content::{cache, content},
    fields::{Fields, Path},
    thoughts,
};
use crate::wire::{Content, FieldError, Message, ToolCall};
use serde_json::Value;

const ROLES: &[&str] = &["system", "developer", "user", "assistant", "tool", "function"];

/// Reads the messages. There must be one.
pub(super) fn messages(value: Option<Value>, at: &Path<'_>) -> Result<Vec<Message>, FieldError> {
    let items = match value {
        None => return Err(at.wrong("is required")),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(at.wrong("is not a list")),
    };
    if items.is_empty() {
        return Err(at.wrong("must hold at least one message"));
    }
    let mut messages = Vec::with_capacity(items.len());
    let mut last_call = String::new();
    for (place, item) in items.into_iter().enumerate() {
        let here = at.item(place);
        messages.push(message(Fields::of(item, &here)?, &here, place, &mut last_call)?);
    }
    Ok(messages)
}

/// `last_call` is the id of the last call of a function. Calls had none before there were tools.
fn message(
    mut fields: Fields<'_>,
    at: &Path<'_>,
    place: usize,
    last_call: &mut String,
) -> Result<Message, FieldError> {
    let role = fields.required("role")?;
    if !ROLES.contains(&role.as_str()) {
        return Err(fields.wrong("role", format!("is one of {}", ROLES.join(", "))));
    }
    fields.refuse("audio", "names audio that lies at one provider: send its words as content")?;
    let (mut content, in_parts) = content(fields.take("content"), &at.key("content"))?;
    let refusal = fields.text("refusal")?.unwrap_or_default() + &in_parts;
    // Other protocols have no refusals: the words are the assistant's all the same.
    if !refusal.is_empty() && content.text().is_empty() {
        content = Content::Text(refusal);
    }
    let (reasoning_content, mut reasoning) = thoughts::read(&mut fields, at)?;
    let mut tool_calls = Vec::new();
    let here = at.key("tool_calls");
    for (number, item) in fields.list("tool_calls")?.into_iter().enumerate() {
        let here = here.item(number);
        if let Some(piece) = item.as_object().and_then(|call| {
            thoughts::of_call(call, call.get("id").and_then(Value::as_str).unwrap_or_default())
        }) && reasoning.iter().all(|own| own.id != piece.id)
        {
            reasoning.push(piece);
        }
        let index = i32::try_from(number).unwrap_or(i32::MAX);
        tool_calls.push(ToolCall { index, ..tool_call(Fields::of(item, &here)?, &here)? });
    }
    if let Some(call) = fields.take("function_call") {
        let here = at.key("function_call");
        *last_call = format!("call_{place}");
        tool_calls.push(function(Fields::of(call, &here)?, last_call.clone())?);
    }
    let is_function = role == "function";
    Ok(Message {
        role: if is_function { "tool".to_owned() } else { role },
        content,
        name: fields.text("name")?.unwrap_or_default(),
        tool_calls,
        tool_call_id: if is_function {
            last_call.clone()
        } else {
            fields.text("tool_call_id")?.unwrap_or_default()
        },
        reasoning_content,
        reasoning,
        extra: cache(&mut fields),
        ..Message::default()
    })
}

fn tool_call(mut fields: Fields<'_>, at: &Path<'_>) -> Result<ToolCall, FieldError> {
    let kind = fields.text("type")?.unwrap_or_else(|| "function".to_owned());
    if kind != "function" {
        return Err(fields.wrong("type", "is of no sort that other protocols know"));
    }
    let id = fields.required("id")?;
    let here = at.key("function");
    let call = fields.take("function").ok_or_else(|| here.wrong("is required"))?;
    function(Fields::of(call, &here)?, id)
}

fn function(mut fields: Fields<'_>, id: String) -> Result<ToolCall, FieldError> {
    let name = fields.required("name")?;
    let arguments = match fields.take("arguments") {
        None => String::new(),
        Some(Value::String(text)) => text,
        // Not what the protocol has, and clear all the same.
        Some(object @ Value::Object(_)) => object.to_string(),
        Some(_) => return Err(fields.wrong("arguments", "is not a string")),
    };
    Ok(ToolCall { id, kind: "function".to_owned(), name, arguments, ..ToolCall::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<Vec<Message>, FieldError> {
        messages(Some(value), &Path::Root.key("messages"))
    }

    fn says(role: &str, text: &str) -> Message {
        Message { role: role.into(), content: Content::Text(text.into()), ..Message::default() }
    }

    fn call(index: i32, id: &str, name: &str, arguments: &str) -> ToolCall {
        ToolCall {
            index,
            id: id.into(),
            kind: "function".into(),
            name: name.into(),
            arguments: arguments.into(),
            ..ToolCall::default()
        }
    }

    #[test]
    fn a_conversation_is_read() {
        let given = json!([
            {"role": "system", "content": "s", "name": "n"},
            {"role": "developer", "content": "d"},
            {"role": "user", "content": "u"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
                {"id": "b", "function": {"name": "g", "arguments": {"y": 2}}},
            ]},
            {"role": "tool", "tool_call_id": "a", "content": "1"},
            {"role": "assistant", "function_call": {"name": "h"}},
            {"role": "function", "name": "h", "content": "2"},
            {"role": "assistant", "content": null, "refusal": "no", "reasoning_content": "hm", "annotations": []},
        ]);
        let expected = [
            Message { name: "n".into(), ..says("system", "s") },
            says("developer", "d"),
            says("user", "u"),
            Message {
                tool_calls: vec![call(0, "a", "f", "{\"x\":1}"), call(1, "b", "g", "{\"y\":2}")],
                ..says("assistant", "")
            },
            Message { tool_call_id: "a".into(), ..says("tool", "1") },
            Message { tool_calls: vec![call(0, "call_5", "h", "")], ..says("assistant", "") },
            Message { tool_call_id: "call_5".into(), name: "h".into(), ..says("tool", "2") },
            Message { reasoning_content: "hm".into(), ..says("assistant", "no") },
        ];
        assert_eq!(read(given).unwrap(), expected);
    }

    #[test]
    fn a_signature_at_a_call_is_a_piece_of_reasoning() {
        let signed = json!({
            "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"},
            "extra_content": {"google": {"thought_signature": "s"}},
        });
        let message = read(json!([{"role": "assistant", "tool_calls": [signed]}])).unwrap().remove(0);
        let pieces: Vec<_> = message.reasoning.iter().map(|piece| (&*piece.id, &*piece.signature)).collect();
        assert_eq!(pieces, [("a", "s")]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let table = [
            (json!({}), "messages"),
            (json!([]), "messages"),
            (json!([1]), "messages[0]"),
            (json!([{"content": "x"}]), "messages[0].role"),
            (json!([{"role": "model"}]), "messages[0].role"),
            (json!([{"role": "user", "content": 1}]), "messages[0].content"),
            (
                json!([{"role": "user", "content": "a"}, {"role": "user", "content": {}}]),
                "messages[1].content",
            ),
            (json!([{"role": "user", "name": 1}]), "messages[0].name"),
            (json!([{"role": "assistant", "audio": {"id": "a"}}]), "messages[0].audio"),
            (json!([{"role": "assistant", "tool_calls": {}}]), "messages[0].tool_calls"),
            (
                json!([{"role": "assistant", "tool_calls": [{"id": "a"}]}]),
                "messages[0].tool_calls[0].function",
            ),
            (
                json!([{"role": "assistant", "tool_calls": [{"id": "a", "type": "custom", "custom": {}}]}]),
                "messages[0].tool_calls[0].type",
            ),
            (
                json!([{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": 1}}]}]),
                "messages[0].tool_calls[0].function.arguments",
            ),
        ];
        for (value, field) in table {
            assert_eq!(read(value.clone()).unwrap_err().field, field, "{value}");
        }
        assert_eq!(messages(None, &Path::Root.key("messages")).unwrap_err().field, "messages");
    }
}
