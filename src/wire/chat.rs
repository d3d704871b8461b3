//! Chat, as the drivers and the edge share it: neither the wire of a vendor nor the contract's messages.

use serde_json::{Map, Value};

/// One chat request.
#[derive(Debug, Clone, Default)]
pub struct ChatRequest {
    /// The conversation.
    pub messages: Vec<Message>,
    /// The provider's own parameters, passed on as they are.
    pub parameters: Map<String, Value>,
    /// Tools that the model may call.
    pub tools: Vec<Tool>,
    /// Sequences that end the answer.
    pub stop: Vec<String>,
    /// An end user's id.
    pub user: String,
}

/// A chat message. Empty strings mean "not there".
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`.
    pub role: String,
    /// What it says.
    pub content: Content,
    /// The speaker.
    pub name: String,
    /// The tools that the assistant calls.
    pub tool_calls: Vec<ToolCall>,
    /// For role `tool`: the call that this answers.
    pub tool_call_id: String,
    /// The model's reasoning.
    pub reasoning: String,
    /// The model's refusal.
    pub refusal: String,
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

/// One part of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Text.
    Text(String),
    /// An image.
    Image(Media),
    /// Audio.
    Audio(Media),
    /// A document.
    Document(Media),
}

/// Something that is not text.
#[derive(Debug, Clone, PartialEq)]
pub enum Media {
    /// The provider fetches it.
    Url(String),
    /// The bytes.
    Data {
        /// What they are.
        bytes: Vec<u8>,
        /// Such as `image/png`.
        mime_type: String,
    },
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// The function's name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// Its parameters as JSON Schema.
    pub parameters: Option<Map<String, Value>>,
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
}

/// What the provider counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenUsage {
    /// Tokens in.
    pub prompt: u32,
    /// Tokens out.
    pub completion: u32,
    /// Both.
    pub total: u32,
    /// Of those in: from the provider's cache.
    pub cached: u32,
    /// Of those out: spent on reasoning.
    pub reasoning: u32,
}

/// One whole answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChatReply {
    /// The assistant's message.
    pub message: Message,
    /// Such as `stop`.
    pub finish_reason: String,
    /// What it used.
    pub usage: TokenUsage,
    /// The model's name as returned.
    pub model: String,
    /// The provider's fingerprint.
    pub system_fingerprint: String,
}

/// One piece of a streamed answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChatEvent {
    /// Which choice.
    pub index: i32,
    /// New text.
    pub content: String,
    /// New reasoning.
    pub reasoning: String,
    /// New refusal.
    pub refusal: String,
    /// Fragments of tool calls.
    pub tool_calls: Vec<ToolCall>,
    /// In the choice's last event.
    pub finish_reason: String,
    /// Where the provider gives it, at the end.
    pub usage: Option<TokenUsage>,
}

impl ChatEvent {
    /// Whether this is content in the sense of the first-content rule: text, reasoning, refusal, a tool call, or the
    /// end of the choice. Role-only deltas and pings are not.
    #[must_use]
    pub fn is_content(&self) -> bool {
        !(self.content.is_empty()
            && self.reasoning.is_empty()
            && self.refusal.is_empty()
            && self.tool_calls.is_empty()
            && self.finish_reason.is_empty())
    }
}

impl From<ChatReply> for ChatEvent {
    /// The one event that the whole answer would have been.
    fn from(reply: ChatReply) -> Self {
        let content = match reply.message.content {
            Content::Text(text) => text,
            Content::Parts(_) => String::new(),
        };
        Self {
            index: 0,
            content,
            reasoning: reply.message.reasoning,
            refusal: reply.message.refusal,
            tool_calls: reply.message.tool_calls,
            finish_reason: reply.finish_reason,
            usage: Some(reply.usage),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_answer_is_one_event() {
        let usage = TokenUsage { prompt: 2, completion: 3, total: 5, ..TokenUsage::default() };
        let text = |text: &str| text.to_owned();
        let message = Message {
            content: Content::Text(text("a")),
            tool_calls: vec![ToolCall { id: text("c"), ..ToolCall::default() }],
            reasoning: text("r"),
            refusal: text("no"),
            ..Message::default()
        };
        let reply = ChatReply {
            message: message.clone(),
            finish_reason: text("stop"),
            usage,
            ..ChatReply::default()
        };
        let expected = ChatEvent {
            index: 0,
            content: text("a"),
            reasoning: text("r"),
            refusal: text("no"),
            tool_calls: message.tool_calls,
            finish_reason: text("stop"),
            usage: Some(usage),
        };
        assert_eq!(ChatEvent::from(reply), expected);
    }
}
