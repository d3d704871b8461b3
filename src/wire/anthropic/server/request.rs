//! What a client asks of `POST /v1/messages` (API reference, "Create a Message"), in the house's words: OpenAI's names, which
//! every kind of provider is told in its own (the `parameters.rs` of each).
//!
//! What cannot be said to others and would change the answer is an error that names the field. What would not change it is
//! left out. A name that is not known passes, for the provider to judge.

use super::{
    blocks::extra,
    messages::{messages, system},
    object::Object,
    writer::Writer,
};
use crate::wire::{Asked, ChatRequest, Extra, FieldError, Input, Tool, tree};
use serde_json::{Map, Value, json};

/// No answer is another without them. `context_management` and `compaction` drop from the conversation what others read as a
/// whole (<https://platform.claude.com/docs/en/build-with-claude/context-editing>). The rest is about caches, prices, speed
/// and whose the request is.
const LEFT_OUT: &[&str] = &[
    "model",
    "stream",
    "service_tier",
    "cache_control",
    "context_management",
    "compaction",
    "diagnostics",
    "speed",
    "billing_policy",
    "fallbacks",
    "fallback_credit_token",
    "user_profile_id",
    "workspace_id",
    "betas",
];

/// They live at one account, or run at Anthropic.
const AT_ANTHROPIC: &[&str] = &["container", "mcp_servers", "thread"];

/// The kinds that know `top_k`. OpenAI's own refuse it.
const TOP_K_KINDS: &[&str] = &["anthropic", "gemini", "cohere", "openai_compatible"];

/// Reads a request for translation.
///
/// # Errors
/// What cannot be read, or said to another kind of provider.
pub fn read(body: &[u8]) -> Result<Asked, FieldError> {
    let mut asked = Object::new(tree::request(body).map_err(|_| malformed())?, "")?;
    let shows_thinking = asked.object("thinking")?.map(|thinking| thinking.rest());
    let mut request = conversation(&mut asked)?;
    bounds(&mut asked, &mut request.parameters)?;
    let shown = effort(&mut asked, shows_thinking, &mut request.parameters)?;
    request.stop = stop_sequences(&mut asked)?;
    request.user = user(&mut asked)?;
    rest(asked, &mut request)?;
    Ok(Asked { input: Input::Chat(Box::new(request)), writer: Box::new(Writer::of(shown)) })
}

pub(super) fn malformed() -> FieldError {
    FieldError::new("", "the body is no JSON object in which no key stands twice, or has too many values")
}

/// Reads what is said, and the tools.
pub(super) fn conversation(asked: &mut Object) -> Result<ChatRequest, FieldError> {
    let mut request = ChatRequest { tools: tools(asked)?, ..ChatRequest::default() };
    request.messages.extend(system(asked.take("system"))?);
    request.messages.extend(messages(asked.list("messages")?)?);
    tool_choice(asked, &mut request)?;
    Ok(request)
}

/// Reads the tools. Those of Anthropic's own have a type, and no schema that others could be told.
fn tools(asked: &mut Object) -> Result<Vec<Tool>, FieldError> {
    let tools = asked.list("tools")?.into_iter().enumerate();
    tools
        .map(|(place, tool)| {
            let mut tool = Object::new(tool, format!("tools[{place}]"))?;
            if tool.text("type")?.is_some_and(|kind| kind != "custom") {
                return Err(
                    tool.wrong("type", "is a tool of Anthropic's own, which other providers do not have")
                );
            }
            Ok(Tool {
                name: tool.required_text("name")?,
                description: tool.text("description")?.unwrap_or_default(),
                parameters: Some(tool.required_object("input_schema")?.rest()),
                extra: extra(tool.rest()),
            })
        })
        .collect()
}

/// Without tools there is nothing to choose from, and OpenAI refuses the field.
fn tool_choice(asked: &mut Object, request: &mut ChatRequest) -> Result<(), FieldError> {
    let Some(mut choice) = asked.object("tool_choice")? else { return Ok(()) };
    let chosen = match choice.required_text("type")?.as_str() {
        "auto" => json!("auto"),
        "any" => json!("required"),
        "none" => json!("none"),
        "tool" => json!({"type": "function", "function": {"name": choice.required_text("name")?}}),
        _ => return Err(choice.wrong("type", "is one of auto, any, tool, none")),
    };
    let one_by_one = choice.flag("disable_parallel_tool_use")?;
    if !request.tools.is_empty() {
        request.parameters.insert("tool_choice".into(), chosen);
        if one_by_one {
            request.parameters.insert("parallel_tool_calls".into(), false.into());
        }
    }
    Ok(())
}

/// Reads how much may be written. OpenAI's later models refuse `max_tokens`; for servers that know no other name there is a
/// switch.
fn bounds(asked: &mut Object, parameters: &mut Map<String, Value>) -> Result<(), FieldError> {
    match asked.take("max_tokens") {
        None => Ok(()),
        Some(most) if most.as_u64().is_some_and(|most| most > 0) => {
            parameters.insert("max_completion_tokens".into(), most);
            Ok(())
        }
        // <https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pre-warming-the-cache>.
        Some(most) if most.as_u64() == Some(0) => {
            Err(asked.wrong("max_tokens", "is 0, which fills a cache of Anthropic's and asks for no answer"))
        }
        Some(_) => Err(asked.wrong("max_tokens", "must be a whole number above 0")),
    }
}

