//! The conversation as Gemini takes it (API reference, "Content", "Part"). Pure.

use super::parameters::is_new;
use crate::wire::{
    Content, Extra, Media, MediaSource, Message, Part, PartKind, Recipient, ToolCall, WriteError,
    media::{data_url, essence},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};

/// In place of a signature where nothing was given: for calls that the model did not make ("Thought signatures", FAQ).
pub(super) const NO_SIGNATURE: &str = "skip_thought_signature_validator";

fn is_system(message: &Message) -> bool {
    matches!(message.role.as_str(), "system" | "developer")
}

/// The system messages, wherever they stand: Gemini takes them beside the conversation.
pub(super) fn system(messages: &[Message], to: Recipient<'_>) -> Result<Vec<Value>, WriteError> {
    let mut parts = Vec::new();
    for (place, message) in messages.iter().enumerate().filter(|(_, message)| is_system(message)) {
        let own = match &message.content {
            Content::Text(text) if text.is_empty() => continue,
            Content::Text(text) => vec![json!({ "text": text })],
            Content::Parts(own) if own.iter().all(|each| each.text().is_some()) => {
                own.iter().map(|each| part(each, to)).collect()
            }
            Content::Parts(_) => {
                let why = "system messages must be text for this provider";
                return Err(WriteError::new(format!("messages[{place}].parts"), why));
            }
        };
        parts.extend(own);
    }
    Ok(parts)
}

/// The conversation without its system messages. Results of tools become a user's; those in a row become one, as all of a
/// turn's results must come together ("Function calling", parallel calls).
pub(super) fn contents(messages: &[Message], to: Recipient<'_>) -> Result<Vec<Value>, WriteError> {
    let mut out = Vec::new();
    let mut results: Vec<Value> = Vec::new();
    let mut names: HashMap<&str, &str> = HashMap::new();
    for (place, message) in messages.iter().enumerate().filter(|(_, message)| !is_system(message)) {
        let field = format!("messages[{place}]");
        if message.role == "tool" {
            results.push(result(message, &names, &field, to)?);
            continue;
        }
        flush(&mut results, &mut out);
        names.extend(message.tool_calls.iter().map(|call| (call.id.as_str(), call.name.as_str())));
        let parts = said(message, &field, to)?;
        // `name` has no place there.
        let role = if message.role == "assistant" { "model" } else { "user" };
        let mut content = Map::new();
        content.insert("role".into(), role.into());
        content.insert("parts".into(), parts.into());
        message.extra.add_to(&mut content, to.kind);
        out.push(content.into());
    }
    flush(&mut results, &mut out);
    Ok(out)
}

/// What a message says, its calls last. Each signature stands at the part that it came with ("Thought signatures"); where
/// a model that asks for one gave none, the first call bears the stand-in. Thoughts are output and stay here.
fn said(message: &Message, field: &str, to: Recipient<'_>) -> Result<Vec<Value>, WriteError> {
    let own: Vec<_> = message.reasoning.iter().filter(|piece| piece.kind == to.kind).collect();
    let thoughts: HashSet<i32> =
        own.iter().filter(|piece| !piece.text.is_empty()).map(|piece| piece.index).collect();
    let mut signatures: HashMap<i32, &str> = HashMap::new();
    let mut of_calls: HashMap<&str, &str> = HashMap::new();
    for piece in own.iter().filter(|piece| !piece.signature.is_empty()) {
        if piece.id.is_empty() {
            signatures.insert(piece.index, &piece.signature);
        } else {
            of_calls.insert(&piece.id, &piece.signature);
        }
    }
    let mut parts: Vec<Value> = match &message.content {
        Content::Text(text)
            if text.is_empty() && !(message.tool_calls.is_empty() && signatures.is_empty()) =>
        {
            Vec::new()
        }
        Content::Text(text) => vec![json!({ "text": text })],
        Content::Parts(parts) => parts
            .iter()
            .filter(|each| each.kind != PartKind::Opaque || each.extra.is_for(to.kind))
            .map(|each| part(each, to))
            .collect(),
    };
    let mut place = 0;
    for part in &mut parts {
        while thoughts.contains(&place) {
            place += 1;
        }
        if let (Some(signature), Some(part)) = (signatures.remove(&place), part.as_object_mut()) {
            part.insert("thoughtSignature".into(), signature.into());
        }
        place += 1;
    }
    // A signature behind everything comes with a text that is empty.
    if let Some((_, signature)) = signatures.into_iter().max_by_key(|(place, _)| *place)
        && message.tool_calls.is_empty()
    {
        parts.push(json!({"text": "", "thoughtSignature": signature}));
    }
    for (number, call) in message.tool_calls.iter().enumerate() {
        let stand_in = (number == 0 && of_calls.is_empty() && is_new(to.model)).then_some(NO_SIGNATURE);
        let signature = of_calls.get(call.id.as_str()).copied().or(stand_in);
        parts.push(function_call(call, signature, &format!("{field}.tool_calls[{number}]"), to)?);
    }
    Ok(parts)
}

