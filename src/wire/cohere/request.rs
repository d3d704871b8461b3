//! What goes to Cohere (API reference, "Chat", "Embed"). Pure. Invariant: no parameter of the caller's replaces what the
//! call itself says (model, messages, stream, and what else is given in the request's own fields).
//!
//! OpenAI's names of parameters become Cohere's: a caller need not know whom the call goes to. Cohere's own names pass as
//! they are, and win. What is neither passes too, for Cohere to judge.

use crate::wire::{ChatRequest, Content, EmbeddingRequest, Media, Message, Part, Tool, ToolCall, WriteError};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

/// OpenAI's names, and others', for what Cohere calls differently.
const NAMES: &[(&str, &str)] =
    &[("max_completion_tokens", "max_tokens"), ("stop", "stop_sequences"), ("top_k", "k"), ("top_p", "p")];

/// The body of `POST /v2/chat`.
pub fn chat(model: &str, request: &ChatRequest, stream: bool) -> Result<Value, WriteError> {
    let mut body = request.parameters.clone();
    // OpenAI's word for a parameter that is not given.
    body.retain(|_, value| !value.is_null());
    translate(&mut body)?;
    body.insert("model".into(), model.into());
    body.insert("messages".into(), request.messages.iter().map(message).collect::<Result<_, _>>()?);
    if !request.tools.is_empty() {
        body.insert("tools".into(), request.tools.iter().map(tool).collect());
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
pub fn embeddings(model: &str, request: &EmbeddingRequest) -> Value {
    let input_type = match request.input_type.as_str() {
        "" | "document" => "search_document",
        "query" => "search_query",
        other => other,
    };
    let mut body = json!({
        "model": model, "texts": request.texts, "input_type": input_type, "embedding_types": ["float"],
    });
    if request.dimensions > 0
        && let Some(body) = body.as_object_mut()
    {
        body.insert("output_dimension".into(), request.dimensions.into());
    }
    body
}

/// Puts OpenAI's parameters into Cohere's words, and refuses what those have no word for.
fn translate(body: &mut Map<String, Value>) -> Result<(), WriteError> {
    for (theirs, ours) in NAMES {
        if let Some(value) = body.remove(*theirs) {
            body.entry(*ours).or_insert(value);
        }
    }
    if let Some(stop) = body.get_mut("stop_sequences").filter(|stop| stop.is_string()) {
        *stop = json!([stop]);
    }
    if let Some(choice) = body.remove("tool_choice") {
        match choice.as_str() {
            // What Cohere does unasked.
            Some("auto") => {}
            Some(choice) => {
                body.insert("tool_choice".into(), choice.to_uppercase().into());
            }
            None => {
                return Err(WriteError::new(
                    "this provider cannot be told which tool to call: `tool_choice`",
                ));
            }
        }
    }
    if let Some(format) = body.get_mut("response_format")
        && format.get("type").is_some_and(|kind| kind == "json_schema")
    {
        let schema = format.pointer_mut("/json_schema/schema").map(Value::take);
        let schema =
            schema.ok_or_else(|| WriteError::new("`response_format` of type json_schema has no schema"))?;
        *format = json!({"type": "json_object", "json_schema": schema});
    }
    if let Some(effort) = body.remove("reasoning_effort") {
        // The two that Cohere's own translation has ("Using Cohere models via the OpenAI SDK").
        let kind = match effort.as_str() {
            Some("none") => "disabled",
            Some("high") => "enabled",
            _ => {
                return Err(WriteError::new(
                    "this provider knows a `reasoning_effort` of none or high alone",
                ));
            }
        };
        body.entry("thinking").or_insert_with(|| json!({ "type": kind }));
    }
    if body.remove("n").is_some_and(|count| count != 1) {
        return Err(WriteError::new("this provider gives one answer a call: `n`"));
    }
    if body.remove("parallel_tool_calls").is_some_and(|parallel| parallel != true) {
        return Err(WriteError::new(
            "this provider cannot be kept from calling tools together: `parallel_tool_calls`",
        ));
    }
    // Usage comes without asking.
    body.remove("stream_options");
    // An end user's id has no place there, as with the request's own.
    body.remove("user");
    Ok(())
}

/// A message. `name` has no place there.
fn message(message: &Message) -> Result<Value, WriteError> {
    let mut out = Map::new();
    out.insert("role".into(), message.role.clone().into());
    let calls = !message.tool_calls.is_empty();
    let content = match &message.content {
        // The words are the assistant's, whichever field they came in.
        Content::Text(text) if text.is_empty() => message.refusal.clone().into(),
        Content::Text(text) => text.clone().into(),
        Content::Parts(parts) => {
            parts.iter().map(|each| part(each, &message.role)).collect::<Result<Value, _>>()?
        }
    };
    if !(calls && content == "") {
        out.insert("content".into(), content);
    }
    if calls {
        out.insert("tool_calls".into(), message.tool_calls.iter().map(tool_call).collect());
        // The plan for the calls is to go with them ("Basic usage of tool use"). Reasoning alone stays here: it is
        // output.
        if !message.reasoning.is_empty() {
            out.insert("tool_plan".into(), message.reasoning.clone().into());
        }
    }
    if message.role == "tool" {
        out.insert("tool_call_id".into(), message.tool_call_id.clone().into());
    }
    Ok(Value::Object(out))
}

/// A part of a message of that role. Images are the user's alone (API reference, "Chat": each role's content).
fn part(part: &Part, role: &str) -> Result<Value, WriteError> {
    match part {
        Part::Text(text) => Ok(json!({"type": "text", "text": text})),
        Part::Image(media) if role == "user" => {
            Ok(json!({"type": "image_url", "image_url": {"url": url(media)}}))
        }
        Part::Image(_) => Err(WriteError::new("this provider takes images in messages of role user alone")),
        Part::Audio(_) => Err(WriteError::new("this provider takes no audio")),
        Part::Document(_) => Err(WriteError::new(
            "this provider takes no documents in messages, but texts in its parameter `documents`",
        )),
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

fn tool_call(call: &ToolCall) -> Value {
    let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
}

fn tool(tool: &Tool) -> Value {
    let mut function = Map::new();
    function.insert("name".into(), tool.name.clone().into());
    if !tool.description.is_empty() {
        function.insert("description".into(), tool.description.clone().into());
    }
    // Required, and with a type.
    let mut parameters = tool.parameters.clone().unwrap_or_default();
    parameters.entry("type").or_insert_with(|| "object".into());
    function.insert("parameters".into(), parameters.into());
    json!({"type": "function", "function": function})
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
            messages: vec![says("system", "a"), says("user", "hi")],
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
        assert_eq!(chat("m", &request, false).unwrap(), expected);
        expected["stream"] = true.into();
        assert_eq!(chat("m", &request, true).unwrap(), expected);
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
            (json!({"logit_bias": {"1": 2}}), json!({"logit_bias": {"1": 2}})),
        ];
        for (theirs, ours) in table {
            let mut body = object(chat("m", &hello(theirs.clone()), false).unwrap());
            body.retain(|name, _| !["model", "messages", "stream"].contains(&name.as_str()));
            assert_eq!(Value::Object(body), ours, "{theirs}");
        }
    }

    #[test]
    fn what_has_no_word_is_refused() {
        let table = [
            (json!({"n": 2}), "`n`"),
            (json!({"parallel_tool_calls": false}), "parallel_tool_calls"),
            (json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}), "tool_choice"),
            (json!({"response_format": {"type": "json_schema"}}), "response_format"),
            (json!({"reasoning_effort": "low"}), "reasoning_effort"),
        ];
        for (parameters, word) in table {
            let WriteError(why) = chat("m", &hello(parameters.clone()), false).unwrap_err();
            assert!(why.contains(word), "{why}");
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
                    reasoning: "I will call f.".into(),
                    ..says("assistant", "")
                },
                Message { tool_call_id: "c1".into(), ..says("tool", "42") },
                Message {
                    tool_call_id: "c2".into(),
                    content: Content::Parts(vec![Part::Text("43".into())]),
                    ..says("tool", "")
                },
                Message { tool_calls: vec![call("c3", "{}")], ..says("assistant", "again") },
                Message { reasoning: "hm".into(), ..says("assistant", "done") },
                Message { refusal: "no".into(), ..says("assistant", "") },
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
        assert_eq!(chat("m", &request, false).unwrap(), expected);
    }

    #[test]
    fn parts_are_written_as_cohere_does() {
        let data = |mime_type: &str| Media::Data { bytes: b"abc".to_vec(), mime_type: mime_type.into() };
        let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
        let table = [
            (Part::Text("t".into()), json!({"type": "text", "text": "t"})),
            (Part::Image(Media::Url("https://h/i.png".into())), image("https://h/i.png")),
            (
                Part::Image(Media::Url("data:image/png;base64,YWJj".into())),
                image("data:image/png;base64,YWJj"),
            ),
            (Part::Image(data("image/png")), image("data:image/png;base64,YWJj")),
        ];
        for (input, expected) in table {
            assert_eq!(part(&input, "user").unwrap(), expected);
        }
        for (input, role, word) in [
            (Part::Audio(data("audio/wav")), "user", "audio"),
            (Part::Document(data("application/pdf")), "user", "`documents`"),
            (Part::Image(data("image/png")), "system", "role user"),
            (Part::Image(data("image/png")), "tool", "role user"),
        ] {
            let WriteError(why) = part(&input, role).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
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
                texts: vec!["a".into(), "b".into()],
                input_type: input_type.into(),
                ..EmbeddingRequest::default()
            };
            let mut expected = json!({
                "model": "m", "texts": ["a", "b"], "input_type": sent, "embedding_types": ["float"],
            });
            assert_eq!(embeddings("m", &request), expected);
            request.dimensions = 256;
            expected["output_dimension"] = 256.into();
            assert_eq!(embeddings("m", &request), expected);
        }
    }
}
