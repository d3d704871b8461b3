//! `POST /v1/rerank`, which OpenAI does not have: as Cohere (<https://docs.cohere.com/reference/rerank>), Jina
//! (<https://jina.ai/reranker/>) and Dify have it.

use super::{
    fields::{Fields, Path},
    frames::write,
    once::Once,
};
use crate::wire::{Asked, FieldError, Input, Output, RerankReply, RerankRequest, Stamp};
use serde_json::{Value, json};

/// Cohere recommends at most so many documents, and others take no more.
const MOST_DOCUMENTS: usize = 10_000;

/// Reads a request for translation.
///
/// # Errors
/// What cannot be read, or said to another kind of provider.
pub fn read(body: &[u8]) -> Result<Asked, FieldError> {
    let mut fields = Fields::body(body)?;
    let query = fields.required("query")?;
    let documents = documents(&mut fields)?;
    let shown = if fields.flag("return_documents")? { documents.clone() } else { Vec::new() };
    let request = RerankRequest {
        query,
        documents,
        top_n: fields.count("top_n")?.unwrap_or_default(),
        parameters: {
            fields.take("model");
            fields.rest()
        },
        ..RerankRequest::default()
    };
    let writer = Once::json(move |stamp, output| match output {
        Output::Rerank(reply) => answer(stamp, &reply, &shown),
        _ => Vec::new(),
    });
    Ok(Asked { input: Input::Rerank(request), writer: Box::new(writer) })
}

/// Texts, or objects with one.
fn documents(fields: &mut Fields<'_>) -> Result<Vec<String>, FieldError> {
    let at = Path::Root.key("documents");
    let items = fields.list("documents")?;
    if items.is_empty() || items.len() > MOST_DOCUMENTS {
        return Err(at.wrong(format!("must hold 1 to {MOST_DOCUMENTS} documents")));
    }
    let read = |(place, item): (usize, Value)| {
        let here = at.item(place);
        let text = match item {
            Value::String(text) => text,
            Value::Object(_) => Fields::of(item, &here)?.required("text")?,
            _ => return Err(here.wrong("is neither a string nor an object with a `text`")),
        };
        if text.is_empty() { Err(here.wrong("must not be empty")) } else { Ok(text) }
    };
    items.into_iter().enumerate().map(read).collect()
}

/// Cohere's counts stand in `meta`, those of the others in `usage`.
fn answer(stamp: &Stamp, reply: &RerankReply, shown: &[String]) -> Vec<u8> {
    let results = reply.results.iter().map(|ranked| {
        let mut result = json!({"index": ranked.index, "relevance_score": ranked.score});
        if let Some(text) = shown.get(ranked.index) {
            result["document"] = json!({ "text": text });
        }
        result
    });
    write(&json!({
        "id": stamp.id,
        "model": stamp.model,
        "results": results.collect::<Vec<_>>(),
        "usage": {"prompt_tokens": reply.usage.prompt, "total_tokens": reply.usage.total},
        "meta": {"tokens": {"input_tokens": reply.usage.prompt, "output_tokens": reply.usage.completion}},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Ranked, TokenUsage, openai};

    fn asked(body: &Value) -> Result<Asked, FieldError> {
        read(body.to_string().as_bytes())
    }

    #[test]
    fn an_order_is_written_as_it_is_read() {
        let body = json!({"model": "m", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 2, "max_tokens_per_doc": 9});
        for shown in [false, true] {
            let mut body = body.clone();
            body["return_documents"] = shown.into();
            let Asked { input, mut writer } = asked(&body).unwrap();
            let Input::Rerank(request) = input else { panic!("an order") };
            assert_eq!(
                (request.documents.as_slice(), request.top_n),
                (&["a".to_owned(), "b".to_owned()][..], 2)
            );
            assert_eq!(Value::from(request.parameters.clone()), json!({"max_tokens_per_doc": 9}));
            let usage = TokenUsage { prompt: 4, total: 4, ..TokenUsage::default() };
            let results = vec![Ranked { index: 1, score: 0.9 }, Ranked { index: 0, score: 0.25 }];
            let reply = RerankReply { results, usage };
            let written = writer.whole(&Stamp::default(), Output::Rerank(reply.clone()));
            assert_eq!(openai::judge::rerank(&written, &request).unwrap(), reply);
            let value: Value = serde_json::from_slice(&written).unwrap();
            let document = if shown { json!({"text": "b"}) } else { Value::Null };
            assert_eq!(value["results"][0].get("document").cloned().unwrap_or_default(), document);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let table = [
            (json!({"documents": ["a"]}), "query"),
            (json!({"query": "q"}), "documents"),
            (json!({"query": "q", "documents": [1]}), "documents[0]"),
            (json!({"query": "q", "documents": ["a", ""]}), "documents[1]"),
            (json!({"query": "q", "documents": [{}]}), "documents[0].text"),
            (json!({"query": "q", "documents": ["a"], "top_n": -1}), "top_n"),
        ];
        for (body, field) in table {
            assert_eq!(asked(&body).err().unwrap().field, field, "{body}");
        }
    }
}
