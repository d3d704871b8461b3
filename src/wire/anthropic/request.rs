//! What goes to Anthropic (API reference, "Create a Message"). Pure. Invariant: no parameter of the caller's replaces
//! what the call itself says (model, messages, stream, and what else is given in the request's own fields).

use super::{
    blocks::{content, text_block, with},
    parameters::translate,
};
use crate::wire::{ChatRequest, Content, Message, Part, PartKind, Recipient, Tool, WriteError, extra};
use serde_json::{Map, Value, json};

/// The fields of a message that counting takes; it refuses others.
const COUNTED: &[&str] = &["model", "messages", "system", "tools", "tool_choice", "thinking"];

/// The body of `POST /messages`.
pub fn chat(to: Recipient<'_>, request: &ChatRequest, stream: bool) -> Result<Value, WriteError> {
    let mut body = request.parameters.clone();
    request.extra.add_to(&mut body, to.kind);
    let own_tools =
        body.shift_remove("tools").and_then(|tools| tools.as_array().cloned()).unwrap_or_default();
    translate(&mut body, to.model, !(request.tools.is_empty() && own_tools.is_empty()))?;
    body.insert("model".into(), to.model.into());
    body.insert("messages".into(), messages(&request.messages, to)?.into());
    if let Some(system) = system(&request.messages, to)? {
        body.insert("system".into(), system);
    }
    // Anthropic's own tools may stand beside those of the request.
    let tools: Vec<_> =
        own_tools.into_iter().chain(request.tools.iter().map(|each| tool(each, to))).collect();
    if !tools.is_empty() {
        body.insert("tools".into(), tools.into());
    }
    if !request.stop.is_empty() {
        body.insert("stop_sequences".into(), request.stop.clone().into());
    }
    if !request.user.is_empty() {
        let metadata = body.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("user_id".into(), request.user.clone().into());
        }
    }
    body.insert("stream".into(), stream.into());
    Ok(Value::Object(body))
}

/// The body of `POST /messages/count_tokens` (<https://docs.claude.com/en/api/messages-count-tokens>).
pub fn count(to: Recipient<'_>, request: &ChatRequest) -> Result<Value, WriteError> {
    let mut body = chat(to, request, false)?;
    if let Some(body) = body.as_object_mut() {
        body.retain(|name, _| COUNTED.contains(&name.as_str()));
    }
    Ok(body)
}

fn is_system(message: &Message) -> bool {
    matches!(message.role.as_str(), "system" | "developer")
}

/// Whether it stands beside the conversation. One with a block of Anthropic's own stays where it is, as do those that bring
/// new tools (<https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages>).
fn is_beside(message: &Message, to: Recipient<'_>) -> bool {
    let own = |part: &Part| part.kind == PartKind::Opaque && part.extra.is_for(to.kind);
    is_system(message) && !matches!(&message.content, Content::Parts(parts) if parts.iter().any(own))
}

/// The system messages, wherever they stand: Anthropic takes them beside the conversation, as one text, or as blocks where
/// one of them has more to say, such as where to cache.
fn system(messages: &[Message], to: Recipient<'_>) -> Result<Option<Value>, WriteError> {
    let mut blocks = Vec::new();
    for (place, message) in messages.iter().enumerate().filter(|(_, message)| is_beside(message, to)) {
        let mut own = match &message.content {
            Content::Text(text) => vec![text_block(text)],
            Content::Parts(parts) => parts
                .iter()
                .enumerate()
                .map(|(part, each)| match &each.kind {
                    PartKind::Text(text) => Ok(with(text_block(text), &each.extra, to)),
                    _ => Err(WriteError::new(
                        format!("messages[{place}].parts[{part}]"),
                        "system messages must be text for this provider",
                    )),
                })
                .collect::<Result<_, _>>()?,
        };
        if let Some(last) = own.pop() {
            own.push(with(last, &message.extra, to));
        }
        blocks.extend(own);
    }
    blocks.retain(|block| block.get("text").is_some_and(|text| text != ""));
    if blocks.is_empty() {
        return Ok(None);
    }
    let plain = blocks.iter().all(|block| block.as_object().is_some_and(|block| block.len() == 2));
    if !plain {
        return Ok(Some(blocks.into()));
    }
    let texts: Vec<_> = blocks.iter().filter_map(|block| block.get("text")?.as_str()).collect();
    Ok(Some(texts.join("\n\n").into()))
}