fn flush(results: &mut Vec<Value>, out: &mut Vec<Value>) {
    if !results.is_empty() {
        out.push(json!({"role": "user", "parts": std::mem::take(results)}));
    }
}

/// Gemini takes the arguments as an object, where the contract has the model's text.
fn function_call(
    call: &ToolCall,
    signature: Option<&str>,
    field: &str,
    to: Recipient<'_>,
) -> Result<Value, WriteError> {
    let text = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    let args: Map<String, Value> = serde_json::from_str(text).map_err(|_| {
        WriteError::new(format!("{field}.function.arguments"), "must be a JSON object for this provider")
    })?;
    let mut out = Map::new();
    out.insert("functionCall".into(), identified(&call.id, json!({"name": call.name, "args": args})));
    if let Some(signature) = signature {
        out.insert("thoughtSignature".into(), signature.into());
    }
    call.extra.add_to(&mut out, to.kind);
    Ok(Value::Object(out))
}

/// Gemini wants the function's name, and an object. What is none stands under `output` (API reference,
/// "FunctionResponse"), and media beside it ("Function calling", multimodal function responses).
fn result(
    message: &Message,
    names: &HashMap<&str, &str>,
    field: &str,
    to: Recipient<'_>,
) -> Result<Value, WriteError> {
    let id = message.tool_call_id.as_str();
    let named = names.get(id).copied().or(Some(message.name.as_str())).filter(|name| !name.is_empty());
    let name =
        named.ok_or_else(|| WriteError::new(format!("{field}.tool_call_id"), "answers no call before it"))?;
    let text = message.content.text();
    let response: Map<String, Value> = serde_json::from_str(&text)
        .unwrap_or_else(|_| Map::from_iter([("output".to_owned(), Value::String(text))]));
    let media: Vec<Value> = match &message.content {
        Content::Text(_) => Vec::new(),
        Content::Parts(parts) => {
            let media = parts.iter().filter(|each| each.text().is_none() && each.kind != PartKind::Opaque);
            media.map(|each| part(each, to)).collect()
        }
    };
    let mut out = identified(id, json!({"name": name, "response": response}));
    if let Some(out) = out.as_object_mut().filter(|_| !media.is_empty()) {
        out.insert("parts".into(), media.into());
    }
    Ok(with(json!({ "functionResponse": out }), &message.extra, to))
}

/// Adds the call's id, where it has one.
fn identified(id: &str, mut value: Value) -> Value {
    if let Some(value) = value.as_object_mut().filter(|_| !id.is_empty()) {
        value.insert("id".into(), id.into());
    }
    value
}

/// An object with its further keys.
pub(super) fn with(mut object: Value, extra: &Extra, to: Recipient<'_>) -> Value {
    if let Some(fields) = object.as_object_mut() {
        extra.add_to(fields, to.kind);
    }
    object
}

pub(super) fn part(part: &Part, to: Recipient<'_>) -> Value {
    let written = match &part.kind {
        PartKind::Text(text) => json!({ "text": text }),
        PartKind::Image(media)
        | PartKind::Audio(media)
        | PartKind::Document(media)
        | PartKind::Video(media) => medium(media),
        PartKind::Opaque => json!({}),
    };
    with(written, &part.extra, to)
}

