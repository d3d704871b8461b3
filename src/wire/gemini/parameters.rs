//! Parameters under OpenAI's names, which a caller uses whomever the call goes to, put where Gemini looks for them (API
//! reference, "GenerationConfig", "ToolConfig"; "OpenAI compatibility"). Pure. What Gemini's own names say wins. Names
//! that neither knows stay as they are: Gemini refuses them.

use crate::wire::{
    WriteError,
    unheard::{BUDGETS, drop_unheard, refused, take_stop},
};
use serde_json::{Map, Value, json};

/// OpenAI's names for fields of the generation config; of two that mean the same, the first counts.
const CONFIG: &[(&str, &str)] = &[
    ("temperature", "temperature"),
    ("top_p", "topP"),
    ("top_k", "topK"),
    ("max_tokens", "maxOutputTokens"),
    ("max_completion_tokens", "maxOutputTokens"),
    ("n", "candidateCount"),
    ("seed", "seed"),
    ("presence_penalty", "presencePenalty"),
    ("frequency_penalty", "frequencyPenalty"),
    ("logprobs", "responseLogprobs"),
    ("top_logprobs", "logprobs"),
];

/// Fields of the generation config that may also stand beside it.
const NATIVE: &[&str] = &[
    "topP",
    "topK",
    "maxOutputTokens",
    "candidateCount",
    "stopSequences",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "responseModalities",
    "presencePenalty",
    "frequencyPenalty",
    "thinkingConfig",
    "speechConfig",
    "imageConfig",
    "mediaResolution",
];

/// They change no answer either: a stream is asked for by another address.
const DROPPED: &[&str] = &["stream", "user", "metadata", "service_tier"];

/// A parameter that cannot be put in Gemini's words.
fn unknown(name: &str) -> WriteError {
    refused(name, "this provider has no word for it")
}

/// Rewrites a body that holds the caller's parameters. The model's name is the last part of it.
pub(super) fn translate(body: &mut Map<String, Value>, model: &str, tools: bool) -> Result<(), WriteError> {
    drop_unheard(body, DROPPED);
    // It may be said in both ways, as everything in protobuf's JSON.
    let given = body.shift_remove("generationConfig").or_else(|| body.shift_remove("generation_config"));
    let mut config = match given {
        None => Map::new(),
        Some(Value::Object(config)) => config,
        Some(_) => return Err(unknown("generationConfig")),
    };
    for name in NATIVE {
        if let Some(value) = body.shift_remove(*name) {
            config.entry(*name).or_insert(value);
        }
    }
    for (name, theirs) in CONFIG {
        if let Some(value) = body.shift_remove(*name) {
            config.entry(*theirs).or_insert(value);
        }
    }
    if let Some(stop) = take_stop(body) {
        config.entry("stopSequences").or_insert(stop);
    }
    if let Some(format) = body.shift_remove("response_format") {
        response_format(&mut config, &format)?;
    }
    if let Some(effort) = body.shift_remove("reasoning_effort") {
        let thinking = thinking(&effort, model)?;
        config.entry("thinkingConfig").or_insert(thinking);
    }
    if !config.is_empty() {
        body.insert("generationConfig".into(), config.into());
    }
    if let Some(choice) = body.shift_remove("tool_choice") {
        let calling = calling(&choice)?;
        let name = if body.contains_key("tool_config") { "tool_config" } else { "toolConfig" };
        if let Some(tools) = body.entry(name).or_insert_with(|| json!({})).as_object_mut()
            && !tools.contains_key("function_calling_config")
        {
            tools.entry("functionCallingConfig").or_insert(calling);
        }
    }
    // Several calls at once are Gemini's way, which cannot be turned off.
    if body.shift_remove("parallel_tool_calls").is_some_and(|parallel| parallel == false) && tools {
        return Err(unknown("parallel_tool_calls"));
    }
    if body.contains_key("logit_bias") {
        return Err(unknown("logit_bias"));
    }
    Ok(())
}