/// The conversation without its system messages. Results of tools become a user's message; those in a row become one,
/// as all of a turn's results must come together ("Tool use", parallel calls).
fn messages(messages: &[Message], to: Recipient<'_>) -> Result<Vec<Value>, WriteError> {
    let mut out = Vec::new();
    let mut results: Vec<Value> = Vec::new();
    for (place, message) in messages.iter().enumerate().filter(|(_, message)| !is_beside(message, to)) {
        let field = format!("messages[{place}]");
        if message.role == "tool" {
            let result = json!({
                "type": "tool_result",
                "tool_use_id": message.tool_call_id,
                "content": content(message, &field, to)?,
            });
            results.push(with(result, &message.extra, to));
            continue;
        }
        flush(&mut results, &mut out);
        let content = content(message, &field, to)?;
        // `name` has no place there.
        let mut written = Map::new();
        let role = if is_system(message) { "system" } else { &message.role };
        written.insert("role".into(), role.into());
        written.insert("content".into(), content);
        if message.extra.is_for(to.kind) {
            let mut fields = message.extra.fields.clone();
            // It stands at a block, where callers of other APIs have none.
            if let Some(cache) = fields.shift_remove("cache_control") {
                mark_last(&mut written, cache);
            }
            extra::add(&mut written, &fields);
        }
        out.push(written.into());
    }
    flush(&mut results, &mut out);
    Ok(out)
}

fn flush(results: &mut Vec<Value>, out: &mut Vec<Value>) {
    if !results.is_empty() {
        out.push(json!({"role": "user", "content": std::mem::take(results)}));
    }
}

/// Puts a mark of what to cache at the last block of a message.
fn mark_last(message: &mut Map<String, Value>, cache: Value) {
    let Some(content) = message.get_mut("content") else { return };
    if let Some(text) = content.as_str() {
        *content = json!([text_block(text)]);
    }
    if let Some(last) = content.as_array_mut().and_then(|blocks| blocks.last_mut()?.as_object_mut()) {
        last.entry("cache_control").or_insert(cache);
    }
}

