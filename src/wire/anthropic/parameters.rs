//! Parameters under OpenAI's names, which a caller uses whomever the call goes to, in Anthropic's words (API reference,
//! "Create a Message"; "OpenAI SDK compatibility"). Pure. What Anthropic's own names say wins. A parameter without a word
//! there is dropped where the answer is the same without it, and refused where it is not. Names that neither knows stay as
//! they are: Anthropic refuses them.

use crate::wire::{
    WriteError,
    unheard::{BUDGETS, drop_unheard, refused, take_stop},
};
use serde_json::{Map, Value, json};

/// Anthropic wants `max_tokens` in every request. Where the caller gives none, this many: every model can write them.
const MAX_TOKENS: u64 = 4096;

/// Parts of the names of Claude's models that think by a budget. The later ones think adaptively, and those from 4.7 on
/// refuse a budget (<https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking>): they take an effort of their
/// own (<https://platform.claude.com/docs/en/build-with-claude/effort>).
const BY_BUDGET: &[&str] = &["claude-3-", "claude-4-", "-4-0-", "-4-1-", "-4-20", "-4-5-"];

fn is_adaptive(model: &str) -> bool {
    // Gateways write `claude-opus-4.5` and `claude-opus-4@20250514`.
    let name = format!("{}-", model.replace(['.', '@', ':'], "-"));
    name.contains("claude-") && !name.ends_with("-4-") && !BY_BUDGET.iter().any(|part| name.contains(part))
}

/// The least budget that Anthropic takes ("Extended thinking").
const LEAST_BUDGET: u64 = 1024;

/// It changes no answer for certain: OpenAI itself promises nothing.
const DROPPED: &[&str] = &["seed"];

/// Rewrites a body that holds the caller's parameters for that model, for a call with tools or without.
pub(super) fn translate(body: &mut Map<String, Value>, model: &str, tools: bool) -> Result<(), WriteError> {
    drop_unheard(body, DROPPED);
    if let Some(stop) = take_stop(body) {
        body.entry("stop_sequences").or_insert(stop);
    }
    if let Some(choice) = body.shift_remove("tool_choice") {
        let choice = tool_choice(choice)?;
        // Without tools there is nothing to choose from, and Anthropic refuses the field.
        if tools {
            body.insert("tool_choice".into(), choice);
        }
    }
    if body.shift_remove("parallel_tool_calls").is_some_and(|parallel| parallel == false) && tools {
        let choice = body.entry("tool_choice").or_insert_with(|| json!({"type": "auto"}));
        if let Some(choice) =
            choice.as_object_mut().filter(|choice| choice.get("type").is_some_and(|kind| kind != "none"))
        {
            choice.insert("disable_parallel_tool_use".into(), true.into());
        }
    }
    if let Some(user) = body.shift_remove("user") {
        let metadata = body.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.entry("user_id").or_insert(user);
        }
    }
    // OpenAI keeps its metadata beside the answer; Anthropic knows one field alone.
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|name, _| name == "user_id");
    }
    if body.get("metadata").and_then(Value::as_object).is_some_and(Map::is_empty) {
        body.shift_remove("metadata");
    }
    // OpenAI's tiers are others.
    if body.get("service_tier").is_some_and(|tier| tier != "auto" && tier != "standard_only") {
        body.shift_remove("service_tier");
    }
    if body.shift_remove("n").is_some_and(|count| count.as_u64() != Some(1)) {
        return Err(refused("n", "this provider gives one answer a call"));
    }
    for name in ["presence_penalty", "frequency_penalty"] {
        if body.shift_remove(name).is_some_and(|penalty| penalty.as_f64() != Some(0.0)) {
            return Err(refused(name, "this provider knows no penalties"));
        }
    }
    for name in ["logprobs", "top_logprobs"] {
        if body.shift_remove(name).is_some_and(|wanted| wanted != false && wanted.as_u64() != Some(0)) {
            return Err(refused(name, "this provider tells no log probabilities"));
        }
    }
    if body.contains_key("logit_bias") {
        return Err(refused("logit_bias", "this provider takes no bias of tokens"));
    }
    if let Some(format) = body.shift_remove("response_format") {
        response_format(body, &format)?;
    }
    bounds(body, model)
}

