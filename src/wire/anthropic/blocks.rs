//! The blocks of which messages to Anthropic are made (API reference, "Create a Message"). Pure.

use crate::wire::{
    Content, Extra, Media, MediaSource, Message, Part, PartKind, Reasoning, Recipient, ToolCall, WriteError,
    media::{data_url, essence},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

/// A message's content: text alone, or blocks in their order. Thinking stands where it stood: behind an answer with tools
/// Anthropic checks that it is there and unchanged ("Extended thinking", preserving thinking blocks).
pub(super) fn content(message: &Message, field: &str, to: Recipient<'_>) -> Result<Value, WriteError> {
    let own = message.reasoning.iter().filter(|piece| piece.kind == to.kind);
    let mut thoughts: Vec<_> = own.filter_map(|piece| Some((piece.index, thinking(piece)?))).collect();
    thoughts.sort_by_key(|(index, _)| *index);
    if thoughts.is_empty()
        && message.tool_calls.is_empty()
        && let Content::Text(text) = &message.content
    {
        return Ok(text.clone().into());
    }
    let mut blocks = Vec::new();
    let rest = match &message.content {
        Content::Text(text) if text.is_empty() => Vec::new(),
        Content::Text(text) => vec![text_block(text)],
        Content::Parts(parts) => {
            let sent = parts
                .iter()
                .enumerate()
                .filter(|(_, each)| each.kind != PartKind::Opaque || each.extra.is_for(to.kind));
            sent.map(|(place, each)| part(each, &format!("{field}.parts[{place}]"), to))
                .collect::<Result<_, _>>()?
        }
    };
    let calls = message.tool_calls.iter().enumerate();
    let calls = calls.map(|(place, call)| tool_use(call, &format!("{field}.tool_calls[{place}]"), to));
    let mut rest = rest.into_iter().map(Ok).chain(calls);
    let mut thoughts = thoughts.into_iter().peekable();
    loop {
        let place = i32::try_from(blocks.len()).unwrap_or(i32::MAX);
        if let Some((_, thought)) = thoughts.next_if(|(index, _)| *index <= place) {
            blocks.push(thought);
        } else if let Some(block) = rest.next() {
            blocks.push(block?);
        } else if let Some((_, thought)) = thoughts.next() {
            blocks.push(thought);
        } else {
            return Ok(blocks.into());
        }
    }
}

/// Thinking goes back with its signature, or as it came where only Anthropic can read it.
fn thinking(piece: &Reasoning) -> Option<Value> {
    if !piece.data.is_empty() {
        return Some(json!({"type": "redacted_thinking", "data": piece.data}));
    }
    let signed = !piece.signature.is_empty();
    signed.then(|| json!({"type": "thinking", "thinking": piece.text, "signature": piece.signature}))
}

/// Anthropic takes the arguments as an object, where the contract has the model's text.
fn tool_use(call: &ToolCall, field: &str, to: Recipient<'_>) -> Result<Value, WriteError> {
    let text = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    let input: Map<String, Value> = serde_json::from_str(text).map_err(|_| {
        WriteError::new(format!("{field}.function.arguments"), "must be a JSON object for this provider")
    })?;
    let block = json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input});
    Ok(with(block, &call.extra, to))
}

