//! What goes to an OpenAI-speaking server. Pure. Invariant: no parameter of the caller's replaces what the call itself
//! says (model, messages, stream, and what else is given in the request's own fields).

use crate::{
    balance::{ErrorClass, Failure},
    provider::{ChatRequest, Content, EmbeddingRequest, Media, Message, Part, Tool},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

/// The body of `POST /chat/completions` (OpenAI API reference, "Create chat completion").
pub(in crate::provider) fn chat(model: &str, request: &ChatRequest, stream: bool) -> Result<Value, Failure> {
    let mut body = request.parameters.clone();
    body.insert("model".into(), model.into());
    body.insert("messages".into(), request.messages.iter().map(message).collect::<Result<_, _>>()?);
    if !request.tools.is_empty() {
        body.insert("tools".into(), request.tools.iter().map(tool).collect());
    }
    if !request.stop.is_empty() {
        body.insert("stop".into(), request.stop.clone().into());
    }
    if !request.user.is_empty() {
        body.insert("user".into(), request.user.clone().into());
    }
    if stream {
        body.insert("stream".into(), true.into());
        match body.get("stream_options") {
            None => {
                body.insert("stream_options".into(), json!({"include_usage": true}));
            }
            // Some servers refuse the field.
            Some(Value::Null) => {
                body.remove("stream_options");
            }
            Some(_) => {}
        }
    } else {
        body.remove("stream");
        body.remove("stream_options");
    }
    Ok(Value::Object(body))
}

/// The body of `POST /embeddings` (OpenAI API reference, "Create embeddings").
pub(super) fn embeddings(model: &str, request: &EmbeddingRequest, send_input_type: bool) -> Value {
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

fn message(message: &Message) -> Result<Value, Failure> {
    let mut out = Map::new();
    out.insert("role".into(), message.role.clone().into());
    let content = match &message.content {
        Content::Text(text) if text.is_empty() && !message.tool_calls.is_empty() => Value::Null,
        Content::Text(text) => text.clone().into(),
        Content::Parts(parts) => parts.iter().map(part).collect::<Result<_, _>>()?,
    };
    out.insert("content".into(), content);
    let texts =
        [("name", &message.name), ("tool_call_id", &message.tool_call_id), ("refusal", &message.refusal)];
    for (name, text) in texts {
        if !text.is_empty() {
            out.insert(name.into(), text.clone().into());
        }
    }
    if !message.tool_calls.is_empty() {
        let call = |call: &crate::provider::ToolCall| {
            json!({
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            })
        };
        out.insert("tool_calls".into(), message.tool_calls.iter().map(call).collect());
    }
    // `reasoning` stays here: it is output, and servers refuse it as input.
    Ok(Value::Object(out))
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

fn part(part: &Part) -> Result<Value, Failure> {
    let refuse = |what: &str| {
        Err(Failure::new(ErrorClass::BadRequest, format!("{what} must be sent as data, not by URL")))
    };
    Ok(match part {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Image(media) => json!({"type": "image_url", "image_url": {"url": url(media)}}),
        Part::Audio(Media::Url(_)) => return refuse("audio"),
        Part::Document(Media::Url(_)) => return refuse("documents"),
        Part::Audio(Media::Data { bytes, mime_type }) => json!({
            "type": "input_audio",
            "input_audio": {"data": BASE64_STANDARD.encode(bytes), "format": audio_format(mime_type)},
        }),
        Part::Document(media @ Media::Data { mime_type, .. }) => json!({
            "type": "file",
            "file": {"filename": format!("document.{}", extension(mime_type)), "file_data": url(media)},
        }),
    })
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
    use crate::provider::ToolCall;

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
        let body = chat("m", &request, false).unwrap();
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
            let body = chat("m", &request, true).unwrap();
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
        assert_eq!(chat("m", &request, false).unwrap(), expected);
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
            assert_eq!(part(&input).unwrap(), expected);
        }
        for input in
            [Part::Audio(Media::Url("https://h/a".into())), Part::Document(Media::Url("https://h/d".into()))]
        {
            assert_eq!(part(&input).unwrap_err().class, ErrorClass::BadRequest);
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