fn tool_choice(choice: Value) -> Result<Value, WriteError> {
    let name = |choice: &Value| choice.pointer("/function/name").or_else(|| choice.get("name")).cloned();
    Ok(match choice.as_str().or_else(|| choice.get("type")?.as_str()) {
        Some("auto") if choice.is_string() => json!({"type": "auto"}),
        Some("none") if choice.is_string() => json!({"type": "none"}),
        Some("required") => json!({"type": "any"}),
        Some("function") => match name(&choice) {
            Some(name) => json!({"type": "tool", "name": name}),
            None => return Err(refused("tool_choice", "names no function")),
        },
        Some("auto" | "any" | "tool" | "none") if choice.is_object() => choice,
        _ => return Err(refused("tool_choice", "this provider has no such choice of tools")),
    })
}

/// <https://platform.claude.com/docs/en/build-with-claude/structured-outputs>.
fn response_format(body: &mut Map<String, Value>, format: &Value) -> Result<(), WriteError> {
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(()),
        Some("json_schema") => {
            let schema = format.pointer("/json_schema/schema").or_else(|| format.get("schema"));
            let schema = schema.ok_or_else(|| refused("response_format", "has no schema"))?;
            let config = body.entry("output_config").or_insert_with(|| json!({}));
            if let Some(config) = config.as_object_mut() {
                config.entry("format").or_insert_with(|| json!({"type": "json_schema", "schema": schema}));
            }
            Ok(())
        }
        _ => Err(refused("response_format", "this provider answers in JSON by a schema alone")),
    }
}

