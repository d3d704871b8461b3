//! The fields of a request, in the words of chat completions, which every driver knows. What would change the answer and
//! cannot be said there is refused by its name. What would not is left out.

use super::{
    super::fields::{Fields, Path},
    items,
};
use crate::wire::{ChatRequest, Content, Extra, FieldError, Message, Tool};
use serde_json::{Map, Value, json};

/// What lives at one account, or is run by the provider.
const REFUSED: &[(&str, &str)] = &[
    ("previous_response_id", "names a response that lies at one provider: send the whole conversation"),
    ("conversation", "names a conversation that lies at one provider: send the whole conversation"),
    ("prompt", "names a prompt that lies at one provider: send its text"),
    ("moderation", "this provider judges no texts beside its answer"),
];

/// No answer changes without them, or none that the model gives: the last few bound what a provider's own tools do, or
/// shorten a conversation that would be refused.
const LEFT_OUT: &[&str] = &[
    "model",
    "stream",
    "stream_options",
    "store",
    "metadata",
    "access_programs",
    "background_options",
    "image",
    "prompt_cache_options",
    "max_tool_calls",
    "truncation",
    "context_management",
];

/// OpenAI's own kinds alone know them, and no answer changes without them.
const FOR_OPENAI: &[&str] = &["prompt_cache_key", "prompt_cache_retention", "safety_identifier"];

/// The kinds that know them.
const OPENAI: &[&str] = &["openai", "azure_openai"];

/// What an answer says of its request.
#[derive(Debug, Clone, Default)]
pub(super) struct Echo(Map<String, Value>);

/// The fields of a request that its answer says again, and what stands there where it has none.
fn echoed() -> [(&'static str, Value); 13] {
    [
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("max_tool_calls", Value::Null),
        ("metadata", json!({})),
        ("parallel_tool_calls", true.into()),
        ("prompt_cache_key", Value::Null),
        ("reasoning", json!({"effort": null, "summary": null})),
        ("safety_identifier", Value::Null),
        ("temperature", 1.0.into()),
        ("text", json!({"format": {"type": "text"}})),
        ("tool_choice", "auto".into()),
        ("top_logprobs", 0.into()),
        ("top_p", 1.0.into()),
    ]
}

impl Echo {
    fn of(fields: &Fields<'_>) -> Self {
        let given = |name: &str| fields.get(name).cloned();
        let mut echo: Map<_, _> = echoed()
            .into_iter()
            .map(|(name, default)| (name.to_owned(), given(name).unwrap_or(default)))
            .collect();
        if let Some(text) = echo.get_mut("text").and_then(Value::as_object_mut) {
            text.entry("format").or_insert_with(|| json!({"type": "text"}));
        }
        let mut tools = given("tools").unwrap_or_else(|| json!([]));
        for tool in tools.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            tool.entry("parameters").or_insert(Value::Null);
            tool.entry("strict").or_insert(false.into());
        }
        echo.insert("tools".to_owned(), tools);
        echo.insert("user".to_owned(), given("user").unwrap_or_default());
        Self(echo)
    }

    /// The fields; those of an empty request where none was read.
    pub(super) fn into_fields(self) -> Map<String, Value> {
        if !self.0.is_empty() {
            return self.0;
        }
        let mut fields: Map<_, _> =
            echoed().into_iter().map(|(name, default)| (name.to_owned(), default)).collect();
        fields.insert("tools".to_owned(), json!([]));
        fields.insert("user".to_owned(), Value::Null);
        fields
    }
}

/// Reads a request, and what its answer says of it.
pub(super) fn read(body: &[u8]) -> Result<(ChatRequest, Echo), FieldError> {
    let mut fields = Fields::body(body)?;
    let echo = Echo::of(&fields);
    for (name, why) in REFUSED {
        fields.refuse(name, why)?;
    }
    if fields.flag("background")? {
        return Err(fields.wrong("background", "this provider answers while its client waits"));
    }
    for name in LEFT_OUT {
        fields.take(name);
    }
    let messages = conversation(&mut fields)?;
    let mut parameters = Map::new();
    let tools = tools(&mut fields, &mut parameters)?;
    text(&mut fields, &mut parameters)?;
    if let Some(reasoning) = fields.take("reasoning") {
        let here = Path::Root.key("reasoning");
        // Whether a summary is shown is the provider's to say.
        if let Some(effort) = Fields::of(reasoning, &here)?.text("effort")? {
            parameters.insert("reasoning_effort".to_owned(), effort.into());
        }
    }
    if let Some(most) = fields.count("max_output_tokens")? {
        parameters.insert("max_completion_tokens".to_owned(), most.into());
    }
    logprobs(&mut fields, &mut parameters)?;
    let user = fields.text("user")?.unwrap_or_default();
    let for_openai = FOR_OPENAI.iter().filter_map(|name| Some(((*name).to_owned(), fields.take(name)?)));
    let extra = Extra {
        fields: for_openai.collect::<Map<_, _>>().into(),
        kinds: OPENAI.iter().map(|kind| (*kind).to_owned()).collect(),
    };
    // What is not the API's goes on, such as `top_k`. It replaces nothing.
    for (name, value) in fields.rest() {
        parameters.entry(name).or_insert(value);
    }
    Ok((ChatRequest { messages, parameters, tools, user, extra, ..ChatRequest::default() }, echo))
}

