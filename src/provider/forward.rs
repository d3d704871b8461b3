//! Any request that no driver knows, sent as it is with a target's credential.
//!
//! Invariants: the request stays below the target's `base_url`, whatever the path says; none of the caller's headers
//! replaces the credential; no secret of the credential comes back, in a header or the body. When the server is gone,
//! it fails with `CONNECTION` or `TIMEOUT`.

use super::{
    ByteStream, Driver, Payload, Target, UpstreamClient, body, call::Call, judge::judged, redact::Blotter,
};
use crate::{
    balance::{ErrorClass, Failure},
    wire::{Edit, Endpoint, Protocol, TopLevel},
};
use bytes::Bytes;
use futures::{StreamExt, future::ready, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;
use url::Url;

/// What is never taken from one side to the other: it belongs to one connection (RFC 9110, section 7.6.1).
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What the caller does not choose: where the request goes, who pays, and how it is framed. An answer that is packed
/// could not be searched for secrets.
const DROPPED: &[&str] = &[
    "host",
    "authorization",
    "cookie",
    "content-length",
    "expect",
    "accept-encoding",
    // The vendors' own names for a credential, and those of the gateways that stand before them.
    "api-key",
    "x-api-key",
    "x-goog-api-key",
    "ocp-apim-subscription-key",
    "x-auth-token",
    // Whose account it is: OpenAI's (API reference, "Authentication"), Google's (<https://cloud.google.com/apis/docs/system-parameters>),
    // Anthropic's. A credential that has one sets it when the request is signed.
    "openai-organization",
    "openai-project",
    "x-goog-user-project",
    "anthropic-organization-id",
    "anthropic-workspace-id",
    // What servers and proxies take for the request's own method, host or sender.
    "forwarded",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-host",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
];

/// The same, whatever follows: `X-Original-URL` and `X-Rewrite-URL` (IIS, Symfony, Spring), `X-Forwarded-Host`, what steers
/// Envoy, and gateways of models that take a target or a key in a header (<https://docs.helicone.ai>, <https://portkey.ai/docs>,
/// <https://developers.cloudflare.com/ai-gateway>).
const DROPPED_BEGINNINGS: &[&str] = &[
    "x-original-",
    "x-rewrite-",
    "x-forwarded-",
    "x-envoy-",
    "x-amz-",
    "x-goog-iam-",
    "cf-access-",
    "cf-aig-",
    "helicone-",
    "x-portkey-",
];

/// A longer path, in bytes, is no endpoint's, and would take long to decode again and again.
const MAX_PATH: usize = 4096;

/// One request to forward.
#[derive(Debug, Clone)]
pub struct ForwardRequest {
    /// The method.
    pub method: Method,
    /// Where, below the base.
    pub path: ForwardPath,
    /// What stands behind the `?`; empty: nothing.
    pub query: String,
    /// The caller's headers; see [`forwarded_headers`].
    pub headers: HeaderMap,
    /// The body. Cheap to clone: every attempt sends the same bytes.
    pub body: Bytes,
    /// Whether it may be sent twice without harm.
    pub repeatable: bool,
    /// What the body says of where it goes, where its name of the model is to become the target's.
    pub top: Option<TopLevel>,
}

impl ForwardRequest {
    /// The body, for that target.
    fn payload(&self, target: &Target) -> Payload {
        match &self.top {
            Some(top) => top.edited(&self.body, Edit { model: &target.model, include_usage: false }).into(),
            None => self.body.clone().into(),
        }
    }

    /// The endpoint that it asks, at a provider with that protocol, where that is known.
    #[must_use]
    pub fn endpoint(&self, protocol: Protocol) -> Option<Endpoint> {
        let path = self.path.0.trim_end_matches('/');
        if self.method != Method::POST {
            return None;
        }
        // What a base may have as well, and where Azure's deployments stand.
        let path = path.strip_prefix("openai/").unwrap_or(path);
        let path = path
            .strip_prefix("deployments/")
            .and_then(|rest| rest.split_once('/'))
            .map_or(path, |(_, at)| at);
        let path = ["v1/", "v1beta/"].iter().find_map(|version| path.strip_prefix(version)).unwrap_or(path);
        match protocol {
            Protocol::OpenAi => match path {
                "chat/completions" => Some(Endpoint::ChatCompletions),
                "completions" => Some(Endpoint::Completions),
                "responses" => Some(Endpoint::Responses),
                "embeddings" => Some(Endpoint::Embeddings),
                "rerank" => Some(Endpoint::Rerank),
                "moderations" => Some(Endpoint::Moderations),
                _ => None,
            },
            Protocol::Anthropic => (path == "messages").then_some(Endpoint::Messages),
            Protocol::Gemini => match path.rsplit_once(':')?.1 {
                "generateContent" => Some(Endpoint::GenerateContent),
                "streamGenerateContent" => Some(Endpoint::StreamGenerateContent),
                "embedContent" => Some(Endpoint::EmbedContent),
                "batchEmbedContents" => Some(Endpoint::BatchEmbedContents),
                _ => None,
            },
        }
    }
}

/// An answer, whatever its status.
pub struct ForwardReply {
    /// The HTTP status.
    pub status: u16,
    /// The headers, by names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as it comes.
    pub body: ByteStream,
}

/// What became of one attempt.
pub enum Forwarded {
    /// An answer for the caller.
    Answer(ForwardReply),
    /// An answer for the caller that speaks against the target all the same: what was asked for may have been done, so
    /// nobody else is asked.
    Refused(ForwardReply, Failure),
}

/// A path that cannot leave the base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardPath(String);

impl ForwardPath {
    /// Checks a path as a caller gave it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(path: &str) -> Result<Self, &'static str> {
        let path = path.strip_prefix('/').unwrap_or(path);
        if path.len() > MAX_PATH {
            return Err("is longer than 4096 bytes");
        }
        if path.is_empty() {
            return Err("must name a path below the provider's base_url");
        }
        if path.contains(['?', '#']) {
            return Err("must hold neither `?` nor `#`; the query has its own field");
        }
        let decoded = percent_decode_str(path).decode_utf8().map_err(|_| "is not UTF-8 when decoded")?;
        // Some servers decode once more than they should.
        if percent_decode_str(&decoded).count() != decoded.len() {
            return Err("must not be percent-encoded twice");
        }
        if decoded.chars().any(char::is_control) {
            return Err("must hold no control characters");
        }
        if decoded.contains("://") || decoded.starts_with('/') {
            return Err("must be a path, without scheme and host");
        }
        if decoded.contains('\\') {
            return Err("must hold no backslashes");
        }
        // Some servers take what stands before one of these for the name, and blanks around it for nothing.
        let name = |part: &str| part.split([';', '?', '#']).next().unwrap_or_default().trim().to_owned();
        if decoded.split('/').any(|part| matches!(&*name(part), "." | "..")) {
            return Err("must not hold `.` or `..`");
        }
        Ok(Self(path.to_owned()))
    }

    /// The URL below that base.
    fn below(&self, base: &Url, query: &str) -> Option<Url> {
        let mut url = base.clone();
        let root = base.path().trim_end_matches('/');
        url.set_path(&format!("{root}/{}", self.0));
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        // What the checks have overlooked ends here.
        let inside = url.origin() == base.origin() && url.path().starts_with(&format!("{root}/"));
        inside.then_some(url)
    }
}

