//! The generation config (API reference, "GenerationConfig") under the names that every kind of provider is told: OpenAI's.

use super::{
    fields::{Fields, UNTOLD},
    schema::json_schema,
};
use crate::wire::{ChatRequest, FieldError, unheard::BUDGETS};
use serde_json::{Map, Value, json};

/// Gemini's names of numbers, and OpenAI's for the same.
const NUMBERS: &[(&str, &str)] = &[
    ("temperature", "temperature"),
    ("topP", "top_p"),
    ("presencePenalty", "presence_penalty"),
    ("frequencyPenalty", "frequency_penalty"),
];

/// The same, for whole numbers. SDKs write `3.0`, which others refuse.
const WHOLE: &[(&str, &str)] = &[
    ("topK", "top_k"),
    ("maxOutputTokens", "max_completion_tokens"),
    ("seed", "seed"),
    ("logprobs", "top_logprobs"),
    ("candidateCount", "n"),
];

/// The same answer is one without them, if perhaps a worse one. Gemini gets them.
const KEPT: &[&str] = &["mediaResolution", "enableEnhancedCivicAnswers", "audioTimestamp"];

/// OpenAI wants a name for a schema, and Gemini has none.
const SCHEMA_NAME: &str = "response";

/// Reads the config into a request. Gives whether the model's thoughts are to be told; `kept` gets what only Gemini hears.
pub(super) fn read(
    mut config: Fields,
    request: &mut ChatRequest,
    kept: &mut Map<String, Value>,
) -> Result<bool, FieldError> {
    let parameters = &mut request.parameters;
    for (theirs, ours) in NUMBERS {
        if let Some(number) = config.number(theirs)? {
            parameters.insert((*ours).to_owned(), number);
        }
    }
    for (theirs, ours) in WHOLE {
        if let Some(number) = config.whole(theirs)? {
            parameters.insert((*ours).to_owned(), number);
        }
    }
    // One is what everybody gives.
    if parameters.get("n").is_some_and(|count| count.as_u64() == Some(1)) {
        parameters.shift_remove("n");
    }
    if config.flag("responseLogprobs")? {
        parameters.insert("logprobs".into(), true.into());
    }
    request.stop = config.texts("stopSequences")?;
    if let Some(format) = response_format(&mut config)? {
        parameters.insert("response_format".into(), format);
    }
    let modalities = config.texts("responseModalities")?;
    if modalities.iter().any(|modality| !modality.eq_ignore_ascii_case("text")) {
        return Err(config
            .wrong("responseModalities", "other than TEXT cannot be asked of a provider of another kind"));
    }
    let mut own = Map::new();
    let thoughts = match config.object("thinkingConfig")? {
        Some(thinking) => read_thinking(thinking, parameters, &mut own)?,
        None => false,
    };
    config.keep(KEPT, &mut own);
    if !own.is_empty() {
        kept.insert("generationConfig".into(), own.into());
    }
    config.end()?;
    Ok(thoughts)
}

/// <https://ai.google.dev/gemini-api/docs/structured-output>.
fn response_format(config: &mut Fields) -> Result<Option<Value>, FieldError> {
    let mime_type = config.text("responseMimeType")?;
    let theirs = config.any("responseSchema").map(|schema| json_schema(schema, true));
    let schema = config.any("responseJsonSchema").or(theirs);
    match (mime_type.as_str(), schema) {
        ("" | "text/plain", None) => Ok(None),
        ("application/json", None) => Ok(Some(json!({"type": "json_object"}))),
        ("" | "application/json", Some(schema)) => {
            Ok(Some(json!({"type": "json_schema", "json_schema": {"name": SCHEMA_NAME, "schema": schema}})))
        }
        // A value of an enumeration, without quotes, is JSON for nobody else.
        _ => Err(config.wrong("responseMimeType", UNTOLD)),
    }
}

/// How long the model thinks ("Gemini thinking", <https://ai.google.dev/gemini-api/docs/thinking>), as the effort that comes
/// closest. No thinking, and thinking as long as the model likes, are what others do unasked: those that do not think refuse
/// any word of it. Gives whether the thoughts are to be told.
fn read_thinking(
    mut thinking: Fields,
    parameters: &mut Map<String, Value>,
    kept: &mut Map<String, Value>,
) -> Result<bool, FieldError> {
    let (budget, level) = (thinking.whole("thinkingBudget")?, thinking.choice("thinkingLevel")?);
    let mut own = Map::new();
    let effort = match level.as_str() {
        "" | "THINKING_LEVEL_UNSPECIFIED" => budget.as_ref().and_then(Value::as_u64).and_then(effort),
        "MINIMAL" => Some("minimal"),
        "LOW" => Some("low"),
        "MEDIUM" => Some("medium"),
        "HIGH" => Some("high"),
        "XHIGH" => Some("xhigh"),
        _ => return Err(thinking.wrong("thinkingLevel", "is not a known level")),
    };
    if let Some(effort) = effort {
        parameters.insert("reasoning_effort".into(), effort.into());
    }
    if let Some(budget) = budget {
        own.insert("thinkingBudget".into(), budget);
    }
    if !level.is_empty() {
        own.insert("thinkingLevel".into(), level.into());
    }
    let told = thinking.flag("includeThoughts")?;
    if told {
        own.insert("includeThoughts".into(), true.into());
    }
    if !own.is_empty() {
        kept.insert("thinkingConfig".into(), own.into());
    }
    thinking.end()?;
    Ok(told)
}

