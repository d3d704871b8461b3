//! Requests in the words of the protocol that the target speaks: their bodies go on as they came.
//!
//! Invariants: of the caller's headers only [`relayed_headers`] go on, and of the provider's only those of [`TOLD`] come back;
//! no secret of the credential comes back. Whether an answer is one is judged as where it is translated. When the server is
//! gone, it fails with `CONNECTION` or `TIMEOUT`.

use super::{
    ByteStream, Driver, RelayTo, Target, UpstreamClient, Whole, call::Call, client::Response,
    forward::blotted, judge::is_of, redact::Blotter, stamp::request_id, stream::read_stream,
};
use crate::{
    balance::Failure,
    wire::{
        ChatReply, Edit, Endpoint, Glance, Passed, Protocol, ReadError, TopLevel, anthropic, glance, openai,
        passing,
    },
};
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use url::Url;

/// One request to hand on.
#[derive(Debug, Clone, Copy)]
pub struct RelayBody<'r> {
    /// What is asked for.
    pub endpoint: Endpoint,
    /// The body as it came.
    pub body: &'r Bytes,
    /// What it says of where it goes.
    pub top: &'r TopLevel,
    /// Its media type.
    pub content_type: &'r HeaderValue,
    /// What stands behind the `?`; empty: nothing.
    pub query: &'r str,
    /// The caller's headers; see [`relayed_headers`].
    pub headers: &'r HeaderMap,
    /// Whether the answer is a stream.
    pub stream: bool,
}

/// A whole answer.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once, and the small one is rare")]
pub enum RelayedWhole {
    /// As it came.
    Same {
        /// Those headers that callers are told.
        headers: HeaderMap,
        /// The body, without the target's secrets.
        body: Bytes,
        /// What it says.
        glance: Glance,
    },
    /// A chat that came as a stream, whatever was asked for.
    Chat(Box<ChatReply>),
}

/// A streamed answer.
pub struct RelayedFrames {
    /// Those headers that callers are told.
    pub headers: HeaderMap,
    /// What comes, without the target's secrets.
    pub pieces: BoxStream<'static, Result<RelayPiece, Failure>>,
}

/// A piece of a streamed answer.
pub enum RelayPiece {
    /// A frame.
    Passed(Passed),
    /// Bytes that have no frames, such as audio.
    Bytes(Bytes),
}

/// Those headers of a caller that go on to a provider that speaks the protocol. A credential that sets one of them adds its
/// own value, or replaces the caller's.
///
/// An `idempotency-key` does not go on: a provider that remembers it would answer Rota's next attempt with the failure of
/// the one before.
#[must_use]
pub const fn relayed_headers(protocol: Protocol) -> &'static [&'static str] {
    match protocol {
        // <https://platform.openai.com/docs/api-reference/assistants-v1>: what is not general yet.
        Protocol::OpenAi => &["openai-beta"],
        // <https://docs.claude.com/en/api/versioning>, <https://docs.claude.com/en/api/beta-headers>.
        Protocol::Anthropic => &["anthropic-version", "anthropic-beta"],
        Protocol::Gemini => &[],
    }
}

/// Those headers of a provider that callers are told. None says whose the account is, or what its limits are.
const TOLD: [HeaderName; 3] = [
    header::CONTENT_TYPE,
    // OpenAI's (API reference, "Debugging requests").
    HeaderName::from_static("openai-processing-ms"),
    HeaderName::from_static("openai-version"),
];

/// Under this name callers are told the provider's id of the request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-upstream-request-id");

/// Makes one attempt whose answer comes whole.
///
/// # Errors
/// Where there is none.
pub(super) async fn whole(
    client: &UpstreamClient,
    driver: &dyn Driver,
    target: &Target,
    to: RelayTo<'_>,
    request: RelayBody<'_>,
) -> Result<Whole<RelayedWhole>, Failure> {
    let call = Call::new(client, driver, target);
    let response = send(&call, target, to, request).await?;
    let blotter = Blotter::new(target, driver.spec());
    let headers = told(response.headers(), &blotter);
    let is_text = !is_of(&headers, "json") && !is_of(&headers, "html");
    call.whole_bytes(response, |bytes, body| {
        if Call::is_stream(body) {
            let chat = match request.endpoint {
                Endpoint::ChatCompletions => Call::streamed(body, openai::stream::Chunks::default()),
                Endpoint::Messages => Call::streamed(body, anthropic::stream::Events::default()),
                _ => Err(ReadError::MALFORMED),
            };
            return chat.map(|reply| RelayedWhole::Chat(Box::new(reply)));
        }
        let glance = match request.endpoint {
            // As text or subtitles, where these are asked for.
            Endpoint::Transcriptions | Endpoint::Translations if is_text => Glance::default(),
            endpoint => glance(endpoint, body)?,
        };
        Ok(RelayedWhole::Same { headers, body: blotter.whole(bytes.clone()), glance })
    })
    .await
}

