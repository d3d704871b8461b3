//! What goes to an OpenAI-speaking server. Pure. Invariant: no parameter of the caller's replaces what the call itself
//! says (model, messages, stream, and what else is given in the request's own fields).

use crate::wire::{ChatRequest, Content, EmbeddingRequest, Media, Message, Part, Tool, ToolCall, WriteError};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value, json};

/// The body of `POST /chat/completions` (OpenAI API reference, "Create chat completion"), to be written as JSON without a
/// tree in between: a conversation is long.
pub struct Chat<'r> {
    model: &'r str,
    request: &'r ChatRequest,
    stream: bool,
}

/// Refuses what the API cannot be sent.
pub fn chat<'r>(model: &'r str, request: &'r ChatRequest, stream: bool) -> Result<Chat<'r>, WriteError> {
    for message in &request.messages {
        if let Content::Parts(parts) = &message.content {
            parts.iter().try_for_each(sendable)?;
        }
    }
    Ok(Chat { model, request, stream })
}

impl Serialize for Chat<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ChatRequest { messages, parameters, tools, stop, user } = self.request;
        let own = |name: &str| match name {
            "model" | "messages" | "stream" => true,
            "tools" => !tools.is_empty(),
            "stop" => !stop.is_empty(),
            "user" => !user.is_empty(),
            "stream_options" => !self.stream,
            _ => false,
        };
        let mut body = serializer.serialize_map(None)?;
        body.serialize_entry("model", self.model)?;
        body.serialize_entry("messages", &messages.iter().map(Said).collect::<Vec<_>>())?;
        for (name, value) in parameters.iter().filter(|(name, _)| !own(name)) {
            // Some servers refuse the field: null leaves it out.
            if name != "stream_options" || !value.is_null() {
                body.serialize_entry(name, value)?;
            }
        }
        if !tools.is_empty() {
            body.serialize_entry("tools", &tools.iter().map(tool).collect::<Vec<_>>())?;
        }
        if !stop.is_empty() {
            body.serialize_entry("stop", stop)?;
        }
        if !user.is_empty() {
            body.serialize_entry("user", user)?;
        }
        if self.stream {
            body.serialize_entry("stream", &true)?;
            if !parameters.contains_key("stream_options") {
                body.serialize_entry("stream_options", &json!({"include_usage": true}))?;
            }
        }
        body.end()
    }
}

/// The body of `POST /embeddings` (OpenAI API reference, "Create embeddings").
pub fn embeddings(model: &str, request: &EmbeddingRequest, send_input_type: bool) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), model.into());
    body.insert("input".into(), request.texts.clone().into());
    if request.dimensions > 0 {
        body.insert("dimensions".into(), request.dimensions.into());
    }
    if !request.user.is_empty() {
        body.insert("user".into(), request.user.clone().into());
    }
    if send_input_type && !request.input_type.is_empty() {
        body.insert("input_type".into(), request.input_type.clone().into());
    }
    Value::Object(body)
}

/// The body of `POST /moderations` (OpenAI API reference, "Create moderation").
pub fn moderation(model: &str, text: &str) -> Value {
    json!({ "model": model, "input": text })
}

/// A message as it is written.
struct Said<'r>(&'r Message);

impl Serialize for Said<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // `reasoning` stays here: it is output, and servers refuse it as input.
        let Message { role, content, name, tool_calls, tool_call_id, refusal, reasoning: _ } = self.0;
        let mut message = serializer.serialize_map(None)?;
        message.serialize_entry("role", role)?;
        match content {
            Content::Text(text) if text.is_empty() && !tool_calls.is_empty() => {
                message.serialize_entry("content", &())?;
            }
            Content::Text(text) => message.serialize_entry("content", text)?,
            Content::Parts(parts) => {
                message.serialize_entry("content", &parts.iter().map(part).collect::<Vec<_>>())?;
            }
        }
        for (field, text) in [("name", name), ("tool_call_id", tool_call_id), ("refusal", refusal)] {
            if !text.is_empty() {
                message.serialize_entry(field, text)?;
            }
        }
        if !tool_calls.is_empty() {
            message.serialize_entry("tool_calls", &tool_calls.iter().map(tool_call).collect::<Vec<_>>())?;
        }
        message.end()
    }
}