fn response_format(config: &mut Map<String, Value>, format: &Value) -> Result<(), WriteError> {
    match format.get("type").and_then(Value::as_str) {
        Some("text") => return Ok(()),
        Some("json_object") => {}
        Some("json_schema") => {
            let schema = format.pointer("/json_schema/schema").ok_or_else(|| unknown("response_format"))?;
            // One of them alone may be given.
            if !config.contains_key("responseSchema") {
                config.entry("responseJsonSchema").or_insert_with(|| schema.clone());
            }
        }
        _ => return Err(unknown("response_format")),
    }
    config.entry("responseMimeType").or_insert_with(|| "application/json".into());
    Ok(())
}

/// Up to 2.5, models take a budget of tokens, later ones a level ("Gemini thinking"). Zero turns it off, where it can be.
fn thinking(effort: &Value, model: &str) -> Result<Value, WriteError> {
    let effort = effort.as_str().unwrap_or_default();
    let budget = match BUDGETS.iter().find(|(name, _)| *name == effort) {
        _ if effort == "none" => 0,
        // Google's own API has no such effort.
        Some((_, budget)) if effort != "xhigh" => *budget,
        _ if is_new(model) && !effort.is_empty() => 0,
        _ => return Err(unknown("reasoning_effort")),
    };
    Ok(if is_new(model) && effort != "none" {
        json!({"thinkingLevel": effort.to_ascii_uppercase()})
    } else {
        json!({ "thinkingBudget": budget })
    })
}

fn calling(choice: &Value) -> Result<Value, WriteError> {
    let mode = match choice.as_str() {
        Some("auto") => "AUTO",
        Some("none") => "NONE",
        Some("required") => "ANY",
        _ => {
            let name = choice.pointer("/function/name").filter(|name| name.is_string());
            let name = name.ok_or_else(|| unknown("tool_choice"))?;
            return Ok(json!({"mode": "ANY", "allowedFunctionNames": [name]}));
        }
    };
    Ok(json!({ "mode": mode }))
}