/// The least effort that has this budget.
fn effort(budget: u64) -> Option<&'static str> {
    let efforts = BUDGETS.iter().filter(|(name, _)| *name != "minimal");
    let enough = efforts.clone().find(|(_, most)| budget <= *most).or_else(|| efforts.clone().next_back());
    enough.filter(|_| budget > 0).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(value: Value) -> Result<(ChatRequest, Map<String, Value>, bool), FieldError> {
        let (mut request, mut kept) = (ChatRequest::default(), Map::new());
        let fields = Fields::of(value, "generationConfig".into())?;
        let thoughts = read(fields, &mut request, &mut kept)?;
        Ok((request, kept, thoughts))
    }

    #[test]
    fn geminis_parameters_become_openais() {
        let json = |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": {"name": "response", "schema": schema}}});
        let table = [
            (json!({}), json!({})),
            (
                json!({
                    "temperature": 0.50, "topP": 0.9, "top_k": 40.0, "maxOutputTokens": "7", "candidateCount": 2, "seed": 3,
                    "presencePenalty": 0.1, "frequency_penalty": 0.2, "responseLogprobs": true, "logprobs": 2,
                }),
                json!({
                    "temperature": 0.50, "top_p": 0.9, "presence_penalty": 0.1, "frequency_penalty": 0.2, "top_k": 40,
                    "max_completion_tokens": 7, "seed": 3, "top_logprobs": 2, "n": 2, "logprobs": true,
                }),
            ),
            (
                json!({"candidateCount": 1, "responseLogprobs": false, "responseModalities": ["text"]}),
                json!({}),
            ),
            (json!({"responseMimeType": "text/plain"}), json!({})),
            (
                json!({"responseMimeType": "application/json"}),
                json!({"response_format": {"type": "json_object"}}),
            ),
            (
                json!({"response_mime_type": "application/json", "response_schema": {"type": "ARRAY", "items": {"type": "STRING"}}}),
                json(json!({"type": "array", "items": {"type": "string"}})),
            ),
            (
                json!({"responseJsonSchema": {"type": "object", "properties": {}}}),
                json(json!({"type": "object", "properties": {}})),
            ),
        ];
        for (given, expected) in table {
            let (request, kept, thoughts) = config(given.clone()).unwrap();
            assert_eq!(Value::from(request.parameters).to_string(), expected.to_string(), "{given}");
            assert!(kept.is_empty() && !thoughts);
        }
        assert_eq!(config(json!({"stopSequences": ["a", "b"]})).unwrap().0.stop, ["a", "b"]);
    }

    #[test]
    fn thinking_is_an_effort() {
        let table = [
            (json!({"thinkingBudget": -1}), None),
            (json!({"thinkingBudget": 0}), None),
            (json!({"thinkingBudget": 1}), Some("low")),
            (json!({"thinkingBudget": 1024}), Some("low")),
            (json!({"thinking_budget": 1025}), Some("medium")),
            (json!({"thinkingBudget": 8193}), Some("high")),
            (json!({"thinkingBudget": 32768}), Some("xhigh")),
            (json!({"thinkingLevel": "low"}), Some("low")),
            (json!({"thinkingLevel": "MINIMAL"}), Some("minimal")),
        ];
        for (thinking, expected) in table {
            let (request, kept, thoughts) = config(json!({ "thinkingConfig": thinking })).unwrap();
            assert_eq!(
                request.parameters.get("reasoning_effort").and_then(Value::as_str),
                expected,
                "{thinking}"
            );
            assert!(kept["generationConfig"]["thinkingConfig"].is_object() && !thoughts);
        }
        let (_, kept, thoughts) = config(json!({"thinkingConfig": {"include_thoughts": true}})).unwrap();
        assert!(thoughts);
        assert_eq!(
            Value::from(kept),
            json!({"generationConfig": {"thinkingConfig": {"includeThoughts": true}}})
        );
    }

    #[test]
    fn what_would_change_the_answer_is_refused() {
        for (given, field) in [
            (json!({"responseModalities": ["TEXT", "IMAGE"]}), "responseModalities"),
            (json!({"speechConfig": {"voiceConfig": {}}}), "speechConfig"),
            (json!({"imageConfig": {"aspectRatio": "1:1"}}), "imageConfig"),
            (
                json!({"responseMimeType": "text/x.enum", "responseSchema": {"enum": ["a"]}}),
                "responseMimeType",
            ),
            (json!({"thinkingConfig": {"thinkingLevel": "MUCH"}}), "thinkingConfig.thinkingLevel"),
            (json!({"temperature": "warm"}), "temperature"),
            (json!({"topK": 1.5}), "topK"),
            (json!({"tomorrow": 1}), "tomorrow"),
        ] {
            assert_eq!(config(given).unwrap_err().field, format!("generationConfig.{field}"));
        }
    }
}
