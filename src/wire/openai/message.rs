//! A message, or what one gains in a stream, as servers with OpenAI's API send it (API reference, "The chat completion
//! object", "Chat completion chunk"; the others' additions have their page at the field).

use crate::wire::{
    Annotation, Content, Keys, Media, MediaSource, Part, PartKind, Reasoning,
    lenient::{Any, Number, fields},
    media::data_url,
    mend,
    tool_calls::Fragment,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};

/// In a piece of reasoning: the field of the message that it stood in, where that is not `reasoning_content`. It goes back
/// there: Groq and Mistral refuse a message with a field that they do not know.
pub(super) const FIELD: &str = "field";

fields! {
    /// A message or a delta.
    pub(super) struct Text {
        pub(super) role: String,
        pub(super) content: Value,
        pub(super) refusal: String,
        /// DeepSeek's name for it, which most others took (<https://api-docs.deepseek.com/guides/reasoning_model>).
        pub(super) reasoning_content: Any,
        /// OpenRouter's and newer vLLM's name for it.
        pub(super) reasoning: Any,
        /// Ollama's name for it (<https://docs.ollama.com/capabilities/thinking>).
        pub(super) thinking: Any,
        /// <https://openrouter.ai/docs/guides/best-practices/reasoning-tokens>.
        pub(super) reasoning_details: Vec<Detail>,
        pub(super) tool_calls: Vec<Call>,
        /// What came before `tool_calls`.
        pub(super) function_call: Option<Box<Function>>,
        pub(super) annotations: Any,
        /// Perplexity's and xAI's sources: addresses.
        pub(super) citations: Any,
        pub(super) audio: Option<Box<Audio>>,
        /// <https://openrouter.ai/docs/guides/overview/multimodal/image-generation>.
        pub(super) images: Any,
    }
    ignores []
}

fields! {
    pub(super) struct Detail {
        index: Number,
        id: String,
        text: String,
        summary: String,
        data: String,
        signature: String,
    }
    ignores []
}

fields! {
    pub(super) struct Call {
        index: Number,
        id: String,
        kind: String = "type",
        function: Option<Box<Function>>,
        /// A tool whose input is text.
        custom: Option<Box<Function>>,
    }
    ignores []
}

fields! {
    pub(super) struct Function {
        name: String,
        arguments: Value = "arguments" | "input",
    }
    ignores []
}

fields! {
    /// <https://platform.openai.com/docs/guides/audio>.
    pub(super) struct Audio {
        id: String,
        data: String,
        transcript: String,
    }
    ignores []
}

/// What a message or a delta says.
#[derive(Default)]
pub(super) struct Spoken {
    pub(super) role: String,
    pub(super) content: Content,
    pub(super) reasoning_content: String,
    pub(super) reasoning: Vec<Reasoning>,
    pub(super) refusal: String,
    pub(super) calls: Vec<Fragment>,
    pub(super) annotations: Vec<Annotation>,
    pub(super) rest: Keys,
}

/// What a choice has said of its reasoning, where later fragments depend on it.
#[derive(Default)]
pub(super) struct SoFar {
    /// The pieces, by what tells them apart. A piece's place among them is its index: OpenRouter numbers texts and
    /// encrypted data apart.
    pieces: Vec<(Option<i32>, String, String)>,
    /// The further keys of the plain piece.
    told: Keys,
}

impl SoFar {
    fn place(&mut self, key: (Option<i32>, String, String)) -> i32 {
        let place = self.pieces.iter().position(|own| *own == key).unwrap_or_else(|| {
            self.pieces.push(key);
            self.pieces.len() - 1
        });
        i32::try_from(place).unwrap_or(i32::MAX)
    }

    /// Reasoning that is plain text. With its first fragment, and again where it changes, comes all that its vendor needs to
    /// get it back.
    fn plain(&mut self, text: String, extra: Keys) -> Reasoning {
        let is_news = extra.iter().any(|(name, value)| self.told.get(name) != Some(value));
        self.told.extend(extra);
        let extra = if is_news { self.told.clone() } else { Keys::default() };
        Reasoning {
            text,
            index: self.place((None, String::new(), String::new())),
            extra,
            ..Reasoning::default()
        }
    }
}

impl Spoken {
    /// Whether it says nothing to anybody.
    pub(super) fn is_empty(&self) -> bool {
        self.content == Content::default()
            && self.reasoning_content.is_empty()
            && self.refusal.is_empty()
            && self.calls.is_empty()
    }

