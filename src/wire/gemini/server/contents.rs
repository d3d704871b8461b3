//! The conversation as Gemini's clients send it (API reference, "Content", "Part").

use super::{
    fields::{Fields, object},
    kind::KIND,
    signature::{is_packed, unpack},
};
use crate::wire::{
    Content, Extra, FieldError, Media, MediaSource, Message, Part, PartKind, Reasoning,
    gemini::{
        contents::by_ending,
        parts::{Spoken, decode, kind_of},
    },
};
use serde_json::{Map, Value};

#[cfg(test)]
mod tests;

/// How a part is to be looked at. Gemini gets it.
const KEPT: &[&str] = &["videoMetadata", "mediaResolution"];

/// What is said of a part that says nothing to the model.
const SKIPPED: &[&str] = &["partMetadata"];

/// The instructions of the system.
pub(super) fn system(mut content: Fields) -> Result<Option<Message>, FieldError> {
    // Its role is not looked at.
    content.skip(&["role"]);
    let mut parts = Vec::new();
    for mut part in content.objects("parts")? {
        let text = part.text("text")?;
        part.skip(SKIPPED);
        part.end()?;
        if !text.is_empty() {
            parts.push(PartKind::Text(text).into());
        }
    }
    content.end()?;
    let message = Message { role: "system".into(), content: said(parts), ..Message::default() };
    Ok((message.content != Content::default()).then_some(message))
}

/// The messages of a conversation.
pub(super) fn messages(contents: Vec<Fields>) -> Result<Vec<Message>, FieldError> {
    let mut conversation = Conversation::default();
    for mut content in contents {
        let role = content.text("role")?;
        let parts = content.objects("parts")?;
        if parts.is_empty() {
            return Err(content.wrong("parts", "must hold at least one part"));
        }
        match role.as_str() {
            "model" => conversation.model(parts)?,
            "user" | "function" | "" => conversation.user(parts)?,
            _ => return Err(content.wrong("role", "must be user or model")),
        }
        content.end()?;
    }
    conversation.end_turn();
    Ok(conversation.messages)
}

#[derive(Default)]
struct Conversation {
    messages: Vec<Message>,
    /// What the model says at present.
    turn: Option<Turn>,
    /// How many turns of the model are over.
    turns: usize,
    /// The calls that have no result yet: id and name.
    calls: Vec<(String, String)>,
}

/// One turn of the model. Clients that gather a stream send its pieces as contents of their own.
#[derive(Default)]
struct Turn {
    spoken: Spoken,
    /// The reasoning of another kind, where one has made this turn.
    reasoning: Vec<Reasoning>,
}

impl Conversation {
    fn model(&mut self, parts: Vec<Fields>) -> Result<(), FieldError> {
        let turn = self.turn.get_or_insert_default();
        let mut told = Vec::new();
        for part in parts {
            told.extend(turn.part(part)?);
        }
        turn.spoken.add(object([("parts", told.into())]), &self.turns.to_string());
        Ok(())
    }

    fn end_turn(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        let message = turn.message();
        self.turns += 1;
        if !message.tool_calls.is_empty() {
            let calls = message.tool_calls.iter();
            self.calls = calls.map(|call| (call.id.clone(), call.name.clone())).collect();
        }
        self.messages.push(message);
    }

    /// What the user says. The results of functions stand first: others want them right behind their calls.
    fn user(&mut self, parts: Vec<Fields>) -> Result<(), FieldError> {
        self.end_turn();
        let mut own = Vec::new();
        for mut part in parts {
            if let Some(result) = part.object("functionResponse")? {
                let result = self.result(result)?;
                part.skip(SKIPPED);
                part.skip(&["thoughtSignature"]);
                part.end()?;
                self.messages.push(result);
            } else {
                own.extend(user_part(part)?);
            }
        }
        if !own.is_empty() {
            self.messages.push(Message { role: "user".into(), content: said(own), ..Message::default() });
        }
        Ok(())
    }

    /// A function's result. The call is found by its id or, as older clients know none, by its name: the first that has no
    /// result yet.
    fn result(&mut self, mut result: Fields) -> Result<Message, FieldError> {
        let (id, name) = (result.text("id")?, result.text("name")?);
        let own = |known: &(String, String)| !id.is_empty() && known.0 == id;
        let place = self.calls.iter().position(own);
        let place = place.or_else(|| self.calls.iter().position(|(_, known)| *known == name));
        let Some(place) = place else {
            return Err(FieldError::new(result.path(), "answers no call of a function before it"));
        };
        let (tool_call_id, _) = self.calls.remove(place);
        let mut parts = vec![PartKind::Text(answer(&mut result)?).into()];
        parts.extend(user_parts(result.objects("parts")?)?);
        // They concern calls that go on while the model speaks.
        result.skip(&["willContinue", "scheduling"]);
        result.end()?;
        Ok(Message { role: "tool".into(), content: said(parts), tool_call_id, ..Message::default() })
    }
}

/// What a function has answered: one text, or JSON. `output` holds the answer as such (API reference, "FunctionResponse").
fn answer(result: &mut Fields) -> Result<String, FieldError> {
    match result.any("response") {
        None => Ok(String::new()),
        Some(Value::Object(answer)) => match answer.get("output") {
            Some(Value::String(text)) if answer.len() == 1 => Ok(text.clone()),
            _ => Ok(Value::Object(answer).to_string()),
        },
        Some(_) => Err(result.wrong("response", "must be an object")),
    }
}

