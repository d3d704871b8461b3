//! `POST /v1/embeddings` (<https://platform.openai.com/docs/api-reference/embeddings/create>).

use super::{
    fields::{Fields, Path},
    frames::write,
    once::Once,
};
use crate::wire::{
    Asked, EmbeddingInputs, EmbeddingReply, EmbeddingRequest, FieldError, Input, Output, Stamp,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Serialize;
use serde_json::{Value, json};

/// OpenAI takes at most so many inputs (API reference, `input`).
const MOST_INPUTS: usize = 2048;

/// Reads a request for translation.
///
/// # Errors
/// What cannot be read, or said to another kind of provider.
pub fn read(body: &[u8]) -> Result<Asked, FieldError> {
    let mut fields = Fields::body(body)?;
    let at = Path::Root.key("input");
    let inputs = inputs(fields.take("input"), &at)?;
    if inputs.is_empty() || inputs.len() > MOST_INPUTS {
        return Err(at.wrong(format!("must hold 1 to {MOST_INPUTS} inputs")));
    }
    let packed = match fields.text("encoding_format")?.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(fields.wrong("encoding_format", "is `float` or `base64`")),
    };
    let dimensions = fields.count("dimensions")?;
    if dimensions == Some(0) {
        return Err(fields.wrong("dimensions", "must be at least 1"));
    }
    let request = EmbeddingRequest {
        inputs,
        // Not OpenAI's: whether texts are documents or queries, as Cohere and others ask.
        input_type: fields.text("input_type")?.unwrap_or_default(),
        dimensions: dimensions.unwrap_or_default(),
        user: fields.text("user")?.unwrap_or_default(),
        parameters: {
            fields.take("model");
            fields.rest()
        },
        ..EmbeddingRequest::default()
    };
    let writer = Once::json(move |stamp, output| match output {
        Output::Embeddings(reply) => answer(stamp, &reply, packed),
        _ => Vec::new(),
    });
    Ok(Asked { input: Input::Embeddings(request), writer: Box::new(writer) })
}

/// A text, its tokens, or a list of either.
fn inputs(value: Option<Value>, at: &Path<'_>) -> Result<EmbeddingInputs, FieldError> {
    let items = match value {
        None => return Err(at.wrong("is required")),
        Some(Value::String(text)) => vec![Value::String(text)],
        Some(Value::Array(items)) => items,
        Some(_) => return Err(at.wrong("is neither a string nor a list")),
    };
    match items.first() {
        Some(Value::Number(_)) => Ok(EmbeddingInputs::Tokens(vec![tokens(items, at)?])),
        Some(Value::Array(_)) => {
            let read = |(place, item): (usize, Value)| match item {
                Value::Array(items) if !items.is_empty() => tokens(items, &at.item(place)),
                _ => Err(at.item(place).wrong("is not a list of tokens")),
            };
            Ok(EmbeddingInputs::Tokens(items.into_iter().enumerate().map(read).collect::<Result<_, _>>()?))
        }
        _ => {
            let read = |(place, item): (usize, Value)| match item {
                Value::String(text) if !text.is_empty() => Ok(text),
                Value::String(_) => Err(at.item(place).wrong("must not be empty")),
                _ => Err(at.item(place).wrong("is not a string")),
            };
            Ok(EmbeddingInputs::Texts(items.into_iter().enumerate().map(read).collect::<Result<_, _>>()?))
        }
    }
}

fn tokens(items: Vec<Value>, at: &Path<'_>) -> Result<Vec<u32>, FieldError> {
    let token = |(place, item): (usize, Value)| {
        let token = item.as_u64().and_then(|token| u32::try_from(token).ok());
        token.ok_or_else(|| at.item(place).wrong("is not a token"))
    };
    items.into_iter().enumerate().map(token).collect()
}

/// An embedding, without a tree in between: there are thousands of numbers in one.
#[derive(Serialize)]
struct Datum<'r> {
    object: &'static str,
    index: usize,
    embedding: Vector<'r>,
}