/// Makes one attempt whose answer is streamed; returns when the provider has accepted the request.
///
/// # Errors
/// Where it has not.
pub(super) async fn frames(
    client: &UpstreamClient,
    driver: &dyn Driver,
    target: &Target,
    to: RelayTo<'_>,
    request: RelayBody<'_>,
) -> Result<RelayedFrames, Failure> {
    let call = Call::new(client, driver, target);
    let hides_usage = asks_for_usage(target, request);
    let response = send(&call, target, to, request).await?;
    let blotter = Blotter::new(target, driver.spec());
    let headers = told(response.headers(), &blotter);
    let pieces = if request.endpoint == Endpoint::Speech {
        let audio = call.audio(response).await?;
        blotted(audio, blotter).map(|piece| piece.map(RelayPiece::Bytes)).boxed()
    } else {
        let body: ByteStream = response.into_body().into_stream();
        let read = read_stream(body, passing(request.endpoint, hides_usage), call.classifier());
        read.map(move |passed| passed.map(|passed| RelayPiece::Passed(clean(passed, &blotter)))).boxed()
    };
    Ok(RelayedFrames { headers, pieces })
}

/// A frame without secrets.
fn clean(mut passed: Passed, blotter: &Blotter) -> Passed {
    if let Passed::Frame { frame, .. } = &mut passed {
        blotter.blot(&mut frame.data);
    }
    passed
}

fn send<'a, 'c>(
    call: &'a Call<'c>,
    target: &Target,
    to: RelayTo<'_>,
    request: RelayBody<'_>,
) -> impl Future<Output = Result<Response, Failure>> + use<'a, 'c> {
    let edit = Edit { model: &to.model, include_usage: asks_for_usage(target, request) };
    // What Rota wrote for other providers into the conversation is no business of this one.
    let ours = match request.endpoint {
        Endpoint::Messages => anthropic::server::without_foreign(request.body),
        Endpoint::ChatCompletions => openai::server::without_foreign(request.body),
        _ => None,
    };
    let rewritten = ours.map(Bytes::from).and_then(|body| {
        let top = TopLevel::json(&body, request.endpoint.protocol()).ok()?;
        Some(top.edited(&body, edit))
    });
    let body = rewritten.unwrap_or_else(|| request.top.edited(request.body, edit));
    let mut url = to.url;
    add_query(&mut url, request.query);
    call.post_as_is(&url, request.headers, request.content_type.clone(), body.into())
}

/// Whether the usage of a stream is asked for, though the caller has not said so.
fn asks_for_usage(target: &Target, request: RelayBody<'_>) -> bool {
    request.stream
        && matches!(request.endpoint, Endpoint::ChatCompletions | Endpoint::Completions)
        && !target.switches.no_stream_options
        && request.top.leaves_usage_open()
}

/// Adds what stands behind the caller's `?`. What the address says itself stays, and no key goes on.
fn add_query(url: &mut Url, query: &str) {
    if query.is_empty() {
        return;
    }
    let own = url.query().map(str::to_owned).unwrap_or_default();
    let goes_on = |pair: &&str| {
        let given = name(pair);
        let is_own = own.split('&').any(|own| name(own) == given);
        !(is_own || matches!(given.as_str(), "" | "key" | "alt"))
    };
    let more = query.split('&').filter(goes_on);
    let pairs: Vec<&str> = own.split('&').filter(|pair| !pair.is_empty()).chain(more).collect();
    url.set_query(Some(&*pairs.join("&")).filter(|query| !query.is_empty()));
}

fn name(pair: &str) -> String {
    pair.split('=').next().unwrap_or_default().to_ascii_lowercase()
}

/// The headers that the caller is told.
fn told(headers: &HeaderMap, blotter: &Blotter) -> HeaderMap {
    let clean = |value: &str| HeaderValue::from_str(&blotter.text(value)).ok();
    let kept =
        TOLD.into_iter().filter_map(|name| Some((name.clone(), clean(headers.get(name)?.to_str().ok()?)?)));
    let id = Some(request_id(headers)).filter(|id| !id.is_empty());
    kept.chain(id.and_then(|id| Some((REQUEST_ID, clean(&id)?)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_goes_on_without_keys_and_replaces_nothing() {
        let table = [
            ("https://h/a", "", "https://h/a"),
            ("https://h/a", "x=1&key=k&KEY=k&alt=json", "https://h/a?x=1"),
            ("https://h/a?alt=sse", "alt=json&%24x=1", "https://h/a?alt=sse&%24x=1"),
            ("https://h/a?api-version=1", "api-version=2", "https://h/a?api-version=1"),
        ];
        for (url, query, expected) in table {
            let mut url: Url = url.parse().unwrap();
            add_query(&mut url, query);
            assert_eq!(url.as_str(), expected);
        }
    }
}
