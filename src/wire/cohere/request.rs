//! What goes to Cohere (API reference, "Chat", "Embed"). Pure. Invariant: no parameter of the caller's replaces what the
//! call itself says (model, messages, stream, and what else is given in the request's own fields).

use super::parameters::translate;
use crate::wire::{
    ChatRequest, Content, EmbeddingInputs, EmbeddingRequest, Media, MediaSource, Message, Part, PartKind,
    Recipient, Tool, ToolCall, WriteError, media::essence,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

/// The body of `POST /v2/chat`.
pub fn chat(to: Recipient<'_>, request: &ChatRequest, stream: bool) -> Result<Value, WriteError> {
    let mut body = request.parameters.clone();
    request.extra.add_to(&mut body, to.kind);
    translate(&mut body, &request.tools)?;
    body.insert("model".into(), to.model.into());
    let messages = request.messages.iter().enumerate();
    let messages = messages.map(|(place, each)| message(each, &format!("messages[{place}]"), to));
    body.insert("messages".into(), messages.collect::<Result<_, _>>()?);
    if !request.tools.is_empty() {
        body.insert("tools".into(), request.tools.iter().map(|each| tool(each, to)).collect());
    }
    if !request.stop.is_empty() {
        body.insert("stop_sequences".into(), request.stop.clone().into());
    }
    // The reference wants it said either way.
    body.insert("stream".into(), stream.into());
    Ok(Value::Object(body))
}

/// The body of `POST /v2/embed`. Cohere embeds a document and a query differently and wants to be told which it is
/// ("Introduction to Embeddings"). Who does not say compares like with like: all are documents then.
pub fn embeddings(to: Recipient<'_>, request: &EmbeddingRequest) -> Result<Value, WriteError> {
    let input_type = match request.input_type.as_str() {
        "" | "document" => "search_document",
        "query" => "search_query",
        other => other,
    };
    let encoding = if request.encoding.is_empty() { "float" } else { &request.encoding };
    let mut body = request.parameters.clone();
    body.insert("model".into(), to.model.into());
    match &request.inputs {
        EmbeddingInputs::Texts(texts) => body.insert("texts".into(), texts.clone().into()),
        EmbeddingInputs::Tokens(_) => {
            return Err(WriteError::new("token_arrays", "this provider embeds texts and images, not tokens"));
        }
        EmbeddingInputs::Parts(parts) => {
            let inputs = parts.iter().enumerate().map(|(place, each)| {
                let part = part(each, "user", &format!("contents[{place}]"), to)?;
                Ok(json!({"content": [part]}))
            });
            body.insert("inputs".into(), inputs.collect::<Result<_, _>>()?)
        }
    };
    body.insert("input_type".into(), input_type.into());
    body.insert("embedding_types".into(), json!([encoding]));
    if request.dimensions > 0 {
        body.insert("output_dimension".into(), request.dimensions.into());
    }
    request.extra.add_to(&mut body, to.kind);
    Ok(Value::Object(body))
}

/// A message. `name` has no place there.
fn message(message: &Message, field: &str, to: Recipient<'_>) -> Result<Value, WriteError> {
    let mut out = Map::new();
    let role = if message.role == "developer" { "system" } else { message.role.as_str() };
    out.insert("role".into(), role.into());
    let calls = !message.tool_calls.is_empty();
    let content = match &message.content {
        // The words are the assistant's, whichever field they came in.
        Content::Text(text) if text.is_empty() => message.refusal.clone().into(),
        Content::Text(text) => text.clone().into(),
        Content::Parts(parts) => {
            let sent = parts
                .iter()
                .enumerate()
                .filter(|(_, each)| each.kind != PartKind::Opaque || each.extra.is_for(to.kind));
            sent.map(|(place, each)| part(each, role, &format!("{field}.parts[{place}]"), to))
                .collect::<Result<Value, _>>()?
        }
    };
    if !(calls && content == "") {
        out.insert("content".into(), content);
    }
    if calls {
        out.insert("tool_calls".into(), message.tool_calls.iter().map(|call| tool_call(call, to)).collect());
        // The plan for the calls is to go with them ("Basic usage of tool use"). Reasoning alone stays here: it is
        // output. That of other vendors is no plan of this one's.
        let own = message.reasoning.iter().all(|piece| piece.kind == to.kind);
        if own && !message.reasoning_content.is_empty() {
            out.insert("tool_plan".into(), message.reasoning_content.clone().into());
        }
    }
    if role == "tool" {
        out.insert("tool_call_id".into(), message.tool_call_id.clone().into());
    }
    message.extra.add_to(&mut out, to.kind);
    Ok(Value::Object(out))
}

/// A part of a message of that role. Images are the user's alone, and documents those of tools (API reference, "Chat": each
/// role's content).
fn part(part: &Part, role: &str, field: &str, to: Recipient<'_>) -> Result<Value, WriteError> {
    let refused = |why: &str| Err(WriteError::new(field, why));
    let written = match &part.kind {
        PartKind::Text(text) => json!({"type": "text", "text": text}),
        PartKind::Image(Media { source: MediaSource::File(_), .. }) => {
            return refused("images must be sent as data or by URL to this provider, not by file id");
        }
        PartKind::Image(media) if role == "user" => {
            let mut image = json!({"url": url(media)});
            if let Some(image) = image.as_object_mut().filter(|_| !media.detail.is_empty()) {
                image.insert("detail".into(), media.detail.clone().into());
            }
            json!({"type": "image_url", "image_url": image})
        }
        PartKind::Image(_) => return refused("this provider takes images in messages of role user alone"),
        PartKind::Audio(_) => return refused("this provider takes no audio"),
        PartKind::Video(_) => return refused("this provider takes no video"),
        PartKind::Document(media) => match text_of(media).filter(|_| role == "tool") {
            Some(text) if media.filename.is_empty() => {
                json!({"type": "document", "document": {"data": text}})
            }
            Some(text) => json!({"type": "document", "document": {"data": text, "id": media.filename}}),
            None => {
                return refused(
                    "this provider takes documents as texts in results of tools, or in its parameter `documents`",
                );
            }
        },
        PartKind::Opaque => json!({}),
    };
    let Value::Object(mut written) = written else { return Ok(written) };
    part.extra.add_to(&mut written, to.kind);
    Ok(written.into())
}

/// A document's text, where it is one.
fn text_of(media: &Media) -> Option<&str> {
    let MediaSource::Data(bytes) = &media.source else { return None };
    let kind = essence(&media.mime_type);
    let is_text = kind.starts_with("text/") || kind == "application/json";
    std::str::from_utf8(bytes).ok().filter(|_| is_text)
}

fn url(media: &Media) -> String {
    match &media.source {
        MediaSource::Url(url) | MediaSource::File(url) => url.clone(),
        MediaSource::Data(bytes) => {
            format!("data:{};base64,{}", media.mime_type, BASE64_STANDARD.encode(bytes))
        }
    }
}

fn tool_call(call: &ToolCall, to: Recipient<'_>) -> Value {
    let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    let mut out = Map::new();
    out.insert("id".into(), call.id.clone().into());
    out.insert("type".into(), "function".into());
    out.insert("function".into(), json!({"name": call.name, "arguments": arguments}));
    call.extra.add_to(&mut out, to.kind);
    out.into()
}

fn tool(tool: &Tool, to: Recipient<'_>) -> Value {
    let mut function = Map::new();
    function.insert("name".into(), tool.name.clone().into());
    if !tool.description.is_empty() {
        function.insert("description".into(), tool.description.clone().into());
    }
    // Required, and with a type.
    let mut parameters = tool.parameters.clone().unwrap_or_default();
    parameters.entry("type").or_insert_with(|| "object".into());
    function.insert("parameters".into(), parameters.into());
    let mut out = Map::new();
    out.insert("type".into(), "function".into());
    out.insert("function".into(), function.into());
    tool.extra.add_to(&mut out, to.kind);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Recipient<'_> = Recipient { kind: "cohere", model: "m", switches: crate::wire::Switches::NONE };

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
            messages: vec![says("developer", "a"), says("user", "hi")],
            stop: vec!["END".into()],
            user: "u".into(),
            ..hello(json!({
                "temperature": 0.5, "seed": 1, "frequency_penalty": 0.1, "model": "other", "messages": [],
                "stream": true, "stream_options": {"include_usage": true}, "stop_sequences": ["kept out"],
                "stop": ["kept out"], "safety_mode": "STRICT", "user": "other", "presence_penalty": null,
            }))
        };
        let mut expected = json!({
            "model": "m", "stream": false, "temperature": 0.5, "seed": 1, "frequency_penalty": 0.1,
            "messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "hi"}],
            "stop_sequences": ["END"], "safety_mode": "STRICT",
        });
        assert_eq!(chat(TO, &request, false).unwrap(), expected);
        expected["stream"] = true.into();
        assert_eq!(chat(TO, &request, true).unwrap(), expected);
    }

    #[test]
    fn openais_parameters_become_coheres() {
        let schema = json!({"type": "object", "required": ["a"]});
        let table = [
            (json!({"top_p": 0.5, "top_k": 3}), json!({"p": 0.5, "k": 3})),
            (json!({"top_p": 0.5, "p": 0.6}), json!({"p": 0.6})),
            (json!({"top_p": 0.5, "p": null}), json!({"p": 0.5})),
            (json!({"max_completion_tokens": 8}), json!({"max_tokens": 8})),
            (json!({"max_completion_tokens": 8, "max_tokens": 7}), json!({"max_tokens": 7})),
            (json!({"stop": "x"}), json!({"stop_sequences": ["x"]})),
            (json!({"stop": ["x", "y"]}), json!({"stop_sequences": ["x", "y"]})),
            (json!({"tool_choice": "auto"}), json!({})),
            (json!({"tool_choice": "none"}), json!({"tool_choice": "NONE"})),
            (json!({"tool_choice": "required"}), json!({"tool_choice": "REQUIRED"})),
            (json!({"tool_choice": "REQUIRED"}), json!({"tool_choice": "REQUIRED"})),
            (
                json!({"response_format": {"type": "json_object"}}),
                json!({"response_format": {"type": "json_object"}}),
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}),
                json!({"response_format": {"type": "json_object", "json_schema": schema}}),
            ),
            (
                json!({"response_format": {"type": "json_object", "json_schema": schema}}),
                json!({"response_format": {"type": "json_object", "json_schema": schema}}),
            ),
            (json!({"reasoning_effort": "none"}), json!({"thinking": {"type": "disabled"}})),
            (json!({"reasoning_effort": "high"}), json!({"thinking": {"type": "enabled"}})),
            (
                json!({"reasoning_effort": "high", "thinking": {"token_budget": 9}}),
                json!({"thinking": {"token_budget": 9}}),
            ),
            (json!({"n": 1, "parallel_tool_calls": true}), json!({})),
            (json!({"unknown": {"1": 2}, "logit_bias": {}}), json!({"unknown": {"1": 2}})),
            (json!({"response_format": {"type": "text"}, "modalities": ["text"]}), json!({})),
            (
                json!({"reasoning_effort": "low"}),
                json!({"thinking": {"type": "enabled", "token_budget": 1024}}),
            ),
        ];
        for (theirs, ours) in table {
            let mut body = object(chat(TO, &hello(theirs.clone()), false).unwrap());
            body.retain(|name, _| !["model", "messages", "stream"].contains(&name.as_str()));
            assert_eq!(Value::Object(body), ours, "{theirs}");
        }
    }

    #[test]
    fn what_has_no_word_is_refused() {
        let table = [
            (json!({"n": 2}), "`n`"),
            (json!({"parallel_tool_calls": false, "x": 1}), "parallel_tool_calls"),
            (json!({"logit_bias": {"1": 2}}), "logit_bias"),
            (json!({"top_logprobs": 2}), "top_logprobs"),
            (json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}), "tool_choice"),
            (json!({"response_format": {"type": "json_schema"}}), "response_format"),
            (json!({"reasoning_effort": "much"}), "reasoning_effort"),
        ];
        for (parameters, word) in table {
            let tools = ["f", "g"].map(|name| Tool { name: name.into(), ..Tool::default() }).to_vec();
            let request = ChatRequest { tools, ..hello(parameters.clone()) };
            let error = chat(TO, &request, false).unwrap_err();
            assert!(error.field.contains(word.trim_matches('`')), "{error}");
        }
    }

    #[test]
    fn tools_and_their_calls_are_written_as_cohere_does() {
        let call = |id: &str, arguments: &str| ToolCall {
            id: id.into(),
            name: "f".into(),
            arguments: arguments.into(),
            ..ToolCall::default()
        };
        let request = ChatRequest {
            messages: vec![
                Message {
                    tool_calls: vec![call("c1", "{\"a\":1}"), call("c2", "")],
                    reasoning_content: "I will call f.".into(),
                    ..says("assistant", "")
                },
                Message { tool_call_id: "c1".into(), ..says("tool", "42") },
                Message {
                    tool_call_id: "c2".into(),
                    content: Content::Parts(vec![PartKind::Text("43".into()).into()]),
                    ..says("tool", "")
                },
                Message { tool_calls: vec![call("c3", "{}")], ..says("assistant", "again") },
                Message { reasoning_content: "hm".into(), ..says("assistant", "done") },
                Message { refusal: "no".into(), ..says("assistant", "") },
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
        let written = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}});
        let expected = json!({
            "model": "m", "stream": false,
            "messages": [
                {"role": "assistant", "tool_plan": "I will call f.",
                    "tool_calls": [written("c1", "{\"a\":1}"), written("c2", "{}")]},
                {"role": "tool", "tool_call_id": "c1", "content": "42"},
                {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "43"}]},
                {"role": "assistant", "content": "again", "tool_calls": [written("c3", "{}")]},
                {"role": "assistant", "content": "done"},
                {"role": "assistant", "content": "no"},
            ],
            "tools": [
                {"type": "function", "function":
                    {"name": "f", "description": "d", "parameters": {"type": "object", "required": ["a"]}}},
                {"type": "function", "function": {"name": "g", "parameters": {"type": "object"}}},
            ],
        });
        assert_eq!(chat(TO, &request, false).unwrap(), expected);
    }

    #[test]
    fn parts_are_written_as_cohere_does() {
        let data = |mime_type: &str| Media {
            source: MediaSource::Data(b"abc".to_vec()),
            mime_type: mime_type.into(),
            ..Media::default()
        };
        let url = |url: &str| Media { source: MediaSource::Url(url.into()), ..Media::default() };
        let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
        let document = json!({"type": "document", "document": {"data": "abc", "id": "d"}});
        let table = [
            (PartKind::Text("t".into()), "user", json!({"type": "text", "text": "t"})),
            (PartKind::Image(url("https://h/i.png")), "user", image("https://h/i.png")),
            (PartKind::Image(data("image/png")), "user", image("data:image/png;base64,YWJj")),
            (PartKind::Document(Media { filename: "d".into(), ..data("text/plain") }), "tool", document),
        ];
        for (input, role, expected) in table {
            assert_eq!(part(&input.into(), role, "f", TO).unwrap(), expected);
        }
        for (input, role, word) in [
            (PartKind::Audio(data("audio/wav")), "user", "audio"),
            (PartKind::Video(data("video/mp4")), "user", "video"),
            (PartKind::Document(data("application/pdf")), "user", "`documents`"),
            (PartKind::Document(data("application/pdf")), "tool", "`documents`"),
            (PartKind::Image(data("image/png")), "system", "role user"),
            (PartKind::Image(data("image/png")), "tool", "role user"),
        ] {
            let error = part(&input.into(), role, "f", TO).unwrap_err();
            assert!(error.field == "f" && error.why.contains(word), "{error}");
        }
    }

    #[test]
    fn the_one_tool_can_be_required() {
        let choice = json!({"tool_choice": {"type": "function", "function": {"name": "f"}}});
        let tools = vec![Tool { name: "f".into(), ..Tool::default() }];
        let body = chat(TO, &ChatRequest { tools, ..hello(choice) }, false).unwrap();
        assert_eq!(body["tool_choice"], "REQUIRED");
    }

    #[test]
    fn media_are_embedded_and_tokens_are_not() {
        let media = Media { source: MediaSource::Url("https://h/i.png".into()), ..Media::default() };
        let inputs = EmbeddingInputs::Parts(vec![PartKind::Image(media).into()]);
        let mut request = EmbeddingRequest { inputs, encoding: "int8".into(), ..EmbeddingRequest::default() };
        let body = embeddings(TO, &request).unwrap();
        let content = json!([{"type": "image_url", "image_url": {"url": "https://h/i.png"}}]);
        assert_eq!((&body["inputs"][0]["content"], &body["embedding_types"]), (&content, &json!(["int8"])));
        request.inputs = EmbeddingInputs::Tokens(vec![vec![1]]);
        assert_eq!(embeddings(TO, &request).unwrap_err().field, "token_arrays");
    }

    #[test]
    fn embeddings_say_what_the_texts_are() {
        let table = [
            ("", "search_document"),
            ("document", "search_document"),
            ("query", "search_query"),
            ("clustering", "clustering"),
        ];
        for (input_type, sent) in table {
            let mut request = EmbeddingRequest {
                inputs: EmbeddingInputs::Texts(vec!["a".into(), "b".into()]),
                input_type: input_type.into(),
                ..EmbeddingRequest::default()
            };
            let mut expected = json!({
                "model": "m", "texts": ["a", "b"], "input_type": sent, "embedding_types": ["float"],
            });
            assert_eq!(embeddings(TO, &request).unwrap(), expected);
            request.dimensions = 256;
            expected["output_dimension"] = 256.into();
            assert_eq!(embeddings(TO, &request).unwrap(), expected);
        }
    }
}
