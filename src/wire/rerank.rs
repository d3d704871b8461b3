//! Reranking of documents, as the drivers and the edge share it, and what most vendors' wires have in common.

use super::{
    Extra, ReadError, Recipient, TokenUsage,
    lenient::{Number, Read},
    tree::tree,
};
use serde::Deserializer;
use serde_json::{Map, Value};

/// One reranking request.
#[derive(Debug, Clone, Default)]
pub struct RerankRequest {
    /// What is looked for.
    pub query: String,
    /// What to put in order.
    pub documents: Vec<String>,
    /// At most this many results; 0: all.
    pub top_n: u32,
    /// The provider's own parameters, in the caller's order.
    pub parameters: Map<String, Value>,
    /// More keys for the vendor's request.
    pub extra: Extra,
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
pub fn body(to: Recipient<'_>, request: &RerankRequest) -> Value {
    let mut body = request.parameters.clone();
    body.insert("model".into(), to.model.into());
    body.insert("query".into(), request.query.clone().into());
    body.insert("documents".into(), request.documents.clone().into());
    if request.top_n > 0 {
        body.insert("top_n".into(), request.top_n.into());
    }
    request.extra.add_to(&mut body, to.kind);
    Value::Object(body)
}

/// One document's place in such an answer.
pub(super) struct Place {
    index: Number,
    score: Number,
}

/// The places; none where there is no list of them.
#[derive(Default)]
pub(super) struct Places(pub(super) Option<Vec<Place>>);

impl Read for Places {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A list that is empty is one.
        let value = tree(deserializer)?;
        let Value::Array(items) = value else { return Ok(Self(None)) };
        let places = items.iter().map(|item| Place {
            index: item.get("index").or_else(|| item.get("corpus_id")).map(Number::of).unwrap_or_default(),
            score: item
                .get("relevance_score")
                .or_else(|| item.get("score"))
                .map(Number::of)
                .unwrap_or_default(),
        });
        Ok(Self(Some(places.collect())))
    }
}

/// An order of the request's documents; the best first, whatever order they come in.
pub(super) fn order(places: Vec<Place>, request: &RerankRequest) -> Result<Vec<Ranked>, ReadError> {
    let mut results = Vec::new();
    let mut seen = vec![false; request.documents.len()];
    for place in places {
        // Neither a document that is not there nor one twice.
        let index = place.index.index().and_then(|index| usize::try_from(index).ok());
        let first = |index: &usize| seen.get_mut(*index).is_some_and(|seen| !std::mem::replace(seen, true));
        let (Some(index), Some(score)) = (index.filter(first), place.score.0) else {
            return Err(ReadError::Malformed("the provider's order of the documents is none"));
        };
        results.push(Ranked { index, score });
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
    use serde_json::json;

    fn request(documents: usize, top_n: u32) -> RerankRequest {
        RerankRequest {
            query: "q".into(),
            documents: vec!["d".into(); documents],
            top_n,
            ..RerankRequest::default()
        }
    }

    #[test]
    fn an_order_is_read_the_best_first() {
        let read = |places: &Value, documents: usize, top_n: u32| {
            let places = Places::read(places.clone()).unwrap().0.unwrap();
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
        let to = Recipient { kind: "cohere", model: "m", switches: crate::wire::Switches::NONE };
        assert_eq!(body(to, &request(1, 0)), json!({"model": "m", "query": "q", "documents": ["d"]}));
        assert_eq!(body(to, &request(1, 5))["top_n"], 5);
    }
}
