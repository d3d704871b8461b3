//! OpenAI's parameters, as far as the same becomes of them with every other API (the tables of each kind stand in its
//! `parameters.rs`). Pure.

use super::WriteError;
use serde_json::{Map, Value, json};

/// No answer changes without them: OpenAI acts on them for itself.
const UNHEARD: &[&str] = &[
    "stream_options",
    "store",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "verbosity",
];

/// The budget of tokens for thinking that stands for each of OpenAI's efforts: those of Google's own OpenAI-compatible API
/// (<https://ai.google.dev/gemini-api/docs/openai>), as the others name none.
pub(super) const BUDGETS: &[(&str, u64)] =
    &[("minimal", 1024), ("low", 1024), ("medium", 8192), ("high", 24576), ("xhigh", 24576)];

/// Takes out what the API does not hear of, and what says nothing but that the default shall be.
pub(super) fn drop_unheard(body: &mut Map<String, Value>, more: &[&str]) {
    // Null is OpenAI's word for a parameter that is not given.
    body.retain(|name, value| {
        !value.is_null() && !UNHEARD.contains(&name.as_str()) && !more.contains(&name.as_str())
    });
    if body.get("modalities").is_some_and(|modalities| *modalities == json!(["text"])) {
        body.shift_remove("modalities");
    }
    if body.get("logit_bias").and_then(Value::as_object).is_some_and(Map::is_empty) {
        body.shift_remove("logit_bias");
    }
}

/// Takes out the sequences that end the answer, as a list.
pub(super) fn take_stop(body: &mut Map<String, Value>) -> Option<Value> {
    let stop = body.shift_remove("stop")?;
    Some(if stop.is_string() { json!([stop]) } else { stop })
}

/// Refuses a parameter that the API has no word for and that would change the answer.
pub(super) fn refused(name: &str, why: &str) -> WriteError {
    WriteError::new(format!("parameters.{name}"), why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_no_answer_is_dropped() {
        let body = json!({
            "store": true, "user": "u", "modalities": ["text"], "logit_bias": {}, "stop": "a", "seed": null, "n": 2,
        });
        let mut body = body.as_object().unwrap().clone();
        drop_unheard(&mut body, &["user"]);
        assert_eq!(take_stop(&mut body), Some(json!(["a"])));
        assert_eq!(Value::from(body), json!({"n": 2}));
        for kept in [json!({"modalities": ["audio"]}), json!({"logit_bias": {"1": 2}})] {
            let mut body = kept.as_object().unwrap().clone();
            drop_unheard(&mut body, &[]);
            assert_eq!(Value::from(body), kept);
        }
    }
}