    pub(super) fn read(text: Text, so_far: &mut SoFar) -> Self {
        let mut spoken = Self { role: text.role, refusal: text.refusal, rest: text.rest, ..Self::default() };
        let mut content = Parts::default();
        match text.content {
            Value::String(text) => spoken.content = Content::Text(text),
            Value::Array(items) => items.into_iter().for_each(|item| content.add(item)),
            item @ Value::Object(_) => content.add(item),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        spoken.refusal.push_str(&content.refusal);
        let mut parts = content.told;
        parts.extend(text.audio.and_then(|audio| audio.part()));
        parts.extend(images(text.images.into_value()));
        add(&mut spoken.content, parts);

        spoken.reasoning =
            (0..).zip(text.reasoning_details).map(|(place, detail)| detail.piece(place, so_far)).collect();
        let fields = [
            ("reasoning_content", text.reasoning_content),
            ("reasoning", text.reasoning),
            ("thinking", text.thinking),
        ];
        let field = fields
            .into_iter()
            .map(|(name, value)| (name, plain(&value)))
            .find(|(_, thought)| !thought.is_empty());
        let told = match field {
            Some(("reasoning_content", thought)) => Some((thought, Keys::default())),
            Some((name, thought)) => {
                Some((thought, Map::from_iter([(FIELD.to_owned(), name.into())]).into()))
            }
            None => (!(content.thoughts.is_empty() && content.signature.is_empty()))
                .then_some((content.thoughts, content.thinking)),
        };
        if let Some((thought, extra)) = told {
            if spoken.reasoning.is_empty() {
                let piece = so_far.plain(thought.clone(), extra);
                spoken.reasoning.push(Reasoning { signature: content.signature, ..piece });
            }
            spoken.reasoning_content = thought;
        } else {
            spoken.reasoning_content = spoken.reasoning.iter().map(|piece| piece.text.as_str()).collect();
        }
        spoken.calls = text.tool_calls.into_iter().map(Call::fragment).collect();
        spoken.calls.extend(text.function_call.map(|function| function.fragment(Call::default())));
        spoken.annotations = [text.annotations, text.citations]
            .map(Any::into_value)
            .into_iter()
            .flat_map(annotations)
            .collect();
        spoken
    }
}

/// What the parts of a content say.
#[derive(Default)]
struct Parts {
    told: Vec<Part>,
    refusal: String,
    thoughts: String,
    /// What its vendor signed the thoughts with.
    signature: String,
    /// The further keys of the part with the thoughts.
    thinking: Keys,
}

impl Parts {
    fn add(&mut self, item: Value) {
        let Value::Object(mut fields) = item else {
            self.told.extend(item.as_str().map(|text| PartKind::Text(text.to_owned()).into()));
            return;
        };
        let kind = fields.get("type").and_then(Value::as_str).unwrap_or("text").to_owned();
        match kind.as_str() {
            // Mistral (<https://docs.mistral.ai/capabilities/reasoning>), and Databricks, in a summary
            // (<https://docs.databricks.com/aws/en/machine-learning/model-serving/query-reason-models>).
            "thinking" | "reasoning" => {
                let summary = fields.get("summary").and_then(Value::as_array).into_iter().flatten();
                let signatures = summary.filter_map(|item| item.get("signature")?.as_str());
                self.signature.extend(signatures);
                for name in ["thinking", "text", "reasoning", "summary"] {
                    self.thoughts
                        .push_str(&fields.shift_remove(name).as_ref().map(plain).unwrap_or_default());
                }
                self.thinking.extend(fields);
            }
            "refusal" => {
                self.refusal.push_str(fields.get("refusal").and_then(Value::as_str).unwrap_or_default());
            }
            "text" | "output_text" => {
                let text = fields.shift_remove("text").as_ref().map(plain).unwrap_or_default();
                fields.shift_remove("type");
                fields.retain(|_, value| {
                    !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty())
                });
                self.told.push(Part { kind: PartKind::Text(text), extra: fields.into() });
            }
            "image_url" => self.told.extend(image(&Value::Object(fields))),
            _ => self.told.push(Part::opaque(fields)),
        }
    }
}

/// A text, or the texts of the parts in a list.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(fields) => fields
            .get("text")
            .or_else(|| fields.get("content"))
            .or_else(|| fields.get("thinking"))
            .map(plain)
            .unwrap_or_default(),
        Value::Null | Value::Bool(_) | Value::Number(_) => String::new(),
    }
}

