//! The parts of which Gemini's answers are made (API reference, "Part"), in a whole answer or as they come.

use crate::wire::{
    Content, Media, MediaSource, Message, Part, PartKind, Reasoning, ToolCall, mend, tool_calls::made_up,
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE},
};
use serde_json::{Map, Value};

/// What a candidate's parts say together, or what is new of it.
///
/// Parts are counted, so that a signature finds its part again when it goes back: texts in a row are one part, thoughts in a
/// row too, and everything else is one by itself.
#[derive(Default)]
pub(super) struct Spoken {
    pub(super) parts: Vec<Part>,
    pub(super) thoughts: String,
    pub(super) reasoning: Vec<Reasoning>,
    pub(super) calls: Vec<ToolCall>,
    /// How many calls came before those.
    before: usize,
    /// The number of the part that is open, and what it is.
    place: i32,
    last: Option<Segment>,
    /// A call whose arguments come in pieces.
    open: Option<OpenCall>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Segment {
    Text,
    Thought,
    Other,
}

/// A call whose arguments come in pieces (Vertex AI, "Streaming function call arguments").
#[derive(Default)]
struct OpenCall {
    id: String,
    name: String,
    args: Value,
}

impl Spoken {
    pub(super) fn is_empty(&self) -> bool {
        let says = |part: &Part| part.text().is_none_or(|text| !text.is_empty());
        self.calls.is_empty() && self.open.is_none() && !self.parts.iter().any(says)
    }

    /// Takes more content of the answer with that id.
    pub(super) fn add(&mut self, content: Value, answer: &str) {
        let Value::Object(mut content) = content else { return };
        let Some(Value::Array(parts)) = content.shift_remove("parts") else { return };
        for part in parts {
            if let Value::Object(part) = part {
                self.part(part, answer);
            }
        }
    }

    fn part(&mut self, mut part: Map<String, Value>, answer: &str) {
        let signature =
            match part.shift_remove("thoughtSignature").or_else(|| part.shift_remove("thought_signature")) {
                Some(Value::String(signature)) => signature,
                _ => String::new(),
            };
        let thought = part.shift_remove("thought").is_some_and(|thought| thought == true);
        let call = part.shift_remove("functionCall").or_else(|| part.shift_remove("function_call"));
        let data = part.shift_remove("inlineData").or_else(|| part.shift_remove("inline_data"));
        let mut id = String::new();
        match (call, data, part.shift_remove("text")) {
            (Some(Value::Object(call)), _, _) => {
                id = self.call(call, answer);
                if let Some(call) = self.calls.last_mut().filter(|call| call.id == id) {
                    call.extra.fields.extend(part);
                }
            }
            (_, Some(data), _) => {
                self.begin(Segment::Other);
                self.parts.push(media(data, part));
            }
            (_, _, Some(Value::String(text))) if thought => {
                self.begin(Segment::Thought);
                let piece = Reasoning { text: text.clone(), index: self.place, ..Reasoning::default() };
                self.thoughts.push_str(&text);
                match self.reasoning.last_mut().filter(|last| last.index == self.place && last.id.is_empty())
                {
                    Some(last) => last.text.push_str(&text),
                    None => self.reasoning.push(piece),
                }
            }
            (_, _, Some(Value::String(text))) => {
                let goes_on = self.last == Some(Segment::Text);
                self.begin(Segment::Text);
                match self.parts.last_mut().filter(|_| goes_on).map(|last| &mut last.kind) {
                    Some(PartKind::Text(own)) => own.push_str(&text),
                    _ => self.parts.push(PartKind::Text(text).into()),
                }
            }
            _ if !part.is_empty() => {
                self.begin(Segment::Other);
                self.parts.push(Part::opaque(part));
            }
            // A signature alone: that of what came before.
            _ => {}
        }
        if !signature.is_empty() {
            let own = self.reasoning.iter_mut().find(|piece| piece.index == self.place && piece.id == id);
            match own {
                Some(piece) => piece.signature = signature,
                None => self.reasoning.push(Reasoning {
                    signature,
                    id,
                    index: self.place,
                    ..Reasoning::default()
                }),
            }
        }
    }

    fn begin(&mut self, segment: Segment) {
        if let Some(last) = self.last
            && (last != segment || segment == Segment::Other)
        {
            self.place = self.place.saturating_add(1);
        }
        self.last = Some(segment);
    }

    /// Takes a call, or a piece of one; gives its id. A signature comes with the first piece.
    fn call(&mut self, mut call: Map<String, Value>, answer: &str) -> String {
        let mut take = |name: &str| match call.shift_remove(name) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let (id, name) = (take("id"), take("name"));
        let args = call.shift_remove("args").filter(|args| !args.is_null());
        let pieces = call.shift_remove("partialArgs").or_else(|| call.shift_remove("partial_args"));
        let goes_on = call.shift_remove("willContinue").or_else(|| call.shift_remove("will_continue"));
        let goes_on = goes_on.is_some_and(|goes_on| goes_on == true);
        if !name.is_empty() {
            self.end(answer);
            self.begin(Segment::Other);
        }
        if self.open.is_none() && pieces.is_none() && !goes_on {
            return self.push(id, name, args.unwrap_or_else(|| Map::new().into()), answer);
        }
        let next = self.before + self.calls.len();
        let open = self.open.get_or_insert_with(|| OpenCall {
            id: identified(id, answer, next),
            name,
            args: Map::new().into(),
        });
        let id = open.id.clone();
        if let Some(Value::Array(pieces)) = pieces {
            for piece in &pieces {
                set(&mut open.args, piece);
            }
        }
        if !goes_on {
            self.end(answer);
        }
        id
    }