/// Whether it is one of Google's models later than 2.5, which think in levels, and check that their function calls come
/// back with a signature.
pub(super) fn is_new(model: &str) -> bool {
    model.strip_prefix("gemini-").is_some_and(|version| !version.starts_with(['1', '2']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(model: &str, parameters: Value) -> Result<Value, WriteError> {
        let mut body = parameters.as_object().unwrap().clone();
        translate(&mut body, model, true).map(|()| body.into())
    }

    #[test]
    fn parameters_stand_where_gemini_looks() {
        let config = |config: Value| json!({ "generationConfig": config });
        let calling = |config: Value| json!({"toolConfig": {"functionCallingConfig": config}});
        let table = [
            (json!({}), json!({})),
            (
                json!({
                    "temperature": 0.5, "top_p": 0.9, "top_k": 40, "max_completion_tokens": 7, "n": 2, "seed": 3,
                    "presence_penalty": 0.1, "frequency_penalty": 0.2, "stop": ["a"], "logprobs": true,
                    "top_logprobs": 2,
                }),
                config(json!({
                    "temperature": 0.5, "topP": 0.9, "topK": 40, "maxOutputTokens": 7, "candidateCount": 2, "seed": 3,
                    "presencePenalty": 0.1, "frequencyPenalty": 0.2, "stopSequences": ["a"],
                    "responseLogprobs": true, "logprobs": 2,
                })),
            ),
            (
                json!({"max_tokens": 5, "max_completion_tokens": 7, "stop": "a"}),
                config(json!({"maxOutputTokens": 5, "stopSequences": ["a"]})),
            ),
            (json!({"max_tokens": null, "temperature": null, "tool_choice": null}), json!({})),
            // Gemini's own words win.
            (
                json!({
                    "generationConfig": {"temperature": 1, "thinkingConfig": {"thinkingBudget": 5}},
                    "temperature": 0.5, "topP": 0.8, "top_p": 0.9, "reasoning_effort": "high",
                    "thinkingConfig": {"thinkingBudget": 6},
                }),
                config(json!({"temperature": 1, "topP": 0.8, "thinkingConfig": {"thinkingBudget": 5}})),
            ),
            (
                json!({"generation_config": {"temperature": 1}, "top_k": 3}),
                config(json!({"temperature": 1, "topK": 3})),
            ),
            (
                json!({"safetySettings": [1], "cachedContent": "c", "unknown": 1}),
                json!({"safetySettings": [1], "cachedContent": "c", "unknown": 1}),
            ),
            (json!({"response_format": {"type": "text"}}), json!({})),
            (
                json!({"response_format": {"type": "json_object"}}),
                config(json!({"responseMimeType": "application/json"})),
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": 1}}}}),
                config(json!({"responseMimeType": "application/json", "responseJsonSchema": {"a": 1}})),
            ),
            (
                json!({
                    "response_format": {"type": "json_schema", "json_schema": {"schema": {"a": 1}}},
                    "responseSchema": {"b": 1},
                }),
                config(json!({"responseMimeType": "application/json", "responseSchema": {"b": 1}})),
            ),
            (json!({"tool_choice": "auto"}), calling(json!({"mode": "AUTO"}))),
            (json!({"tool_choice": "none"}), calling(json!({"mode": "NONE"}))),
            (json!({"tool_choice": "required"}), calling(json!({"mode": "ANY"}))),
            (
                json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}),
                calling(json!({"mode": "ANY", "allowedFunctionNames": ["f"]})),
            ),
            (
                json!({"tool_choice": "none", "toolConfig": {"functionCallingConfig": {"mode": "VALIDATED"}}}),
                calling(json!({"mode": "VALIDATED"})),
            ),
            (
                json!({"parallel_tool_calls": true, "stream": true, "stream_options": {"include_usage": true}}),
                json!({}),
            ),
            (json!({"user": "u", "store": true, "logit_bias": {}, "modalities": ["text"]}), json!({})),
        ];
        for (parameters, expected) in table {
            assert_eq!(translated("gemini-2.5-pro", parameters.clone()).unwrap(), expected, "{parameters}");
        }
    }

    #[test]
    fn effort_is_a_budget_or_a_level() {
        let table = [
            ("gemini-2.5-flash", "none", json!({"thinkingBudget": 0})),
            ("gemini-2.5-flash", "minimal", json!({"thinkingBudget": 1024})),
            ("gemini-2.5-flash", "medium", json!({"thinkingBudget": 8192})),
            ("gemini-2.5-flash", "high", json!({"thinkingBudget": 24576})),
            ("gemini-3-pro-preview", "none", json!({"thinkingBudget": 0})),
            ("gemini-3-pro-preview", "low", json!({"thinkingLevel": "LOW"})),
            ("gemini-flash-latest", "xhigh", json!({"thinkingLevel": "XHIGH"})),
        ];
        for (model, effort, expected) in table {
            let body = translated(model, json!({"reasoning_effort": effort})).unwrap();
            assert_eq!(body["generationConfig"]["thinkingConfig"], expected, "{model} {effort}");
        }
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        for parameters in [
            json!({"reasoning_effort": "xhigh"}),
            json!({"reasoning_effort": 1}),
            json!({"tool_choice": "sometimes"}),
            json!({"tool_choice": {"type": "allowed_tools"}}),
            json!({"response_format": "json"}),
            json!({"response_format": {"type": "json_schema"}}),
            json!({"response_format": {"type": "grammar"}}),
            json!({"generationConfig": []}),
            json!({"parallel_tool_calls": false}),
            json!({"logit_bias": {"1": 2}}),
        ] {
            let error = translated("gemini-2.5-pro", parameters.clone()).unwrap_err();
            let (name, _) = parameters.as_object().unwrap().iter().next().unwrap();
            assert_eq!(error.field, format!("parameters.{name}"));
        }
    }
}
