//! Reranking of documents, as the drivers and the edge share it, and what most vendors' wires have in common.

use super::{ReadError, TokenUsage};
use serde::Deserialize;
use serde_json::{Value, json};

/// One reranking request.
#[derive(Debug, Clone, Default)]
pub struct RerankRequest {
    /// What is looked for.
    pub query: String,
    /// What to put in order.
    pub documents: Vec<String>,
    /// At most this many results; 0: all.
    pub top_n: u32,
}

/// One reranking answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RerankReply {
    /// The best first; at most [`RerankRequest::top_n`].
    pub results: Vec<Ranked>,
    /// What it used.
    pub usage: TokenUsage,
}

/// One document's place.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ranked {
    /// Its index among the request's documents.
    pub index: usize,
    /// How well it fits: the provider's measure, the higher the better.
    pub score: f64,
}

/// The body of `POST /rerank`, as [Cohere](https://docs.cohere.com/reference/rerank) has it, and
/// [Jina](https://jina.ai/reranker/), [vLLM](https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html#re-rank-api)
/// and others after it.
pub fn body(model: &str, request: &RerankRequest) -> Value {
    let mut body = json!({ "model": model, "query": request.query, "documents": request.documents });
    if request.top_n > 0
        && let Some(body) = body.as_object_mut()
    {
        body.insert("top_n".into(), request.top_n.into());
    }
    body
}

/// One document's place in such an answer.
#[derive(Deserialize)]
pub(super) struct Place {
    index: usize,
    relevance_score: f64,
}

/// An order of the request's documents; the best first, whatever order they come in.
pub(super) fn order(places: Vec<Place>, request: &RerankRequest) -> Result<Vec<Ranked>, ReadError> {
    let mut results = Vec::new();
    let mut seen = vec![false; request.documents.len()];
    for place in places {
        // Neither a document that is not there nor one twice.
        let first = seen.get_mut(place.index).is_some_and(|seen| !std::mem::replace(seen, true));
        if !first || !place.relevance_score.is_finite() {
            return Err(ReadError::Malformed("the provider's order of the documents is none"));
        }
        results.push(Ranked { index: place.index, score: place.relevance_score });
    }
    results.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index)));
    if request.top_n > 0 {
        results.truncate(request.top_n as usize);
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(documents: usize, top_n: u32) -> RerankRequest {
        RerankRequest { query: "q".into(), documents: vec!["d".into(); documents], top_n }
    }

    #[test]
    fn an_order_is_read_the_best_first() {
        let read = |places: &Value, documents: usize, top_n: u32| {
            let places = serde_json::from_value(places.clone()).unwrap();
            order(places, &request(documents, top_n))
                .map(|results| results.into_iter().map(|ranked| ranked.index).collect::<Vec<_>>())
        };
        let shuffled = json!([
            {"index": 0, "relevance_score": 0.1},
            {"index": 2, "relevance_score": 0.7, "document": {"text": "d"}},
            {"index": 1, "relevance_score": 0.7}
        ]);
        assert_eq!(read(&shuffled, 3, 0), Ok(vec![1, 2, 0]));
        assert_eq!(read(&shuffled, 3, 2), Ok(vec![1, 2]));
        let twice = json!([{"index": 0, "relevance_score": 1}, {"index": 0, "relevance_score": 1}]);
        for wrong in [shuffled, twice] {
            assert!(matches!(read(&wrong, 2, 0), Err(ReadError::Malformed(_))), "{wrong}");
        }
    }

    #[test]
    fn a_bound_is_sent_where_there_is_one() {
        assert_eq!(body("m", &request(1, 0)), json!({"model": "m", "query": "q", "documents": ["d"]}));
        assert_eq!(body("m", &request(1, 5))["top_n"], 5);
    }
}
