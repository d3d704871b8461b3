//! Google's Gemini API (API reference, "models.generateContent", "models.batchEmbedContents"; "API errors"; "Thought
//! signatures").

use super::{
    Recorded,
    dialect::{Answer, Call, Dialect, Pieces, calls, content, header},
    thinking::{signature, thought},
};
use axum::http::StatusCode;
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
        if let Some(why) = unsigned(request) {
            let error = json!({"code": 400, "message": why, "status": "INVALID_ARGUMENT"});
            return Some(Answer::Refused(StatusCode::BAD_REQUEST, self.around(&error)));
        }
        Some(match (model, method) {
            (Some(model), "generateContent") => Answer::Whole(reply(model, &parts(request), true)),
            (Some(model), "streamGenerateContent") => {
                // In a stream the signature of a text may come behind it ("Thought signatures", streaming).
                let mut last = json!({"text": ""});
                if thinks(request) && tools(request).is_empty() {
                    last["thoughtSignature"] = signature("text").into();
                }
                let [start, end] = [reply(model, &json!([]), false), reply(model, &json!([last]), true)];
                let content = chunks(request).into_iter().map(|parts| reply(model, &parts, false));
                if request.query.split('&').any(|field| field == "alt=sse") {
                    Answer::Pieces(Pieces::events(self, &[start], content, &[end]))
                } else {
                    Answer::Whole([start].into_iter().chain(content).chain([end]).collect())
                }
            }
            (Some(_), "batchEmbedContents") => Answer::Whole(embeddings(&request.body)),
            (Some(_), "embedContent") => Answer::Whole(json!({"embedding": vector((0, &request.body))})),
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

    fn otherwise(&self, request: &Recorded) -> Recorded {
        let mut other = request.clone();
        match request.path.strip_suffix(":generateContent") {
            Some(model) => {
                other.path = format!("{model}:streamGenerateContent");
                "alt=sse".clone_into(&mut other.query);
            }
            None => other.path = request.path.replace(":streamGenerateContent", ":generateContent"),
        }
        other
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

fn thinks(request: &Recorded) -> bool {
    request.body.pointer("/generationConfig/thinkingConfig").is_some()
}

/// What was said behind the last question, each with its place: the model's calls and their results.
fn behind_question(request: &Recorded) -> impl Iterator<Item = (usize, &Value)> {
    let contents =
        request.body.get("contents").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_question = |content: &Value| {
        let is_user = content.get("role").is_none_or(|role| role == "user");
        is_user && content.pointer("/parts/0/functionResponse").is_none()
    };
    let behind = contents.iter().rposition(is_question).map_or(0, |place| place + 1);
    contents.iter().enumerate().skip(behind)
}

/// The tools to call: with thinking one after the other, else as the prompt says, unless the conversation ends with a
/// tool's result.
fn tools(request: &Recorded) -> Vec<Call<'_>> {
    let answered =
        behind_question(request).filter(|(_, said)| said.pointer("/parts/0/functionResponse").is_some());
    let answered = answered.count();
    let tools = request.body.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let declared = tools.iter().filter_map(|tool| tool.get("functionDeclarations")?.as_array()).flatten();
    let names = declared.filter_map(|tool| tool.get("name")?.as_str());
    if thinks(request) {
        return calls(request, names.skip(answered).take(1));
    }
    if answered == 0 { calls(request, names) } else { Vec::new() }
}

/// Why the calls behind the last question are not as they were: the first of each step needs its signature ("Thought
/// signatures"; the words: <https://github.com/nanbingxyz/5ire/issues/405>).
fn unsigned(request: &Recorded) -> Option<String> {
    let model =
        behind_question(request).filter(|(_, said)| said.get("role").is_some_and(|role| role == "model"));
    let steps = model.filter(|_| thinks(request)).filter_map(|(place, said)| {
        let parts = said.get("parts").and_then(Value::as_array)?;
        Some((place, parts.iter().find(|part| part.get("functionCall").is_some())?))
    });
    let mut wrong = steps.filter_map(|(place, call)| {
        let name = call.pointer("/functionCall/name").and_then(Value::as_str).unwrap_or_default();
        match call.get("thoughtSignature") {
            None => Some(format!(
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to work \
                 correctly, and missing thought_signature may lead to degraded model performance. Additional data, \
                 function call `default_api:{name}`, position {}.",
                place + 1
            )),
            Some(own) if own == NO_SIGNATURE || *own == signature(name) => None,
            Some(_) => Some("Corrupted thought signature.".to_owned()),
        }
    });
    wrong.next()
}

/// What Google takes in place of a signature, for calls that its model did not make ("Thought signatures", FAQ).
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// The parts of each chunk with content. A call comes as a whole, and has no id: so it is with most models.
fn chunks(request: &Recorded) -> Vec<Value> {
    let calls = tools(request);
    let call = |call: &Call| {
        let mut part = json!({"functionCall": {"name": call.name, "args": call.arguments}});
        if thinks(request) {
            part["thoughtSignature"] = signature(call.name).into();
        }
        json!([part])
    };
    let mut chunks: Vec<_> = if calls.is_empty() {
        content(request).iter().map(|text| json!([{ "text": text }])).collect()
    } else {
        calls.iter().map(call).collect()
    };
    if thinks(request) {
        let round = behind_question(request).count() / 2 + 1;
        chunks.insert(0, json!([{"text": thought(round), "thought": true}]));
    }
    chunks
}

/// The parts of a whole answer.
fn parts(request: &Recorded) -> Value {
    if !tools(request).is_empty() {
        return chunks(request).iter().filter_map(|chunk| chunk.get(0)).cloned().collect();
    }
    let mut said = json!({"text": content(request).concat()});
    if !thinks(request) {
        return json!([said]);
    }
    said["thoughtSignature"] = signature("text").into();
    chunks(request).iter().filter_map(|chunk| chunk.get(0)).take(1).chain([&said]).cloned().collect()
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

/// A text's length in bytes, its place, and 1.
fn vector((index, request): (usize, &Value)) -> Value {
    let text = request.pointer("/content/parts/0/text").and_then(Value::as_str).unwrap_or_default();
    json!({"values": [text.len(), index, 1.0]})
}

/// A vector a text.
fn embeddings(body: &Value) -> Value {
    let requests = body.get("requests").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    json!({
        "embeddings": requests.iter().enumerate().map(vector).collect::<Vec<_>>(),
        "usageMetadata": {"promptTokenCount": requests.len()},
    })
}
