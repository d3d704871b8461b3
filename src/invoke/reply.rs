//! What the engine reads in providers' answers.

use crate::wire::{
    ChatEvent, ChatReply, EmbeddingReply, ModerationReply, RerankReply, SpeechReply, TokenUsage,
};
use bytes::Bytes;

/// An answer, or a piece of a streamed one.
pub trait Reply: Send {
    /// The provider's name of the model that answers; none or empty where this does not tell.
    fn model(&self) -> Option<&str> {
        None
    }

    /// Why the answer ends, such as `stop`; none or empty where this does not tell.
    fn finish_reason(&self) -> Option<&str> {
        None
    }

    /// What the call has used so far; none where this does not tell.
    fn usage(&self) -> Option<TokenUsage> {
        None
    }
}

/// A piece of a streamed answer.
pub trait StreamEvent: Reply + 'static {
    /// Whether it is content, which binds the stream to the config that serves it.
    fn is_content(&self) -> bool;

    /// Whether it says nothing, and only shows that the stream is alive.
    fn is_silent(&self) -> bool {
        false
    }

    /// Whether the caller does not see it, whatever it says.
    fn is_hidden(&self) -> bool {
        false
    }

    /// How many bytes it holds until it is passed on, where it may have to wait for the first content.
    fn size(&self) -> usize {
        0
    }
}

impl Reply for Box<ChatReply> {
    fn model(&self) -> Option<&str> {
        Some(&self.head.model)
    }

    fn finish_reason(&self) -> Option<&str> {
        Some(&self.choice.finish_reason)
    }

    fn usage(&self) -> Option<TokenUsage> {
        self.usage
    }
}

impl Reply for EmbeddingReply {
    fn usage(&self) -> Option<TokenUsage> {
        Some(self.usage)
    }
}

impl Reply for RerankReply {
    fn usage(&self) -> Option<TokenUsage> {
        Some(self.usage)
    }
}

impl Reply for ModerationReply {}

impl Reply for SpeechReply {}

impl Reply for ChatEvent {
    fn finish_reason(&self) -> Option<&str> {
        Some(&self.finish_reason)
    }

    fn usage(&self) -> Option<TokenUsage> {
        self.usage
    }
}

impl StreamEvent for ChatEvent {
    fn is_content(&self) -> bool {
        self.is_content()
    }

    fn is_silent(&self) -> bool {
        self.is_empty()
    }
}

/// A piece of an answer that is passed on unread.
pub struct Passed {
    /// The bytes as they came.
    pub bytes: Bytes,
    /// What the call has used so far, where the bytes say more of it.
    pub(super) usage: Option<TokenUsage>,
}

impl Reply for Passed {
    fn usage(&self) -> Option<TokenUsage> {
        self.usage
    }
}

impl StreamEvent for Passed {
    fn is_content(&self) -> bool {
        !self.bytes.is_empty()
    }
}

impl Reply for Bytes {}

impl StreamEvent for Bytes {
    fn is_content(&self) -> bool {
        !self.is_empty()
    }
}