/// Those of a caller's headers that are sent along.
#[must_use]
pub fn forwarded_headers(mut headers: HeaderMap) -> HeaderMap {
    drop_hop_by_hop(&mut headers);
    for name in DROPPED {
        headers.remove(*name);
    }
    let is_dropped =
        |name: &&HeaderName| DROPPED_BEGINNINGS.iter().any(|start| name.as_str().starts_with(start));
    let dropped: Vec<HeaderName> = headers.keys().filter(is_dropped).cloned().collect();
    for name in dropped {
        headers.remove(name);
    }
    headers
}

/// Takes out what belongs to one connection, also what `Connection` names.
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    for name in HOP_BY_HOP.iter().copied().chain(named.iter().map(String::as_str)) {
        headers.remove(name);
    }
}

/// One attempt.
///
/// # Errors
/// Where another target should be asked, or no answer came.
pub(super) async fn forward(
    client: &UpstreamClient,
    driver: &dyn Driver,
    target: &Target,
    request: &ForwardRequest,
) -> Result<Forwarded, Failure> {
    let url = request
        .path
        .below(&target.base_url, &request.query)
        .ok_or_else(|| Failure::new(ErrorClass::BadRequest, "the path leaves the provider's base_url"))?;
    let mut sent = Request::new(request.payload(target));
    *sent.method_mut() = request.method.clone();
    sent.headers_mut().clone_from(&request.headers);
    sent.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let call = Call::new(client, driver, target);
    let response = call.exchange(url, sent, request.repeatable).await?;
    let blotter = Blotter::new(target, driver.spec());
    let (status, headers) = (response.status(), response.headers().clone());
    let reply = |body: ByteStream| ForwardReply {
        status: status.as_u16(),
        headers: told(&headers, &blotter),
        body: blotted(body, blotter.clone()),
    };
    if !status.is_client_error() && !status.is_server_error() {
        let known = driver.protocol().and_then(|protocol| request.endpoint(protocol));
        let body = match known.filter(|_| status.is_success()) {
            Some(endpoint) => judged(&call, endpoint, response).await?,
            None => response.into_body().into_stream(),
        };
        return Ok(Forwarded::Answer(reply(body)));
    }
    let mut response = response;
    let (start, broke) = body::read_error(response.body_mut()).await;
    let failure = call.refused(status, &headers, &start);
    let rest = broke.map_or_else(
        || response.into_body().into_stream(),
        |failure| stream::once(ready(Err(failure))).boxed(),
    );
    let answer = || reply(stream::once(ready(Ok(start.into()))).chain(rest).boxed());
    match failure.class {
        // Of no other endpoint is known what these mean.
        class if class == ErrorClass::ModelUnavailable || !class.moves_on() => {
            Ok(Forwarded::Answer(answer()))
        }
        _ if request.repeatable || failure.is_before_work() => Err(failure),
        _ => Ok(Forwarded::Refused(answer(), failure)),
    }
}