/// As numbers, or as little-endian floats in base64 (API reference, `encoding_format`): what OpenAI's clients ask for
/// unless they are told otherwise
/// (<https://github.com/openai/openai-python/blob/main/src/openai/resources/embeddings.py>).
#[derive(Serialize)]
#[serde(untagged)]
enum Vector<'r> {
    Numbers(&'r [f32]),
    Packed(String),
}

#[derive(Serialize)]
struct Answer<'r> {
    object: &'static str,
    data: Vec<Datum<'r>>,
    model: &'r str,
    usage: Value,
}

fn answer(stamp: &Stamp, reply: &EmbeddingReply, packed: bool) -> Vec<u8> {
    let vector = |numbers| if packed { Vector::Packed(pack(numbers)) } else { Vector::Numbers(numbers) };
    let data = reply.vectors.iter().enumerate();
    let data = data.map(|(index, numbers)| Datum { object: "embedding", index, embedding: vector(numbers) });
    write(&Answer {
        object: "list",
        data: data.collect(),
        model: &stamp.model,
        usage: json!({"prompt_tokens": reply.usage.prompt, "total_tokens": reply.usage.total}),
    })
}

fn pack(numbers: &[f32]) -> String {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    BASE64_STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{TokenUsage, openai};

    fn asked(body: &Value) -> Result<Asked, FieldError> {
        read(body.to_string().as_bytes())
    }

    fn request(body: &Value) -> EmbeddingRequest {
        match asked(body).unwrap().input {
            Input::Embeddings(request) => request,
            _ => panic!("embeddings"),
        }
    }

    #[test]
    fn inputs_are_texts_or_tokens() {
        let texts =
            |texts: &[&str]| EmbeddingInputs::Texts(texts.iter().map(|text| (*text).to_owned()).collect());
        let table = [
            (json!("a"), texts(&["a"])),
            (json!(["a", "b"]), texts(&["a", "b"])),
            (json!([1, 2]), EmbeddingInputs::Tokens(vec![vec![1, 2]])),
            (json!([[1], [2, 3]]), EmbeddingInputs::Tokens(vec![vec![1], vec![2, 3]])),
        ];
        for (input, expected) in table {
            assert_eq!(request(&json!({ "input": input })).inputs, expected, "{input}");
        }
        let body = json!({"input": "a", "model": "m", "dimensions": 3, "user": "u", "input_type": "query", "truncate": "END"});
        let request = request(&body);
        assert_eq!((request.dimensions, &*request.user, &*request.input_type), (3, "u", "query"));
        assert_eq!(Value::from(request.parameters), json!({"truncate": "END"}));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let table = [
            (json!({}), "input"),
            (json!({"input": []}), "input"),
            (json!({"input": {}}), "input"),
            (json!({"input": ""}), "input[0]"),
            (json!({"input": ["a", 1]}), "input[1]"),
            (json!({"input": [1, "a"]}), "input[1]"),
            (json!({"input": [[1], []]}), "input[1]"),
            (json!({"input": [[1, -1]]}), "input[0][1]"),
            (json!({"input": vec!["a"; MOST_INPUTS + 1]}), "input"),
            (json!({"input": "a", "encoding_format": "int8"}), "encoding_format"),
            (json!({"input": "a", "dimensions": 0}), "dimensions"),
        ];
        for (body, field) in table {
            assert_eq!(asked(&body).err().unwrap().field, field, "{body}");
        }
    }

    #[test]
    fn both_encodings_are_read_as_they_were() {
        let usage = TokenUsage { prompt: 3, total: 3, ..TokenUsage::default() };
        let reply = EmbeddingReply { vectors: vec![vec![0.1, -2.5], vec![1e-8, 3.0]], usage };
        let stamp = Stamp { model: "m".into(), ..Stamp::default() };
        for encoding in [Value::Null, "float".into(), "base64".into()] {
            let mut writer =
                asked(&json!({"input": ["a", "b"], "encoding_format": encoding})).unwrap().writer;
            let body = writer.whole(&stamp, Output::Embeddings(reply.clone()));
            assert_eq!(openai::embeddings::embeddings(&body, 2, "").unwrap(), reply);
            let value: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(value["data"][1]["embedding"].is_string(), encoding == "base64");
            assert_eq!((&value["object"], &value["model"]), (&json!("list"), &json!("m")));
        }
    }
}
