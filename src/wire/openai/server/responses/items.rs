//! The conversation: items here, messages there. Items that the model has made in a row are one message.

use super::{
    super::fields::{Fields, Path},
    sealed,
};
use crate::wire::{
    Content, FieldError, Media, MediaSource, Message, Part, PartKind, ToolCall, media::data_url,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

const ROLES: &[&str] = &["user", "assistant", "system", "developer"];

/// Reads `input`: a text of the user, or items.
pub(super) fn messages(input: Value, at: &Path<'_>) -> Result<Vec<Message>, FieldError> {
    match input {
        Value::String(text) => Ok(vec![says("user", Content::Text(text))]),
        Value::Array(items) if items.is_empty() => Err(at.wrong("must hold at least one item")),
        Value::Array(items) => {
            let mut messages = Vec::new();
            for (place, value) in items.into_iter().enumerate() {
                let here = at.item(place);
                item(Fields::of(value, &here)?, &here, &mut messages)?;
            }
            Ok(messages)
        }
        _ => Err(at.wrong("is neither a string nor a list of items")),
    }
}

fn says(role: &str, content: Content) -> Message {
    Message { role: role.to_owned(), content, ..Message::default() }
}

/// Reads one item.
fn item(mut fields: Fields<'_>, at: &Path<'_>, messages: &mut Vec<Message>) -> Result<(), FieldError> {
    let kind = fields.text("type")?;
    match kind.as_deref() {
        // A message may leave its type out.
        None if fields.get("role").is_some() => message(fields, at, messages),
        Some("message") => message(fields, at, messages),
        Some("reasoning") => reasoning(fields, at, messages),
        Some("function_call") => call(messages, &mut fields, "function", "arguments"),
        Some("custom_tool_call") => call(messages, &mut fields, "custom", "input"),
        Some("function_call_output" | "custom_tool_call_output") => {
            let tool_call_id = fields.required("call_id")?;
            let here = at.key("output");
            let output = fields.take("output").ok_or_else(|| here.wrong("is required"))?;
            let (content, _) = content(output, &here)?;
            messages.push(Message { tool_call_id, ..says("tool", content) });
            Ok(())
        }
        Some("item_reference") => {
            Err(fields.wrong("type", "names an item that lies at one provider: send the item itself"))
        }
        Some(_) => Err(fields.wrong("type", "is of no sort that other protocols know")),
        None => Err(fields.wrong("type", "is required")),
    }
}

/// The message of the model that the items so far end with.
fn turn(messages: &mut Vec<Message>) -> Option<&mut Message> {
    if messages.last().is_none_or(|message| message.role != "assistant") {
        messages.push(says("assistant", Content::default()));
    }
    messages.last_mut()
}

fn message(mut fields: Fields<'_>, at: &Path<'_>, messages: &mut Vec<Message>) -> Result<(), FieldError> {
    let role = fields.required("role")?;
    if !ROLES.contains(&role.as_str()) {
        return Err(fields.wrong("role", format!("is one of {}", ROLES.join(", "))));
    }
    let here = at.key("content");
    let value = fields.take("content").ok_or_else(|| here.wrong("is required"))?;
    let (said, refusal) = content(value, &here)?;
    // What stands beside reasoning or calls belongs to them: their results must follow at once.
    let goes_on = |message: &Message| {
        let Message { content, reasoning, reasoning_content, tool_calls, .. } = message;
        let is_more = !(reasoning.is_empty() && reasoning_content.is_empty() && tool_calls.is_empty());
        role == "assistant" && message.role == role && (is_more || *content == Content::default())
    };
    match messages.last_mut().filter(|message| goes_on(message)) {
        Some(message) => {
            add(&mut message.content, said);
            message.refusal.push_str(&refusal);
        }
        None => messages.push(Message { refusal, ..says(&role, said) }),
    }
    Ok(())
}

/// Adds a later content to a message's.
fn add(content: &mut Content, more: Content) {
    if *content == Content::default() {
        *content = more;
        return;
    }
    let parts = |content: Content| match content {
        Content::Text(text) => vec![PartKind::Text(text).into()],
        Content::Parts(parts) => parts,
    };
    let own = std::mem::take(content);
    *content = Content::Parts(parts(own).into_iter().chain(parts(more)).collect());
}

fn call(
    messages: &mut Vec<Message>,
    fields: &mut Fields<'_>,
    kind: &str,
    arguments: &str,
) -> Result<(), FieldError> {
    let (id, name) = (fields.required("call_id")?, fields.required("name")?);
    let arguments = fields.text(arguments)?.ok_or_else(|| fields.wrong(arguments, "is required"))?;
    if let Some(turn) = turn(messages) {
        let index = i32::try_from(turn.tool_calls.len()).unwrap_or(i32::MAX);
        turn.tool_calls.push(ToolCall {
            index,
            id,
            kind: kind.to_owned(),
            name,
            arguments,
            ..ToolCall::default()
        });
    }
    Ok(())
}

/// Reasoning goes back to the kind of provider that made it. Nobody else reads it, nor what OpenAI has encrypted.
fn reasoning(mut fields: Fields<'_>, at: &Path<'_>, messages: &mut Vec<Message>) -> Result<(), FieldError> {
    let mut text = String::new();
    for name in ["summary", "content"] {
        let here = at.key(name);
        for (place, value) in fields.list(name)?.into_iter().enumerate() {
            let here = here.item(place);
            text.push_str(&Fields::of(value, &here)?.text("text")?.unwrap_or_default());
        }
    }
    let pieces = fields.text("encrypted_content")?.map(|sealed| sealed::open(&sealed)).unwrap_or_default();
    if let Some(turn) = turn(messages) {
        turn.reasoning_content.push_str(&text);
        turn.reasoning.extend(pieces);
    }
    Ok(())
}

/// What a content says, and its refusals.
fn content(value: Value, at: &Path<'_>) -> Result<(Content, String), FieldError> {
    let items = match value {
        Value::String(text) => return Ok((Content::Text(text), String::new())),
        Value::Array(items) => items,
        _ => return Err(at.wrong("is neither a string nor a list of parts")),
    };
    let (mut parts, mut refusal) = (Vec::with_capacity(items.len()), String::new());
    for (place, item) in items.into_iter().enumerate() {
        let here = at.item(place);
        parts.extend(part(&mut Fields::of(item, &here)?, &here, &mut refusal)?);
    }
    // Many servers take nothing but text where it is all that there is.
    let content = match parts.as_mut_slice() {
        [] => Content::default(),
        [Part { kind: PartKind::Text(text), .. }] => Content::Text(std::mem::take(text)),
        _ => Content::Parts(parts),
    };
    Ok((content, refusal))
}

/// None where the part is a refusal.
fn part(fields: &mut Fields<'_>, at: &Path<'_>, refusal: &mut String) -> Result<Option<Part>, FieldError> {
    let kind = match fields.required("type")?.as_str() {
        "input_text" | "output_text" | "text" => {
            PartKind::Text(fields.text("text")?.ok_or_else(|| fields.wrong("text", "is required"))?)
        }
        "refusal" => {
            refusal.push_str(&fields.required("refusal")?);
            return Ok(None);
        }
        "input_image" => PartKind::Image(image(fields)?),
        "input_file" => PartKind::Document(file(fields, at)?),
        "input_audio" => PartKind::Audio(audio(fields, at)?),
        _ => return Err(fields.wrong("type", "is of no sort that other protocols know")),
    };
    Ok(Some(kind.into()))
}

/// Why a file's id is refused.
const LIES_ELSEWHERE: &str = "names a file that lies at one provider: send its data";

/// <https://platform.openai.com/docs/guides/images-vision>.
fn image(fields: &mut Fields<'_>) -> Result<Media, FieldError> {
    fields.refuse("file_id", LIES_ELSEWHERE)?;
    let source = MediaSource::Url(fields.required("image_url")?);
    // What the model does unasked has no word elsewhere.
    let detail = fields.text("detail")?.filter(|detail| detail != "auto").unwrap_or_default();
    Ok(Media { source, detail, ..Media::default() })
}

/// <https://platform.openai.com/docs/guides/file-inputs>.
fn file(fields: &mut Fields<'_>, at: &Path<'_>) -> Result<Media, FieldError> {
    fields.refuse("file_id", LIES_ELSEWHERE)?;
    let filename = fields.text("filename")?.unwrap_or_default();
    if let Some(url) = fields.text("file_url")? {
        return Ok(Media { source: MediaSource::Url(url), filename, ..Media::default() });
    }
    let text = fields.required("file_data")?;
    let (mime_type, data) = match data_url(&text) {
        Some((mime_type, data)) => (Some(mime_type), data),
        None => (None, text.as_str()),
    };
    let bytes = BASE64_STANDARD.decode(data).map_err(|_| at.key("file_data").wrong("is not base64"))?;
    // Without a type it is one of those that every provider takes.
    let mime_type = mime_type.unwrap_or_else(|| {
        if bytes.starts_with(b"%PDF-") { "application/pdf".to_owned() } else { "text/plain".to_owned() }
    });
    Ok(Media { source: MediaSource::Data(bytes), mime_type, filename, ..Media::default() })
}

fn audio(fields: &mut Fields<'_>, at: &Path<'_>) -> Result<Media, FieldError> {
    let here = at.key("input_audio");
    let audio = fields.take("input_audio").ok_or_else(|| here.wrong("is required"))?;
    let mut audio = Fields::of(audio, &here)?;
    let data = audio.required("data")?;
    let data = BASE64_STANDARD.decode(data).map_err(|_| audio.wrong("data", "is not base64"))?;
    let mime_type = match audio.required("format")?.as_str() {
        "mp3" => "audio/mpeg".to_owned(),
        "wav" => "audio/wav".to_owned(),
        _ => return Err(audio.wrong("format", "is one of mp3, wav")),
    };
    Ok(Media { source: MediaSource::Data(data), mime_type, ..Media::default() })
}