/// How much may be written, and how much of it thought: the bound lies above the budget.
fn bounds(body: &mut Map<String, Value>, model: &str) -> Result<(), WriteError> {
    let newer = body.shift_remove("max_completion_tokens");
    let given = body.shift_remove("max_tokens").or(newer);
    if let Some(effort) = body.shift_remove("reasoning_effort") {
        let effort = effort.as_str().unwrap_or_default();
        let budget = match BUDGETS.iter().find(|(name, _)| *name == effort) {
            Some((_, budget)) => *budget,
            None if effort == "none" => 0,
            None => return Err(refused("reasoning_effort", "is not a known effort")),
        };
        let most = given.as_ref().and_then(Value::as_u64).unwrap_or(u64::MAX);
        let budget = budget.min(most.saturating_sub(1));
        let thinking = if effort == "none" || body.contains_key("thinking") {
            None
        } else if is_adaptive(model) {
            let level = match effort {
                "minimal" => "low",
                "xhigh" => "high",
                level => level,
            };
            let config = body.entry("output_config").or_insert_with(|| json!({}));
            if let Some(config) = config.as_object_mut() {
                config.entry("effort").or_insert(level.into());
            }
            Some(json!({"type": "adaptive"}))
        } else {
            (budget >= LEAST_BUDGET).then(|| json!({"type": "enabled", "budget_tokens": budget}))
        };
        if let Some(thinking) = thinking {
            body.insert("thinking".into(), thinking);
            // Beside thinking Anthropic takes none of them ("Extended thinking", feature compatibility).
            for name in ["temperature", "top_k", "top_p"] {
                body.shift_remove(name);
            }
        }
    }
    let budget =
        body.get("thinking").and_then(|thinking| thinking.get("budget_tokens")?.as_u64()).unwrap_or(0);
    body.insert("max_tokens".into(), given.unwrap_or_else(|| (budget + MAX_TOKENS).into()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(parameters: &Value, tools: bool) -> Result<Value, WriteError> {
        let mut body = parameters.as_object().unwrap().clone();
        translate(&mut body, "claude-sonnet-4-5", tools)?;
        if body["max_tokens"] == MAX_TOKENS {
            body.shift_remove("max_tokens");
        }
        Ok(body.into())
    }

    #[test]
    fn later_models_get_an_effort_and_no_budget() {
        for model in ["claude-opus-4-6", "claude-opus-4-7", "claude-sonnet-5", "anthropic/claude-opus-4-6"] {
            let mut body = json!({"reasoning_effort": "xhigh", "temperature": 1, "max_tokens": 9})
                .as_object()
                .unwrap()
                .clone();
            translate(&mut body, model, false).unwrap();
            let expected = json!({"output_config": {"effort": "high"}, "thinking": {"type": "adaptive"}, "max_tokens": 9});
            assert_eq!(Value::from(body), expected, "{model}");
        }
        for model in [
            "claude-3-7-sonnet-latest",
            "claude-sonnet-4-20250514",
            "claude-opus-4.1",
            "claude-opus-4",
            "claude-haiku-4-5",
            "kimi-k2",
        ] {
            let mut body = json!({"reasoning_effort": "low"}).as_object().unwrap().clone();
            translate(&mut body, model, false).unwrap();
            assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": 1024}), "{model}");
        }
        let mut body = json!({"reasoning_effort": "none"}).as_object().unwrap().clone();
        translate(&mut body, "claude-opus-4-7", false).unwrap();
        assert_eq!(Value::from(body), json!({"max_tokens": MAX_TOKENS}));
    }

    #[test]
    fn openais_parameters_become_anthropics() {
        let thinking = |budget: u64| json!({"type": "enabled", "budget_tokens": budget});
        let table = [
            (json!({}), json!({})),
            (json!({"tool_choice": "auto"}), json!({"tool_choice": {"type": "auto"}})),
            (json!({"tool_choice": "required"}), json!({"tool_choice": {"type": "any"}})),
            (json!({"tool_choice": "none"}), json!({"tool_choice": {"type": "none"}})),
            (
                json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}),
                json!({"tool_choice": {"type": "tool", "name": "f"}}),
            ),
            (json!({"tool_choice": {"type": "any"}}), json!({"tool_choice": {"type": "any"}})),
            (
                json!({"parallel_tool_calls": false}),
                json!({"tool_choice": {"type": "auto", "disable_parallel_tool_use": true}}),
            ),
            (
                json!({"parallel_tool_calls": false, "tool_choice": "required"}),
                json!({"tool_choice": {"type": "any", "disable_parallel_tool_use": true}}),
            ),
            (json!({"parallel_tool_calls": true}), json!({})),
            (json!({"stop": "END"}), json!({"stop_sequences": ["END"]})),
            (json!({"stop": ["a"], "stop_sequences": ["b"]}), json!({"stop_sequences": ["b"]})),
            (json!({"user": "u"}), json!({"metadata": {"user_id": "u"}})),
            (json!({"metadata": {"topic": "x"}}), json!({})),
            (
                json!({"n": 1, "seed": 7, "store": true, "logprobs": false, "presence_penalty": 0.0}),
                json!({}),
            ),
            (json!({"service_tier": "flex", "modalities": ["text"]}), json!({})),
            (json!({"service_tier": "standard_only"}), json!({"service_tier": "standard_only"})),
            (json!({"response_format": {"type": "text"}}), json!({})),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"z": 1, "a": 2}}}}),
                json!({"output_config": {"format": {"type": "json_schema", "schema": {"z": 1, "a": 2}}}}),
            ),
            (json!({"max_completion_tokens": 8}), json!({"max_tokens": 8})),
            (json!({"max_tokens": 7, "max_completion_tokens": 8}), json!({"max_tokens": 7})),
            (json!({"max_tokens": null, "max_completion_tokens": 8}), json!({"max_tokens": 8})),
            (json!({"thinking": thinking(8000)}), json!({"thinking": thinking(8000), "max_tokens": 12096})),
            (
                json!({"reasoning_effort": "medium", "temperature": 0.5}),
                json!({"thinking": thinking(8192), "max_tokens": 12288}),
            ),
            (
                json!({"reasoning_effort": "high", "max_tokens": 4000}),
                json!({"max_tokens": 4000, "thinking": thinking(3999)}),
            ),
            (json!({"reasoning_effort": "low", "max_tokens": 500}), json!({"max_tokens": 500})),
            (json!({"reasoning_effort": "none", "temperature": 0.5}), json!({"temperature": 0.5})),
            (json!({"unknown": 1}), json!({"unknown": 1})),
        ];
        for (parameters, expected) in table {
            assert_eq!(translated(&parameters, true).unwrap(), expected, "{parameters}");
        }
        assert_eq!(
            translated(&json!({"tool_choice": "auto", "parallel_tool_calls": false}), false).unwrap(),
            json!({})
        );
    }

    #[test]
    fn what_would_change_the_answer_is_refused() {
        for parameters in [
            json!({"n": 2}),
            json!({"presence_penalty": 0.1}),
            json!({"logprobs": true}),
            json!({"logit_bias": {"1": 2}}),
            json!({"response_format": {"type": "json_object"}}),
            json!({"response_format": {"type": "json_schema"}}),
            json!({"tool_choice": "sometimes"}),
            json!({"tool_choice": {"type": "allowed_tools"}}),
            json!({"reasoning_effort": "much"}),
        ] {
            let error = translated(&parameters, true).unwrap_err();
            let (name, _) = parameters.as_object().unwrap().iter().next().unwrap();
            assert_eq!(error.field, format!("parameters.{name}"));
        }
    }
}