fn medium(media: &Media) -> Value {
    let inline = |mime_type: String, data: &str| json!({"inlineData": {"mimeType": mime_type, "data": data}});
    let file = |uri: &str| {
        let given = (!media.mime_type.is_empty()).then(|| essence(&media.mime_type));
        match given.or_else(|| by_ending(uri).map(ToOwned::to_owned)) {
            Some(mime_type) => json!({"fileData": {"mimeType": mime_type, "fileUri": uri}}),
            None => json!({"fileData": {"fileUri": uri}}),
        }
    };
    match &media.source {
        MediaSource::Data(bytes) => inline(essence(&media.mime_type), &BASE64_STANDARD.encode(bytes)),
        MediaSource::Url(url) => match data_url(url) {
            Some((mime_type, data)) => inline(mime_type, data),
            None => file(url),
        },
        MediaSource::File(id) => file(id),
    }
}

/// What a file most likely is. Gemini does not look by itself; files that were uploaded to it have a type already.
pub(super) fn by_ending(url: &str) -> Option<&'static str> {
    const ENDINGS: &[(&str, &str)] = &[
        ("png", "image/png"),
        ("jpg", "image/jpeg"),
        ("jpeg", "image/jpeg"),
        ("webp", "image/webp"),
        ("heic", "image/heic"),
        ("heif", "image/heif"),
        ("pdf", "application/pdf"),
        ("txt", "text/plain"),
        ("wav", "audio/wav"),
        ("mp3", "audio/mp3"),
        ("ogg", "audio/ogg"),
        ("flac", "audio/flac"),
        ("mp4", "video/mp4"),
    ];
    let path = url.split(['?', '#']).next()?;
    let (_, ending) = path.rsplit('/').next()?.rsplit_once('.')?;
    let known = ENDINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(ending))?;
    Some(known.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Recipient<'_> = Recipient { kind: "gemini", model: "m", switches: crate::wire::Switches::NONE };

    #[test]
    fn parts_are_written_as_gemini_does() {
        let data = |mime_type: &str| Media {
            source: MediaSource::Data(b"abc".to_vec()),
            mime_type: mime_type.into(),
            ..Media::default()
        };
        let inline = |mime_type: &str| json!({"inlineData": {"mimeType": mime_type, "data": "YWJj"}});
        let file = |url: &str, kind: &str| json!({"fileData": {"mimeType": kind, "fileUri": url}});
        let url = |url: &str| Media { source: MediaSource::Url(url.into()), ..Media::default() };
        let uploaded = "https://generativelanguage.googleapis.com/v1beta/files/x.1/a";
        let id = || Media { source: MediaSource::File(uploaded.into()), ..Media::default() };
        let table = [
            (PartKind::Text("t".into()), json!({"text": "t"})),
            (PartKind::Image(data("image/JPG; x=y")), inline("image/jpeg")),
            (PartKind::Audio(data("audio/wav")), inline("audio/wav")),
            (PartKind::Document(data("application/pdf")), inline("application/pdf")),
            (PartKind::Image(url("data:image/png;base64,YWJj")), inline("image/png")),
            (PartKind::Image(url("https://h/i.PNG?a.b#c")), file("https://h/i.PNG?a.b#c", "image/png")),
            (PartKind::Document(url("gs://b/a.pdf")), file("gs://b/a.pdf", "application/pdf")),
            (
                PartKind::Video(Media { mime_type: "video/webm".into(), ..url("https://h/v") }),
                file("https://h/v", "video/webm"),
            ),
            (PartKind::Document(id()), json!({"fileData": {"fileUri": uploaded}})),
        ];
        for (input, expected) in table {
            assert_eq!(part(&input.into(), TO), expected);
        }
        let fields = json!({"videoMetadata": {"fps": 1}, "fileData": "no"}).as_object().unwrap().clone();
        let extra = Extra { fields: fields.into(), kinds: vec!["gemini".into()] };
        let written = part(&Part { extra, ..PartKind::Video(url("https://h/v.mp4")).into() }, TO);
        let mut expected = file("https://h/v.mp4", "video/mp4");
        expected["videoMetadata"] = json!({"fps": 1});
        assert_eq!(written, expected);
    }
}
