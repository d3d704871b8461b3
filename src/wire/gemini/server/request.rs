//! What a client asks a model for (API reference, "models.generateContent").

use super::{KIND, config, contents, fields::Fields, schema::json_schema};
use crate::wire::{ChatRequest, Extra, FieldError, Tool};
use serde_json::{Map, Value, json};

/// What only Gemini acts on: its own filters, and where and how Google books the call.
const KEPT: &[&str] = &["safetySettings", "labels", "serviceTier", "store"];

/// A chat, and what its answer is to tell.
#[derive(Debug)]
pub(super) struct Chat {
    pub(super) request: ChatRequest,
    /// Whether it is to tell the model's thoughts.
    pub(super) thoughts: bool,
}

/// Reads a request. The model stands in the address.
pub(super) fn chat(mut body: Fields) -> Result<Chat, FieldError> {
    body.skip(&["model"]);
    if body.any("cachedContent").is_some() {
        return Err(body.wrong("cachedContent", "is stored at one account of Google, and means nothing elsewhere"));
    }
    let (mut request, mut kept, mut thoughts) = (ChatRequest::default(), Map::new(), false);
    if let Some(given) = body.object("generationConfig")? {
        thoughts = config::read(given, &mut request, &mut kept)?;
    }
    for tool in body.objects("tools")? {
        tools(tool, &mut request.tools)?;
    }
    if let Some(config) = body.object("toolConfig")? {
        tool_config(config, &mut request)?;
    }
    if let Some(content) = body.object("systemInstruction")? {
        request.messages.extend(contents::system(content)?);
    }
    let contents = body.objects("contents")?;
    if contents.is_empty() {
        return Err(body.wrong("contents", "must hold at least one content"));
    }
    request.messages.extend(contents::messages(contents)?);
    body.keep(KEPT, &mut kept);
    body.end()?;
    if !kept.is_empty() {
        request.extra = Extra { fields: kept.into(), kinds: vec![KIND.to_owned()] };
    }
    Ok(Chat { request, thoughts })
}

/// The functions of a tool. Tools that run at Google are left in it, and so refused.
fn tools(mut tool: Fields, tools: &mut Vec<Tool>) -> Result<(), FieldError> {
    for mut function in tool.objects("functionDeclarations")? {
        let (name, description) = (function.text("name")?, function.text("description")?);
        if name.is_empty() {
            return Err(function.wrong("name", "must not be empty"));
        }
        let theirs = function.any("parameters").map(|schema| json_schema(schema, false));
        let parameters = match function.any("parametersJsonSchema").or(theirs) {
            None => None,
            Some(Value::Object(schema)) => Some(schema),
            Some(_) => return Err(function.wrong("parameters", "must be an object")),
        };
        // What a function gives back, and whether the model waits for it, is told to Gemini alone.
        let mut kept = Map::new();
        function.keep(&["response", "responseJsonSchema", "behavior"], &mut kept);
        function.end()?;
        let kinds = if kept.is_empty() { Vec::new() } else { vec![KIND.to_owned()] };
        let extra = Extra { fields: kept.into(), kinds };
        tools.push(Tool { name, description, parameters, extra });
    }
    tool.end()
}

/// Which functions the model may call, and whether it must (API reference, "FunctionCallingConfig").
fn tool_config(mut config: Fields, request: &mut ChatRequest) -> Result<(), FieldError> {
    // They are for tools that run at Google.
    config.skip(&["retrievalConfig", "includeServerSideToolInvocations"]);
    let Some(mut calling) = config.object("functionCallingConfig")? else { return config.end() };
    let (mode, allowed) = (calling.choice("mode")?, calling.texts("allowedFunctionNames")?);
    if !allowed.is_empty() && !matches!(mode.as_str(), "ANY" | "VALIDATED") {
        return Err(calling.wrong("allowedFunctionNames", "can only be given in mode ANY or VALIDATED"));
    }
    let choice = match (mode.as_str(), allowed.as_slice()) {
        // What the model does unasked. That a call keeps to its schema cannot be asked of others.
        ("" | "MODE_UNSPECIFIED" | "AUTO" | "VALIDATED", _) => None,
        ("NONE", _) => Some(json!("none")),
        ("ANY", [name]) => Some(json!({"type": "function", "function": {"name": name}})),
        ("ANY", _) => Some(json!("required")),
        _ => return Err(calling.wrong("mode", "is not a known mode")),
    };
    // Others know no choice among several functions: they are told of those alone.
    if !allowed.is_empty() {
        if let Some(name) = allowed.iter().find(|name| !request.tools.iter().any(|tool| tool.name == **name)) {
            let why = format!("names {name}, which is no function of `tools`");
            return Err(calling.wrong("allowedFunctionNames", why));
        }
        request.tools.retain(|tool| allowed.contains(&tool.name));
    }
    // Without tools there is nothing to choose from.
    if let Some(choice) = choice.filter(|_| !request.tools.is_empty()) {
        request.parameters.insert("tool_choice".into(), choice);
    }
    calling.end()?;
    config.end()
}