/// The headers that the caller is told.
fn told(headers: &HeaderMap, blotter: &Blotter) -> BTreeMap<String, String> {
    let mut headers = headers.clone();
    drop_hop_by_hop(&mut headers);
    // The cookies of a session that many callers share.
    headers.remove(header::SET_COOKIE);
    let names: Vec<HeaderName> = headers.keys().cloned().collect();
    let joined = |name: &HeaderName| {
        let values: Vec<_> =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        blotter.text(&values.join(", "))
    };
    names.iter().map(|name| (name.as_str().to_owned(), joined(name))).collect()
}

/// The body without the target's secrets. Never an empty piece.
pub(super) fn blotted(body: ByteStream, blotter: Blotter) -> ByteStream {
    stream::unfold(Some((body, blotter)), |state| async {
        let (mut body, mut blotter) = state?;
        loop {
            let (piece, state) = match body.next().await {
                Some(Ok(chunk)) => (Ok(blotter.next(chunk)), Some((body, blotter))),
                Some(Err(failure)) => (Err(failure), None),
                None => (Ok(blotter.rest()), None),
            };
            match (piece, state) {
                (Ok(piece), None) if piece.is_empty() => return None,
                (Ok(piece), Some(state)) if piece.is_empty() => (body, blotter) = state,
                (piece, state) => return Some((piece, state)),
            }
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leaves_the_base() {
        let escapes = [
            "",
            "/",
            "..",
            ".",
            "../admin",
            "/../admin",
            "a/../../admin",
            "a/..",
            "%2e%2e/admin",
            "%2E%2e/admin",
            ".%2e/admin",
            "a/%2e%2e/%2e%2e/admin",
            "..%2fadmin",
            "a%2f..%2f..%2fadmin",
            "%252e%252e/admin",
            "%25252e%25252e%25252fadmin",
            "..\\admin",
            "a\\..\\..\\admin",
            "..%5cadmin",
            "..;/admin",
            "..;x=y/admin",
            " ../admin",
            "%20../admin",
            "..%3f/admin",
            "..%3Fx",
            "a/..%23/admin",
            "..%23",
            ".%3f",
            "a%5cb",
            "a\\b",
            "a%2541b",
            "%25252e",
            "//evil.example/x",
            "/\\evil.example/x",
            "%2f%2fevil.example",
            "http://evil.example/x",
            "HTTP://evil.example/x",
            "http:%2f%2fevil.example",
            "a?key=1",
            "a#b",
            "a\tb",
            "..\t/admin",
            "a\r\nHost: evil.example",
            "a%0d%0aHost: evil.example",
            "a%00",
            "%ff",
            &"a".repeat(MAX_PATH + 1),
            &format!("%{}", "25".repeat(MAX_PATH)),
        ];
        for escape in escapes {
            assert!(ForwardPath::new(escape).is_err(), "{escape:?}");
        }
    }

    #[test]
    fn a_path_goes_below_the_base() {
        let table = [
            ("https://h/v1", "responses", "", "https://h/v1/responses"),
            ("https://h/v1/", "/responses", "a=1&b=%20", "https://h/v1/responses?a=1&b=%20"),
            ("https://h", "a/b/", "", "https://h/a/b/"),
            ("https://h:8443/x%20y", "a b/ä", "", "https://h:8443/x%20y/a%20b/%C3%A4"),
            ("https://h/v1", "models/org%2Fmodel", "", "https://h/v1/models/org%2Fmodel"),
            ("https://h/v1", "models/m:generate", "", "https://h/v1/models/m:generate"),
            ("https://h/v1", "a..b/...", "", "https://h/v1/a..b/..."),
            ("https://h/v1", "100%", "", "https://h/v1/100%"),
            ("https://h/v1", "100%25", "", "https://h/v1/100%25"),
            ("https://h/v1", "what%3f", "", "https://h/v1/what%3f"),
            ("https://h/v1", "a@evil.example", "", "https://h/v1/a@evil.example"),
            ("https://h/v1", "a", "next=http://h/../x#y", "https://h/v1/a?next=http://h/../x%23y"),
        ];
        for (base, path, query, url) in table {
            let path = ForwardPath::new(path).unwrap();
            assert_eq!(path.below(&base.parse().unwrap(), query).unwrap().as_str(), url);
        }
    }

    #[test]
    fn endpoints_that_ask_a_model_are_known() {
        let azure = "openai/deployments/my-gpt/chat/completions";
        let table = [
            (Protocol::OpenAi, "chat/completions", Some(Endpoint::ChatCompletions)),
            (Protocol::OpenAi, "/v1/responses/", Some(Endpoint::Responses)),
            (Protocol::OpenAi, azure, Some(Endpoint::ChatCompletions)),
            (Protocol::OpenAi, "responses/resp_1/cancel", None),
            (Protocol::OpenAi, "files", None),
            (Protocol::OpenAi, "messages", None),
            (Protocol::Anthropic, "v1/messages", Some(Endpoint::Messages)),
            (Protocol::Anthropic, "messages/batches", None),
            (Protocol::Gemini, "models/m:generateContent", Some(Endpoint::GenerateContent)),
            (
                Protocol::Gemini,
                "v1beta/models/m:streamGenerateContent",
                Some(Endpoint::StreamGenerateContent),
            ),
            (Protocol::Gemini, "models/m", None),
        ];
        for (protocol, path, endpoint) in table {
            let mut request = ForwardRequest {
                method: Method::POST,
                path: ForwardPath::new(path).unwrap(),
                query: String::new(),
                headers: HeaderMap::new(),
                body: Bytes::new(),
                repeatable: false,
                top: None,
            };
            assert_eq!(request.endpoint(protocol), endpoint, "{path}");
            request.method = Method::GET;
            assert_eq!(request.endpoint(protocol), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_taken_stays_below(path in "[a-z./\\\\%25eEfFcC2; ?#:@]{0,24}", query in ".{0,8}") {
            if let Ok(path) = ForwardPath::new(&path) {
                let url = path.below(&"https://h/v1".parse().unwrap(), &query).unwrap();
                proptest::prop_assert!(url.as_str().starts_with("https://h/v1/"));
                proptest::prop_assert!(!url.path().split('/').any(|part| part == ".."));
            }
        }
    }

    #[test]
    fn what_belongs_to_a_connection_or_pays_is_dropped() {
        let names = [
            "host",
            "authorization",
            "x-api-key",
            "connection",
            "x-named",
            "te",
            "transfer-encoding",
            "cookie",
            "proxy-authorization",
            "content-length",
            "accept-encoding",
            "openai-organization",
            "openai-project",
            "x-goog-user-project",
            "x-original-url",
            "x-rewrite-url",
            "x-forwarded-host",
            "x-forwarded-for",
            "forwarded",
            "x-http-method-override",
            "helicone-target-url",
            "x-portkey-config",
            "content-type",
            "x-kept",
            "openai-beta",
            "anthropic-beta",
            "x-forwarding",
        ];
        let mut headers = HeaderMap::new();
        for name in names {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("x-named, close"));
        }
        let kept = forwarded_headers(headers);
        let mut kept: Vec<_> = kept.keys().map(HeaderName::as_str).collect();
        kept.sort_unstable();
        assert_eq!(kept, ["anthropic-beta", "content-type", "openai-beta", "x-forwarding", "x-kept"]);
    }
}