/// Adds parts to a content: it stays text where all of them are.
fn add(content: &mut Content, parts: Vec<Part>) {
    let is_text = parts.iter().all(|part| part.text().is_some() && part.extra.fields.is_empty());
    match content {
        Content::Text(own) if is_text => own.extend(parts.iter().filter_map(Part::text)),
        Content::Text(own) => {
            let own = std::mem::take(own);
            let own = (!own.is_empty()).then(|| PartKind::Text(own).into());
            *content = Content::Parts(own.into_iter().chain(parts).collect());
        }
        Content::Parts(own) => own.extend(parts),
    }
}

fn images(images: Value) -> Vec<Part> {
    match images {
        Value::Array(items) => items.iter().filter_map(image).collect(),
        _ => Vec::new(),
    }
}

fn image(item: &Value) -> Option<Part> {
    let url = item.get("image_url").unwrap_or(item);
    let url = url.get("url").unwrap_or(url).as_str()?;
    let media = match data_url(url) {
        Some((mime_type, data)) => match BASE64_STANDARD.decode(data) {
            Ok(bytes) => Media { source: MediaSource::Data(bytes), mime_type, ..Media::default() },
            Err(_) => Media { source: MediaSource::Url(url.to_owned()), mime_type, ..Media::default() },
        },
        None => Media { source: MediaSource::Url(url.to_owned()), ..Media::default() },
    };
    Some(PartKind::Image(media).into())
}

impl Audio {
    fn part(self) -> Option<Part> {
        let bytes = BASE64_STANDARD.decode(&self.data).ok()?;
        let mut fields = self.rest;
        for (name, text) in [("id", self.id), ("transcript", self.transcript)] {
            if !text.is_empty() {
                fields.insert(name.to_owned(), text.into());
            }
        }
        let mime_type = audio_type(&bytes).to_owned();
        let media = Media { source: MediaSource::Data(bytes), mime_type, ..Media::default() };
        Some(Part { kind: PartKind::Audio(media), extra: fields.into() })
    }
}

/// What audio is by its first bytes: the answer does not say. Of the formats that can be asked for (API reference, `audio`)
/// raw samples alone have no head.
fn audio_type(bytes: &[u8]) -> &'static str {
    const HEADS: &[(&[u8], &str)] = &[
        (b"RIFF", "audio/wav"),
        (b"ID3", "audio/mpeg"),
        (b"\xff\xfb", "audio/mpeg"),
        (b"\xff\xf3", "audio/mpeg"),
        (b"OggS", "audio/ogg"),
        (b"fLaC", "audio/flac"),
        (b"\xff\xf1", "audio/aac"),
    ];
    HEADS.iter().find(|(head, _)| bytes.starts_with(head)).map_or("audio/pcm", |(_, kind)| kind)
}

impl Detail {
    fn piece(self, place: i32, so_far: &mut SoFar) -> Reasoning {
        let mut extra = self.rest;
        let kind = extra.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let theirs = self.index.index().unwrap_or(place);
        // Of one text the fragments differ in their ids, if they have any.
        let id = if self.data.is_empty() { String::new() } else { self.id.clone() };
        let index = so_far.place((Some(theirs), kind, id));
        if index != theirs {
            extra.insert("index".to_owned(), theirs.into());
        }
        Reasoning {
            // Of the two each kind of detail has one.
            text: mend::whole(if self.text.is_empty() { self.summary } else { self.text }),
            signature: self.signature,
            data: self.data,
            id: self.id,
            kind: String::new(),
            index,
            extra,
        }
    }
}

impl Call {
    fn fragment(self) -> Fragment {
        let mut call = self;
        let function = call.function.take().or_else(|| call.custom.take()).unwrap_or_default();
        function.fragment(call)
    }
}

impl Function {
    fn fragment(self, call: Call) -> Fragment {
        Fragment {
            index: call.index.index(),
            id: call.id,
            kind: call.kind,
            name: self.name,
            arguments: match self.arguments {
                Value::Null => String::new(),
                Value::String(text) => text,
                other => other.to_string(),
            },
            extra: call.rest.into(),
        }
    }
}

/// References, as OpenAI has them (API reference, `annotations`), or addresses alone.
pub(super) fn annotations(value: Value) -> Vec<Annotation> {
    let Value::Array(items) = value else { return Vec::new() };
    let annotation = |json: Value| {
        let kind = json.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let fields = json.get(&kind).unwrap_or(&json);
        let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let url = json.as_str().map_or_else(|| text("url"), ToOwned::to_owned);
        let said = [text("content"), text("snippet"), text("text")].into_iter().find(|text| !text.is_empty());
        Annotation { url, title: text("title"), text: said.unwrap_or_default(), kind, json }
    };
    items.into_iter().map(annotation).collect()
}
