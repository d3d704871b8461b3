//! Embeddings, as servers with OpenAI's API return them (API reference, "Create embeddings").

use super::usage::Usage;
use crate::wire::{
    EmbeddingReply, ReadError, TokenUsage,
    answer::{check_error, no_answer, vectors},
    lenient::{Number, fields, object},
    vector::Vector,
};
use serde_json::Value;

/// Reads embeddings; there must be as many as `count`. `encoding` is the type that was asked for; empty: floating point.
pub fn embeddings(body: &[u8], count: usize, encoding: &str) -> Result<EmbeddingReply, ReadError> {
    let mut answer: Embeddings = object(body)?;
    check_error(&answer.error)?;
    let mut data = std::mem::take(&mut answer.data);
    if data.is_empty() {
        return Err(no_answer(body));
    }
    // In the order of their indices, where these are one for each. Servers that say none, or 0 for all, send them in order.
    let mut indices: Vec<_> = data.iter().map(|datum| datum.index.index()).collect();
    indices.sort_unstable();
    if indices.iter().zip(0..).all(|(index, place)| *index == Some(place)) {
        data.sort_by_key(|datum| datum.index.index());
    } else if indices.first() != indices.last() {
        return Err(ReadError::Malformed("the provider's embeddings have wrong indices"));
    }
    let read = |datum: Datum| datum.embedding.floats(encoding);
    let read = data.into_iter().map(read).collect::<Option<Vec<_>>>();
    let read = read.ok_or(ReadError::Malformed("the provider returned an embedding that is no vector"))?;
    let usage = answer.usage.map(TokenUsage::from).unwrap_or_default();
    Ok(EmbeddingReply { vectors: vectors(read, count)?, usage })
}

fields! {
    struct Embeddings {
        error: Value,
        data: Vec<Datum>,
        usage: Option<Box<Usage>>,
    }
    ignores ["object", "model", "id", "created"]
}

fields! {
    struct Datum {
        index: Number,
        embedding: Vector = "embedding" | "values",
    }
    ignores ["object"]
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use serde_json::json;

    #[test]
    fn embeddings_come_in_the_order_of_the_texts() {
        let read = |data: Value, count| {
            let body = json!({"data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}});
            embeddings(body.to_string().as_bytes(), count, "")
        };
        let shuffled = json!([{"index": 1, "embedding": [3, 4.5]}, {"index": 0, "embedding": [1.0, -2e-1]}]);
        let reply = read(shuffled.clone(), 2).unwrap();
        assert_eq!(reply.vectors, [[1.0, -0.2], [3.0, 4.5]]);
        assert_eq!(reply.usage, TokenUsage { prompt: 3, total: 3, ..TokenUsage::default() });
        let base64 = BASE64_STANDARD.encode([1.0f32, -2.5].map(f32::to_le_bytes).concat());
        assert_eq!(read(json!([{"embedding": base64}]), 1).unwrap().vectors, [[1.0, -2.5]]);
        let unnumbered = json!([{"embedding": [1]}, {"embedding": [2]}]);
        assert_eq!(read(unnumbered, 2).unwrap().vectors, [[1.0], [2.0]]);
        let all_zero =
            json!([{"index": 0, "embedding": [[1, 2]]}, {"index": "0", "embedding": [[3.5, "4"]]}]);
        assert_eq!(read(all_zero, 2).unwrap().vectors, [[1.0, 2.0], [3.5, 4.0]]);
        let packed = json!({"data": [{"embedding": BASE64_STANDARD.encode([1, 0xff])}]}).to_string();
        for (encoding, vector) in [("int8", [1.0, -1.0]), ("ubinary", [1.0, 255.0])] {
            assert_eq!(embeddings(packed.as_bytes(), 1, encoding).unwrap().vectors, [vector]);
        }

        let wrong = [
            (shuffled.clone(), 3),
            (shuffled, 1),
            (json!([{"index": 0, "embedding": [1]}, {"index": 2, "embedding": [2]}]), 2),
            (json!([{"embedding": "AAA"}]), 1),
            (json!([{"embedding": "not base64!"}]), 1),
            (json!([{"embedding": ["x"]}]), 1),
            (json!([{"embedding": []}]), 1),
            (json!([{"embedding": ""}]), 1),
            // More than a float holds, and no number at all.
            (json!([{"embedding": [1e39]}]), 1),
            (json!([{"embedding": BASE64_STANDARD.encode(f32::NAN.to_le_bytes())}]), 1),
            (json!([{}]), 1),
            (Value::Null, 1),
        ];
        for (data, count) in wrong {
            assert!(matches!(read(data.clone(), count), Err(ReadError::Malformed(_))), "{data}");
        }
    }
}
