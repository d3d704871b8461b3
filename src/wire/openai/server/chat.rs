//! `POST /v1/chat/completions` (<https://platform.openai.com/docs/api-reference/chat/create>). OpenAI's names of parameters
//! are the common ones: the drivers put them into each vendor's words, and refuse what would change an answer.

use super::{
    chat_writer::ChatWriter,
    fields::{Fields, Path},
    messages::messages,
    tools::tools,
};
use crate::wire::{Asked, ChatRequest, FieldError, Input, WriteAnswer};
use serde_json::{Value, json};

/// The types of OpenAI's parameters, as far as the drivers do not look at them.
const TYPES: &[(&str, Type)] = &[
    ("temperature", Type::Number),
    ("top_p", Type::Number),
    ("presence_penalty", Type::Number),
    ("frequency_penalty", Type::Number),
    ("max_tokens", Type::Whole),
    ("max_completion_tokens", Type::Whole),
    ("n", Type::Whole),
    ("seed", Type::Whole),
    ("parallel_tool_calls", Type::Flag),
    ("store", Type::Flag),
    ("reasoning_effort", Type::Text),
    ("verbosity", Type::Text),
    ("service_tier", Type::Text),
    ("prompt_cache_key", Type::Text),
    ("safety_identifier", Type::Text),
    ("response_format", Type::Object),
    ("logit_bias", Type::Object),
    ("metadata", Type::Object),
];

#[derive(Debug, Clone, Copy)]
enum Type {
    Number,
    Whole,
    Flag,
    Text,
    Object,
}

impl Type {
    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Number => value.is_number(),
            Self::Whole => value.is_i64() || value.is_u64(),
            Self::Flag => value.is_boolean(),
            Self::Text => value.is_string(),
            Self::Object => value.is_object(),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Number => "is not a number",
            Self::Whole => "is not a whole number",
            Self::Flag => "is not a boolean",
            Self::Text => "is not a string",
            Self::Object => "is not an object",
        }
    }
}

/// Writes the answer to a chat that is not translated: frames as they came, and errors.
#[must_use]
pub fn passing() -> Box<dyn WriteAnswer> {
    Box::new(ChatWriter::default())
}

/// Reads a request for translation.
///
/// # Errors
/// What cannot be read, or said to another kind of provider.
pub fn read(body: &[u8]) -> Result<Asked, FieldError> {
    let mut fields = Fields::body(body)?;
    let root = Path::Root;
    let messages = messages(fields.take("messages"), &root.key("messages"))?;
    let tools = tools(&mut fields, &root)?;
    let spoken = "makes an answer that providers of other protocols do not give";
    if fields.take("modalities").is_some_and(|modalities| modalities != json!(["text"])) {
        return Err(fields.wrong("modalities", spoken));
    }
    for name in ["audio", "web_search_options", "moderation"] {
        fields.refuse(name, spoken)?;
    }
    let writer = ChatWriter::new(usage_wanted(&mut fields)?, tools.are_functions);
    let mut request = parameters(fields)?;
    request.messages = messages;
    request.tools = tools.tools;
    if let Some(choice) = tools.choice {
        request.parameters.insert("tool_choice".to_owned(), choice);
    }
    Ok(Asked { input: Input::Chat(Box::new(request)), writer: Box::new(writer) })
}

/// Whether a stream shall tell its usage (API reference, `stream_options`).
pub(super) fn usage_wanted(fields: &mut Fields<'_>) -> Result<bool, FieldError> {
    let (root, name) = (Path::Root, "stream_options");
    match fields.take(name) {
        None => Ok(false),
        Some(options) => Fields::of(options, &root.key(name))?.flag("include_usage"),
    }
}

