//! The blocks of a client's messages (API reference, "Create a Message", `content`), taken apart by what they are.
//!
//! Anthropic's own tools leave blocks in what the assistant said. They go back to Anthropic alone. In what a user says, a
//! block that has no word for others is an error: the answer would be another without it.

use super::{
    object::Object,
    thought::{self, KIND},
    tool_id,
};
use crate::wire::{
    Content, Extra, FieldError, Media, MediaSource, Message, Part, PartKind, Reasoning, ToolCall,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};

/// Who says a block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    System,
    User,
    Assistant,
    Tool,
}

/// What the blocks of a message are.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) parts: Vec<Part>,
    /// Messages of their own.
    pub(super) results: Vec<Message>,
    pub(super) thoughts: Vec<Reasoning>,
    pub(super) calls: Vec<ToolCall>,
}

/// Keys for Anthropic alone.
pub(super) fn extra(fields: Map<String, Value>) -> Extra {
    if fields.is_empty() {
        return Extra::default();
    }
    Extra { fields: fields.into(), kinds: vec![KIND.to_owned()] }
}

/// Reads a content: text, or blocks.
pub(super) fn gather(content: Option<Value>, path: &str, speaker: Speaker) -> Result<Gathered, FieldError> {
    let mut gathered = Gathered::default();
    match content {
        None => {}
        Some(Value::String(text)) => gathered.parts.push(PartKind::Text(text).into()),
        Some(Value::Array(blocks)) => {
            for (place, block) in blocks.into_iter().enumerate() {
                gathered.add(Object::new(block, format!("{path}[{place}]"))?, place, speaker)?;
            }
        }
        Some(_) => return Err(FieldError::new(path, "must be text or a list of blocks")),
    }
    Ok(gathered)
}

impl Gathered {
    fn add(&mut self, mut block: Object, place: usize, speaker: Speaker) -> Result<(), FieldError> {
        use Speaker::{Assistant, System, Tool, User};
        let kind = block.required_text("type")?;
        let place = i32::try_from(place).unwrap_or(i32::MAX);
        match (kind.as_str(), speaker) {
            ("text", _) => self.parts.push(text(block)?),
            ("thinking", Assistant) => {
                let said = block.text("thinking")?.unwrap_or_default();
                let signature = block.text("signature")?.unwrap_or_default();
                self.thoughts.extend(thought::signed(said, signature, place));
            }
            ("redacted_thinking", Assistant) => {
                self.thoughts.extend(thought::redacted(block.required_text("data")?, place));
            }
            ("tool_use", Assistant) => self.calls.push(tool_use(block, self.calls.len())?),
            (_, Assistant) => {
                let mut fields = Map::from_iter([("type".to_owned(), Value::String(kind))]);
                fields.extend(block.rest());
                self.parts.push(Part { kind: PartKind::Opaque, extra: extra(fields) });
            }
            ("image", User | Tool) => {
                let media = source(block.required_object("source")?)?;
                self.parts.push(Part { kind: PartKind::Image(media), extra: extra(block.rest()) });
            }
            ("document", User | Tool) => self.document(block)?,
            ("search_result", User | Tool) => self.parts.push(search_result(block)?),
            ("tool_result", User) => self.results.push(tool_result(block)?),
            (_, System | User | Tool) => {
                return Err(block.wrong("type", "is a block that other providers cannot be told here"));
            }
        }
        Ok(())
    }

    /// A document: a file, or what it says. Where it is text others take it for what it is, a text.
    fn document(&mut self, mut block: Object) -> Result<(), FieldError> {
        no_citations(&mut block)?;
        let title = block.text("title")?.unwrap_or_default();
        let context = block.text("context")?.unwrap_or_default();
        let mut given = block.required_object("source")?;
        let kind = given.required_text("type")?;
        let head = |context: String, title: &str| {
            let lines = [context, title.to_owned()].into_iter().filter(|line| !line.is_empty());
            lines.collect::<Vec<_>>().join("\n")
        };
        let marks = block.rest();
        match kind.as_str() {
            "text" => {
                let words = given.required_text("data")?;
                let head = head(context, &title);
                let words = if head.is_empty() { words } else { format!("{head}\n{words}") };
                self.parts.push(Part { kind: PartKind::Text(words), extra: extra(marks) });
            }
            "content" => {
                let head = head(context, &title);
                self.parts.extend((!head.is_empty()).then(|| PartKind::Text(head).into()));
                let path = given.at("content");
                self.parts.extend(gather(given.take("content"), &path, Speaker::Tool)?.parts);
            }
            _ => {
                self.parts.extend((!context.is_empty()).then(|| PartKind::Text(context).into()));
                let media = Media { filename: title, ..source_of(given, &kind)? };
                self.parts.push(Part { kind: PartKind::Document(media), extra: extra(marks) });
            }
        }
        Ok(())
    }
}

