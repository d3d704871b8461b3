//! Moderation and reranking: what their answers say.

use super::usage::Usage;
use crate::wire::{
    Category, Judgement, ModerationReply, ReadError, RerankReply, RerankRequest, TokenUsage,
    answer::{check_error, no_answer},
    lenient::{Flag, Number, Read, fields, object},
    rerank::{Places, order},
    tree,
};
use serde_json::{Map, Value};

/// Reads the judgements of so many inputs (OpenAI API reference, "Create moderation"), or of all of them together.
pub fn moderation(body: &[u8]) -> Result<ModerationReply, ReadError> {
    let answer: Moderations = object(body)?;
    check_error(&answer.error)?;
    if answer.results.is_empty() {
        return Err(no_answer(body));
    }
    let results = answer.results.into_iter().map(Judged::judgement).collect::<Option<_>>();
    Ok(ModerationReply { results: results.ok_or(ReadError::MALFORMED)? })
}

/// Reads an order of the request's documents; the best first, whatever order they come in. It stands under `results` (Cohere,
/// Jina) or `data` (Voyage, <https://docs.voyageai.com/reference/reranker-api>), or is a list by itself (Hugging Face,
/// <https://huggingface.github.io/text-embeddings-inference/>).
pub fn rerank(body: &[u8], request: &RerankRequest) -> Result<RerankReply, ReadError> {
    if body.trim_ascii_start().starts_with(b"[") {
        tree::begin();
        let places = Places::read(&mut serde_json::Deserializer::from_slice(body))
            .map_err(|_| ReadError::MALFORMED)?;
        let results = order(places.0.unwrap_or_default(), request)?;
        return Ok(RerankReply { results, usage: TokenUsage::default() });
    }
    let answer: Reranked = object(body)?;
    check_error(&answer.error)?;
    let places = answer.results.0.or(answer.data.0).ok_or_else(|| no_answer(body))?;
    let usage =
        answer.usage.or(answer.meta.and_then(|meta| meta.tokens)).map(TokenUsage::from).unwrap_or_default();
    Ok(RerankReply { results: order(places, request)?, usage })
}

fields! {
    struct Moderations {
        error: Value,
        results: Vec<Judged>,
    }
    ignores ["id", "model"]
}

fields! {
    struct Judged {
        flagged: Flag,
        categories: Value,
        category_scores: Value,
    }
    ignores []
}

impl Judged {
    /// None where it says nothing at all. Some servers leave out whether any category applies (Mistral,
    /// <https://docs.mistral.ai/capabilities/guardrailing>).
    fn judgement(self) -> Option<Judgement> {
        let object = |value: Value| match value {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        let (flags, scores) = (object(self.categories), object(self.category_scores));
        if self.flagged.0.is_none() && flags.is_empty() && scores.is_empty() {
            return None;
        }
        let names = flags.keys().chain(scores.keys().filter(|name| !flags.contains_key(*name)));
        let categories: Vec<_> = names
            .map(|name| Category {
                name: name.clone(),
                // Some servers say null for a category that the input cannot have.
                flagged: flags.get(name).and_then(Value::as_bool).unwrap_or_default(),
                score: scores.get(name).and_then(|score| Number::of(score).0).unwrap_or_default(),
            })
            .collect();
        let any = categories.iter().any(|category| category.flagged);
        Some(Judgement { flagged: self.flagged.0.unwrap_or(any), categories })
    }
}

fields! {
    struct Reranked {
        error: Value,
        results: Places,
        data: Places,
        usage: Option<Box<Usage>>,
        meta: Option<Box<Meta>>,
    }
    ignores ["id", "model", "object"]
}

fields! {
    struct Meta {
        tokens: Option<Box<Usage>>,
    }
    ignores []
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
        let reply = moderation(body.to_string().as_bytes()).unwrap().results.remove(0);
        assert!(reply.flagged);
        let seen: Vec<_> = reply.categories.iter().map(|c| (c.name.as_str(), c.flagged, c.score)).collect();
        assert_eq!(seen, [("violence", true, 0.9), ("illicit", false, 0.0)]);
        for wrong in ["{}", r#"{"results":[]}"#, r#"{"results":[{}]}"#, "[1]", "nothing"] {
            assert_eq!(moderation(wrong.as_bytes()), Err(ReadError::MALFORMED), "{wrong}");
        }
        let error = json!({"error": {"message": "no", "type": "invalid_request_error"}});
        let error = reported(moderation(error.to_string().as_bytes()));
        assert_eq!(error, ("invalid_request_error".into(), "no".into()));
    }

    #[test]
    fn an_order_is_read_with_its_usage() {
        let request =
            RerankRequest { query: "q".into(), documents: vec!["d".into(); 2], ..RerankRequest::default() };
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
