//! What goes to Anthropic (API reference, "Create a Message"). Pure. Invariant: no parameter of the caller's replaces
//! what the call itself says (model, messages, stream, and what else is given in the request's own fields).

use crate::wire::{
    ChatRequest, Content, Media, Message, Part, Tool, ToolCall, WriteError,
    media::{data_url, essence},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

/// Anthropic wants `max_tokens` in every request. Where the caller gives none, this many: every model can write them.
const MAX_TOKENS: u32 = 4096;

/// The fields of a message that counting takes; it refuses others.
const COUNTED: &[&str] = &["model", "messages", "system", "tools", "tool_choice", "thinking"];

/// The body of `POST /messages`.
pub fn chat(model: &str, request: &ChatRequest, stream: bool) -> Result<Value, WriteError> {
    let mut body = request.parameters.clone();
    body.insert("model".into(), model.into());
    body.insert("messages".into(), messages(&request.messages)?.into());
    if let Some(system) = system(&request.messages)? {
        body.insert("system".into(), system.into());
    }
    // OpenAI's newer name for it: a caller need not know whom the call goes to.
    let newer = body.remove("max_completion_tokens");
    let most = body.remove("max_tokens").filter(|most| !most.is_null());
    let most = most.or(newer.filter(|most| !most.is_null())).unwrap_or_else(|| MAX_TOKENS.into());
    body.insert("max_tokens".into(), most);
    if !request.tools.is_empty() {
        body.insert("tools".into(), request.tools.iter().map(tool).collect());
    }
    if !request.stop.is_empty() {
        body.insert("stop_sequences".into(), request.stop.clone().into());
    }
    if !request.user.is_empty() {
        let metadata = body.entry("metadata").or_insert_with(|| json!({}));
        if !metadata.is_object() {
            *metadata = json!({});
        }
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("user_id".into(), request.user.clone().into());
        }
    }
    // OpenAI's alone; usage comes without asking.
    body.remove("stream_options");
    if stream {
        body.insert("stream".into(), true.into());
    } else {
        body.remove("stream");
    }
    Ok(Value::Object(body))
}

/// The body of `POST /messages/count_tokens` (<https://docs.claude.com/en/api/messages-count-tokens>).
pub fn count(model: &str, request: &ChatRequest) -> Result<Value, WriteError> {
    let mut body = chat(model, request, false)?;
    if let Some(body) = body.as_object_mut() {
        body.retain(|name, _| COUNTED.contains(&name.as_str()));
    }
    Ok(body)
}

/// The system messages, wherever they stand: Anthropic takes one text, beside the conversation.
fn system(messages: &[Message]) -> Result<Option<String>, WriteError> {
    let mut texts = Vec::new();
    for message in messages.iter().filter(|message| message.role == "system") {
        match &message.content {
            Content::Text(text) => texts.push(text.as_str()),
            Content::Parts(parts) => {
                for part in parts {
                    let Part::Text(text) = part else {
                        return Err(WriteError::new("system messages must be text for this provider"));
                    };
                    texts.push(text);
                }
            }
        }
    }
    texts.retain(|text| !text.is_empty());
    Ok((!texts.is_empty()).then(|| texts.join("\n\n")))
}

/// The conversation without its system messages. Results of tools become a user's message; those in a row become one,
/// as all of a turn's results must come together ("Tool use", parallel calls).
fn messages(messages: &[Message]) -> Result<Vec<Value>, WriteError> {
    let mut out = Vec::new();
    let mut results: Vec<Value> = Vec::new();
    for message in messages.iter().filter(|message| message.role != "system") {
        if message.role == "tool" {
            results.push(json!({
                "type": "tool_result",
                "tool_use_id": message.tool_call_id,
                "content": content(&message.content)?,
            }));
            continue;
        }
        flush(&mut results, &mut out);
        let content = if message.tool_calls.is_empty() {
            content(&message.content)?
        } else {
            let mut blocks = match &message.content {
                Content::Text(text) if text.is_empty() => Vec::new(),
                Content::Text(text) => vec![json!({"type": "text", "text": text})],
                Content::Parts(parts) => parts.iter().map(part).collect::<Result<_, _>>()?,
            };
            for call in &message.tool_calls {
                blocks.push(tool_use(call)?);
            }
            blocks.into()
        };
        // `name` has no place there. `reasoning` stays here: it is output, and comes without the signature that
        // Anthropic asks for when it is sent back.
        out.push(json!({"role": message.role, "content": content}));
    }
    flush(&mut results, &mut out);
    Ok(out)
}

fn flush(results: &mut Vec<Value>, out: &mut Vec<Value>) {
    if !results.is_empty() {
        out.push(json!({"role": "user", "content": std::mem::take(results)}));
    }
}

fn content(content: &Content) -> Result<Value, WriteError> {
    match content {
        Content::Text(text) => Ok(text.clone().into()),
        Content::Parts(parts) => parts.iter().map(part).collect(),
    }
}

/// Anthropic takes the arguments as an object, where the contract has the model's text.
fn tool_use(call: &ToolCall) -> Result<Value, WriteError> {
    let text = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    let input: Map<String, Value> = serde_json::from_str(text)
        .map_err(|_| WriteError::new("the arguments of a tool call in `messages` are no JSON object"))?;
    Ok(json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input}))
}

