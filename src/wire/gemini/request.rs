//! What goes to Gemini (API reference, "models.generateContent", "models.batchEmbedContents"). Pure. Invariant: no
//! parameter of the caller's replaces what the call itself says (contents, and what else is given in the request's own
//! fields).

use super::{
    contents::{contents, part, system, with},
    parameters::translate,
};
use crate::wire::{ChatRequest, EmbeddingInputs, EmbeddingRequest, Recipient, Tool, WriteError};
use serde_json::{Map, Value, json};

/// The body of `:generateContent` and of `:streamGenerateContent`. The model's name is the last part of it. An end user's
/// id has no place there.
pub fn chat(to: Recipient<'_>, request: &ChatRequest) -> Result<Value, WriteError> {
    let mut body = request.parameters.clone();
    request.extra.add_to(&mut body, to.kind);
    // It stands in the address.
    body.shift_remove("model");
    translate(&mut body, to.model, !request.tools.is_empty())?;
    body.insert("contents".into(), contents(&request.messages, to)?.into());
    let system = system(&request.messages, to)?;
    if !system.is_empty() {
        body.shift_remove("system_instruction");
        body.insert("systemInstruction".into(), json!({ "parts": system }));
    }
    if !request.tools.is_empty() {
        let declarations: Vec<Value> = request.tools.iter().map(|each| tool(each, to)).collect();
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
            config.shift_remove("stop_sequences");
            config.insert("stopSequences".into(), request.stop.clone().into());
        }
    }
    Ok(Value::Object(body))
}

/// The body of `:batchEmbedContents`; the model is named as `models/…`.
pub fn embeddings(
    to: Recipient<'_>,
    full_name: &str,
    request: &EmbeddingRequest,
) -> Result<Value, WriteError> {
    let task = match request.input_type.as_str() {
        "document" => Some("RETRIEVAL_DOCUMENT"),
        "query" => Some("RETRIEVAL_QUERY"),
        _ => None,
    };
    if !request.encoding.is_empty() && request.encoding != "float" {
        return Err(WriteError::new("encoding", "this provider returns floating point alone"));
    }
    let parts: Vec<Value> = match &request.inputs {
        EmbeddingInputs::Texts(texts) => texts.iter().map(|text| json!({ "text": text })).collect(),
        EmbeddingInputs::Tokens(_) => {
            return Err(WriteError::new("token_arrays", "this provider embeds texts and media, not tokens"));
        }
        EmbeddingInputs::Parts(parts) => parts.iter().map(|each| part(each, to)).collect(),
    };
    let one = |part: Value| {
        let mut one = request.parameters.clone();
        one.insert("model".into(), full_name.into());
        one.insert("content".into(), json!({ "parts": [part] }));
        if let Some(task) = task {
            one.insert("taskType".into(), task.into());
        }
        if request.dimensions > 0 {
            one.insert("outputDimensionality".into(), request.dimensions.into());
        }
        request.extra.add_to(&mut one, to.kind);
        Value::Object(one)
    };
    Ok(json!({"requests": parts.into_iter().map(one).collect::<Vec<_>>()}))
}

/// The body of `:countTokens` (<https://ai.google.dev/api/tokens>), as a whole request, so that tools and system messages
/// are counted too. The model's full name is `models/…`.
pub fn count(to: Recipient<'_>, full_name: &str, request: &ChatRequest) -> Result<Value, WriteError> {
    let mut body = chat(to, request)?;
    if let Some(body) = body.as_object_mut() {
        body.insert("model".into(), full_name.into());
    }
    Ok(json!({ "generateContentRequest": body }))
}

fn tool(tool: &Tool, to: Recipient<'_>) -> Value {
    let mut out = Map::new();
    out.insert("name".into(), tool.name.clone().into());
    if !tool.description.is_empty() {
        out.insert("description".into(), tool.description.clone().into());
    }
    // Not `parameters`, which takes a part of JSON Schema alone.
    if let Some(schema) = &tool.parameters {
        out.insert("parametersJsonSchema".into(), schema.clone().into());
    }
    with(out.into(), &tool.extra, to)
}

#[cfg(test)]
mod tests {
    use super::super::contents::NO_SIGNATURE;
    use super::*;
    use crate::wire::{Content, Media, MediaSource, Message, PartKind, Reasoning, ToolCall};

    const TO: Recipient<'_> = Recipient { kind: "gemini", model: "m", switches: crate::wire::Switches::NONE };

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn says(role: &str, text: &str) -> Message {
        Message { role: role.into(), content: Content::Text(text.into()), ..Message::default() }
    }

    fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
        let kind = "function".into();
        ToolCall {
            id: id.into(),
            kind,
            name: name.into(),
            arguments: arguments.into(),
            ..ToolCall::default()
        }
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
            tools: vec![Tool { name: "f".into(), ..Tool::default() }],
            stop: vec!["END".into()],
            user: "u".into(),
            ..of(vec![
                says("system", "a"),
                says("user", "hi"),
                says("assistant", "ho"),
                says("developer", "b"),
            ])
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
        assert_eq!(chat(TO, &request).unwrap(), expected);
        let expected = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]});
        assert_eq!(chat(TO, &of(vec![says("user", "hi")])).unwrap(), expected);
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
                ..Tool::default()
            }],
            ..of(vec![
                says("user", "hi"),
                Message {
                    tool_calls: vec![call("c1", "f", "{\"a\":1}"), call("c2", "g", "")],
                    reasoning_content: "hm".into(),
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
        assert_eq!(chat(Recipient { model: "gemini-2.5-pro", ..TO }, &request).unwrap(), expected);
        // Later models ask for a signature at a turn's first call.
        for pointer in ["/contents/1/parts/0", "/contents/3/parts/1"] {
            expected.pointer_mut(pointer).unwrap()["thoughtSignature"] = NO_SIGNATURE.into();
        }
        assert_eq!(chat(Recipient { model: "gemini-3-pro-preview", ..TO }, &request).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        let media = Media { source: MediaSource::Url("https://h/i.png".into()), ..Media::default() };
        let picture = Content::Parts(vec![PartKind::Image(media).into()]);
        let calls =
            |arguments| Message { tool_calls: vec![call("c", "f", arguments)], ..says("assistant", "") };
        let answers = Message { tool_call_id: "c".into(), ..says("tool", "x") };
        let table = [
            (vec![calls("[]")], "a JSON object"),
            (vec![calls("{")], "a JSON object"),
            (vec![answers], "no call before it"),
            (vec![Message { content: picture, ..says("system", "") }], "must be text"),
        ];
        for (messages, why) in table {
            let error = chat(TO, &of(messages)).unwrap_err();
            assert!(error.field.starts_with("messages[0]") && error.why.contains(why), "{error}");
        }
    }

    #[test]
    fn a_signature_goes_back_with_the_part_that_it_came_with() {
        let piece = |index, text: &str, signature: &str, id: &str| Reasoning {
            text: text.into(),
            signature: signature.into(),
            id: id.into(),
            kind: "gemini".into(),
            index,
            ..Reasoning::default()
        };
        let image = Media { source: MediaSource::Url("https://h/i.png".into()), ..Media::default() };
        let content = Content::Parts(vec![PartKind::Text("a".into()).into(), PartKind::Image(image).into()]);
        let sent = |reasoning: Vec<Reasoning>, content: &Content, tool_calls: Vec<ToolCall>| {
            let message =
                Message { reasoning, content: content.clone(), tool_calls, ..says("assistant", "") };
            let body = chat(Recipient { model: "gemini-3-pro", ..TO }, &of(vec![message])).unwrap();
            body["contents"][0]["parts"].clone()
        };
        let parts = sent(
            vec![
                piece(0, "hm", "", ""),
                piece(1, "", "s1", ""),
                piece(2, "", "s2", ""),
                piece(3, "", "s3", "c2"),
            ],
            &content,
            vec![call("c1", "f", "{}"), call("c2", "g", "{}")],
        );
        let signatures: Vec<_> =
            parts.as_array().unwrap().iter().map(|part| part.get("thoughtSignature").cloned()).collect();
        assert_eq!(signatures, [Some(json!("s1")), Some(json!("s2")), None, Some(json!("s3"))]);
        let text = Content::Text("a".into());
        assert_eq!(
            sent(vec![piece(0, "", "s", "")], &text, vec![]),
            json!([{"text": "a", "thoughtSignature": "s"}])
        );
        assert_eq!(
            sent(vec![piece(1, "", "s", "")], &text, vec![]),
            json!([{"text": "a"}, {"text": "", "thoughtSignature": "s"}])
        );
        let other = Reasoning { kind: "anthropic".into(), ..piece(0, "", "s", "c1") };
        let parts = sent(vec![other], &text, vec![call("c1", "f", "{}")]);
        assert_eq!(parts[1]["thoughtSignature"], NO_SIGNATURE);
    }

    #[test]
    fn media_in_a_result_stand_beside_its_words() {
        let media = Media {
            source: MediaSource::Data(b"abc".to_vec()),
            mime_type: "image/png".into(),
            ..Media::default()
        };
        let content =
            Content::Parts(vec![PartKind::Text("look".into()).into(), PartKind::Image(media).into()]);
        let result = Message { name: "f".into(), content, ..says("tool", "") };
        let body = chat(TO, &of(vec![result])).unwrap();
        let expected = json!({"name": "f", "response": {"output": "look"}, "parts": [
            {"inlineData": {"mimeType": "image/png", "data": "YWJj"}},
        ]});
        assert_eq!(body["contents"][0]["parts"][0]["functionResponse"], expected);
    }

    #[test]
    fn texts_to_embed_are_a_batch() {
        let inputs = EmbeddingInputs::Texts(vec!["a".into(), "b".into()]);
        let mut request = EmbeddingRequest { inputs, ..EmbeddingRequest::default() };
        let one = |text: &str| json!({"model": "models/m", "content": {"parts": [{"text": text}]}});
        let embeddings = |request: &_| embeddings(TO, "models/m", request);
        assert_eq!(embeddings(&request).unwrap(), json!({"requests": [one("a"), one("b")]}));
        request.dimensions = 7;
        for (input_type, task) in [("document", "RETRIEVAL_DOCUMENT"), ("query", "RETRIEVAL_QUERY")] {
            request.input_type = input_type.into();
            let body = embeddings(&request).unwrap();
            assert_eq!(
                (&body["requests"][1]["taskType"], &body["requests"][1]["outputDimensionality"]),
                (&json!(task), &json!(7))
            );
        }
        request.encoding = "int8".into();
        assert_eq!(embeddings(&request).unwrap_err().field, "encoding");
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
            if let Ok(body) = chat(TO, &of(texts.into_iter().map(message).collect())) {
                proptest::prop_assert!(body["contents"].is_array());
            }
        }
    }
}
