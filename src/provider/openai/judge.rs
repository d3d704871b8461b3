//! Moderation and reranking: small requests, and what their answers say.

use super::reply::Usage;
use crate::{
    balance::Failure,
    provider::{
        Category, ModerationReply, Ranked, RerankReply, RerankRequest, TokenUsage,
        answer::{check_error, malformed, parse, server_error},
        redact::Redactor,
    },
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The body of `POST /rerank`, as [Jina](https://jina.ai/reranker/) has it and
/// [vLLM](https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html#re-rank-api) and others after it.
pub(super) fn rerank_body(model: &str, request: &RerankRequest) -> Value {
    let mut body = json!({ "model": model, "query": request.query, "documents": request.documents });
    if request.top_n > 0
        && let Some(body) = body.as_object_mut()
    {
        body.insert("top_n".into(), request.top_n.into());
    }
    body
}

/// Reads the judgement of one text (OpenAI API reference, "Create moderation").
pub(in crate::provider) fn moderation(body: &[u8], redactor: &Redactor) -> Result<ModerationReply, Failure> {
    let answer: Moderations = parse(body)?;
    check_error(answer.error, redactor)?;
    let judged = answer.results.and_then(|results| results.into_iter().next()).ok_or_else(malformed)?;
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
pub(in crate::provider) fn rerank(
    body: &[u8],
    request: &RerankRequest,
    redactor: &Redactor,
) -> Result<RerankReply, Failure> {
    let answer: Reranked = parse(body)?;
    check_error(answer.error, redactor)?;
    let mut results = Vec::new();
    let mut seen = vec![false; request.documents.len()];
    for result in answer.results.ok_or_else(malformed)? {
        // Neither a document that is not there nor one twice.
        let first = seen.get_mut(result.index).is_some_and(|seen| !std::mem::replace(seen, true));
        if !first || !result.relevance_score.is_finite() {
            return Err(server_error("the provider's order of the documents is none"));
        }
        results.push(Ranked { index: result.index, score: result.relevance_score });
    }
    results.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index)));
    if request.top_n > 0 {
        results.truncate(request.top_n as usize);
    }
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

#[derive(Deserialize)]
struct Place {
    index: usize,
    relevance_score: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{balance::ErrorClass, provider::Target};

    fn redactor() -> Redactor {
        let base_url = "http://h/".parse().unwrap();
        Redactor::new(&Target {
            base_url,
            model: "m".into(),
            fields: [("api_key".into(), "sk-secret-key".into())].into(),
        })
    }

    fn request(documents: usize, top_n: u32) -> RerankRequest {
        RerankRequest { query: "q".into(), documents: vec!["d".into(); documents], top_n }
    }

    #[test]
    fn a_judgement_is_read_with_its_scores() {
        let body = json!({"results": [{
            "flagged": true,
            "categories": {"violence": true, "illicit": null},
            "category_scores": {"violence": 0.9}
        }]});
        let reply = moderation(body.to_string().as_bytes(), &redactor()).unwrap();
        assert!(reply.flagged);
        let seen: Vec<_> = reply.categories.iter().map(|c| (c.name.as_str(), c.flagged, c.score)).collect();
        assert_eq!(seen, [("illicit", false, 0.0), ("violence", true, 0.9)]);
        for wrong in ["{}", r#"{"results":[]}"#, r#"{"results":[{}]}"#, "[1]", "nothing"] {
            let failure = moderation(wrong.as_bytes(), &redactor()).unwrap_err();
            assert_eq!(failure.class, ErrorClass::ServerError, "{wrong}");
        }
        let error = json!({"error": {"message": "no sk-secret-key", "type": "invalid_request_error"}});
        let failure = moderation(error.to_string().as_bytes(), &redactor()).unwrap_err();
        assert!(!failure.message.contains("sk-secret-key"), "{}", failure.message);
    }

    #[test]
    fn an_order_is_read_the_best_first() {
        let read = |results: Value, request: &RerankRequest| {
            let body = json!({"results": results, "usage": {"total_tokens": 9}});
            rerank(body.to_string().as_bytes(), request, &redactor())
        };
        let shuffled = json!([
            {"index": 0, "relevance_score": 0.1},
            {"index": 2, "relevance_score": 0.7, "document": {"text": "d"}},
            {"index": 1, "relevance_score": 0.7}
        ]);
        let reply = read(shuffled.clone(), &request(3, 0)).unwrap();
        assert_eq!(reply.results.iter().map(|ranked| ranked.index).collect::<Vec<_>>(), [1, 2, 0]);
        assert_eq!(reply.usage.total, 9);
        assert_eq!(read(shuffled.clone(), &request(3, 2)).unwrap().results.len(), 2);
        for (wrong, documents) in [
            (shuffled, 2),
            (json!([{"index": 0, "relevance_score": 1}, {"index": 0, "relevance_score": 1}]), 2),
            (json!([{"index": -1, "relevance_score": 1}]), 2),
            (json!([{"index": 0}]), 2),
            (Value::Null, 2),
        ] {
            let failure = read(wrong.clone(), &request(documents, 0)).unwrap_err();
            assert_eq!(failure.class, ErrorClass::ServerError, "{wrong}");
        }
    }

    #[test]
    fn a_bound_is_sent_where_there_is_one() {
        assert_eq!(rerank_body("m", &request(1, 0)), json!({"model": "m", "query": "q", "documents": ["d"]}));
        assert_eq!(rerank_body("m", &request(1, 5))["top_n"], 5);
    }
}
