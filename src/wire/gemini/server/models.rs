//! Lists of models (<https://ai.google.dev/api/models>).

use crate::wire::ListedModel;
use serde_json::{Map, Value, json};

/// The body of `GET /v1beta/models`, with all of them on one page.
#[must_use]
pub fn all(models: &[ListedModel]) -> Vec<u8> {
    let models: Vec<Value> = models.iter().map(object).collect();
    json!({ "models": models }).to_string().into_bytes()
}

/// The body of `GET /v1beta/models/{model}`.
#[must_use]
pub fn one(model: &ListedModel) -> Vec<u8> {
    object(model).to_string().into_bytes()
}

fn object(model: &ListedModel) -> Value {
    let methods: &[&str] = if model.embeds { &["embedContent"] } else { &["generateContent", "countTokens"] };
    let mut out = Map::new();
    out.insert("name".into(), format!("models/{}", model.name).into());
    out.insert("displayName".into(), model.name.as_str().into());
    if model.context_window > 0 {
        out.insert("inputTokenLimit".into(), model.context_window.into());
    }
    out.insert("supportedGenerationMethods".into(), methods.into());
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_listed_as_google_does() {
        let chat =
            ListedModel { name: "openai/gpt-4o".into(), context_window: 128_000, ..ListedModel::default() };
        let embeds = ListedModel { name: "small".into(), embeds: true, ..ListedModel::default() };
        let first = json!({
            "name": "models/openai/gpt-4o", "displayName": "openai/gpt-4o", "inputTokenLimit": 128_000,
            "supportedGenerationMethods": ["generateContent", "countTokens"],
        });
        let second = json!({"name": "models/small", "displayName": "small", "supportedGenerationMethods": ["embedContent"]});
        assert_eq!(one(&chat), first.to_string().into_bytes());
        assert_eq!(all(&[chat, embeds]), json!({"models": [first, second]}).to_string().into_bytes());
        assert_eq!(all(&[]), b"{\"models\":[]}");
    }
}
