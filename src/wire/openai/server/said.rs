//! What the messages of answers hold, in OpenAI's form, whole or in pieces (API reference, "The chat completion object").

use crate::wire::{Annotation, Media, MediaSource, Part, PartKind, ToolCall};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

/// A call of a tool.
pub(super) fn tool_call(call: &ToolCall) -> Value {
    json!({"id": call.id, "type": "function", "function": function(call)})
}

/// The function that is called.
pub(super) fn function(call: &ToolCall) -> Value {
    json!({"name": call.name, "arguments": call.arguments})
}

/// A reference, where it has an address: OpenAI knows no other. Those of other vendors say nothing of where in the text they
/// stand, so they stand nowhere.
pub(super) fn annotation(annotation: &Annotation) -> Option<Value> {
    if annotation.json.get("url_citation").is_some_and(Value::is_object) {
        return Some(annotation.json.clone());
    }
    (!annotation.url.is_empty()).then(|| {
        let mut citation =
            json!({"url": annotation.url, "title": annotation.title, "start_index": 0, "end_index": 0});
        // OpenRouter's (<https://openrouter.ai/docs/guides/features/plugins/web-search>).
        if !annotation.text.is_empty() {
            citation["content"] = annotation.text.clone().into();
        }
        json!({"type": "url_citation", "url_citation": citation})
    })
}

/// The pictures of an answer, as OpenRouter has them
/// (<https://openrouter.ai/docs/guides/overview/multimodal/image-generation>). The first has that index.
pub(super) fn images(parts: &[Part], first: usize) -> Vec<Value> {
    let images = parts.iter().filter_map(|part| match &part.kind {
        PartKind::Image(media) => url(media),
        _ => None,
    });
    (first..)
        .zip(images)
        .map(|(index, url)| json!({"type": "image_url", "image_url": {"url": url}, "index": index}))
        .collect()
}

fn url(media: &Media) -> Option<String> {
    match &media.source {
        MediaSource::Url(url) => Some(url.clone()),
        MediaSource::Data(bytes) => {
            Some(format!("data:{};base64,{}", media.mime_type, BASE64_STANDARD.encode(bytes)))
        }
        MediaSource::File(_) => None,
    }
}

/// The speech of an answer (<https://platform.openai.com/docs/guides/audio>). Nobody keeps it, so it has expired.
pub(super) fn audio(parts: &[Part], id: &str, created: u64) -> Option<Value> {
    parts.iter().find_map(|part| match &part.kind {
        PartKind::Audio(Media { source: MediaSource::Data(bytes), .. }) => Some(json!({
            "id": part.extra.fields.get("id").cloned().unwrap_or_else(|| id.into()),
            "data": BASE64_STANDARD.encode(bytes),
            "expires_at": created,
            "transcript": part.extra.fields.get("transcript").cloned().unwrap_or_else(|| "".into()),
        })),
        _ => None,
    })
}

/// Log probabilities of tokens, of whichever vendor: OpenAI's, Gemini's (API reference, "LogprobsResult"), Cohere's (API
/// reference, "Chat", `logprobs`: texts that may be more than one token).
pub(super) fn logprobs(given: Option<&Value>) -> Value {
    let tokens = match given {
        Some(own) if own.get("content").is_some() || own.get("refusal").is_some() => return own.clone(),
        // In a stream Cohere sends one text at a time.
        Some(text) if text.get("logprobs").is_some() => of_cohere(text).map(|token| vec![token]),
        Some(Value::Object(gemini)) => of_gemini(gemini),
        Some(Value::Array(texts)) => texts.iter().map(of_cohere).collect(),
        _ => None,
    };
    tokens.map_or(Value::Null, |content| json!({"content": content, "refusal": null}))
}

fn token(text: &Value, logprob: &Value) -> Map<String, Value> {
    let bytes = text.as_str().map(str::as_bytes);
    let mut out = Map::new();
    out.insert("token".to_owned(), text.clone());
    out.insert("logprob".to_owned(), logprob.clone());
    out.insert("bytes".to_owned(), json!(bytes));
    out
}

fn of_gemini(result: &Map<String, Value>) -> Option<Vec<Value>> {
    let one = |candidate: &Value| Some(token(candidate.get("token")?, candidate.get("logProbability")?));
    let top = result.get("topCandidates").and_then(Value::as_array);
    let chosen = result.get("chosenCandidates")?.as_array()?;
    let with_others = |(place, candidate): (usize, &Value)| {
        let others = top.and_then(|top| top.get(place)?.get("candidates")?.as_array());
        let others: Vec<Value> = others.into_iter().flatten().filter_map(one).map(Value::from).collect();
        let mut out = one(candidate)?;
        out.insert("top_logprobs".to_owned(), others.into());
        Some(out.into())
    };
    chosen.iter().enumerate().map(with_others).collect()
}

fn of_cohere(text: &Value) -> Option<Value> {
    let sum: Option<f64> = text.get("logprobs")?.as_array()?.iter().map(Value::as_f64).sum();
    let mut out = token(text.get("text")?, &json!(sum?));
    out.insert("top_logprobs".to_owned(), json!([]));
    Some(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_have_openais_form() {
        let own = json!({"content": [{"token": "a"}], "refusal": null});
        assert_eq!(logprobs(Some(&own)), own);
        let gemini = json!({
            "chosenCandidates": [{"token": "a", "tokenId": 1, "logProbability": -0.5}],
            "topCandidates": [{"candidates": [{"token": "b", "logProbability": -1.5}]}],
        });
        let cohere = json!([{"token_ids": [1, 2], "text": "a", "logprobs": [-0.25, -0.25]}]);
        let expected = |top: Value| {
            json!({"content": [
            {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": top},
        ], "refusal": null})
        };
        let top = json!([{"token": "b", "logprob": -1.5, "bytes": [98]}]);
        assert_eq!(logprobs(Some(&gemini)), expected(top));
        assert_eq!(logprobs(Some(&cohere)), expected(json!([])));
        assert_eq!(logprobs(cohere.get(0)), expected(json!([])));
        for odd in [json!({}), json!("x"), json!([1])] {
            assert_eq!(logprobs(Some(&odd)), Value::Null);
        }
        assert_eq!(logprobs(None), Value::Null);
    }

    #[test]
    fn references_need_an_address() {
        let own = json!({"type": "url_citation", "url_citation": {"url": "https://h", "start_index": 3}});
        let read = |url: &str, json: Value| {
            annotation(&Annotation { url: url.into(), text: "t".into(), json, ..Annotation::default() })
        };
        assert_eq!(read("https://h", own.clone()), Some(own));
        let citation =
            json!({"url": "https://h", "title": "", "start_index": 0, "end_index": 0, "content": "t"});
        assert_eq!(
            read("https://h", json!({"type": "page"})),
            Some(json!({"type": "url_citation", "url_citation": citation}))
        );
        assert_eq!(read("", Value::Null), None);
    }
}
