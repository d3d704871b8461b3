//! What a client asks a model for (API reference, "models.generateContent").

use super::{config, contents, fields::Fields, kind::KIND, schema::json_schema};
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
        return Err(
            body.wrong("cachedContent", "is stored at one account of Google, and means nothing elsewhere")
        );
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
        if let Some(name) = allowed.iter().find(|name| !request.tools.iter().any(|tool| tool.name == **name))
        {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Content, Recipient, Switches, gemini::request};

    const TO: Recipient<'_> = Recipient { kind: KIND, model: "gemini-2.5-pro", switches: Switches::NONE };

    fn read(body: &Value) -> Result<ChatRequest, FieldError> {
        let chat = chat(Fields::read(body.to_string().as_bytes()).unwrap())?;
        Ok(chat.request)
    }

    fn hello(mut body: Value) -> Value {
        body["contents"] = json!([{"role": "user", "parts": [{"text": "hi"}]}]);
        body
    }

    /// A request in the words of its own protocol says the same, after it was read for any.
    #[test]
    fn gemini_gets_what_was_said() {
        let body = json!({
            "generationConfig": {
                "thinkingConfig": {"thinkingBudget": 2000, "includeThoughts": true}, "mediaResolution": "MEDIA_RESOLUTION_LOW",
                "temperature": 0.5, "topP": 0.9, "topK": 3, "maxOutputTokens": 9, "candidateCount": 2, "seed": 7,
                "presencePenalty": 0.1, "frequencyPenalty": 0.2, "responseLogprobs": true, "logprobs": 2,
                "responseJsonSchema": {"type": "object"}, "responseMimeType": "application/json", "stopSequences": ["x"],
            },
            "safetySettings": [{"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "BLOCK_NONE"}],
            "labels": {"team": "a"},
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
            "contents": [
                {"role": "user", "parts": [
                    {"text": "look"}, {"inlineData": {"mimeType": "image/png", "data": "YWJj"}},
                    {"fileData": {"mimeType": "video/mp4", "fileUri": "https://h/v"}, "videoMetadata": {"fps": 1}},
                ]},
                {"role": "model", "parts": [
                    {"text": "a", "thoughtSignature": "c2ln"},
                    {"functionCall": {"id": "t1", "name": "f", "args": {"z": 1, "a": [1.50]}}, "thoughtSignature": "c2lnMg=="},
                    {"functionCall": {"id": "t2", "name": "f", "args": {}}},
                ]},
                {"role": "user", "parts": [
                    {"functionResponse": {"id": "t1", "name": "f", "response": {"output": "sunny"}}},
                    {"functionResponse": {"id": "t2", "name": "f", "response": {"a": {"b": 1}}}},
                ]},
                {"role": "model", "parts": [{"text": "done"}]},
                {"role": "user", "parts": [{"text": "thanks"}]},
            ],
            "systemInstruction": {"parts": [{"text": "be brief"}, {"text": "be kind"}]},
            "tools": [{"functionDeclarations": [
                {"name": "f", "description": "d", "parametersJsonSchema": {"type": "object", "properties": {"a": {}}}, "behavior": "BLOCKING"},
            ]}],
        });
        assert_eq!(request::chat(TO, &read(&body).unwrap()).unwrap(), body);
    }

    #[test]
    fn functions_are_tools() {
        let body = hello(json!({
            "tools": [
                {"function_declarations": [
                    {"name": "f", "parameters": {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}, "response": {"type": "STRING"}},
                ]},
                {"functionDeclarations": {"name": "g", "description": "d", "parametersJsonSchema": {"type": "object"}}},
            ],
            "system_instruction": {"role": "system", "parts": {"text": "brief"}},
        }));
        let request = read(&body).unwrap();
        let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        assert_eq!(request.tools[0].parameters, schema.as_object().cloned());
        assert!(request.tools[0].extra.is_for(KIND) && !request.tools[0].extra.is_for("openai"));
        assert_eq!((request.tools[1].name.as_str(), request.tools[1].description.as_str()), ("g", "d"));
        assert_eq!(
            (request.messages[0].role.as_str(), &request.messages[0].content),
            ("system", &Content::Text("brief".into()))
        );
        assert!(request.parameters.is_empty());
    }

    #[test]
    fn the_choice_of_functions_is_openais() {
        let tools = json!([{"functionDeclarations": [{"name": "f"}, {"name": "g"}, {"name": "h"}]}]);
        let function = |name: &str| json!({"type": "function", "function": {"name": name}});
        let all: &[&str] = &["f", "g", "h"];
        let table = [
            (json!({}), None, all),
            (json!({"mode": "AUTO"}), None, all),
            (json!({"mode": "VALIDATED", "allowedFunctionNames": ["g"]}), None, &["g"]),
            (json!({"mode": "none"}), Some(json!("none")), all),
            (json!({"mode": "ANY"}), Some(json!("required")), all),
            (json!({"mode": "ANY", "allowed_function_names": ["g"]}), Some(function("g")), &["g"]),
            (
                json!({"mode": "ANY", "allowedFunctionNames": ["h", "f"]}),
                Some(json!("required")),
                &["f", "h"],
            ),
        ];
        for (calling, choice, names) in table {
            let body = hello(json!({"tools": tools, "toolConfig": {"functionCallingConfig": calling}}));
            let request = read(&body).unwrap();
            assert_eq!(request.parameters.get("tool_choice"), choice.as_ref(), "{calling}");
            assert_eq!(request.tools.iter().map(|tool| &tool.name).collect::<Vec<_>>(), names, "{calling}");
        }
        let alone = hello(json!({"toolConfig": {"functionCallingConfig": {"mode": "NONE"}}}));
        assert!(read(&alone).unwrap().parameters.is_empty());
    }

    #[test]
    fn what_cannot_be_said_is_named() {
        let calling = |calling: Value| json!({"tools": [{"functionDeclarations": [{"name": "f"}]}], "toolConfig": {"functionCallingConfig": calling}});
        let table = [
            (json!({"tools": [{"googleSearch": {}}]}), "tools[0].googleSearch"),
            (
                json!({"tools": [{"functionDeclarations": []}, {"code_execution": {}}]}),
                "tools[1].code_execution",
            ),
            (json!({"tools": [{"urlContext": {}}]}), "tools[0].urlContext"),
            (
                json!({"tools": [{"functionDeclarations": [{"description": "d"}]}]}),
                "tools[0].functionDeclarations[0].name",
            ),
            (
                json!({"tools": [{"functionDeclarations": [{"name": "f", "parameters": 1}]}]}),
                "tools[0].functionDeclarations[0].parameters",
            ),
            (json!({"cachedContent": "cachedContents/x"}), "cachedContent"),
            (json!({"continuationToken": "x"}), "continuationToken"),
            (json!({"generationConfig": {"speechConfig": {}}}), "generationConfig.speechConfig"),
            (
                json!({"systemInstruction": {"parts": [{"inlineData": {}}]}}),
                "systemInstruction.parts[0].inlineData",
            ),
            (json!({"systemInstruction": "brief"}), "systemInstruction"),
            (calling(json!({"mode": "SOMETIMES"})), "toolConfig.functionCallingConfig.mode"),
            (
                calling(json!({"mode": "AUTO", "allowedFunctionNames": ["f"]})),
                "toolConfig.functionCallingConfig.allowedFunctionNames",
            ),
            (
                calling(json!({"mode": "ANY", "allowedFunctionNames": ["g"]})),
                "toolConfig.functionCallingConfig.allowedFunctionNames",
            ),
            (
                calling(json!({"mode": "ANY", "streamFunctionCallArguments": true})),
                "toolConfig.functionCallingConfig.streamFunctionCallArguments",
            ),
        ];
        for (body, field) in table {
            assert_eq!(read(&hello(body.clone())).unwrap_err().field, field, "{body}");
        }
        assert_eq!(read(&json!({"contents": []})).unwrap_err().field, "contents");
        assert_eq!(read(&json!({})).unwrap_err().field, "contents");
    }
}
