//! Models as Anthropic lists them (<https://platform.claude.com/docs/en/api/models-list>).

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

/// The body of `GET /v1/models`: all models, by their ids, in one page. `created` is in seconds since 1970.
#[must_use]
pub fn list<'m>(models: impl IntoIterator<Item = (&'m str, u64)>) -> Vec<u8> {
    let data: Vec<_> = models.into_iter().map(|(id, created)| model(id, created)).collect();
    let id = |model: Option<&Value>| model.and_then(|model| model.get("id")).cloned();
    let (first, last) = (id(data.first()), id(data.last()));
    json!({"data": data, "has_more": false, "first_id": first, "last_id": last}).to_string().into_bytes()
}

/// The body of `GET /v1/models/{id}`.
#[must_use]
pub fn one(id: &str, created: u64) -> Vec<u8> {
    model(id, created).to_string().into_bytes()
}

fn model(id: &str, created: u64) -> Value {
    let created = i64::try_from(created).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    let created = created.unwrap_or_default().to_rfc3339_opts(SecondsFormat::Secs, true);
    json!({"type": "model", "id": id, "display_name": id, "created_at": created, "lifecycle": "active"})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_models_are_one_page() {
        let read = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap();
        let expected = json!({
            "data": [
                {"type": "model", "id": "openai/gpt-4o", "display_name": "openai/gpt-4o",
                    "created_at": "2024-05-13T00:00:00Z", "lifecycle": "active"},
                {"type": "model", "id": "fast", "display_name": "fast", "created_at": "1970-01-01T00:00:00Z",
                    "lifecycle": "active"},
            ],
            "has_more": false, "first_id": "openai/gpt-4o", "last_id": "fast",
        });
        let listed = read(&list([("openai/gpt-4o", 1_715_558_400), ("fast", u64::MAX)]));
        assert_eq!(listed, expected);
        assert_eq!(read(&one("fast", 0)), expected["data"][1]);
        assert_eq!(
            read(&list([])),
            json!({"data": [], "has_more": false, "first_id": null, "last_id": null})
        );
    }
}
