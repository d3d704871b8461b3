//! Moderation and reranking: what their answers say.

use super::answer::Usage;
use crate::wire::{
    Category, ModerationReply, ReadError, RerankReply, RerankRequest, TokenUsage,
    answer::{check_error, parse},
    rerank::{Place, order},
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Reads the judgement of one text (OpenAI API reference, "Create moderation").
pub fn moderation(body: &[u8]) -> Result<ModerationReply, ReadError> {
    let answer: Moderations = parse(body)?;
    check_error(answer.error)?;
    let judged = answer.results.and_then(|results| results.into_iter().next()).ok_or(ReadError::MALFORMED)?;
    let scores = judged.category_scores;
    let score = |name: &str| scores.get(name).and_then(Value::as_f64).unwrap_or_default();
    let categories = judged.categories.into_iter().map(|(name, flagged)| Category {
        score: score(&name),
        // Some servers say null for a category that the input cannot have.
        flagged: flagged.as_bool().unwrap_or_default(),
        name,
    });
    Ok(ModerationReply { flagged: judged.flagged, categories: categories.collect() })
}

/// Reads an order of the request's documents; the best first, whatever order they come in.
pub fn rerank(body: &[u8], request: &RerankRequest) -> Result<RerankReply, ReadError> {
    let answer: Reranked = parse(body)?;
    check_error(answer.error)?;
    let results = order(answer.results.ok_or(ReadError::MALFORMED)?, request)?;
    let usage = answer.usage.map(TokenUsage::from).unwrap_or_default();
    Ok(RerankReply { results, usage })
}

#[derive(Deserialize)]
struct Moderations {
    error: Option<Value>,
    results: Option<Vec<Judged>>,
}

#[derive(Deserialize)]
struct Judged {
    flagged: bool,
    #[serde(default)]
    categories: Map<String, Value>,
    #[serde(default)]
    category_scores: Map<String, Value>,
}

#[derive(Deserialize)]
struct Reranked {
    error: Option<Value>,
    results: Option<Vec<Place>>,
    usage: Option<Usage>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fixtures::reported;
    use serde_json::json;

    #[test]
    fn a_judgement_is_read_with_its_scores() {
        let body = json!({"results": [{
            "flagged": true,
            "categories": {"violence": true, "illicit": null},
            "category_scores": {"violence": 0.9}
        }]});
        let reply = moderation(body.to_string().as_bytes()).unwrap();
        assert!(reply.flagged);
        let seen: Vec<_> = reply.categories.iter().map(|c| (c.name.as_str(), c.flagged, c.score)).collect();
        assert_eq!(seen, [("illicit", false, 0.0), ("violence", true, 0.9)]);
        for wrong in ["{}", r#"{"results":[]}"#, r#"{"results":[{}]}"#, "[1]", "nothing"] {
            assert_eq!(moderation(wrong.as_bytes()), Err(ReadError::MALFORMED), "{wrong}");
        }
        let error = json!({"error": {"message": "no", "type": "invalid_request_error"}});
        let error = reported(moderation(error.to_string().as_bytes()));
        assert_eq!(error, ("invalid_request_error".into(), "no".into()));
    }

    #[test]
    fn an_order_is_read_with_its_usage() {
        let request = RerankRequest { query: "q".into(), documents: vec!["d".into(); 2], top_n: 0 };
        let read = |results: Value| {
            let body = json!({"results": results, "usage": {"total_tokens": 9}});
            rerank(body.to_string().as_bytes(), &request)
        };
        let place = |index: i32| json!({"index": index, "relevance_score": f64::from(index)});
        let reply = read(json!([place(0), place(1)])).unwrap();
        assert_eq!(reply.results.iter().map(|ranked| ranked.index).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(reply.usage.total, 9);
        for wrong in [json!([place(2)]), json!([place(-1)]), json!([{"index": 0}]), Value::Null] {
            assert!(matches!(read(wrong.clone()), Err(ReadError::Malformed(_))), "{wrong}");
        }
    }
}
