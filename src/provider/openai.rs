//! The driver of everything that speaks OpenAI's API: OpenAI itself, Azure, and servers made to be compatible with it.
//!
//! The kinds are one driver with a table of what differs ([`kinds`]).
//! Invariant: the credential goes out in headers marked sensitive, and nowhere else. When the server is gone, an
//! attempt fails with `CONNECTION` or `TIMEOUT`.

pub(super) mod errors;
pub(super) mod kinds;

use super::{
    ByteStream, ChatStream, Driver, KindSpec, Payload, RelayTo, Switches, Target, UpstreamClient, Vocabulary,
    Whole, call::Call,
};
use crate::{
    balance::Failure,
    wire::{
        ChatReply, ChatRequest, EmbeddingReply, EmbeddingRequest, Endpoint, ModerationReply,
        ModerationRequest, Protocol, Recipient, RerankReply, RerankRequest, SpeechReply, SpeechRequest,
        SpokenRequest, StreamReader, Voice,
        openai::{answer, embeddings, form, judge, request, speech, stream::Chunks},
        rerank,
    },
};
use async_trait::async_trait;
use http::Request;
use kinds::Kind;
use memchr::memmem;
use std::{borrow::Cow, sync::Arc};
use url::Url;

/// The path of the endpoint for chats.
const CHAT: &[&str] = &["chat", "completions"];

/// Makes the driver of a kind that speaks OpenAI's API.
pub(super) fn driver(client: UpstreamClient, kind: &'static Kind) -> Arc<dyn Driver> {
    Arc::new(OpenAi { client, kind })
}

/// Speaks OpenAI's API for one kind.
struct OpenAi {
    client: UpstreamClient,
    kind: &'static Kind,
}

impl OpenAi {
    fn call<'c>(&'c self, target: &'c Target) -> Call<'c> {
        Call::new(&self.client, self, target)
    }

    fn recipient<'t>(&self, target: &'t Target) -> Recipient<'t> {
        let mut to = target.recipient(&self.kind.spec);
        to.switches.no_developer_role |= self.kind.dialect.no_developer_role;
        to
    }

    fn url(&self, target: &Target, path: &[&str]) -> Url {
        (self.kind.dialect.url)(target, path)
    }

    /// Whether the target has `/responses`: few servers beside OpenAI's do.
    fn has_responses(&self, target: &Target) -> bool {
        target.switches.responses.unwrap_or(self.kind.dialect.has_responses)
    }
}

/// Whether a chat has a field, or a role, that a switch says the server does not take. An escaped one is not looked for: the
/// server refuses it itself.
fn refuses(switches: Switches, body: &[u8]) -> bool {
    let fields: [(bool, &[u8]); 4] = [
        (switches.no_developer_role, b"\"developer\""),
        (switches.no_max_completion_tokens, b"\"max_completion_tokens\""),
        (switches.no_parallel_tool_calls, b"\"parallel_tool_calls\""),
        (switches.no_stream_options, b"\"stream_options\""),
    ];
    fields.into_iter().any(|(is_refused, name)| is_refused && memmem::find(body, name).is_some())
}