fn tool(tool: &Tool, to: Recipient<'_>) -> Value {
    // Required, and with a type.
    let mut schema = tool.parameters.clone().unwrap_or_default();
    schema.entry("type").or_insert_with(|| "object".into());
    let mut out = Map::new();
    out.insert("name".into(), tool.name.clone().into());
    if !tool.description.is_empty() {
        out.insert("description".into(), tool.description.clone().into());
    }
    out.insert("input_schema".into(), schema.into());
    with(out.into(), &tool.extra, to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Extra, Media, MediaSource, ToolCall};

    const TO: Recipient<'_> =
        Recipient { kind: "anthropic", model: "m", switches: crate::wire::Switches::NONE };

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn says(role: &str, text: &str) -> Message {
        Message { role: role.into(), content: Content::Text(text.into()), ..Message::default() }
    }

    fn hello(parameters: Value) -> ChatRequest {
        ChatRequest {
            messages: vec![says("user", "hi")],
            parameters: object(parameters),
            ..ChatRequest::default()
        }
    }

    #[test]
    fn parameters_are_merged_but_replace_nothing() {
        let request = ChatRequest {
            messages: vec![says("system", "a"), says("user", "hi"), says("developer", "b")],
            stop: vec!["END".into()],
            user: "u".into(),
            ..hello(json!({
                "temperature": 0.5, "model": "other", "messages": [], "stream": true, "system": "other",
                "stream_options": {}, "stop_sequences": ["kept out"], "thinking": {"type": "disabled"},
                "metadata": {"user_id": "other"},
            }))
        };
        let mut expected = json!({
            "model": "m", "messages": [{"role": "user", "content": "hi"}], "system": "a\n\nb", "max_tokens": 4096,
            "temperature": 0.5, "stop_sequences": ["END"], "thinking": {"type": "disabled"},
            "metadata": {"user_id": "u"}, "stream": false,
        });
        assert_eq!(chat(TO, &request, false).unwrap(), expected);
        expected["stream"] = true.into();
        assert_eq!(chat(TO, &request, true).unwrap(), expected);
        let body = chat(TO, &hello(json!({"system": "s", "metadata": null})), false).unwrap();
        assert_eq!((&body["system"], body.get("metadata")), (&json!("s"), None));
    }

    #[test]
    fn tools_and_their_calls_are_written_as_anthropic_does() {
        let call = |id: &str, arguments: &str| ToolCall {
            id: id.into(),
            name: "f".into(),
            arguments: arguments.into(),
            ..ToolCall::default()
        };
        let result = |id: &str, text: &str| Message { tool_call_id: id.into(), ..says("tool", text) };
        let request = ChatRequest {
            messages: vec![
                says("user", "hi"),
                Message {
                    tool_calls: vec![call("c1", "{\"a\":1}"), call("c2", "")],
                    reasoning_content: "hm".into(),
                    ..says("assistant", "")
                },
                result("c1", "42"),
                result("c2", "43"),
                Message { tool_calls: vec![call("c3", "{}")], ..says("assistant", "again") },
                result("c3", "44"),
            ],
            tools: vec![
                Tool {
                    name: "f".into(),
                    description: "d".into(),
                    parameters: Some(object(json!({"type": "object", "required": ["a"]}))),
                    ..Tool::default()
                },
                Tool { name: "g".into(), ..Tool::default() },
            ],
            ..ChatRequest::default()
        };
        let expected = json!({
            "model": "m", "max_tokens": 4096, "stream": false,
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
                    {"type": "tool_use", "id": "c2", "name": "f", "input": {}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "42"},
                    {"type": "tool_result", "tool_use_id": "c2", "content": "43"},
                ]},
                {"role": "assistant", "content": [
                    {"type": "text", "text": "again"},
                    {"type": "tool_use", "id": "c3", "name": "f", "input": {}},
                ]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c3", "content": "44"}]},
            ],
            "tools": [
                {"name": "f", "description": "d", "input_schema": {"type": "object", "required": ["a"]}},
                {"name": "g", "input_schema": {"type": "object"}},
            ],
        });
        assert_eq!(chat(TO, &request, false).unwrap(), expected);

        for arguments in ["{", "[]", "1", "\"x\"", "null"] {
            let message = Message { tool_calls: vec![call("c", arguments)], ..says("assistant", "") };
            let request = ChatRequest { messages: vec![message], ..ChatRequest::default() };
            assert!(chat(TO, &request, false).is_err(), "{arguments}");
        }
    }

    #[test]
    fn pictures_stand_in_results_and_not_in_system_messages() {
        let media = Media { source: MediaSource::Url("https://h/i.png".into()), ..Media::default() };
        let image = json!({"type": "image", "source": {"type": "url", "url": "https://h/i.png"}});
        let content = Content::Parts(vec![PartKind::Image(media).into()]);
        let picture = Message { content: content.clone(), ..says("system", "") };
        let error =
            chat(TO, &ChatRequest { messages: vec![picture], ..ChatRequest::default() }, false).unwrap_err();
        assert_eq!(error.field, "messages[0].parts[0]");
        let result = Message { content, tool_call_id: "c".into(), ..says("tool", "") };
        let body =
            chat(TO, &ChatRequest { messages: vec![result], ..ChatRequest::default() }, false).unwrap();
        assert_eq!(body["messages"][0]["content"][0]["content"], json!([image]));
    }

    #[test]
    fn more_keys_are_added_where_they_belong() {
        let extra = |value: Value| Extra { fields: object(value).into(), kinds: vec!["anthropic".into()] };
        let cache = || extra(json!({"cache_control": {"type": "ephemeral"}}));
        let cached = Part { extra: cache(), ..PartKind::Text("s".into()).into() };
        let opaque =
            Part { kind: PartKind::Opaque, extra: extra(json!({"type": "server_tool_use", "id": "s1"})) };
        let request = ChatRequest {
            messages: vec![
                Message { content: Content::Parts(vec![cached]), ..says("system", "") },
                Message { extra: cache(), ..says("user", "hi") },
                Message { content: Content::Parts(vec![opaque]), ..says("assistant", "") },
                Message {
                    tool_call_id: "c".into(),
                    extra: extra(json!({"is_error": true})),
                    ..says("tool", "no")
                },
            ],
            tools: vec![Tool { name: "f".into(), extra: cache(), ..Tool::default() }],
            extra: extra(
                json!({"context_management": {"edits": []}, "tools": [{"type": "web_search_20250305"}]}),
            ),
            ..ChatRequest::default()
        };
        let mark = json!({"type": "ephemeral"});
        let expected = json!({
            "model": "m", "max_tokens": 4096, "stream": false, "context_management": {"edits": []},
            "system": [{"type": "text", "text": "s", "cache_control": mark}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": mark}]},
                {"role": "assistant", "content": [{"type": "server_tool_use", "id": "s1"}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "c", "content": "no", "is_error": true},
                ]},
            ],
            "tools": [{"type": "web_search_20250305"}, {"name": "f", "input_schema": {"type": "object"}, "cache_control": mark}],
        });
        assert_eq!(chat(TO, &request, false).unwrap(), expected);
        let other = Recipient { kind: "other", ..TO };
        let body = chat(other, &request, false).unwrap().to_string();
        assert!(!body.contains("cache_control") && !body.contains("server_tool_use"), "{body}");
    }
}
