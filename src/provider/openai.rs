//! The driver of everything that speaks OpenAI's API: OpenAI itself, Azure, and servers made to be compatible with it.
//!
//! The kinds are one driver with a table of what differs ([`kinds`]).
//! Invariant: the credential goes out in headers marked sensitive, and nowhere else. When the server is gone, an
//! attempt fails with `CONNECTION` or `TIMEOUT`.

mod kinds;

pub(super) use kinds::{AZURE_OPENAI, OPENAI, OPENAI_COMPATIBLE};

use super::{
    ByteStream, ChatReply, ChatRequest, ChatStream, Driver, EmbeddingReply, EmbeddingRequest, KindSpec,
    ModerationReply, RerankReply, RerankRequest, SpeechReply, SpeechRequest, SpokenRequest, Target,
    UpstreamClient, Vocabulary, Voice, client, redact::Redactor, stream,
};
use crate::balance::Failure;
use crate::wire::{
    openai::{answer, judge, request, speech},
    rerank,
};
use async_trait::async_trait;
use http::HeaderMap;
use kinds::Dialect;
use serde::Serialize;
use serde_json::json;
use url::Url;

/// Speaks OpenAI's API for one kind.
pub(super) struct OpenAi {
    client: UpstreamClient,
    spec: &'static KindSpec,
    dialect: Dialect,
}

impl OpenAi {
    pub(super) fn new(client: UpstreamClient, spec: &'static KindSpec) -> Self {
        Self { client, spec, dialect: Dialect::of(spec) }
    }

    async fn post(
        &self,
        target: &Target,
        path: &[&str],
        body: &impl Serialize,
        redactor: &Redactor,
    ) -> Result<client::Response, Failure> {
        let url = (self.dialect.url)(target, path);
        self.client.post(url, self.dialect.headers(target)?, body, redactor).await
    }
}

#[async_trait]
impl Driver for OpenAi {
    fn spec(&self) -> &'static KindSpec {
        self.spec
    }

    async fn chat(&self, target: &Target, request: &ChatRequest) -> Result<ChatReply, Failure> {
        let redactor = Redactor::new(target);
        let body = request::chat(&target.model, request, false)?;
        let response = self.post(target, &["chat", "completions"], &body, &redactor).await?;
        answer::completion(&self.client.read(response).await?, &redactor)
    }

    async fn chat_stream(&self, target: &Target, request: &ChatRequest) -> Result<ChatStream, Failure> {
        let redactor = Redactor::new(target);
        let body = request::chat(&target.model, request, true)?;
        let response = self.post(target, &["chat", "completions"], &body, &redactor).await?;
        stream::answered(&self.client, response, redactor, answer::Chunks).await
    }

    async fn embed(&self, target: &Target, request: &EmbeddingRequest) -> Result<EmbeddingReply, Failure> {
        let redactor = Redactor::new(target);
        let body = request::embeddings(&target.model, request, self.dialect.sends_input_type);
        let response = self.post(target, &["embeddings"], &body, &redactor).await?;
        answer::embeddings(&self.client.read(response).await?, request.texts.len(), &redactor)
    }

    async fn moderate(&self, target: &Target, text: &str) -> Result<ModerationReply, Failure> {
        let redactor = Redactor::new(target);
        let body = json!({ "model": target.model, "input": text });
        let response = self.post(target, &["moderations"], &body, &redactor).await?;
        judge::moderation(&self.client.read(response).await?, &redactor)
    }

    async fn rerank(&self, target: &Target, request: &RerankRequest) -> Result<RerankReply, Failure> {
        let redactor = Redactor::new(target);
        let response =
            self.post(target, &["rerank"], &rerank::body(&target.model, request), &redactor).await?;
        judge::rerank(&self.client.read(response).await?, request, &redactor)
    }

    async fn transcribe(&self, target: &Target, request: &SpeechRequest) -> Result<SpeechReply, Failure> {
        let redactor = Redactor::new(target);
        let url = (self.dialect.url)(target, &["audio", "transcriptions"]);
        let (content_type, form) = speech::form(&target.model, request)?;
        let headers = self.dialect.headers(target)?;
        let response = self.client.post_pieces(url, headers, content_type, form, &redactor).await?;
        speech::reply(&self.client.read(response).await?, &redactor)
    }

    fn vocabulary(&self, model: &str) -> Option<Vocabulary> {
        Vocabulary::of_openai(model)
    }

    fn authorize(&self, target: &Target, url: &mut Url) -> Result<HeaderMap, Failure> {
        self.dialect.complete(target, url);
        self.dialect.headers(target)
    }

    async fn speak(&self, target: &Target, request: &SpokenRequest) -> Result<ByteStream, Failure> {
        let redactor = Redactor::new(target);
        let body = speech::body(&target.model, request);
        let response = self.post(target, &["audio", "speech"], &body, &redactor).await?;
        speech::audio(&self.client, response, &redactor).await
    }

    fn voices(&self) -> &'static [Voice] {
        speech::VOICES
    }

    fn embedding_batch(&self, target: &Target) -> usize {
        kinds::embedding_batch(target)
    }

    async fn validate(&self, target: &Target) -> Result<(), Failure> {
        let redactor = Redactor::new(target);
        let url = (self.dialect.url)(target, &["models"]);
        let response = self.client.get(url, self.dialect.headers(target)?, &redactor).await?;
        answer::models(&self.client.read(response).await?, &redactor)
    }
}