    /// Ends the call that is open.
    pub(super) fn end(&mut self, answer: &str) {
        if let Some(OpenCall { id, name, args }) = self.open.take() {
            self.push(id, name, args, answer);
        }
    }

    fn push(&mut self, id: String, name: String, args: Value, answer: &str) -> String {
        let place = self.before + self.calls.len();
        let id = identified(id, answer, place);
        self.calls.push(ToolCall {
            index: i32::try_from(place).unwrap_or(i32::MAX),
            id: id.clone(),
            kind: "function".into(),
            name,
            arguments: mend::whole(args.to_string()),
            ..ToolCall::default()
        });
        id
    }

    /// Takes out what is new, and keeps count.
    pub(super) fn take(&mut self) -> Self {
        let calls = std::mem::take(&mut self.calls);
        self.before += calls.len();
        Self {
            parts: std::mem::take(&mut self.parts),
            thoughts: std::mem::take(&mut self.thoughts),
            reasoning: std::mem::take(&mut self.reasoning),
            calls,
            ..Self::default()
        }
    }

    /// The message that all of it makes.
    pub(super) fn message(self) -> Message {
        let plain = self.parts.len() <= 1 && self.parts.iter().all(|part| part.text().is_some());
        let content = if plain {
            Content::Text(mend::whole(self.parts.iter().filter_map(Part::text).collect()))
        } else {
            Content::Parts(self.parts)
        };
        Message {
            role: "assistant".into(),
            content,
            tool_calls: self.calls,
            reasoning_content: mend::whole(self.thoughts),
            reasoning: self.reasoning,
            ..Message::default()
        }
    }
}

/// Older models give calls no id. The one made up then differs from those of other answers, as some vendors ask for that, and
/// this conversation may go to one.
fn identified(id: String, answer: &str, place: usize) -> String {
    if id.is_empty() { made_up(answer, place) } else { id }
}

/// Bytes that are no text.
fn media(data: Value, mut more: Map<String, Value>) -> Part {
    let text = |one: &str, other: &str| data.get(one).or_else(|| data.get(other)).and_then(Value::as_str);
    let Some(bytes) = text("data", "data").and_then(decode) else {
        more.insert("inlineData".to_owned(), data);
        return Part::opaque(more);
    };
    let mime_type = text("mimeType", "mime_type").unwrap_or_default().to_owned();
    let filename = text("displayName", "display_name").unwrap_or_default().to_owned();
    let media = Media { source: MediaSource::Data(bytes), mime_type, filename, ..Media::default() };
    Part { kind: kind_of(media), extra: more.into() }
}

/// Either alphabet of base64 may come (<https://protobuf.dev/programming-guides/json/>).
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).or_else(|_| BASE64_URL_SAFE.decode(text)).ok()
}

/// What it is by its type.
pub(super) fn kind_of(media: Media) -> PartKind {
    match media.mime_type.split('/').next() {
        Some("image") => PartKind::Image(media),
        Some("audio") => PartKind::Audio(media),
        Some("video") => PartKind::Video(media),
        _ => PartKind::Document(media),
    }
}

/// As deep as arguments may be built piece by piece; JSON that is read at once has a bound as well.
const MAX_DEPTH: usize = 64;

/// So many items of a list may come after a later one.
const MAX_GAP: usize = 16;

/// Puts a piece of arguments where its path says, such as `$.place.names[0]`. A text that goes on grows. A path that makes no
/// sense is left out.
fn set(args: &mut Value, piece: &Value) {
    let path =
        piece.get("jsonPath").or_else(|| piece.get("json_path")).and_then(Value::as_str).unwrap_or("$");
    let mut at = args;
    let steps = path.trim_start_matches('$').split(['.', '[', ']']).filter(|step| !step.is_empty());
    for (depth, step) in steps.enumerate() {
        let step = step.trim_matches(['\'', '"']);
        at = match (step.parse::<usize>(), &mut *at) {
            _ if depth >= MAX_DEPTH => return,
            (Ok(index), list @ (Value::Array(_) | Value::Null)) => {
                if list.is_null() {
                    *list = Value::Array(Vec::new());
                }
                let Value::Array(items) = list else { return };
                while items.len() <= index && index < items.len() + MAX_GAP {
                    items.push(Value::Null);
                }
                let Some(item) = items.get_mut(index) else { return };
                item
            }
            (_, object) => {
                if !object.is_object() {
                    *object = Map::new().into();
                }
                let Value::Object(fields) = object else { return };
                fields.entry(step).or_insert(Value::Null)
            }
        };
    }
    let value = ["stringValue", "numberValue", "boolValue", "string_value", "number_value", "bool_value"]
        .iter()
        .find_map(|name| piece.get(*name));
    match (at, value) {
        (Value::String(own), Some(Value::String(more))) => own.push_str(more),
        (at, Some(value)) => *at = value.clone(),
        (_, None) => {}
    }
}
