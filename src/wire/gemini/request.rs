//! What goes to Gemini (API reference, "models.generateContent", "models.batchEmbedContents"). Pure. Invariant: no
//! parameter of the caller's replaces what the call itself says (contents, and what else is given in the request's own
//! fields).

use super::parameters::{is_new, translate};
use crate::wire::{
    ChatRequest, Content, EmbeddingRequest, Media, Message, Part, Tool, ToolCall, WriteError,
    media::{data_url, essence},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// In place of a signature: the contract has no room for Gemini's own ("Thought signatures", calls that the model did not
/// make).
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// The body of `:generateContent` and of `:streamGenerateContent`. The model's name is the last part of it. An end user's
/// id has no place there.
pub fn chat(model: &str, request: &ChatRequest) -> Result<Value, WriteError> {
    let mut body = request.parameters.clone();
    // It stands in the address.
    body.remove("model");
    translate(&mut body, model)?;
    body.insert("contents".into(), contents(&request.messages, is_new(model))?.into());
    let system = system(&request.messages)?;
    if !system.is_empty() {
        body.remove("system_instruction");
        body.insert("systemInstruction".into(), json!({ "parts": system }));
    }
    if !request.tools.is_empty() {
        let declarations: Vec<Value> = request.tools.iter().map(tool).collect();
        let declared = json!({ "functionDeclarations": declarations });
        // Gemini's own tools may stand beside them.
        match body.get_mut("tools") {
            Some(Value::Array(tools)) => tools.push(declared),
            _ => {
                body.insert("tools".into(), json!([declared]));
            }
        }
    }
    if !request.stop.is_empty() {
        let config = body.entry("generationConfig").or_insert_with(|| json!({}));
        if let Some(config) = config.as_object_mut() {
            config.remove("stop_sequences");
            config.insert("stopSequences".into(), request.stop.clone().into());
        }
    }
    Ok(Value::Object(body))
}

/// The body of `:batchEmbedContents`; the model is named as `models/…`.
pub fn embeddings(model: &str, request: &EmbeddingRequest) -> Value {
    let task = match request.input_type.as_str() {
        "document" => Some("RETRIEVAL_DOCUMENT"),
        "query" => Some("RETRIEVAL_QUERY"),
        _ => None,
    };
    let one = |text: &String| {
        let mut one = Map::new();
        one.insert("model".into(), model.into());
        one.insert("content".into(), json!({"parts": [{"text": text}]}));
        if let Some(task) = task {
            one.insert("taskType".into(), task.into());
        }
        if request.dimensions > 0 {
            one.insert("outputDimensionality".into(), request.dimensions.into());
        }
        Value::Object(one)
    };
    json!({"requests": request.texts.iter().map(one).collect::<Vec<_>>()})
}

/// The body of `:countTokens` (<https://ai.google.dev/api/tokens>), as a whole request, so that tools and system messages
/// are counted too. The model's full name is `models/…`.
pub fn count(model: &str, full_name: &str, request: &ChatRequest) -> Result<Value, WriteError> {
    let mut body = chat(model, request)?;
    if let Some(body) = body.as_object_mut() {
        body.insert("model".into(), full_name.into());
    }
    Ok(json!({ "generateContentRequest": body }))
}

/// The system messages, wherever they stand: Gemini takes them beside the conversation.
fn system(messages: &[Message]) -> Result<Vec<Value>, WriteError> {
    let mut parts = Vec::new();
    for message in messages.iter().filter(|message| message.role == "system") {
        let text = plain(&message.content, "system messages must be text for this provider")?;
        if !text.is_empty() {
            parts.push(json!({ "text": text }));
        }
    }
    Ok(parts)
}

/// A content that must be text; else `why` it is refused.
fn plain(content: &Content, why: &str) -> Result<String, WriteError> {
    match content {
        Content::Text(text) => Ok(text.clone()),
        Content::Parts(parts) => parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => Ok(text.as_str()),
                _ => Err(WriteError::new(why)),
            })
            .collect(),
    }
}

