//! Embeddings (<https://ai.google.dev/api/embeddings>).

use super::{contents::user_parts, fields::Fields, kind::KIND};
use crate::wire::{
    EmbeddingInputs, EmbeddingReply, EmbeddingRequest, Extra, FieldError, Part, PartKind, TokenUsage,
};
use serde::Serialize;
use serde_json::{Map, Value};

/// What one text or medium is embedded as.
#[derive(Debug, Clone, Default, PartialEq)]
struct Asked {
    task: String,
    dimensions: u32,
    /// What only Gemini hears.
    kept: Map<String, Value>,
}

/// The request of `:embedContent`, for one content.
pub(super) fn one(body: Fields) -> Result<EmbeddingRequest, FieldError> {
    request(vec![body])
}

/// The request of `:batchEmbedContents`. All of it is one call, so all must be embedded in the same way.
pub(super) fn batch(mut body: Fields) -> Result<EmbeddingRequest, FieldError> {
    body.skip(&["model"]);
    let requests = body.objects("requests")?;
    if requests.is_empty() {
        return Err(body.wrong("requests", "must hold at least one request"));
    }
    body.end()?;
    request(requests)
}

fn request(requests: Vec<Fields>) -> Result<EmbeddingRequest, FieldError> {
    let mut parts = Vec::with_capacity(requests.len());
    let mut asked: Option<Asked> = None;
    let mut titles = Vec::with_capacity(requests.len());
    for mut request in requests {
        request.skip(&["model"]);
        parts.push(content(&mut request)?);
        titles.push(request.text("title")?);
        let own = read(&mut request)?;
        let first = asked.get_or_insert_with(|| own.clone());
        for (name, same) in [
            ("taskType", first.task == own.task),
            ("outputDimensionality", first.dimensions == own.dimensions),
            ("embedContentConfig", first.kept == own.kept),
        ] {
            if !same {
                return Err(request.wrong(name, "must be the same in all requests"));
            }
        }
        request.end()?;
    }
    let Asked { task, dimensions, mut kept } = asked.unwrap_or_default();
    // Only where all have the same can a title be said.
    if let Some(title) =
        titles.first().filter(|first| !first.is_empty() && titles.iter().all(|own| own == *first))
    {
        kept.insert("title".into(), title.clone().into());
    }
    if !task.is_empty() {
        kept.insert("taskType".into(), task.clone().into());
    }
    let kinds = if kept.is_empty() { Vec::new() } else { vec![KIND.to_owned()] };
    Ok(EmbeddingRequest {
        inputs: inputs(parts),
        input_type: input_type(&task).to_owned(),
        dimensions,
        extra: Extra { fields: kept.into(), kinds },
        ..EmbeddingRequest::default()
    })
}

/// What it is embedded as: beside the content, or in a config of its own.
fn read(request: &mut Fields) -> Result<Asked, FieldError> {
    let mut asked = Asked::default();
    if let Some(mut config) = request.object("embedContentConfig")? {
        asked = read(&mut config)?;
        config.keep(&["autoTruncate", "documentOcr", "audioTrackExtraction"], &mut asked.kept);
        config.skip(&["title"]);
        config.end()?;
    }
    let task = request.choice("taskType")?;
    if !task.is_empty() {
        asked.task = task;
    }
    if let Some(dimensions) = request.whole("outputDimensionality")? {
        let read = dimensions.as_u64().and_then(|dimensions| u32::try_from(dimensions).ok());
        asked.dimensions = read.ok_or_else(|| request.wrong("outputDimensionality", "must be a length"))?;
    }
    Ok(asked)
}

/// The parts of a content become one vector. Texts are one text, and a medium stands alone.
fn content(request: &mut Fields) -> Result<Part, FieldError> {
    let missing = request.wrong("content", "must hold at least one part");
    let Some(mut content) = request.object("content")? else { return Err(missing) };
    content.skip(&["role"]);
    let mut parts = user_parts(content.objects("parts")?)?;
    let wrong = content.wrong("parts", "can be texts, or one medium alone");
    content.end()?;
    if parts.len() == 1 {
        return parts.pop().ok_or(missing);
    }
    let texts: Option<Vec<&str>> = parts.iter().map(Part::text).collect();
    match texts {
        Some(texts) if !texts.is_empty() => Ok(PartKind::Text(texts.join("\n")).into()),
        Some(_) => Err(missing),
        None => Err(wrong),
    }
}

fn inputs(parts: Vec<Part>) -> EmbeddingInputs {
    let texts: Option<Vec<String>> = parts.iter().map(|part| part.text().map(ToOwned::to_owned)).collect();
    texts.map_or(EmbeddingInputs::Parts(parts), EmbeddingInputs::Texts)
}