/// What a request has beside its conversation and its tools.
pub(super) fn parameters(mut fields: Fields<'_>) -> Result<ChatRequest, FieldError> {
    let (stop, user) = (fields.texts("stop")?, fields.text("user")?.unwrap_or_default());
    fields.flag("stream")?;
    // The call itself says which.
    fields.take("model");
    for (name, kind) in TYPES {
        if fields.get(name).is_some_and(|value| !kind.fits(value)) {
            return Err(fields.wrong(name, kind.name()));
        }
    }
    Ok(ChatRequest { parameters: fields.rest(), stop, user, ..ChatRequest::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Recipient, Switches, anthropic, cohere, gemini, openai};
    use proptest::prelude::*;

    fn chat(body: &Value) -> Result<ChatRequest, FieldError> {
        match read(body.to_string().as_bytes())?.input {
            Input::Chat(request) => Ok(*request),
            _ => panic!("a chat"),
        }
    }

    const TO: Recipient<'_> = Recipient { kind: "openai_compatible", model: "m", switches: Switches::NONE };

    fn hello() -> Value {
        json!([{"role": "user", "content": "hi"}])
    }

    #[test]
    fn a_request_is_the_same_when_it_is_written_again() {
        let body = json!({
            "model": "m",
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": "https://h/i.png", "detail": "low"}},
                    {"type": "input_audio", "input_audio": {"data": "YWJj", "format": "wav"}},
                    {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,YWJj"}},
                ]},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"z\": 1, \"a\":2}"}},
                ]},
                {"role": "tool", "content": "42", "tool_call_id": "c"},
            ],
            "temperature": 0.5, "max_tokens": 7, "n": 2, "seed": 12345678901234567890u64, "logprobs": true, "top_logprobs": 2,
            "response_format": {"type": "json_object"}, "reasoning_effort": "low", "parallel_tool_calls": false,
            "logit_bias": {"1": 2}, "chat_template_kwargs": {"enable_thinking": false},
            "tool_choice": "auto",
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "z": 1, "a": 2}}}],
            "stop": ["a", "b"], "user": "u", "stream": false,
        });
        let request = chat(&body).unwrap();
        let written = serde_json::to_string(&openai::request::chat(TO, &request, false).unwrap()).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), body);
        assert_eq!(written, body.to_string());
    }

    #[test]
    fn what_is_given_in_several_ways_is_one() {
        let request = chat(&json!({"messages": hello(), "stop": "a", "user": null, "seed": null})).unwrap();
        assert_eq!((request.stop, request.parameters.len()), (vec!["a".to_owned()], 0));
        let functions = json!({"messages": hello(), "functions": [{"name": "f"}], "function_call": "auto"});
        let request = chat(&functions).unwrap();
        assert_eq!((&*request.tools[0].name, &request.parameters["tool_choice"]), ("f", &json!("auto")));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |name: &str, value: Value| {
            let mut body = json!({ "messages": hello() });
            body[name] = value;
            body
        };
        let table = [
            (json!({"messages": []}), "messages"),
            (json!({}), "messages"),
            (with("stop", json!({})), "stop"),
            (with("stop", json!(["a", 1])), "stop[1]"),
            (with("user", json!(1)), "user"),
            (with("stream", json!("yes")), "stream"),
            (with("stream_options", json!(1)), "stream_options"),
            (with("stream_options", json!({"include_usage": 1})), "stream_options.include_usage"),
            (with("temperature", json!("hot")), "temperature"),
            (with("max_tokens", json!(1.5)), "max_tokens"),
            (with("n", json!("2")), "n"),
            (with("response_format", json!("json")), "response_format"),
            (with("tools", json!([{"type": "web_search"}])), "tools[0].type"),
            (with("audio", json!({"voice": "alloy"})), "audio"),
            (with("modalities", json!(["text", "audio"])), "modalities"),
            (with("web_search_options", json!({})), "web_search_options"),
        ];
        for (body, field) in table {
            assert_eq!(chat(&body).unwrap_err().field, field, "{body}");
        }
    }

    #[test]
    fn what_the_drivers_refuse_is_left_to_them() {
        let body = json!({"messages": hello(), "n": 2, "logprobs": true});
        let request = chat(&body).unwrap();
        let to = Recipient { kind: "anthropic", ..TO };
        assert_eq!(anthropic::request::chat(to, &request, false).unwrap_err().field, "parameters.n");
    }

    /// JSON that is nearly a request.
    fn any_json() -> impl Strategy<Value = Value> {
        let names = prop::sample::select(vec![
            "role",
            "content",
            "type",
            "text",
            "tool_calls",
            "function",
            "name",
            "arguments",
            "id",
            "image_url",
            "url",
            "file",
            "file_data",
            "input_audio",
            "data",
            "format",
            "reasoning_details",
            "thinking_blocks",
            "tools",
            "messages",
            "stop",
            "user",
            "stream_options",
            "function_call",
            "refusal",
            "index",
            "signature",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            prop::sample::select(vec![
                "",
                "user",
                "assistant",
                "tool",
                "function",
                "text",
                "image_url",
                "file",
                "YWJj",
                "data:a/b;base64,YQ==",
                "google-gemini-v1",
                "anthropic-claude-v1",
                "{}",
            ])
            .prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((names.clone(), inner), 0..6).prop_map(|fields| fields
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes: Vec<u8>) {
            drop(read(&bytes));
        }

        #[test]
        fn no_json_breaks_it_or_a_driver(message in any_json(), mut body in any_json()) {
            if let Some(fields) = body.as_object_mut() {
                fields.insert("messages".to_owned(), json!([message]));
                if let Ok(request) = chat(&body) {
                    drop(openai::request::chat(TO, &request, true));
                    drop(anthropic::request::chat(TO, &request, true));
                    drop(gemini::request::chat(TO, &request));
                    drop(cohere::request::chat(TO, &request, true));
                }
            }
        }
    }
}