impl Turn {
    /// Checks a part of the model's; gives what is to be read of it.
    fn part(&mut self, mut part: Fields) -> Result<Option<Value>, FieldError> {
        let mut out = Map::new();
        let signature = part.text("thoughtSignature")?;
        if is_packed(&signature) {
            let reasoning = unpack(&signature)
                .ok_or_else(|| part.wrong("thoughtSignature", "is not as it was given out"))?;
            self.reasoning.extend(reasoning);
        } else if !signature.is_empty() {
            out.insert("thoughtSignature".into(), signature.into());
        }
        if part.flag("thought")? {
            out.insert("thought".into(), true.into());
        }
        let text = part.text("text")?;
        if !text.is_empty() {
            out.insert("text".into(), text.into());
        }
        if let Some(mut call) = part.object("functionCall")? {
            out.insert("functionCall".into(), function_call(&mut call)?);
            call.end()?;
        }
        if let Some(mut data) = part.object("inlineData")? {
            let (mime_type, text) = blob(&mut data)?;
            let blob = object([("mimeType", mime_type.into()), ("data", text.into())]);
            out.insert("inlineData".into(), blob);
        }
        part.skip(SKIPPED);
        part.skip(KEPT);
        part.end()?;
        Ok((!out.is_empty()).then(|| out.into()))
    }

    fn message(self) -> Message {
        let mut message = self.spoken.message();
        for piece in &mut message.reasoning {
            KIND.clone_into(&mut piece.kind);
        }
        if !self.reasoning.is_empty() {
            message.reasoning_content = self.reasoning.iter().map(|piece| piece.text.as_str()).collect();
            message.reasoning = self.reasoning;
        }
        message
    }
}

fn function_call(call: &mut Fields) -> Result<Value, FieldError> {
    let (id, name) = (call.text("id")?, call.text("name")?);
    if name.is_empty() {
        return Err(call.wrong("name", "must not be empty"));
    }
    let args = match call.any("args") {
        None => Map::new(),
        Some(Value::Object(args)) => args,
        Some(_) => return Err(call.wrong("args", "must be an object")),
    };
    Ok(object([("id", id.into()), ("name", name.into()), ("args", args.into())]))
}

/// Parts that a user sends.
pub(super) fn user_parts(parts: Vec<Fields>) -> Result<Vec<Part>, FieldError> {
    parts.into_iter().filter_map(|part| user_part(part).transpose()).collect()
}

/// A part of a user's, or of a function's result. An empty text says nothing, and others refuse it.
fn user_part(mut part: Fields) -> Result<Option<Part>, FieldError> {
    let mut kept = Map::new();
    part.keep(KEPT, &mut kept);
    part.skip(SKIPPED);
    part.skip(&["thoughtSignature"]);
    let is_thought = part.flag("thought")?;
    let text = part.text("text")?;
    let read = if let Some(mut data) = part.object("inlineData")? {
        let filename = data.text("displayName")?;
        let (mime_type, text) = blob(&mut data)?;
        let source = MediaSource::Data(decode(&text).unwrap_or_default());
        let kind = kind_of(Media { source, mime_type, filename, ..Media::default() });
        Some(Part { kind, extra: own(kept) })
    } else if let Some(mut file) = part.object("fileData")? {
        let read = file_part(&mut file, kept)?;
        file.end()?;
        Some(read)
    } else {
        (!text.is_empty()).then(|| PartKind::Text(text).into())
    };
    part.end()?;
    Ok(read.filter(|_| !is_thought))
}

/// For Gemini alone.
fn own(fields: Map<String, Value>) -> Extra {
    let kinds = if fields.is_empty() { Vec::new() } else { vec![KIND.to_owned()] };
    Extra { fields: fields.into(), kinds }
}

/// Bytes in the request (API reference, "Blob"): their type, and base64 that can be read.
fn blob(data: &mut Fields) -> Result<(String, String), FieldError> {
    let (mime_type, text) = (data.text("mimeType")?, data.text("data")?);
    if mime_type.is_empty() {
        return Err(data.wrong("mimeType", "must not be empty"));
    }
    if decode(&text).is_none() {
        return Err(data.wrong("data", "must be base64"));
    }
    Ok((mime_type, text))
}

/// A file by its address (API reference, "FileData"). What is stored at Google is known by it there alone.
fn file_part(file: &mut Fields, kept: Map<String, Value>) -> Result<Part, FieldError> {
    const GOOGLES: &str = "https://generativelanguage.googleapis.com/";
    let (mut mime_type, uri) = (file.text("mimeType")?, file.text("fileUri")?);
    let filename = file.text("displayName")?;
    if uri.is_empty() {
        return Err(file.wrong("fileUri", "must not be empty"));
    }
    if mime_type.is_empty() {
        let likely = if is_youtube(&uri) { "video/mp4" } else { by_ending(&uri).unwrap_or_default() };
        likely.clone_into(&mut mime_type);
    }
    let is_public =
        ["https://", "http://"].iter().any(|scheme| uri.starts_with(scheme)) && !uri.starts_with(GOOGLES);
    let source = if is_public { MediaSource::Url(uri) } else { MediaSource::File(uri) };
    let kind = kind_of(Media { source, mime_type, filename, ..Media::default() });
    Ok(Part { kind, extra: own(kept) })
}

/// Videos that Gemini watches by their address (<https://ai.google.dev/gemini-api/docs/video-understanding>).
fn is_youtube(uri: &str) -> bool {
    let host = uri.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
    ["youtube.com", "www.youtube.com", "m.youtube.com", "youtu.be"].contains(&host)
}

/// Text alone is one text.
fn said(mut parts: Vec<Part>) -> Content {
    if parts.len() > 1 {
        // Beside what is more, an empty text says nothing.
        parts.retain(|part| part.text() != Some(""));
    }
    match parts.as_mut_slice() {
        [] => Content::default(),
        [Part { kind: PartKind::Text(text), extra }] if extra.fields.is_empty() => {
            Content::Text(std::mem::take(text))
        }
        _ => Content::Parts(parts),
    }
}
