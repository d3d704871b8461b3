//! Chat, as the drivers and the edge share it: neither the wire of a vendor nor the contract's messages.

use super::{Extra, Keys};
use serde_json::{Map, Value};

/// One chat request.
#[derive(Debug, Clone, Default)]
pub struct ChatRequest {
    /// The conversation.
    pub messages: Vec<Message>,
    /// The provider's own parameters, in the caller's order.
    pub parameters: Map<String, Value>,
    /// Tools that the model may call.
    pub tools: Vec<Tool>,
    /// Sequences that end the answer.
    pub stop: Vec<String>,
    /// An end user's id.
    pub user: String,
    /// More keys for the vendor's request.
    pub extra: Extra,
}

/// A chat message. Empty strings mean "not there".
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    /// `system`, `developer`, `user`, `assistant`, `tool`.
    pub role: String,
    /// What it says.
    pub content: Content,
    /// The speaker.
    pub name: String,
    /// The tools that the assistant calls.
    pub tool_calls: Vec<ToolCall>,
    /// For role `tool`: the call that this answers.
    pub tool_call_id: String,
    /// The plain text of the model's reasoning.
    pub reasoning_content: String,
    /// The model's reasoning as its provider needs it back.
    pub reasoning: Vec<Reasoning>,
    /// The model's refusal.
    pub refusal: String,
    /// What an answer refers to.
    pub annotations: Vec<Annotation>,
    /// More keys of the vendor's message.
    pub extra: Extra,
}

/// A message's content.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Text alone; empty means none.
    Text(String),
    /// Parts of several sorts.
    Parts(Vec<Part>),
}

impl Default for Content {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Content {
    /// All its text.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Parts(parts) => parts.iter().filter_map(Part::text).collect(),
        }
    }
}

/// One part of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What it is.
    pub kind: PartKind,
    /// More keys of the vendor's part; of one that is [`Opaque`](PartKind::Opaque), all of them.
    pub extra: Extra,
}

/// What a part of a message is.
#[derive(Debug, Clone, PartialEq)]
pub enum PartKind {
    /// Text.
    Text(String),
    /// An image.
    Image(Media),
    /// Audio.
    Audio(Media),
    /// A document.
    Document(Media),
    /// A video.
    Video(Media),
    /// A part that only its vendor knows.
    Opaque,
}

impl Part {
    /// Its text, where it is text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            PartKind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// One that only its vendor knows.
    #[must_use]
    pub fn opaque(fields: Map<String, Value>) -> Self {
        Self { kind: PartKind::Opaque, extra: fields.into() }
    }
}

impl From<PartKind> for Part {
    fn from(kind: PartKind) -> Self {
        Self { kind, extra: Extra::default() }
    }
}

/// Something that is not text. Empty strings mean "not there".
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Media {
    /// Where it is.
    pub source: MediaSource,
    /// Such as `image/png`.
    pub mime_type: String,
    /// How closely the model looks at an image.
    pub detail: String,
    /// A document's file name.
    pub filename: String,
}

/// Where something that is not text is.
#[derive(Debug, Clone, PartialEq)]
pub enum MediaSource {
    /// The provider fetches it.
    Url(String),
    /// The bytes.
    Data(Vec<u8>),
    /// A file that was uploaded to the provider.
    File(String),
}

impl Default for MediaSource {
    fn default() -> Self {
        Self::Data(Vec::new())
    }
}

/// A piece of the model's reasoning, or in a stream a fragment of one. Empty strings mean "not there".
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reasoning {
    /// The text.
    pub text: String,
    /// The provider's proof that the text is unchanged.
    pub signature: String,
    /// What only the provider can read.
    pub data: String,
    /// The id of the reasoning, or of the tool call that a signature belongs to.
    pub id: String,
    /// The kind of provider that made it. The readers leave it empty, and the driver fills it in.
    pub kind: String,
    /// Its place among the pieces of the message, or that of the part that a signature belongs to.
    pub index: i32,
    /// More keys of the vendor's object.
    pub extra: Keys,
}

impl Reasoning {
    /// Adds a later fragment of the same piece.
    pub(super) fn grow(&mut self, fragment: Self) {
        self.text.push_str(&fragment.text);
        for (own, said) in [
            (&mut self.signature, fragment.signature),
            (&mut self.data, fragment.data),
            (&mut self.id, fragment.id),
            (&mut self.kind, fragment.kind),
        ] {
            if !said.is_empty() {
                *own = said;
            }
        }
        self.extra.extend(fragment.extra);
    }
}

/// Something that an answer refers to. Empty strings mean "not there".
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Annotation {
    /// The vendor's name for the sort of reference.
    pub kind: String,
    /// The address.
    pub url: String,
    /// The title.
    pub title: String,
    /// The text that is referred to.
    pub text: String,
    /// The reference as the vendor sent it.
    pub json: Value,
}

/// A tool that the model may call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tool {
    /// The function's name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// Its parameters as JSON Schema, in the caller's order.
    pub parameters: Option<Map<String, Value>>,
    /// More keys of the vendor's tool.
    pub extra: Extra,
}

/// A tool call, or in a stream a fragment of one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ToolCall {
    /// In a stream: which of the message's calls.
    pub index: i32,
    /// The call's id.
    pub id: String,
    /// `function`.
    pub kind: String,
    /// The function's name.
    pub name: String,
    /// JSON text, as the model wrote it.
    pub arguments: String,
    /// More keys of the vendor's call.
    pub extra: Extra,
}