fn tool_call(call: &ToolCall) -> Value {
    json!({
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    })
}

fn tool(tool: &Tool) -> Value {
    let mut function = Map::new();
    function.insert("name".into(), tool.name.clone().into());
    if !tool.description.is_empty() {
        function.insert("description".into(), tool.description.clone().into());
    }
    if let Some(parameters) = &tool.parameters {
        function.insert("parameters".into(), parameters.clone().into());
    }
    json!({"type": "function", "function": function})
}

/// Whether the API takes such a part: audio and documents by their bytes alone.
fn sendable(part: &Part) -> Result<(), WriteError> {
    let what = match part {
        Part::Audio(Media::Url(_)) => "audio",
        Part::Document(Media::Url(_)) => "documents",
        _ => return Ok(()),
    };
    Err(WriteError::new(format!("{what} must be sent as data, not by URL")))
}

fn part(part: &Part) -> Value {
    match part {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Image(media) => json!({"type": "image_url", "image_url": {"url": url(media)}}),
        Part::Audio(media) => json!({
            "type": "input_audio",
            "input_audio": {"data": base64(media), "format": audio_format(mime_type(media))},
        }),
        Part::Document(media) => json!({
            "type": "file",
            "file": {"filename": format!("document.{}", extension(mime_type(media))), "file_data": url(media)},
        }),
    }
}

fn mime_type(media: &Media) -> &str {
    match media {
        Media::Url(_) => "",
        Media::Data { mime_type, .. } => mime_type,
    }
}

/// The bytes; none of what only a URL is known of, which [`sendable`] has refused where it matters.
fn base64(media: &Media) -> String {
    match media {
        Media::Url(_) => String::new(),
        Media::Data { bytes, .. } => BASE64_STANDARD.encode(bytes),
    }
}

fn url(media: &Media) -> String {
    match media {
        Media::Url(url) => url.clone(),
        Media::Data { bytes, mime_type } => {
            format!("data:{mime_type};base64,{}", BASE64_STANDARD.encode(bytes))
        }
    }
}

/// `png` of `image/png; x=y`, without `x-`.
fn subtype(mime_type: &str) -> String {
    let essence = mime_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let subtype = essence.split_once('/').map_or("", |(_, subtype)| subtype);
    subtype.strip_prefix("x-").unwrap_or(subtype).to_owned()
}

/// OpenAI knows `wav` and `mp3`; other names are passed on for compatible servers.
fn audio_format(mime_type: &str) -> String {
    match subtype(mime_type).as_str() {
        "wave" | "vnd.wave" => "wav".to_owned(),
        "mpeg" | "mpeg3" => "mp3".to_owned(),
        other => other.to_owned(),
    }
}

