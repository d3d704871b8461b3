//! One attempt of a driver at one target: every request is signed by the driver right before it is sent, and every answer
//! that cannot be used becomes a [`Failure`] by the rules of the driver's kind.

use super::{
    ByteStream, ChatStream, Driver, Payload, Target, UpstreamClient, Whole, body,
    classify::Classifier,
    client::{Response, Sign},
    stamp::Stamp,
    stream::chat_events,
};
use crate::{
    balance::{ErrorClass, Failure},
    wire::{
        ChatReply, Decoder, ReadError, ReadFrames, StreamReader, assemble,
        openai::{answer::no_audio, form::Form},
    },
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use serde::Serialize;
use std::time::SystemTime;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};
use url::Url;

/// A request on its way.
type Sent<'c> = BoxFuture<'c, Result<Response, Failure>>;

/// What an attempt needs: the client that sends, the driver that signs, and where it goes.
pub(super) struct Call<'c> {
    client: &'c UpstreamClient,
    driver: &'c dyn Driver,
    target: &'c Target,
    classifier: Classifier,
}

impl<'c> Call<'c> {
    pub(super) fn new(client: &'c UpstreamClient, driver: &'c dyn Driver, target: &'c Target) -> Self {
        Self { client, driver, target, classifier: Classifier::new(driver.spec(), target) }
    }

    /// Gets what is there, and returns the answer when the status is 2xx.
    pub(super) fn get(&self, url: Url) -> impl Future<Output = Result<Response, Failure>> {
        self.success(self.send(&url, Request::new(Payload::default()), true))
    }