fn tool(tool: &Tool) -> Value {
    // Required, and with a type.
    let mut schema = tool.parameters.clone().unwrap_or_default();
    schema.entry("type").or_insert_with(|| "object".into());
    let mut out = Map::new();
    out.insert("name".into(), tool.name.clone().into());
    if !tool.description.is_empty() {
        out.insert("description".into(), tool.description.clone().into());
    }
    out.insert("input_schema".into(), schema.into());
    Value::Object(out)
}

fn part(part: &Part) -> Result<Value, WriteError> {
    Ok(match part {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Image(media) => json!({"type": "image", "source": source(media)}),
        Part::Audio(_) => return Err(WriteError::new("this provider takes no audio")),
        Part::Document(media) => json!({"type": "document", "source": document(media)?}),
    })
}

/// Documents are PDF, or plain text ("PDF support", "Citations").
fn document(media: &Media) -> Result<Value, WriteError> {
    let Media::Data { bytes, mime_type } = media else { return Ok(source(media)) };
    match essence(mime_type).as_str() {
        "application/pdf" => Ok(source(media)),
        "text/plain" => {
            let text = std::str::from_utf8(bytes)
                .map_err(|_| WriteError::new("a document of plain text is not UTF-8"))?;
            Ok(json!({"type": "text", "media_type": "text/plain", "data": text}))
        }
        _ => Err(WriteError::new("this provider takes documents of type application/pdf or text/plain")),
    }
}

fn source(media: &Media) -> Value {
    match media {
        Media::Url(url) => match data_url(url) {
            Some((mime_type, data)) => json!({"type": "base64", "media_type": mime_type, "data": data}),
            None => json!({"type": "url", "url": url}),
        },
        Media::Data { bytes, mime_type } => json!({
            "type": "base64", "media_type": essence(mime_type), "data": BASE64_STANDARD.encode(bytes),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            messages: vec![says("system", "a"), says("user", "hi"), says("system", "b")],
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
            "metadata": {"user_id": "u"},
        });
        assert_eq!(chat("m", &request, false).unwrap(), expected);
        expected["stream"] = true.into();
        assert_eq!(chat("m", &request, true).unwrap(), expected);
        let body = chat("m", &hello(json!({"system": "s", "metadata": null})), false).unwrap();
        assert_eq!((&body["system"], &body["metadata"]), (&json!("s"), &Value::Null));
    }

    #[test]
    fn a_bound_is_always_sent() {
        let table = [
            (json!({}), json!(4096)),
            (json!({"max_tokens": 7}), json!(7)),
            (json!({"max_completion_tokens": 8}), json!(8)),
            (json!({"max_tokens": 7, "max_completion_tokens": 8}), json!(7)),
            (json!({"max_tokens": null, "max_completion_tokens": 8}), json!(8)),
            (json!({"max_tokens": null}), json!(4096)),
        ];
        for (parameters, most) in table {
            let body = chat("m", &hello(parameters.clone()), false).unwrap();
            assert_eq!(body["max_tokens"], most, "{parameters}");
            assert!(body.get("max_completion_tokens").is_none());
        }
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
                    reasoning: "hm".into(),
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
                },
                Tool { name: "g".into(), description: String::new(), parameters: None },
            ],
            ..ChatRequest::default()
        };
        let expected = json!({
            "model": "m", "max_tokens": 4096,
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
        assert_eq!(chat("m", &request, false).unwrap(), expected);

        for arguments in ["{", "[]", "1", "\"x\"", "null"] {
            let message = Message { tool_calls: vec![call("c", arguments)], ..says("assistant", "") };
            let request = ChatRequest { messages: vec![message], ..ChatRequest::default() };
            assert!(chat("m", &request, false).is_err(), "{arguments}");
        }
    }

    #[test]
    fn parts_are_written_as_anthropic_does() {
        let data = |mime_type: &str| Media::Data { bytes: b"abc".to_vec(), mime_type: mime_type.into() };
        let image = |source: Value| json!({"type": "image", "source": source});
        let base64 = |mime_type: &str| json!({"type": "base64", "media_type": mime_type, "data": "YWJj"});
        let url = |url: &str| Media::Url(url.into());
        let table = [
            (Part::Text("t".into()), json!({"type": "text", "text": "t"})),
            (Part::Image(url("https://h/i.png")), image(json!({"type": "url", "url": "https://h/i.png"}))),
            (Part::Image(url("data:image/png;base64,YWJj")), image(base64("image/png"))),
            (Part::Image(data("image/PNG; x=y")), image(base64("image/png"))),
            (Part::Image(data("image/jpg")), image(base64("image/jpeg"))),
            (
                Part::Document(data("application/pdf")),
                json!({"type": "document", "source": base64("application/pdf")}),
            ),
            (
                Part::Document(data("text/plain; charset=utf-8")),
                json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "abc"}}),
            ),
        ];
        for (input, expected) in table {
            assert_eq!(part(&input).unwrap(), expected);
        }
        let bytes = Media::Data { bytes: vec![0xff], mime_type: "text/plain".into() };
        let refused = [
            (Part::Audio(data("audio/wav")), "audio"),
            (Part::Document(data("application/msword")), "application/pdf"),
            (Part::Document(bytes), "UTF-8"),
        ];
        for (input, word) in refused {
            let WriteError(why) = part(&input).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
        let picture =
            Message { content: Content::Parts(vec![Part::Image(data("image/png"))]), ..says("system", "") };
        let request = ChatRequest { messages: vec![picture], ..ChatRequest::default() };
        assert!(chat("m", &request, false).is_err());
    }
}