/// Which side of a search it is on (<https://ai.google.dev/gemini-api/docs/embeddings>, task types).
fn input_type(task: &str) -> &'static str {
    match task {
        "RETRIEVAL_QUERY" | "CODE_RETRIEVAL_QUERY" | "QUESTION_ANSWERING" | "FACT_VERIFICATION" => "query",
        "RETRIEVAL_DOCUMENT" => "document",
        _ => "",
    }
}

#[derive(Serialize)]
struct Vector<'v> {
    values: &'v [f32],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    prompt_token_count: u32,
    total_token_count: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'v> {
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<Vector<'v>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    embeddings: Option<Vec<Vector<'v>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_metadata: Option<Usage>,
}

/// The answer: one vector, or a list of them.
pub(super) fn answer(reply: &EmbeddingReply, batch: bool) -> Vec<u8> {
    let mut vectors = reply.vectors.iter().map(|values| Vector { values });
    let TokenUsage { prompt, total, .. } = reply.usage;
    let usage = Usage { prompt_token_count: prompt, total_token_count: total };
    let (embedding, embeddings) =
        if batch { (None, Some(vectors.collect())) } else { (vectors.next(), None) };
    let answer = Answer { embedding, embeddings, usage_metadata: (prompt > 0).then_some(usage) };
    // Numbers are all that it holds.
    serde_json::to_vec(&answer).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: Value) -> Result<EmbeddingRequest, FieldError> {
        batch(Fields::of(body, String::new())?)
    }

    fn text(text: &str) -> Value {
        json!({"model": "models/m", "content": {"parts": [{"text": text}]}})
    }

    #[test]
    fn texts_and_media_are_read() {
        let mut first = text("a");
        first["taskType"] = "RETRIEVAL_DOCUMENT".into();
        first["output_dimensionality"] = 7.into();
        let mut second = first.clone();
        second["content"] = json!({"parts": [{"text": "b"}, {"text": "c"}]});
        second["title"] = "t".into();
        let request = read(json!({"requests": [first.clone(), second]})).unwrap();
        assert_eq!(request.inputs, EmbeddingInputs::Texts(vec!["a".into(), "b\nc".into()]));
        assert_eq!((request.input_type.as_str(), request.dimensions), ("document", 7));
        assert_eq!(Value::from(request.extra.fields), json!({"taskType": "RETRIEVAL_DOCUMENT"}));
        first["title"] = "t".into();
        let request = one(Fields::of(first, String::new()).unwrap()).unwrap();
        assert_eq!(
            Value::from(request.extra.fields),
            json!({"title": "t", "taskType": "RETRIEVAL_DOCUMENT"})
        );
        let image =
            json!({"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": "YWJj"}}]}});
        let EmbeddingInputs::Parts(parts) = read(json!({"requests": [image, text("a")]})).unwrap().inputs
        else {
            panic!()
        };
        assert_eq!((parts.len(), parts[1].text()), (2, Some("a")));
        let config = json!({"content": {"parts": [{"text": "a"}]}, "embedContentConfig": {"taskType": "RETRIEVAL_QUERY"}});
        assert_eq!(read(json!({"requests": [config]})).unwrap().input_type, "query");
    }

    #[test]
    fn what_cannot_be_embedded_is_named() {
        let with = |name: &str, value: Value| {
            let mut request = text("a");
            request[name] = value;
            request
        };
        let two =
            json!({"parts": [{"text": "a"}, {"inlineData": {"mimeType": "image/png", "data": "YWJj"}}]});
        let table = [
            (json!([]), "requests"),
            (json!([{}]), "requests[0].content"),
            (json!([{"content": {"parts": []}}]), "requests[0].content"),
            (json!([{"content": two}]), "requests[0].content.parts"),
            (json!([text("a"), with("taskType", json!("CLUSTERING"))]), "requests[1].taskType"),
            (json!([text("a"), with("outputDimensionality", json!(3))]), "requests[1].outputDimensionality"),
            (json!([with("outputDimensionality", json!(-1))]), "requests[0].outputDimensionality"),
            (json!([with("tomorrow", json!(1))]), "requests[0].tomorrow"),
        ];
        for (requests, field) in table {
            assert_eq!(read(json!({ "requests": requests })).unwrap_err().field, field, "{requests}");
        }
    }

    #[test]
    fn vectors_are_written_with_their_digits() {
        let reply =
            EmbeddingReply { vectors: vec![vec![0.1, -2.5], vec![1e-7]], ..EmbeddingReply::default() };
        assert_eq!(answer(&reply, true), br#"{"embeddings":[{"values":[0.1,-2.5]},{"values":[1e-7]}]}"#);
        let usage = TokenUsage { prompt: 3, total: 3, ..TokenUsage::default() };
        let expected = br#"{"embedding":{"values":[0.1,-2.5]},"usageMetadata":{"promptTokenCount":3,"totalTokenCount":3}}"#;
        assert_eq!(answer(&EmbeddingReply { usage, ..reply }, false), expected);
    }
}