    /// Posts JSON, and returns the answer when the status is 2xx.
    pub(super) fn post<'a, T: Serialize>(
        &'a self,
        url: Url,
        body: &T,
    ) -> impl Future<Output = Result<Response, Failure>> + use<'a, 'c, T> {
        // What the drivers write has texts for keys and finite numbers: it can be written.
        let body = serde_json::to_vec(body)
            .map_err(|_| Failure::new(ErrorClass::BadRequest, "the request cannot be written as JSON"));
        let json = HeaderValue::from_static("application/json");
        self.success(body.and_then(|body| self.start(&url, json, Bytes::from(body).into())))
    }

    /// Posts a form, and returns the answer when the status is 2xx.
    pub(super) fn post_form(&self, url: Url, form: Form) -> impl Future<Output = Result<Response, Failure>> {
        self.success(self.start(&url, form.content_type, form.pieces.into()))
    }

    /// Posts a body as it is, with these headers, and returns the answer when the status is 2xx.
    pub(super) fn post_as_is(
        &self,
        url: &Url,
        headers: &HeaderMap,
        content_type: HeaderValue,
        body: Payload,
    ) -> impl Future<Output = Result<Response, Failure>> + use<'_, 'c> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        request.headers_mut().clone_from(headers);
        request.headers_mut().insert(header::CONTENT_TYPE, content_type);
        self.success(self.send(url, request, true))
    }

    /// Not async, as those above, so that what a request is made of takes no room in what waits for its answer.
    fn start(&self, url: &Url, content_type: HeaderValue, body: Payload) -> Result<Sent<'_>, Failure> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        // What the client, the driver and HTTP/1.1 add fits as well.
        *request.headers_mut() = HeaderMap::with_capacity(8);
        request.headers_mut().insert(header::CONTENT_TYPE, content_type);
        // Whoever asks for an answer of a model may ask twice; it costs twice.
        self.send(url, request, true)
    }

    fn send(&self, url: &Url, request: Request<Payload>, repeatable: bool) -> Result<Sent<'_>, Failure> {
        self.client.send(url, request, self.target, repeatable, self)
    }

    async fn success(&self, sent: Result<Sent<'_>, Failure>) -> Result<Response, Failure> {
        let response = sent?.await?;
        if response.status().is_success() {
            return Ok(response);
        }
        // Apart, so that what happens once in a while takes no room in every call.
        Err(Box::pin(self.refusal(response)).await)
    }

    /// Reads a whole answer of which nothing is kept but this.
    pub(super) async fn read<T>(
        &self,
        response: Response,
        read: impl FnOnce(&[u8]) -> Result<T, ReadError>,
    ) -> Result<T, Failure> {
        self.whole(response, read).await.map(|whole| whole.reply)
    }

    /// Reads a whole answer.
    pub(super) async fn whole<T>(
        &self,
        response: Response,
        read: impl FnOnce(&[u8]) -> Result<T, ReadError>,
    ) -> Result<Whole<T>, Failure> {
        self.whole_bytes(response, |_, body| read(body)).await
    }

    /// The same, with the bytes as they came beside what is to be read of them.
    pub(super) async fn whole_bytes<T>(
        &self,
        response: Response,
        read: impl FnOnce(&Bytes, &[u8]) -> Result<T, ReadError>,
    ) -> Result<Whole<T>, Failure> {
        let (body, reading) = self.client.read(response, self.target.tenant).await?;
        let read = || read(&body, unmarked(&body)).map_err(|error| self.unread(error));
        let is_long = body.len() > LONG && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        let reply = if is_long { block_in_place(read)? } else { read()? };
        Ok(Whole { reply, room: reading.read() })
    }

    /// Reads a whole chat. Some servers stream whatever is asked: the first bytes tell.
    pub(super) async fn chat<F: ReadFrames>(
        &self,
        response: Response,
        read: impl FnOnce(&[u8]) -> Result<ChatReply, ReadError>,
        frames: F,
    ) -> Result<Whole<Box<ChatReply>>, Failure> {
        let stamp = Stamp::new(self.driver.spec().name, response.headers());
        let read = |body: &[u8]| {
            if Self::is_stream(body) { Self::streamed(body, frames) } else { read(body) }
        };
        let mut whole = self.whole(response, read).await?.map(Box::new);
        stamp.reply(&mut whole.reply);
        Ok(whole)
    }

    /// Reads chat events from the answer to the request for a stream.
    pub(super) fn stream<D: Decoder, F: ReadFrames>(
        self,
        response: Response,
        reader: StreamReader<D, F>,
    ) -> ChatStream {
        let stamp = Stamp::new(self.driver.spec().name, response.headers());
        chat_events(response.into_body().into_stream(), reader, self.classifier, stamp)
    }

    /// Whether an answer is a stream of events.
    pub(super) fn is_stream(body: &[u8]) -> bool {
        let start = body.trim_ascii_start();
        STREAMS.iter().any(|field| start.starts_with(field))
    }

    /// The whole answer that a stream makes.
    pub(super) fn streamed<F: ReadFrames>(body: &[u8], frames: F) -> Result<ChatReply, ReadError> {
        let mut reader = StreamReader::of_events(frames);
        reader.push(body);
        reader.end();
        let events = reader.collect::<Result<Vec<_>, _>>()?;
        assemble(events).ok_or(ReadError::MALFORMED)
    }

    /// The audio that an answer is. Text is none: an error, or a page of something in between.
    pub(super) async fn audio(&self, response: Response) -> Result<ByteStream, Failure> {
        let content_type = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        let content_type = content_type.unwrap_or_default().to_ascii_lowercase();
        if content_type.starts_with(b"application/json") {
            return self.read(response, |body| Err(no_audio(body))).await;
        }
        // But for audio in events (API reference, "Create speech", `stream_format`).
        if content_type.starts_with(b"text/") && !content_type.starts_with(b"text/event-stream") {
            return Err(self.unread(ReadError::MALFORMED));
        }
        Ok(response.into_body().into_stream())
    }

    /// Says what the target's provider means.
    pub(super) fn classifier(&self) -> Classifier {
        self.classifier.clone()
    }

    /// What an answer that cannot be read means.
    pub(super) fn unread(&self, error: ReadError) -> Failure {
        self.classifier.unread(error)
    }

    /// Sends a request, which may be repeatable, and returns whatever answer comes.
    pub(super) fn exchange(
        &self,
        url: Url,
        request: Request<Payload>,
        repeatable: bool,
    ) -> impl Future<Output = Result<Response, Failure>> {
        let sent = self.send(&url, request, repeatable);
        async move { sent?.await }
    }

    /// What an answer without success means.
    pub(super) fn refused(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
        self.classifier.answer(status, headers, body, SystemTime::now())
    }

    /// The same, with what can be read of the body.
    async fn refusal(&self, response: Response) -> Failure {
        let (head, mut body) = response.into_parts();
        let (body, _) = body::read_error(&mut body).await;
        self.refused(head.status, &head.headers, &body)
    }
}

/// Reading more bytes takes a while, in which other calls go on elsewhere.
const LONG: usize = 256 << 10;

/// How a stream of events begins.
const STREAMS: &[&[u8]] = &[b"data:", b"event:", b"id:", b"retry:", b":"];

/// A body without the byte order mark that some servers write before it (RFC 8259 section 8.1 forbids it).
fn unmarked(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

impl Sign for Call<'_> {
    fn sign(&self, request: &mut Request<Payload>) -> Result<(), Failure> {
        self.driver.sign(self.target, request)
    }
}
