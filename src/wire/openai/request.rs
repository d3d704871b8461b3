//! What goes to an OpenAI-speaking server. Pure. Invariant: no parameter of the caller's replaces what the call itself
//! says (model, messages, stream, and what else is given in the request's own fields).

use super::{
    parts::{STRICT, part, sendable},
    said::Said,
};
use crate::wire::{
    ChatRequest, Content, EmbeddingInputs, EmbeddingRequest, Message, ModerationInputs, ModerationRequest,
    Recipient, Tool, WriteError, extra,
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// The body of `POST /chat/completions` (OpenAI API reference, "Create chat completion"), to be written as JSON without a
/// tree in between: a conversation is long.
pub struct Chat<'r> {
    to: Recipient<'r>,
    request: &'r ChatRequest,
    stream: bool,
}

/// Refuses what the API cannot be sent.
pub fn chat<'r>(to: Recipient<'r>, request: &'r ChatRequest, stream: bool) -> Result<Chat<'r>, WriteError> {
    for (place, message) in request.messages.iter().enumerate() {
        if let Content::Parts(parts) = &message.content {
            for (part_place, part) in parts.iter().enumerate() {
                let field = || format!("messages[{place}].parts[{part_place}]");
                sendable(part, &message.role, to).map_err(|why| WriteError::new(field(), why))?;
            }
        }
    }
    Ok(Chat { to, request, stream })
}

impl Chat<'_> {
    /// The caller's parameters as this server takes them.
    fn parameters(&self) -> Cow<'_, Map<String, Value>> {
        let ChatRequest { parameters, extra, .. } = self.request;
        let switches = self.to.switches;
        let renamed = switches.no_max_completion_tokens && parameters.contains_key("max_completion_tokens");
        let left_out = switches.no_parallel_tool_calls && parameters.contains_key("parallel_tool_calls");
        if !(extra.is_for(self.to.kind) || renamed || left_out) {
            return Cow::Borrowed(parameters);
        }
        let mut parameters = parameters.clone();
        extra.add_to(&mut parameters, self.to.kind);
        if switches.no_max_completion_tokens
            && let Some(most) = parameters.shift_remove("max_completion_tokens")
        {
            parameters.entry("max_tokens").or_insert(most);
        }
        if switches.no_parallel_tool_calls {
            parameters.shift_remove("parallel_tool_calls");
        }
        Cow::Owned(parameters)
    }
}

impl Serialize for Chat<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ChatRequest { messages, tools, stop, user, .. } = self.request;
        let parameters = self.parameters();
        let options = !self.to.switches.no_stream_options && self.stream;
        let own = |name: &str| match name {
            "model" | "messages" | "stream" => true,
            "tools" => !tools.is_empty(),
            "stop" => !stop.is_empty(),
            "user" => !user.is_empty(),
            "stream_options" => !options,
            _ => false,
        };
        let mut body = serializer.serialize_map(None)?;
        body.serialize_entry("model", self.to.model)?;
        body.serialize_entry("messages", &Conversation { messages, to: self.to })?;
        for (name, value) in parameters.iter().filter(|(name, _)| !own(name)) {
            // Some servers refuse the field: null leaves it out.
            if name != "stream_options" || !value.is_null() {
                body.serialize_entry(name, value)?;
            }
        }
        if !tools.is_empty() {
            let tools: Vec<_> = tools.iter().map(|each| tool(each, self.to)).collect();
            body.serialize_entry("tools", &tools)?;
        }
        if !stop.is_empty() {
            body.serialize_entry("stop", stop)?;
        }
        if !user.is_empty() {
            body.serialize_entry("user", user)?;
        }
        // Some servers stream unless they are told otherwise.
        body.serialize_entry("stream", &self.stream)?;
        if options && !parameters.contains_key("stream_options") {
            body.serialize_entry("stream_options", &json!({"include_usage": true}))?;
        }
        body.end()
    }
}

/// The messages as they are written.
struct Conversation<'r> {
    messages: &'r [Message],
    to: Recipient<'r>,
}

impl Serialize for Conversation<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { messages, to } = *self;
        // Reasoning goes back within a tool loop alone: behind the last question.
        let last_question = messages.iter().rposition(|message| message.role == "user").unwrap_or(0);
        let messages = messages.iter().enumerate();
        serializer.collect_seq(messages.map(|(place, message)| Said {
            message,
            to,
            in_loop: place > last_question,
        }))
    }
}

