//! What every driver can be asked for.

use super::{ByteStream, ChatStream, KindSpec, Payload, RelayTo, Target, Vocabulary, Whole};
use crate::{
    balance::{ErrorClass, Failure},
    wire::{
        ChatReply, ChatRequest, EmbeddingReply, EmbeddingRequest, Endpoint, ModerationReply,
        ModerationRequest, Protocol, RerankReply, RerankRequest, SpeechReply, SpeechRequest, SpokenRequest,
        Voice,
    },
};
use async_trait::async_trait;
use http::Request;

/// Speaks one wire protocol.
#[async_trait]
pub trait Driver: Send + Sync + 'static {
    /// The kind it serves.
    fn spec(&self) -> &'static KindSpec;

    /// One chat completion.
    async fn chat(&self, target: &Target, request: &ChatRequest) -> Result<Whole<Box<ChatReply>>, Failure>;

    /// One streamed chat completion; returns when the provider has accepted the request.
    async fn chat_stream(&self, target: &Target, request: &ChatRequest) -> Result<ChatStream, Failure>;

    /// Embeds texts, one vector a text, in their order.
    async fn embed(
        &self,
        _target: &Target,
        _request: &EmbeddingRequest,
    ) -> Result<Whole<EmbeddingReply>, Failure> {
        Err(unsupported(self.spec()))
    }

    /// Judges texts or media.
    async fn moderate(
        &self,
        _target: &Target,
        _request: &ModerationRequest,
    ) -> Result<Whole<ModerationReply>, Failure> {
        Err(unsupported(self.spec()))
    }

    /// Puts documents in order.
    async fn rerank(
        &self,
        _target: &Target,
        _request: &RerankRequest,
    ) -> Result<Whole<RerankReply>, Failure> {
        Err(unsupported(self.spec()))
    }

    /// Writes a recording down.
    async fn transcribe(
        &self,
        _target: &Target,
        _request: &SpeechRequest,
    ) -> Result<Whole<SpeechReply>, Failure> {
        Err(unsupported(self.spec()))
    }

    /// Reads a text aloud; returns when the provider has accepted the request.
    async fn speak(&self, _target: &Target, _request: &SpokenRequest) -> Result<ByteStream, Failure> {
        Err(unsupported(self.spec()))
    }

    /// The voices that [`speak`](Self::speak) knows.
    fn voices(&self) -> &'static [Voice] {
        &[]
    }

    /// How that model cuts text into tokens, where it is known here.
    fn vocabulary(&self, _model: &str) -> Option<Vocabulary> {
        None
    }

    /// Asks the provider how many tokens a conversation has. `None` where the vendor has no such call: then it is
    /// counted here.
    async fn count_tokens(&self, _target: &Target, _request: &ChatRequest) -> Result<Option<u32>, Failure> {
        Ok(None)
    }

    /// At most this many texts fit into one [`embed`](Self::embed) of that target; more are sent in several.
    fn embedding_batch(&self, _target: &Target) -> usize {
        2048
    }

    /// The protocol that it speaks, where doors speak it too.
    fn protocol(&self) -> Option<Protocol> {
        None
    }

    /// Where the target takes a request to that endpoint, with that body, as it is. None: it does not take it, or not this
    /// one, since a switch says that it refuses a field that stands there.
    fn relays<'t>(&self, _target: &'t Target, _endpoint: Endpoint, _body: &[u8]) -> Option<RelayTo<'t>> {
        None
    }

    /// Signs a finished request, right before it is sent: puts in what shows the credential to the provider (headers, all
    /// marked sensitive) and what every request to it must have. It replaces whatever stands there under the same names. It is
    /// called anew for each send, and leaves method, body and host as they are.
    ///
    /// # Errors
    /// When the credential cannot be used. Then nothing is sent.
    fn sign(&self, target: &Target, request: &mut Request<Payload>) -> Result<(), Failure>;

    /// The cheapest call that shows whether the credential works.
    async fn validate(&self, target: &Target) -> Result<(), Failure>;
}

/// What a kind does not list among its model types: saving such a model is refused, so this is for rows of a build that
/// could more.
fn unsupported(kind: &KindSpec) -> Failure {
    Failure::new(ErrorClass::BadRequest, format!("providers of kind {} cannot do this", kind.name))
}
