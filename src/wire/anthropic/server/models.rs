//! `GET /v1/models` (<https://docs.claude.com/en/api/models-list>).

use crate::wire::ListedModel;
use serde_json::{Value, json};

/// All models, on one page.
pub fn all(models: &[ListedModel]) -> Vec<u8> {
    let data: Vec<_> = models.iter().map(object).collect();
    let id = |model: Option<&ListedModel>| model.map(|model| model.name.clone());
    json!({"data": data, "has_more": false, "first_id": id(models.first()), "last_id": id(models.last())})
        .to_string()
        .into()
}

/// One model.
pub fn one(model: &ListedModel) -> Vec<u8> {
    object(model).to_string().into()
}

/// "If the release date is unknown, this is set to the epoch", the vendor says.
fn object(model: &ListedModel) -> Value {
    json!({
        "type": "model",
        "id": model.name,
        "display_name": model.name,
        "created_at": "1970-01-01T00:00:00Z",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_listed_as_anthropic_lists_them() {
        let model = ListedModel { name: "fast".into(), ..ListedModel::default() };
        let object = json!({"type": "model", "id": "fast", "display_name": "fast", "created_at": "1970-01-01T00:00:00Z"});
        let all: Value = serde_json::from_slice(&all(&[model])).unwrap();
        assert_eq!(all, json!({"data": [object], "has_more": false, "first_id": "fast", "last_id": "fast"}));
        let none: Value = serde_json::from_slice(&super::all(&[])).unwrap();
        assert_eq!(none["first_id"], Value::Null);
    }
}