/// The body of `POST /embeddings` (OpenAI API reference, "Create embeddings"). Parts are written as servers with multimodal
/// models take them (vLLM, <https://docs.vllm.ai/en/latest/serving/openai_compatible_server/>, and Jina).
pub fn embeddings(
    to: Recipient<'_>,
    request: &EmbeddingRequest,
    send_input_type: bool,
) -> Result<Value, WriteError> {
    let mut body = request.parameters.clone();
    body.insert("model".into(), to.model.into());
    let input = match &request.inputs {
        EmbeddingInputs::Texts(texts) => texts.clone().into(),
        EmbeddingInputs::Tokens(arrays) => arrays.clone().into(),
        EmbeddingInputs::Parts(_) if STRICT.contains(&to.kind) => {
            return Err(WriteError::new("contents", "this provider embeds texts alone"));
        }
        EmbeddingInputs::Parts(parts) => parts.iter().map(|each| part(each, to)).collect(),
    };
    body.insert("input".into(), input);
    if request.dimensions > 0 {
        body.insert("dimensions".into(), request.dimensions.into());
    }
    if !request.encoding.is_empty() {
        body.insert("encoding_format".into(), request.encoding.clone().into());
    }
    if !request.user.is_empty() {
        body.insert("user".into(), request.user.clone().into());
    }
    if send_input_type && !request.input_type.is_empty() {
        body.insert("input_type".into(), request.input_type.clone().into());
    }
    request.extra.add_to(&mut body, to.kind);
    Ok(Value::Object(body))
}

/// The body of `POST /moderations` (OpenAI API reference, "Create moderation").
pub fn moderation(to: Recipient<'_>, request: &ModerationRequest) -> Value {
    let mut body = request.parameters.clone();
    body.insert("model".into(), to.model.into());
    let input = match &request.inputs {
        ModerationInputs::Texts(texts) => match texts.as_slice() {
            [text] => text.clone().into(),
            texts => texts.into(),
        },
        ModerationInputs::Parts(parts) => parts.iter().map(|each| part(each, to)).collect(),
    };
    body.insert("input".into(), input);
    request.extra.add_to(&mut body, to.kind);
    Value::Object(body)
}