/// The conversation without its system messages. Results of tools become a user's; those in a row become one, as all of a
/// turn's results must come together ("Function calling", parallel calls).
fn contents(messages: &[Message], signed: bool) -> Result<Vec<Value>, WriteError> {
    let mut out = Vec::new();
    let mut results: Vec<Value> = Vec::new();
    let mut names: HashMap<&str, &str> = HashMap::new();
    for message in messages.iter().filter(|message| message.role != "system") {
        if message.role == "tool" {
            results.push(result(message, &names)?);
            continue;
        }
        flush(&mut results, &mut out);
        let mut parts = match &message.content {
            Content::Text(text) if text.is_empty() && !message.tool_calls.is_empty() => Vec::new(),
            Content::Text(text) => vec![json!({ "text": text })],
            Content::Parts(parts) => parts.iter().map(part).collect(),
        };
        for (index, call) in message.tool_calls.iter().enumerate() {
            names.insert(&call.id, &call.name);
            parts.push(function_call(call, signed && index == 0)?);
        }
        // `name` has no place there. `reasoning` stays here: it is output.
        let role = if message.role == "assistant" { "model" } else { "user" };
        out.push(json!({"role": role, "parts": parts}));
    }
    flush(&mut results, &mut out);
    Ok(out)
}

fn flush(results: &mut Vec<Value>, out: &mut Vec<Value>) {
    if !results.is_empty() {
        out.push(json!({"role": "user", "parts": std::mem::take(results)}));
    }
}

/// Gemini takes the arguments as an object, where the contract has the model's text. The first call of a turn bears the
/// signature.
fn function_call(call: &ToolCall, signed: bool) -> Result<Value, WriteError> {
    let text = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    let args: Map<String, Value> = serde_json::from_str(text)
        .map_err(|_| WriteError::new("the arguments of a tool call in `messages` are no JSON object"))?;
    let mut out = Map::new();
    out.insert("functionCall".into(), identified(&call.id, json!({"name": call.name, "args": args})));
    if signed {
        out.insert("thoughtSignature".into(), NO_SIGNATURE.into());
    }
    Ok(Value::Object(out))
}

/// Gemini wants the function's name, and an object. What is none stands under `output` (API reference,
/// "FunctionResponse").
fn result(message: &Message, names: &HashMap<&str, &str>) -> Result<Value, WriteError> {
    let id = message.tool_call_id.as_str();
    let named = names.get(id).copied().or(Some(message.name.as_str())).filter(|name| !name.is_empty());
    let name =
        named.ok_or_else(|| WriteError::new("a tool's message in `messages` answers no call before it"))?;
    let text = plain(&message.content, "results of tools must be text for this provider")?;
    let response: Map<String, Value> = serde_json::from_str(&text)
        .unwrap_or_else(|_| Map::from_iter([("output".to_owned(), Value::String(text))]));
    Ok(json!({"functionResponse": identified(id, json!({"name": name, "response": response}))}))
}

/// Adds the call's id, where it has one.
fn identified(id: &str, mut value: Value) -> Value {
    if let Some(value) = value.as_object_mut().filter(|_| !id.is_empty()) {
        value.insert("id".into(), id.into());
    }
    value
}

fn tool(tool: &Tool) -> Value {
    let mut out = Map::new();
    out.insert("name".into(), tool.name.clone().into());
    if !tool.description.is_empty() {
        out.insert("description".into(), tool.description.clone().into());
    }
    // Not `parameters`, which takes a part of JSON Schema alone.
    if let Some(schema) = &tool.parameters {
        out.insert("parametersJsonSchema".into(), schema.clone().into());
    }
    Value::Object(out)
}

fn part(part: &Part) -> Value {
    match part {
        Part::Text(text) => json!({ "text": text }),
        Part::Image(media) | Part::Audio(media) | Part::Document(media) => medium(media),
    }
}

fn medium(media: &Media) -> Value {
    let inline = |mime_type: String, data: &str| json!({"inlineData": {"mimeType": mime_type, "data": data}});
    match media {
        Media::Data { bytes, mime_type } => inline(essence(mime_type), &BASE64_STANDARD.encode(bytes)),
        Media::Url(url) => match data_url(url) {
            Some((mime_type, data)) => inline(mime_type, data),
            None => match by_ending(url) {
                Some(mime_type) => json!({"fileData": {"mimeType": mime_type, "fileUri": url}}),
                None => json!({"fileData": {"fileUri": url}}),
            },
        },
    }
}