fn conversation(fields: &mut Fields<'_>) -> Result<Vec<Message>, FieldError> {
    let mut messages = Vec::new();
    if let Some(text) = fields.text("instructions")?.filter(|text| !text.is_empty()) {
        messages.push(Message { role: "system".into(), content: Content::Text(text), ..Message::default() });
    }
    let here = Path::Root.key("input");
    let input = fields.take("input").ok_or_else(|| here.wrong("is required"))?;
    messages.extend(items::messages(input, &here)?);
    Ok(messages)
}

/// The functions that may be called. Without any there is nothing to choose from, and OpenAI refuses to be told so.
fn tools(fields: &mut Fields<'_>, parameters: &mut Map<String, Value>) -> Result<Vec<Tool>, FieldError> {
    let here = Path::Root.key("tools");
    let mut tools = Vec::new();
    for (place, value) in fields.list("tools")?.into_iter().enumerate() {
        let here = here.item(place);
        tools.push(tool(Fields::of(value, &here)?)?);
    }
    let choice = fields.take("tool_choice").map(|choice| tool_choice(choice, &mut tools)).transpose()?;
    let parallel = fields.take("parallel_tool_calls");
    if !tools.is_empty() {
        let given = [("tool_choice", choice), ("parallel_tool_calls", parallel)];
        parameters.extend(given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    }
    Ok(tools)
}

/// `strict` is left out, as chat completions leave it out.
fn tool(mut fields: Fields<'_>) -> Result<Tool, FieldError> {
    match fields.required("type")?.as_str() {
        "function" => {}
        "custom" => return Err(fields.wrong("type", "only functions can be told to this provider")),
        _ => {
            return Err(
                fields.wrong("type", "this provider runs no such tool: only functions can be told to it")
            );
        }
    }
    let parameters = match fields.take("parameters") {
        None => None,
        Some(Value::Object(schema)) => Some(schema),
        Some(_) => return Err(fields.wrong("parameters", "is not an object")),
    };
    let (name, description) = (fields.required("name")?, fields.text("description")?.unwrap_or_default());
    Ok(Tool { name, description, parameters, extra: Extra::default() })
}

/// A choice in the words of chat completions. One among some of the tools leaves the others out.
fn tool_choice(choice: Value, tools: &mut Vec<Tool>) -> Result<Value, FieldError> {
    let here = Path::Root.key("tool_choice");
    if choice.is_string() {
        return Ok(choice);
    }
    let mut fields = Fields::of(choice, &here)?;
    match fields.required("type")?.as_str() {
        "function" => Ok(json!({"type": "function", "function": {"name": fields.required("name")?}})),
        "allowed_tools" => {
            let mode = fields.text("mode")?.unwrap_or_else(|| "auto".to_owned());
            let list = here.key("tools");
            let mut allowed = Vec::new();
            for (place, value) in fields.list("tools")?.into_iter().enumerate() {
                let here = list.item(place);
                let mut fields = Fields::of(value, &here)?;
                if fields.required("type")? != "function" {
                    return Err(fields.wrong("type", "only functions can be told to this provider"));
                }
                allowed.push(fields.required("name")?);
            }
            tools.retain(|tool| allowed.contains(&tool.name));
            Ok(mode.into())
        }
        _ => Err(fields.wrong("type", "this provider has no such choice of tools")),
    }
}

/// The form of the text, and how long-winded it is.
fn text(fields: &mut Fields<'_>, parameters: &mut Map<String, Value>) -> Result<(), FieldError> {
    let Some(text) = fields.take("text") else { return Ok(()) };
    let here = Path::Root.key("text");
    let mut text = Fields::of(text, &here)?;
    if let Some(verbosity) = text.text("verbosity")? {
        parameters.insert("verbosity".to_owned(), verbosity.into());
    }
    let Some(format) = text.take("format") else { return Ok(()) };
    let here = here.key("format");
    let mut format = Fields::of(format, &here)?;
    let format = match format.required("type")?.as_str() {
        "text" => return Ok(()),
        "json_object" => json!({"type": "json_object"}),
        "json_schema" => {
            if !format.get("schema").is_some_and(Value::is_object) {
                return Err(format.wrong("schema", "is required and must be an object"));
            }
            json!({"type": "json_schema", "json_schema": format.rest()})
        }
        _ => return Err(format.wrong("type", "is one of text, json_object, json_schema")),
    };
    parameters.insert("response_format".to_owned(), format);
    Ok(())
}

/// The value of `include` that asks for log probabilities.
const LOGPROBS: &str = "message.output_text.logprobs";

/// What else can be included is of a provider's own tools, or there anyway.
fn logprobs(fields: &mut Fields<'_>, parameters: &mut Map<String, Value>) -> Result<(), FieldError> {
    let included = fields.texts("include")?;
    let most = fields.count("top_logprobs")?.unwrap_or(0);
    if most > 0 || included.iter().any(|name| name == LOGPROBS) {
        parameters.insert("logprobs".to_owned(), true.into());
        parameters.insert("top_logprobs".to_owned(), most.into());
    }
    Ok(())
}