fn tool(tool: &Tool, to: Recipient<'_>) -> Value {
    let mut function = Map::new();
    function.insert("name".into(), tool.name.clone().into());
    if !tool.description.is_empty() {
        function.insert("description".into(), tool.description.clone().into());
    }
    if let Some(parameters) = &tool.parameters {
        function.insert("parameters".into(), parameters.clone().into());
    }
    let mut out = Map::new();
    out.insert("type".into(), "function".into());
    out.insert("function".into(), function.into());
    if tool.extra.is_for(to.kind) {
        let mut fields = tool.extra.fields.clone();
        // It stands within the function, where callers do not look for it.
        if let Some(strict) = fields.shift_remove("strict") {
            extra::add(&mut out, &Map::from_iter([("function".to_owned(), json!({ "strict": strict }))]));
        }
        extra::add(&mut out, &fields);
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::{super::parts::object, *};
    use crate::wire::{Media, MediaSource, Part, PartKind, ToolCall};

    const TO: Recipient<'_> = Recipient { kind: "openai", model: "m", switches: crate::wire::Switches::NONE };

    fn body_for(to: Recipient<'_>, request: &ChatRequest, stream: bool) -> Value {
        serde_json::from_slice(&serde_json::to_vec(&chat(to, request, stream).unwrap()).unwrap()).unwrap()
    }

    fn body(request: &ChatRequest, stream: bool) -> Value {
        body_for(TO, request, stream)
    }

    fn says(role: &str, text: &str) -> Message {
        Message { role: role.into(), content: Content::Text(text.into()), ..Message::default() }
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
            "stop": ["END"], "user": "u", "response_format": {"type": "json_object"}, "stream": false,
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
                    reasoning_content: "hm".into(),
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
                    ..Tool::default()
                },
                Tool { name: "g".into(), ..Tool::default() },
            ],
            ..ChatRequest::default()
        };
        let expected = json!({
            "model": "m", "stream": false,
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
    fn a_part_that_is_not_taken_is_named() {
        let by_url = Media { source: MediaSource::Url("https://h/i.wav".into()), ..Media::default() };
        let content = Content::Parts(vec![PartKind::Text("t".into()).into(), PartKind::Audio(by_url).into()]);
        let request =
            ChatRequest { messages: vec![Message { content, ..says("user", "") }], ..ChatRequest::default() };
        assert_eq!(chat(TO, &request, false).err().unwrap().field, "messages[0].parts[1]");
    }

    #[test]
    fn a_server_is_not_sent_what_it_refuses() {
        let request = ChatRequest {
            messages: vec![says("developer", "brief"), says("user", "hi")],
            parameters: object(
                json!({"max_completion_tokens": 5, "parallel_tool_calls": false, "stream_options": {}}),
            ),
            ..ChatRequest::default()
        };
        let switches = crate::wire::Switches {
            no_stream_options: true,
            no_developer_role: true,
            no_max_completion_tokens: true,
            no_parallel_tool_calls: true,
            ..crate::wire::Switches::NONE
        };
        let expected = json!({
            "model": "m", "stream": true, "max_tokens": 5,
            "messages": [{"role": "system", "content": "brief"}, {"role": "user", "content": "hi"}],
        });
        assert_eq!(body_for(Recipient { switches, ..TO }, &request, true), expected);
        assert_eq!(body(&request, true)["messages"][0]["role"], "developer");
    }

    #[test]
    fn more_keys_are_added_for_the_kinds_that_they_are_for() {
        let extra =
            |value: Value| crate::wire::Extra { fields: object(value).into(), kinds: vec!["openai".into()] };
        let text = Part {
            extra: extra(json!({"cache_control": {"type": "ephemeral"}, "text": "no"})),
            ..PartKind::Text("t".into()).into()
        };
        let opaque = Part { kind: PartKind::Opaque, extra: extra(json!({"type": "future"})) };
        let request = ChatRequest {
            messages: vec![Message {
                content: Content::Parts(vec![text, opaque]),
                extra: extra(json!({"role": "no", "weight": 1})),
                ..says("user", "")
            }],
            tools: vec![Tool {
                name: "f".into(),
                extra: extra(json!({"strict": true, "x": 1})),
                ..Tool::default()
            }],
            extra: extra(json!({"model": "no", "verbosity": "low"})),
            ..ChatRequest::default()
        };
        let expected = json!({
            "model": "m", "stream": false, "verbosity": "low",
            "messages": [{"role": "user", "weight": 1, "content": [
                {"type": "text", "text": "t", "cache_control": {"type": "ephemeral"}}, {"type": "future"},
            ]}],
            "tools": [{"type": "function", "function": {"name": "f", "strict": true}, "x": 1}],
        });
        assert_eq!(body(&request, false), expected);
        let other = json!({
            "model": "m", "stream": false,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "t"}]}],
            "tools": [{"type": "function", "function": {"name": "f"}}],
        });
        assert_eq!(body_for(Recipient { kind: "azure_openai", ..TO }, &request, false), other);
    }

    #[test]
    fn embeddings_leave_out_what_is_not_given() {
        let inputs = EmbeddingInputs::Texts(vec!["a".into(), "b".into()]);
        let mut request = EmbeddingRequest { inputs, ..EmbeddingRequest::default() };
        let embeddings = |request: &_, typed| embeddings(TO, request, typed).unwrap();
        assert_eq!(embeddings(&request, true), json!({"model": "m", "input": ["a", "b"]}));
        request.dimensions = 8;
        request.input_type = "query".into();
        request.user = "u".into();
        let body = json!({"model": "m", "input": ["a", "b"], "dimensions": 8, "user": "u"});
        assert_eq!(embeddings(&request, false), body);
        assert_eq!(embeddings(&request, true)["input_type"], "query");
        request.inputs = EmbeddingInputs::Tokens(vec![vec![1, 2]]);
        request.encoding = "base64".into();
        let body = embeddings(&request, false);
        assert_eq!((&body["input"], &body["encoding_format"]), (&json!([[1, 2]]), &json!("base64")));
    }
}