pub(super) fn text_block(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

/// A block with its further keys.
pub(super) fn with(mut block: Value, extra: &Extra, to: Recipient<'_>) -> Value {
    if let Some(fields) = block.as_object_mut() {
        extra.add_to(fields, to.kind);
    }
    block
}

fn part(part: &Part, field: &str, to: Recipient<'_>) -> Result<Value, WriteError> {
    let block = match &part.kind {
        PartKind::Text(text) => text_block(text),
        PartKind::Image(media) => json!({"type": "image", "source": source(media)}),
        PartKind::Document(media) => {
            let mut block = json!({"type": "document", "source": document(media, field)?});
            if let Some(block) = block.as_object_mut().filter(|_| !media.filename.is_empty()) {
                block.insert("title".into(), media.filename.clone().into());
            }
            block
        }
        PartKind::Audio(_) => return Err(WriteError::new(field, "this provider takes no audio")),
        PartKind::Video(_) => return Err(WriteError::new(field, "this provider takes no video")),
        PartKind::Opaque => json!({}),
    };
    Ok(with(block, &part.extra, to))
}

/// Documents are PDF, or plain text ("PDF support", "Citations").
fn document(media: &Media, field: &str) -> Result<Value, WriteError> {
    let MediaSource::Data(bytes) = &media.source else { return Ok(source(media)) };
    match essence(&media.mime_type).as_str() {
        "application/pdf" => Ok(source(media)),
        "text/plain" => {
            let text = std::str::from_utf8(bytes)
                .map_err(|_| WriteError::new(field, "a document of plain text is not UTF-8"))?;
            Ok(json!({"type": "text", "media_type": "text/plain", "data": text}))
        }
        _ => {
            Err(WriteError::new(field, "this provider takes documents of type application/pdf or text/plain"))
        }
    }
}

/// A file's id is one of the Files API (<https://docs.claude.com/en/docs/build-with-claude/files>).
fn source(media: &Media) -> Value {
    match &media.source {
        MediaSource::Url(url) => match data_url(url) {
            Some((mime_type, data)) => json!({"type": "base64", "media_type": mime_type, "data": data}),
            None => json!({"type": "url", "url": url}),
        },
        MediaSource::File(id) => json!({"type": "file", "file_id": id}),
        MediaSource::Data(bytes) => json!({
            "type": "base64", "media_type": essence(&media.mime_type), "data": BASE64_STANDARD.encode(bytes),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Recipient<'_> =
        Recipient { kind: "anthropic", model: "m", switches: crate::wire::Switches::NONE };

    #[test]
    fn parts_are_written_as_anthropic_does() {
        let data = |mime_type: &str| Media {
            source: MediaSource::Data(b"abc".to_vec()),
            mime_type: mime_type.into(),
            ..Media::default()
        };
        let image = |source: Value| json!({"type": "image", "source": source});
        let base64 = |mime_type: &str| json!({"type": "base64", "media_type": mime_type, "data": "YWJj"});
        let url = |url: &str| Media { source: MediaSource::Url(url.into()), ..Media::default() };
        let file = || Media { source: MediaSource::File("f1".into()), ..Media::default() };
        let table = [
            (PartKind::Text("t".into()), json!({"type": "text", "text": "t"})),
            (
                PartKind::Image(url("https://h/i.png")),
                image(json!({"type": "url", "url": "https://h/i.png"})),
            ),
            (PartKind::Image(url("data:image/png;base64,YWJj")), image(base64("image/png"))),
            (PartKind::Image(data("image/PNG; x=y")), image(base64("image/png"))),
            (PartKind::Image(data("image/jpg")), image(base64("image/jpeg"))),
            (PartKind::Image(file()), image(json!({"type": "file", "file_id": "f1"}))),
            (
                PartKind::Document(Media { filename: "a.pdf".into(), ..data("application/pdf") }),
                json!({"type": "document", "source": base64("application/pdf"), "title": "a.pdf"}),
            ),
            (
                PartKind::Document(url("https://h/a.pdf")),
                json!({"type": "document", "source": {"type": "url", "url": "https://h/a.pdf"}}),
            ),
            (
                PartKind::Document(data("text/plain; charset=utf-8")),
                json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "abc"}}),
            ),
        ];
        for (input, expected) in table {
            assert_eq!(part(&input.into(), "f", TO).unwrap(), expected);
        }
        let bytes = Media {
            source: MediaSource::Data(vec![0xff]),
            mime_type: "text/plain".into(),
            ..Media::default()
        };
        let refused = [
            (PartKind::Audio(data("audio/wav")), "audio"),
            (PartKind::Video(data("video/mp4")), "video"),
            (PartKind::Document(data("application/msword")), "application/pdf"),
            (PartKind::Document(bytes), "UTF-8"),
        ];
        for (input, word) in refused {
            let error = part(&input.into(), "f", TO).unwrap_err();
            assert!(error.field == "f" && error.why.contains(word), "{error}");
        }
    }

    #[test]
    fn thinking_goes_back_where_it_stood() {
        let thought = |index, kind: &str| Reasoning {
            text: "hm".into(),
            signature: "s".into(),
            kind: kind.into(),
            index,
            ..Reasoning::default()
        };
        let redacted =
            Reasoning { data: "x".into(), kind: "anthropic".into(), index: 1, ..Reasoning::default() };
        let call = ToolCall {
            id: "c".into(),
            name: "f".into(),
            arguments: "{\"z\":1,\"a\":2}".into(),
            ..ToolCall::default()
        };
        let sent = |reasoning: Vec<Reasoning>, said: Content| {
            let message =
                Message { reasoning, content: said, tool_calls: vec![call.clone()], ..Message::default() };
            content(&message, "f", TO).unwrap()
        };
        let thinking = json!({"type": "thinking", "thinking": "hm", "signature": "s"});
        let tool_use = json!({"type": "tool_use", "id": "c", "name": "f", "input": {"z": 1, "a": 2}});
        let blocks = sent(vec![thought(0, "anthropic"), redacted], Content::Text("t".into()));
        let expected = json!([thinking, {"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "t"}, tool_use]);
        assert_eq!(blocks.to_string(), expected.to_string());
        let parts = ["a", "b"].map(|text| PartKind::Text(text.into()).into()).to_vec();
        let blocks = sent(vec![thought(1, "anthropic")], Content::Parts(parts));
        let expected =
            json!([{"type": "text", "text": "a"}, thinking, {"type": "text", "text": "b"}, tool_use]);
        assert_eq!(blocks, expected);
        assert_eq!(sent(vec![thought(0, "gemini")], Content::default()), json!([tool_use]));
    }
}
