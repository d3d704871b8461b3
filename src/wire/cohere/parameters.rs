//! Parameters under OpenAI's names, which a caller uses whomever the call goes to, in Cohere's words (API reference, "Chat";
//! "Using Cohere models via the OpenAI SDK"). Pure. Cohere's own names pass as they are, and win. A parameter without a word
//! there is dropped where the answer is the same without it, and refused where it is not. What is neither passes too, for
//! Cohere to judge.

use crate::wire::{
    Tool, WriteError,
    unheard::{BUDGETS, drop_unheard, refused},
};
use serde_json::{Map, Value, json};

/// OpenAI's names, and others', for what Cohere calls differently.
const NAMES: &[(&str, &str)] =
    &[("max_completion_tokens", "max_tokens"), ("stop", "stop_sequences"), ("top_k", "k"), ("top_p", "p")];

/// They change no answer either: an end user's id has no place there.
const DROPPED: &[&str] = &["user", "metadata", "service_tier"];

/// Efforts without a budget: the model thinks as long as it likes ("Reasoning").
const UNBOUNDED: &[&str] = &["high", "xhigh"];

/// Puts OpenAI's parameters into Cohere's words, and refuses what those have no word for.
pub(super) fn translate(body: &mut Map<String, Value>, tools: &[Tool]) -> Result<(), WriteError> {
    drop_unheard(body, DROPPED);
    for (theirs, ours) in NAMES {
        if let Some(value) = body.shift_remove(*theirs) {
            body.entry(*ours).or_insert(value);
        }
    }
    if let Some(stop) = body.get_mut("stop_sequences").filter(|stop| stop.is_string()) {
        *stop = json!([stop]);
    }
    if let Some(choice) = body.shift_remove("tool_choice")
        && let Some(choice) = tool_choice(&choice, tools)?
    {
        body.insert("tool_choice".into(), choice.into());
    }
    if let Some(format) = body.get_mut("response_format") {
        match format.get("type").and_then(Value::as_str) {
            Some("json_schema") => {
                let schema = format.pointer_mut("/json_schema/schema").map(Value::take);
                let schema = schema.ok_or_else(|| refused("response_format", "has no schema"))?;
                *format = json!({"type": "json_object", "json_schema": schema});
            }
            // What Cohere does unasked.
            Some("text") => {
                body.shift_remove("response_format");
            }
            _ => {}
        }
    }
    if let Some(effort) = body.shift_remove("reasoning_effort") {
        let effort = effort.as_str().unwrap_or_default();
        let thinking = match BUDGETS.iter().find(|(name, _)| *name == effort) {
            _ if effort == "none" => json!({"type": "disabled"}),
            Some(_) if UNBOUNDED.contains(&effort) => json!({"type": "enabled"}),
            Some((_, budget)) => json!({"type": "enabled", "token_budget": budget}),
            None => return Err(refused("reasoning_effort", "is not a known effort")),
        };
        body.entry("thinking").or_insert(thinking);
    }
    if body.shift_remove("n").is_some_and(|count| count.as_u64() != Some(1)) {
        return Err(refused("n", "this provider gives one answer a call"));
    }
    if body.shift_remove("parallel_tool_calls").is_some_and(|parallel| parallel != true) && !tools.is_empty()
    {
        return Err(refused(
            "parallel_tool_calls",
            "this provider cannot be kept from calling tools together",
        ));
    }
    if body.shift_remove("top_logprobs").is_some_and(|count| count.as_u64() != Some(0)) {
        return Err(refused("top_logprobs", "this provider tells the chosen token's log probability alone"));
    }
    if body.contains_key("logit_bias") {
        return Err(refused("logit_bias", "this provider takes no bias of tokens"));
    }
    Ok(())
}

/// Cohere's word for a choice of tools; none for what it does unasked.
fn tool_choice(choice: &Value, tools: &[Tool]) -> Result<Option<String>, WriteError> {
    match choice.as_str() {
        Some("auto") => return Ok(None),
        Some(choice) => return Ok(Some(choice.to_uppercase())),
        None => {}
    }
    // The one tool that there is can be required.
    let name = choice.pointer("/function/name").and_then(Value::as_str);
    match tools {
        [only] if name == Some(only.name.as_str()) => Ok(Some("REQUIRED".to_owned())),
        _ => Err(refused("tool_choice", "this provider cannot be told which of several tools to call")),
    }
}