fn text(mut block: Object) -> Result<Part, FieldError> {
    let text = block.required_text("text")?;
    let mut rest = block.rest();
    // What an answer without references comes back with.
    if rest.get("citations").and_then(Value::as_array).is_some_and(Vec::is_empty) {
        rest.shift_remove("citations");
    }
    Ok(Part { kind: PartKind::Text(text), extra: extra(rest) })
}

/// <https://platform.claude.com/docs/en/build-with-claude/citations>: no other provider refers to what it was given.
fn no_citations(block: &mut Object) -> Result<(), FieldError> {
    let wanted = match block.object("citations")? {
        Some(mut citations) => citations.flag("enabled")?,
        None => false,
    };
    if wanted { Err(block.wrong("citations", "cannot be had from other providers")) } else { Ok(()) }
}

/// <https://platform.claude.com/docs/en/build-with-claude/search-results>: for others a text that says where it is from.
fn search_result(mut block: Object) -> Result<Part, FieldError> {
    no_citations(&mut block)?;
    let (title, source) = (block.required_text("title")?, block.required_text("source")?);
    let path = block.at("content");
    let said = gather(block.take("content"), &path, Speaker::System)?.parts;
    let said: Vec<_> = said.iter().filter_map(Part::text).collect();
    let text = format!("{title}\n{source}\n{}", said.join("\n"));
    Ok(Part { kind: PartKind::Text(text), extra: extra(block.rest()) })
}

fn source(mut source: Object) -> Result<Media, FieldError> {
    let kind = source.required_text("type")?;
    source_of(source, &kind)
}

/// Where an image or a document is. A file's id lives at one account, and goes on as it is.
fn source_of(mut source: Object, kind: &str) -> Result<Media, FieldError> {
    let mime_type = source.text("media_type")?.unwrap_or_default();
    let found = match kind {
        "base64" => {
            let data = source.required_text("data")?;
            if mime_type.is_empty() {
                return Err(source.wrong("media_type", "is required"));
            }
            let bytes = BASE64_STANDARD.decode(data.trim_ascii());
            MediaSource::Data(bytes.map_err(|_| source.wrong("data", "must be base64"))?)
        }
        "url" => MediaSource::Url(source.required_text("url")?),
        "file" => MediaSource::File(source.required_text("file_id")?),
        _ => return Err(source.wrong("type", "is no source that other providers can be told")),
    };
    Ok(Media { source: found, mime_type, ..Media::default() })
}

/// A call that the assistant has made. Its input is an object here, and text in the house.
fn tool_use(mut block: Object, index: usize) -> Result<ToolCall, FieldError> {
    let input = block.take("input").unwrap_or_else(|| Map::new().into());
    if !input.is_object() {
        return Err(block.wrong("input", "must be an object"));
    }
    Ok(ToolCall {
        index: i32::try_from(index).unwrap_or(i32::MAX),
        id: tool_id::given(block.required_text("id")?),
        kind: "function".to_owned(),
        name: block.required_text("name")?,
        arguments: input.to_string(),
        extra: extra(block.rest()),
    })
}

/// What a tool has given, as a message of its own. That it failed is for Anthropic alone: others read it in the text.
fn tool_result(mut block: Object) -> Result<Message, FieldError> {
    let tool_call_id = tool_id::given(block.required_text("tool_use_id")?);
    let path = block.at("content");
    let parts = gather(block.take("content"), &path, Speaker::Tool)?.parts;
    let mut message = message("tool", parts);
    message.tool_call_id = tool_call_id;
    let mut fields = block.rest();
    fields.extend(message.extra.fields);
    message.extra = extra(fields);
    Ok(message)
}

/// A message of these parts. Texts are one, as some servers take no list of them
/// (<https://github.com/cline/cline/issues/230>): what the assistant says goes on, and paragraphs come from others. A mark of
/// what to cache stands at the message then.
pub(super) fn message(role: &str, parts: Vec<Part>) -> Message {
    const CACHE: &str = "cache_control";
    let mut message = Message { role: role.to_owned(), ..Message::default() };
    let plain =
        |part: &Part| part.text().is_some() && part.extra.fields.keys().all(|name| name.as_str() == CACHE);
    if !parts.iter().all(plain) {
        message.content = Content::Parts(parts);
        return message;
    }
    let between = if role == "assistant" { "" } else { "\n\n" };
    let texts: Vec<_> = parts.iter().filter_map(Part::text).filter(|text| !text.is_empty()).collect();
    let text = texts.join(between);
    let mark = parts.into_iter().rev().find_map(|part| part.extra.fields.get(CACHE).cloned());
    message.extra = extra(mark.map(|mark| (CACHE.to_owned(), mark)).into_iter().collect());
    message.content = Content::Text(text);
    message
}
