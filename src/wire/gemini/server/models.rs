//! Lists of models (<https://ai.google.dev/api/models>).

use serde_json::{Map, Value, json};

/// A model that can be called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedModel {
    /// Its name, as clients write it behind `models/`.
    pub name: String,
    /// Its name for people; empty: its name.
    pub display_name: String,
    /// The most tokens that it reads; 0: not known.
    pub input_token_limit: u64,
    /// The most tokens that it writes; 0: not known.
    pub output_token_limit: u64,
    /// Whether it makes embeddings. It writes text otherwise.
    pub embeds: bool,
}

/// The body of `GET /v1beta/models`, with all of them on one page.
#[must_use]
pub fn models(list: &[ListedModel]) -> Vec<u8> {
    let list: Vec<Value> = list.iter().map(written).collect();
    json!({ "models": list }).to_string().into_bytes()
}

/// The body of `GET /v1beta/models/{model}`.
#[must_use]
pub fn model(model: &ListedModel) -> Vec<u8> {
    written(model).to_string().into_bytes()
}

fn written(model: &ListedModel) -> Value {
    let display_name = if model.display_name.is_empty() { &model.name } else { &model.display_name };
    let methods: &[&str] = if model.embeds { &["embedContent"] } else { &["generateContent", "countTokens"] };
    let mut out = Map::new();
    out.insert("name".into(), format!("models/{}", model.name).into());
    out.insert("displayName".into(), display_name.as_str().into());
    for (name, limit) in
        [("inputTokenLimit", model.input_token_limit), ("outputTokenLimit", model.output_token_limit)]
    {
        if limit > 0 {
            out.insert(name.into(), limit.into());
        }
    }
    out.insert("supportedGenerationMethods".into(), methods.into());
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_listed_as_google_does() {
        let chat = ListedModel {
            name: "openai/gpt-4o".into(),
            display_name: "GPT-4o".into(),
            input_token_limit: 128_000,
            ..ListedModel::default()
        };
        let embeds = ListedModel { name: "small".into(), embeds: true, ..ListedModel::default() };
        let first = json!({
            "name": "models/openai/gpt-4o", "displayName": "GPT-4o", "inputTokenLimit": 128_000,
            "supportedGenerationMethods": ["generateContent", "countTokens"],
        });
        let second = json!({"name": "models/small", "displayName": "small", "supportedGenerationMethods": ["embedContent"]});
        assert_eq!(model(&chat), first.to_string().into_bytes());
        assert_eq!(models(&[chat, embeds]), json!({"models": [first, second]}).to_string().into_bytes());
        assert_eq!(models(&[]), b"{\"models\":[]}");
    }
}