#[async_trait]
impl Driver for OpenAi {
    fn spec(&self) -> &'static KindSpec {
        &self.kind.spec
    }

    async fn chat(&self, target: &Target, request: &ChatRequest) -> Result<Whole<Box<ChatReply>>, Failure> {
        let call = self.call(target);
        let body = request::chat(self.recipient(target), request, false)?;
        let response = call.post(self.url(target, CHAT), &body).await?;
        let think_tags = target.switches.think_tags;
        let read = if think_tags { answer::thinking_completion } else { answer::completion };
        call.chat(response, read, Chunks::new(think_tags)).await
    }

    async fn chat_stream(&self, target: &Target, request: &ChatRequest) -> Result<ChatStream, Failure> {
        let call = self.call(target);
        let body = request::chat(self.recipient(target), request, true)?;
        let response = call.post(self.url(target, CHAT), &body).await?;
        Ok(call.stream(response, StreamReader::of_events(Chunks::new(target.switches.think_tags))))
    }

    async fn embed(
        &self,
        target: &Target,
        request: &EmbeddingRequest,
    ) -> Result<Whole<EmbeddingReply>, Failure> {
        let call = self.call(target);
        let body = request::embeddings(self.recipient(target), request, self.kind.dialect.sends_input_type)?;
        let response = call.post(self.url(target, &["embeddings"]), &body).await?;
        call.whole(response, |body| embeddings::embeddings(body, request.inputs.len(), &request.encoding))
            .await
    }

    async fn moderate(
        &self,
        target: &Target,
        request: &ModerationRequest,
    ) -> Result<Whole<ModerationReply>, Failure> {
        let call = self.call(target);
        let body = request::moderation(self.recipient(target), request);
        let response = call.post(self.url(target, &["moderations"]), &body).await?;
        call.whole(response, judge::moderation).await
    }

    async fn rerank(&self, target: &Target, request: &RerankRequest) -> Result<Whole<RerankReply>, Failure> {
        let call = self.call(target);
        let body = rerank::body(self.recipient(target), request);
        let response = call.post(self.url(target, &["rerank"]), &body).await?;
        call.whole(response, |body| judge::rerank(body, request)).await
    }

    async fn transcribe(
        &self,
        target: &Target,
        request: &SpeechRequest,
    ) -> Result<Whole<SpeechReply>, Failure> {
        let call = self.call(target);
        let form = form::transcription(self.recipient(target), request)?;
        let response = call.post_form(self.url(target, &["audio", "transcriptions"]), form).await?;
        call.whole(response, answer::transcription).await
    }

    async fn speak(&self, target: &Target, request: &SpokenRequest) -> Result<ByteStream, Failure> {
        let call = self.call(target);
        let body = speech::body(self.recipient(target), request);
        let response = call.post(self.url(target, &["audio", "speech"]), &body).await?;
        call.audio(response).await
    }

    fn voices(&self) -> &'static [Voice] {
        speech::VOICES
    }

    fn vocabulary(&self, model: &str) -> Option<Vocabulary> {
        Vocabulary::of_openai(model)
    }

    fn embedding_batch(&self, target: &Target) -> usize {
        kinds::embedding_batch(target)
    }

    fn protocol(&self) -> Option<Protocol> {
        Some(Protocol::OpenAi)
    }

    fn relays<'t>(&self, target: &'t Target, endpoint: Endpoint, body: &[u8]) -> Option<RelayTo<'t>> {
        let path: &[&str] = match endpoint {
            Endpoint::ChatCompletions => CHAT,
            Endpoint::Completions => &["completions"],
            Endpoint::Responses => &["responses"],
            Endpoint::Embeddings => &["embeddings"],
            Endpoint::Rerank => &["rerank"],
            Endpoint::Moderations => &["moderations"],
            Endpoint::Transcriptions => &["audio", "transcriptions"],
            Endpoint::Translations => &["audio", "translations"],
            Endpoint::Speech => &["audio", "speech"],
            Endpoint::Images => &["images", "generations"],
            _ => return None,
        };
        let is_chat = endpoint == Endpoint::ChatCompletions;
        let lacks = endpoint == Endpoint::Responses && !self.has_responses(target);
        if lacks || (is_chat && refuses(self.recipient(target).switches, body)) {
            return None;
        }
        Some(RelayTo { url: self.url(target, path), model: Cow::Borrowed(&target.model) })
    }

    fn sign(&self, target: &Target, request: &mut Request<Payload>) -> Result<(), Failure> {
        self.kind.dialect.sign(target, request)
    }

    /// By the list of models: it costs no tokens.
    async fn validate(&self, target: &Target) -> Result<(), Failure> {
        let call = self.call(target);
        let response = call.get(self.url(target, &["models"])).await?;
        call.read(response, answer::models).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Networks, UpstreamOptions, fixtures};

    #[test]
    fn a_provider_says_whether_it_has_responses() {
        for (kind, unless_told) in
            [(&kinds::OPENAI, true), (&kinds::AZURE_OPENAI, true), (&kinds::OPENAI_COMPATIBLE, false)]
        {
            let client = UpstreamClient::new(&UpstreamOptions::new(Networks::Private)).unwrap();
            let driver = driver(client, kind);
            for responses in [None, Some(true), Some(false)] {
                let switches = Switches { responses, ..Switches::NONE };
                let target = Target { switches, ..fixtures::target() };
                let relayed = driver.relays(&target, Endpoint::Responses, b"{}").is_some();
                assert_eq!(relayed, responses.unwrap_or(unless_told), "{} {responses:?}", kind.spec.name);
            }
        }
    }
}
