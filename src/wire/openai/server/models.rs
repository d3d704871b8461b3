//! `GET /v1/models` (<https://platform.openai.com/docs/api-reference/models>).

use crate::wire::ListedModel;
use serde_json::{Value, json};

/// All models.
pub fn all(models: &[ListedModel]) -> Vec<u8> {
    let data: Vec<_> = models.iter().map(object).collect();
    json!({"object": "list", "data": data}).to_string().into()
}

/// One model.
pub fn one(model: &ListedModel) -> Vec<u8> {
    object(model).to_string().into()
}

/// When a model was made is not known; the field is required. OpenRouter's name tells how many tokens it takes
/// (<https://openrouter.ai/docs/api-reference/list-available-models>).
fn object(model: &ListedModel) -> Value {
    let mut object = json!({"id": model.name, "object": "model", "created": 0, "owned_by": model.provider});
    if let (Some(object), true) = (object.as_object_mut(), model.context_window > 0) {
        object.insert("context_length".to_owned(), model.context_window.into());
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_listed_as_openai_lists_them() {
        let model =
            ListedModel { name: "openai/gpt-4o".into(), provider: "openai".into(), context_window: 128_000 };
        let one: Value = serde_json::from_slice(&one(&model)).unwrap();
        let object = json!({"id": "openai/gpt-4o", "object": "model", "created": 0, "owned_by": "openai", "context_length": 128_000});
        assert_eq!(one, object);
        let all: Value = serde_json::from_slice(&all(&[model])).unwrap();
        assert_eq!(all, json!({"object": "list", "data": [object]}));
    }
}
