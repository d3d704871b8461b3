//! Google's Gemini API (API reference, "models.generateContent", "models.batchEmbedContents"; "API errors").

use super::{
    Recorded,
    dialect::{Answer, Dialect, Pieces, content, header},
};
use serde_json::{Value, json};

/// Knows its requests by the version in their path.
pub(super) struct Gemini;

impl Dialect for Gemini {
    fn serves(&self, request: &Recorded) -> bool {
        request.path.starts_with("/v1beta/")
    }

    fn key<'a>(&self, request: &'a Recorded) -> Option<&'a str> {
        header(request, "x-goog-api-key")
    }

    fn answer(&self, request: &Recorded) -> Option<Answer> {
        let path = request.path.strip_prefix("/v1beta/")?;
        let (resource, method) = path.split_once(':').unwrap_or((path, ""));
        let model = resource.strip_prefix("models/").or_else(|| resource.strip_prefix("tunedModels/"));
        Some(match (model, method) {
            (Some(model), "generateContent") => Answer::Whole(reply(model, &parts(request), true)),
            (Some(model), "streamGenerateContent") => {
                let [start, end] =
                    [reply(model, &json!([]), false), reply(model, &json!([{"text": ""}]), true)];
                let content = chunks(request).into_iter().map(|parts| reply(model, &parts, false));
                if request.query == "alt=sse" {
                    Answer::Pieces(Pieces::events(self, &[start], content, &[end]))
                } else {
                    Answer::Whole([start].into_iter().chain(content).chain([end]).collect())
                }
            }
            (Some(_), "batchEmbedContents") => Answer::Whole(embeddings(&request.body)),
            (Some(_), "countTokens") => Answer::Whole(json!({"totalTokens": 10})),
            (None, "") if resource == "models" => Answer::Whole(json!({
                "models": [{
                    "name": "models/scripted",
                    "version": "1",
                    "displayName": "Scripted",
                    "inputTokenLimit": 1000,
                    "outputTokenLimit": 1000,
                    "supportedGenerationMethods": ["generateContent", "countTokens"],
                }],
            })),
            _ => return None,
        })
    }

    fn error(&self, status: u16, key: &str) -> Value {
        let (name, message) = match status {
            401 => ("UNAUTHENTICATED", format!("{key} is no valid credential")),
            402 => ("RESOURCE_EXHAUSTED", "Your prepaid credit is used up".to_owned()),
            403 => ("PERMISSION_DENIED", format!("{key} may not use this")),
            404 => ("NOT_FOUND", "The model does not exist".to_owned()),
            429 => ("RESOURCE_EXHAUSTED", "You exceeded your current quota".to_owned()),
            400..500 => ("INVALID_ARGUMENT", "Invalid request".to_owned()),
            503 => ("UNAVAILABLE", "The model is overloaded".to_owned()),
            504 => ("DEADLINE_EXCEEDED", "Took too long".to_owned()),
            _ => ("INTERNAL", "The server had an error".to_owned()),
        };
        self.around(&json!({"code": status, "message": message, "status": name}))
    }
}

/// The tool to call: the first, unless the conversation ends with a tool's result.
fn tool(request: &Recorded) -> Option<&Value> {
    let last = request.body.get("contents").and_then(Value::as_array).and_then(|contents| contents.last());
    let answered = last.is_some_and(|content| content.pointer("/parts/0/functionResponse").is_some());
    request.body.pointer("/tools/0/functionDeclarations/0/name").filter(|_| !answered)
}

/// The parts of each chunk with content. A call comes as a whole, and has no id: so it is with most models.
fn chunks(request: &Recorded) -> Vec<Value> {
    match tool(request) {
        Some(name) => vec![json!([{"functionCall": {"name": name, "args": {}}}])],
        None => content(&request.key).iter().map(|text| json!([{ "text": text }])).collect(),
    }
}

/// The parts of a whole answer.
fn parts(request: &Recorded) -> Value {
    match tool(request) {
        Some(_) => chunks(request).into_iter().next().unwrap_or_default(),
        None => json!([{"text": content(&request.key).concat()}]),
    }
}

/// An answer or a chunk of one. Ten tokens go in, two of them from the cache; a chunk without parts has no candidate.
fn reply(model: &str, parts: &Value, last: bool) -> Value {
    let mut reply = json!({
        "usageMetadata": {"promptTokenCount": 10, "cachedContentTokenCount": 2, "totalTokenCount": 10},
        "modelVersion": model,
        "responseId": "scripted",
    });
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
    if last {
        candidate["finishReason"] = "STOP".into();
        let usage = &mut reply["usageMetadata"];
        usage["candidatesTokenCount"] = 2.into();
        usage["thoughtsTokenCount"] = 1.into();
        usage["totalTokenCount"] = 13.into();
    }
    if parts != &json!([]) {
        reply["candidates"] = json!([candidate]);
    }
    reply
}

/// A vector a text: its length in bytes, its place, and 1.
fn embeddings(body: &Value) -> Value {
    let requests = body.get("requests").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let vector = |(index, request): (usize, &Value)| {
        let text = request.pointer("/content/parts/0/text").and_then(Value::as_str).unwrap_or_default();
        json!({"values": [text.len(), index, 1.0]})
    };
    json!({
        "embeddings": requests.iter().enumerate().map(vector).collect::<Vec<_>>(),
        "usageMetadata": {"promptTokenCount": requests.len()},
    })
}