/// What a file most likely is. Gemini does not look by itself; files that were uploaded to it have a type already.
fn by_ending(url: &str) -> Option<&'static str> {
    const ENDINGS: &[(&str, &str)] = &[
        ("png", "image/png"),
        ("jpg", "image/jpeg"),
        ("jpeg", "image/jpeg"),
        ("webp", "image/webp"),
        ("heic", "image/heic"),
        ("heif", "image/heif"),
        ("pdf", "application/pdf"),
        ("txt", "text/plain"),
        ("wav", "audio/wav"),
        ("mp3", "audio/mp3"),
        ("ogg", "audio/ogg"),
        ("flac", "audio/flac"),
        ("mp4", "video/mp4"),
    ];
    let path = url.split(['?', '#']).next()?;
    let (_, ending) = path.rsplit('/').next()?.rsplit_once('.')?;
    let known = ENDINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(ending))?;
    Some(known.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn says(role: &str, text: &str) -> Message {
        Message { role: role.into(), content: Content::Text(text.into()), ..Message::default() }
    }

    fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
        let kind = "function".into();
        ToolCall { index: 0, id: id.into(), kind, name: name.into(), arguments: arguments.into() }
    }

    fn of(messages: Vec<Message>) -> ChatRequest {
        ChatRequest { messages, ..ChatRequest::default() }
    }

    #[test]
    fn parameters_are_merged_but_replace_nothing() {
        let request = ChatRequest {
            parameters: object(&json!({
                "model": "other", "contents": [], "systemInstruction": "other", "system_instruction": "other",
                "temperature": 0.5, "safetySettings": [], "generationConfig": {"stopSequences": ["kept out"]},
                "stop": "kept out", "tools": [{"googleSearch": {}}],
            })),
            tools: vec![Tool { name: "f".into(), description: String::new(), parameters: None }],
            stop: vec!["END".into()],
            user: "u".into(),
            ..of(vec![says("system", "a"), says("user", "hi"), says("assistant", "ho"), says("system", "b")])
        };
        let expected = json!({
            "contents": [
                {"role": "user", "parts": [{"text": "hi"}]},
                {"role": "model", "parts": [{"text": "ho"}]},
            ],
            "systemInstruction": {"parts": [{"text": "a"}, {"text": "b"}]},
            "generationConfig": {"temperature": 0.5, "stopSequences": ["END"]},
            "safetySettings": [],
            "tools": [{"googleSearch": {}}, {"functionDeclarations": [{"name": "f"}]}],
        });
        assert_eq!(chat("m", &request).unwrap(), expected);
        let expected = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]});
        assert_eq!(chat("m", &of(vec![says("user", "hi")])).unwrap(), expected);
    }

    #[test]
    fn tools_their_calls_and_results_are_written_as_gemini_does() {
        let result = |id: &str, text: &str| Message { tool_call_id: id.into(), ..says("tool", text) };
        let schema = json!({"type": "object", "additionalProperties": false});
        let request = ChatRequest {
            tools: vec![Tool {
                name: "f".into(),
                description: "d".into(),
                parameters: Some(object(&schema)),
            }],
            ..of(vec![
                says("user", "hi"),
                Message {
                    tool_calls: vec![call("c1", "f", "{\"a\":1}"), call("c2", "g", "")],
                    reasoning: "hm".into(),
                    ..says("assistant", "")
                },
                result("c1", "{\"ok\":true}"),
                result("c2", "42"),
                Message { tool_calls: vec![call("c1", "h", "{}")], ..says("assistant", "again") },
                result("c1", "[1]"),
                Message { name: "k".into(), ..result("", "sunny") },
            ])
        };
        let mut expected = json!({
            "contents": [
                {"role": "user", "parts": [{"text": "hi"}]},
                {"role": "model", "parts": [
                    {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}},
                    {"functionCall": {"id": "c2", "name": "g", "args": {}}},
                ]},
                {"role": "user", "parts": [
                    {"functionResponse": {"id": "c1", "name": "f", "response": {"ok": true}}},
                    {"functionResponse": {"id": "c2", "name": "g", "response": {"output": "42"}}},
                ]},
                {"role": "model", "parts": [
                    {"text": "again"},
                    {"functionCall": {"id": "c1", "name": "h", "args": {}}},
                ]},
                {"role": "user", "parts": [
                    {"functionResponse": {"id": "c1", "name": "h", "response": {"output": "[1]"}}},
                    {"functionResponse": {"name": "k", "response": {"output": "sunny"}}},
                ]},
            ],
            "tools": [{"functionDeclarations": [
                {"name": "f", "description": "d", "parametersJsonSchema": schema},
            ]}],
        });
        assert_eq!(chat("gemini-2.5-pro", &request).unwrap(), expected);
        // Later models ask for a signature at a turn's first call.
        for pointer in ["/contents/1/parts/0", "/contents/3/parts/1"] {
            expected.pointer_mut(pointer).unwrap()["thoughtSignature"] = NO_SIGNATURE.into();
        }
        assert_eq!(chat("gemini-3-pro-preview", &request).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        let picture = Content::Parts(vec![Part::Image(Media::Url("https://h/i.png".into()))]);
        let calls =
            |arguments| Message { tool_calls: vec![call("c", "f", arguments)], ..says("assistant", "") };
        let answers = Message { tool_call_id: "c".into(), ..says("tool", "x") };
        let table = [
            (vec![calls("[]")], "no JSON object"),
            (vec![calls("{")], "no JSON object"),
            (vec![answers.clone()], "no call before it"),
            (vec![calls("{}"), Message { content: picture.clone(), ..answers }], "must be text"),
            (vec![Message { content: picture, ..says("system", "") }], "must be text"),
        ];
        for (messages, why) in table {
            let WriteError(message) = chat("m", &of(messages)).unwrap_err();
            assert!(message.contains(why), "{message}");
        }
    }

    #[test]
    fn parts_are_written_as_gemini_does() {
        let data = |mime_type: &str| Media::Data { bytes: b"abc".to_vec(), mime_type: mime_type.into() };
        let inline = |mime_type: &str| json!({"inlineData": {"mimeType": mime_type, "data": "YWJj"}});
        let file = |url: &str, kind: &str| json!({"fileData": {"mimeType": kind, "fileUri": url}});
        let url = |url: &str| Media::Url(url.into());
        let uploaded = "https://generativelanguage.googleapis.com/v1beta/files/x.1/a";
        let table = [
            (Part::Text("t".into()), json!({"text": "t"})),
            (Part::Image(data("image/JPG; x=y")), inline("image/jpeg")),
            (Part::Audio(data("audio/wav")), inline("audio/wav")),
            (Part::Document(data("application/pdf")), inline("application/pdf")),
            (Part::Image(url("data:image/png;base64,YWJj")), inline("image/png")),
            (Part::Image(url("https://h/i.PNG?a.b#c")), file("https://h/i.PNG?a.b#c", "image/png")),
            (Part::Document(url("gs://b/a.pdf")), file("gs://b/a.pdf", "application/pdf")),
            (Part::Image(url(uploaded)), json!({"fileData": {"fileUri": uploaded}})),
        ];
        for (input, expected) in table {
            assert_eq!(part(&input), expected);
        }
    }

    #[test]
    fn texts_to_embed_are_a_batch() {
        let mut request =
            EmbeddingRequest { texts: vec!["a".into(), "b".into()], ..EmbeddingRequest::default() };
        let one = |text: &str| json!({"model": "models/m", "content": {"parts": [{"text": text}]}});
        assert_eq!(embeddings("models/m", &request), json!({"requests": [one("a"), one("b")]}));
        request.dimensions = 7;
        for (input_type, task) in [("document", "RETRIEVAL_DOCUMENT"), ("query", "RETRIEVAL_QUERY")] {
            request.input_type = input_type.into();
            let body = embeddings("models/m", &request);
            assert_eq!(
                (&body["requests"][1]["taskType"], &body["requests"][1]["outputDimensionality"]),
                (&json!(task), &json!(7))
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_message_breaks_it(texts: Vec<(u8, String, String)>) {
            let roles = ["system", "user", "assistant", "tool"];
            let message = |(role, text, id): (u8, String, String)| {
                let tool_calls = if role % 8 == 2 { vec![call(&id, "f", &text)] } else { Vec::new() };
                let role = roles[usize::from(role) % roles.len()];
                Message { tool_calls, tool_call_id: id, ..says(role, &text) }
            };
            if let Ok(body) = chat("m", &of(texts.into_iter().map(message).collect())) {
                proptest::prop_assert!(body["contents"].is_array());
            }
        }
    }
}
