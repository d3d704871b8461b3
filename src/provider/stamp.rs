//! Notes on an answer what only the driver knows: which kind of provider made what must go back to that kind alone, and the
//! provider's id of the request.

use crate::wire::{ChatEvent, ChatReply, Content, Extra, Part, Reasoning, ToolCall};
use http::{HeaderMap, HeaderName};

/// Where providers say the id of a request: OpenAI and most others, Anthropic, Azure, Cohere.
const REQUEST_IDS: [HeaderName; 4] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("request-id"),
    HeaderName::from_static("apim-request-id"),
    HeaderName::from_static("x-debug-trace-id"),
];

/// The provider's id of the request; empty where it tells none.
pub(super) fn request_id(headers: &HeaderMap) -> String {
    let id = REQUEST_IDS.iter().find_map(|name| headers.get(name)?.to_str().ok());
    id.unwrap_or_default().chars().take(256).collect()
}

/// What is noted.
#[derive(Debug, Clone)]
pub(super) struct Stamp {
    kind: &'static str,
    request_id: String,
}

impl Stamp {
    /// For an answer of that kind with these headers.
    pub(super) fn new(kind: &'static str, headers: &HeaderMap) -> Self {
        Self { kind, request_id: request_id(headers) }
    }

    pub(super) fn reply(&self, reply: &mut ChatReply) {
        reply.head.request_id.clone_from(&self.request_id);
        for choice in reply.choices_mut() {
            let message = &mut choice.message;
            self.extra(&mut message.extra);
            self.pieces(&mut message.reasoning, &mut message.tool_calls);
            if let Content::Parts(parts) = &mut message.content {
                self.parts(parts);
            }
        }
    }

    pub(super) fn event(&self, mut event: ChatEvent) -> ChatEvent {
        self.pieces(&mut event.reasoning, &mut event.tool_calls);
        if let Some(rare) = &mut event.rare {
            self.parts(&mut rare.parts);
        }
        event
    }

    /// The provider's id of the request, which the first content carries.
    pub(super) fn request_id(&self) -> &str {
        &self.request_id
    }

    fn pieces(&self, reasoning: &mut [Reasoning], calls: &mut [ToolCall]) {
        for piece in reasoning {
            self.kind.clone_into(&mut piece.kind);
        }
        for call in calls {
            self.extra(&mut call.extra);
        }
    }

    fn parts(&self, parts: &mut [Part]) {
        for part in parts {
            self.extra(&mut part.extra);
        }
    }

    fn extra(&self, extra: &mut Extra) {
        if !extra.fields.is_empty() {
            extra.kinds = vec![self.kind.to_owned()];
        }
    }
}