/// A file's extension: servers look at it to choose a reader.
fn extension(mime_type: &str) -> String {
    match subtype(mime_type).as_str() {
        "plain" => "txt".to_owned(),
        "markdown" => "md".to_owned(),
        "msword" => "doc".to_owned(),
        "vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx".to_owned(),
        "vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx".to_owned(),
        "vnd.openxmlformats-officedocument.presentationml.presentation" => "pptx".to_owned(),
        other if !other.is_empty() && other.bytes().all(|b| b.is_ascii_alphanumeric()) => other.to_owned(),
        _ => "bin".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(request: &ChatRequest, stream: bool) -> Value {
        serde_json::to_value(chat("m", request, stream).unwrap()).unwrap()
    }

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn hello() -> Vec<Message> {
        vec![Message { role: "user".into(), content: Content::Text("hi".into()), ..Message::default() }]
    }

    #[test]
    fn parameters_are_merged_but_replace_nothing() {
        let request = ChatRequest {
            messages: hello(),
            parameters: object(json!({
                "temperature": 0.5, "max_tokens": 100, "model": "other", "messages": [], "stream": true,
                "stream_options": {"include_usage": false}, "stop": ["kept out"], "user": "other",
                "response_format": {"type": "json_object"},
            })),
            stop: vec!["END".into()],
            user: "u".into(),
            ..ChatRequest::default()
        };
        let body = body(&request, false);
        let expected = json!({
            "model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5, "max_tokens": 100,
            "stop": ["END"], "user": "u", "response_format": {"type": "json_object"},
        });
        assert_eq!(body, expected);
        assert!(body.to_string().contains("\"max_tokens\":100,"), "{body}");
    }

    #[test]
    fn streams_ask_for_usage_unless_told_otherwise() {
        let options = |parameters: Value| {
            let request =
                ChatRequest { messages: hello(), parameters: object(parameters), ..ChatRequest::default() };
            let body = body(&request, true);
            assert_eq!(body["stream"], true);
            body.get("stream_options").cloned()
        };
        assert_eq!(options(json!({"stream": false})), Some(json!({"include_usage": true})));
        assert_eq!(options(json!({"stream_options": null})), None);
        assert_eq!(options(json!({"stream_options": {"x": 1}})), Some(json!({"x": 1})));
    }

    #[test]
    fn tools_and_their_calls_are_written_as_openai_does() {
        let call = ToolCall {
            id: "c1".into(),
            name: "f".into(),
            arguments: "{\"a\":1}".into(),
            ..ToolCall::default()
        };
        let request = ChatRequest {
            messages: vec![
                Message {
                    role: "assistant".into(),
                    tool_calls: vec![call],
                    reasoning: "hm".into(),
                    ..Message::default()
                },
                Message {
                    role: "tool".into(),
                    content: Content::Text("42".into()),
                    tool_call_id: "c1".into(),
                    ..Message::default()
                },
            ],
            tools: vec![
                Tool {
                    name: "f".into(),
                    description: "d".into(),
                    parameters: Some(object(json!({"type": "object"}))),
                },
                Tool { name: "g".into(), description: String::new(), parameters: None },
            ],
            ..ChatRequest::default()
        };
        let expected = json!({
            "model": "m",
            "messages": [
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
                ]},
                {"role": "tool", "content": "42", "tool_call_id": "c1"},
            ],
            "tools": [
                {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}},
                {"type": "function", "function": {"name": "g"}},
            ],
        });
        assert_eq!(body(&request, false), expected);
    }

    #[test]
    fn parts_are_written_as_openai_does() {
        let data = |mime_type: &str| Media::Data { bytes: b"abc".to_vec(), mime_type: mime_type.into() };
        let table = [
            (Part::Text("t".into()), json!({"type": "text", "text": "t"})),
            (
                Part::Image(Media::Url("https://h/i.png".into())),
                json!({"type": "image_url", "image_url": {"url": "https://h/i.png"}}),
            ),
            (
                Part::Image(data("image/png")),
                json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,YWJj"}}),
            ),
            (
                Part::Audio(data("audio/x-wav")),
                json!({"type": "input_audio", "input_audio": {"data": "YWJj", "format": "wav"}}),
            ),
            (
                Part::Audio(data("audio/mpeg; rate=1")),
                json!({"type": "input_audio", "input_audio": {"data": "YWJj", "format": "mp3"}}),
            ),
            (
                Part::Document(data("application/pdf")),
                json!({"type": "file", "file": {
                    "filename": "document.pdf", "file_data": "data:application/pdf;base64,YWJj",
                }}),
            ),
        ];
        for (input, expected) in table {
            assert_eq!(part(&input), expected);
            sendable(&input).unwrap();
        }
        for input in
            [Part::Audio(Media::Url("https://h/a".into())), Part::Document(Media::Url("https://h/d".into()))]
        {
            assert!(sendable(&input).is_err());
        }
    }

    #[test]
    fn embeddings_leave_out_what_is_not_given() {
        let mut request =
            EmbeddingRequest { texts: vec!["a".into(), "b".into()], ..EmbeddingRequest::default() };
        assert_eq!(embeddings("m", &request, true), json!({"model": "m", "input": ["a", "b"]}));
        request.dimensions = 8;
        request.input_type = "query".into();
        request.user = "u".into();
        let body = json!({"model": "m", "input": ["a", "b"], "dimensions": 8, "user": "u"});
        assert_eq!(embeddings("m", &request, false), body);
        assert_eq!(embeddings("m", &request, true)["input_type"], "query");
    }
}