/// Reads how hard the model thinks, and the form of its answer. Returns whether thinking was asked for.
fn effort(
    asked: &mut Object,
    thinking: Option<Map<String, Value>>,
    parameters: &mut Map<String, Value>,
) -> Result<bool, FieldError> {
    let mut config = asked.object("output_config")?;
    let effort = config.as_mut().map(|config| config.text("effort")).transpose()?.flatten();
    let format = config.as_mut().map(|config| config.object("format")).transpose()?.flatten();
    // The name that it had at first (<https://platform.claude.com/docs/en/build-with-claude/structured-outputs>).
    let older = asked.object("output_format")?;
    if let Some(format) = format.or(older) {
        parameters.insert("response_format".into(), response_format(format)?);
    }
    let thinking = thinking.unwrap_or_default();
    let budget = thinking.get("budget_tokens").and_then(Value::as_u64);
    let level = match thinking.get("type").and_then(Value::as_str) {
        None if thinking.is_empty() => return Ok(false),
        Some("disabled") => return Ok(false),
        Some("enabled") => match budget {
            Some(budget) => Some(by_budget(budget)),
            None => return Err(asked.wrong("thinking.budget_tokens", "must be a whole number")),
        },
        // Claude decides, and others do so unasked.
        Some("adaptive" | "between_tools") => None,
        _ => return Err(asked.wrong("thinking.type", "is one of enabled, adaptive, disabled")),
    };
    if let Some(level) = effort.as_deref().or(level) {
        // Few know more than three (<https://platform.claude.com/docs/en/build-with-claude/effort>).
        let level = match level {
            "xhigh" | "max" => "high",
            level @ ("low" | "medium" | "high") => level,
            _ => return Err(asked.wrong("output_config.effort", "is one of low, medium, high, xhigh, max")),
        };
        parameters.insert("reasoning_effort".into(), level.into());
    }
    Ok(true)
}

/// The effort whose budget is at most this one, by the table that leads from efforts to budgets.
fn by_budget(budget: u64) -> &'static str {
    let efforts = ["high", "medium"];
    let stands_for = |name: &str| crate::wire::unheard::BUDGETS.iter().find(|(known, _)| *known == name);
    let reached = |name: &&str| stands_for(name).is_some_and(|(_, least)| budget >= *least);
    efforts.into_iter().find(reached).unwrap_or("low")
}

fn response_format(mut format: Object) -> Result<Value, FieldError> {
    if format.required_text("type")? != "json_schema" {
        return Err(format.wrong("type", "must be json_schema"));
    }
    let schema = Value::from(format.required_object("schema")?.rest());
    let mut named = Map::new();
    // OpenAI wants a name.
    named.insert("name".into(), "answer".into());
    // Anthropic holds the answer to any schema. OpenAI does so where it is told, and only to some.
    if is_strict(&schema) {
        named.insert("strict".into(), true.into());
    }
    named.insert("schema".into(), schema);
    Ok(json!({"type": "json_schema", "json_schema": named}))
}

/// Whether OpenAI takes a schema as a strict one: each object names all its properties as required, and allows no others
/// (<https://platform.openai.com/docs/guides/structured-outputs#supported-schemas>).
fn is_strict(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            let names = fields.get("properties").and_then(Value::as_object);
            let required = fields.get("required").and_then(Value::as_array);
            let all = names.is_none_or(|names| {
                let is_required =
                    |name: &String| required.is_some_and(|required| required.iter().any(|own| own == name));
                names.keys().all(is_required)
            });
            let is_object = names.is_some() || fields.get("type").is_some_and(|kind| kind == "object");
            let closed = !is_object || fields.get("additionalProperties") == Some(&Value::Bool(false));
            all && closed && fields.values().all(is_strict)
        }
        Value::Array(items) => items.iter().all(is_strict),
        _ => true,
    }
}

fn stop_sequences(asked: &mut Object) -> Result<Vec<String>, FieldError> {
    let sequences = asked.list("stop_sequences")?.into_iter();
    let text = |value| match value {
        Value::String(text) => Ok(text),
        _ => Err(asked.wrong("stop_sequences", "must be texts")),
    };
    sequences.map(text).collect()
}

/// Reads the end user's id. Others take letters, digits, `_` and `-`, and 64 of them: the id of coding agents is longer, and
/// is left out (<https://github.com/looplj/axonhub/issues/1669>, <https://github.com/aattaran/deepclaude/issues/17>).
fn user(asked: &mut Object) -> Result<String, FieldError> {
    const LONGEST: usize = 64;
    let id = match asked.object("metadata")? {
        Some(mut metadata) => metadata.text("user_id")?.unwrap_or_default(),
        None => String::new(),
    };
    let is_plain = id.len() <= LONGEST
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    Ok(if is_plain { id } else { String::new() })
}

/// What else was asked for.
fn rest(mut asked: Object, request: &mut ChatRequest) -> Result<(), FieldError> {
    let is_there = |value: &Value| value.as_array().is_none_or(|items| !items.is_empty());
    for name in AT_ANTHROPIC {
        if asked.take(name).as_ref().is_some_and(is_there) {
            return Err(asked.wrong(name, "is Anthropic's own, which other providers do not have"));
        }
    }
    // Where a request may be worked on is a promise that others do not make
    // (<https://platform.claude.com/docs/en/build-with-claude/data-residency>).
    if asked.text("inference_geo")?.is_some_and(|place| place != "global") {
        return Err(asked.wrong("inference_geo", "cannot be promised by other providers"));
    }
    if let Some(top_k) = asked.take("top_k") {
        request.extra = Extra {
            fields: Map::from_iter([("top_k".to_owned(), top_k)]).into(),
            kinds: TOP_K_KINDS.iter().map(|kind| (*kind).to_owned()).collect(),
        };
    }
    let others = asked.rest().into_iter().filter(|(name, _)| !LEFT_OUT.contains(&name.as_str()));
    for (name, value) in others {
        request.parameters.entry(name).or_insert(value);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
