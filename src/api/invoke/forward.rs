//! Forward: requests that no driver knows.

use super::{pieces::Pieces, pieces::pieces, service::InvokeApi};
use crate::{
    api::{from_pb, pb, status, to_pb},
    invoke::Passed,
    provider::{ForwardPath, ForwardRequest, estimate_text, forwarded_headers},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::collections::HashMap;
use tonic::{Request, Status};

/// TRACE would show the credential, CONNECT would lead elsewhere.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// The longest query, in bytes. A longer one may make a URL that cannot be sent, and that must not look like the
/// provider's fault.
const MAX_QUERY: usize = 8192;
/// The most headers, in bytes of their names and values.
const MAX_HEADERS: usize = 32 << 10;

impl InvokeApi {
    pub(super) async fn forwarded(
        &self,
        request: Request<pb::ForwardRequest>,
    ) -> Result<Pieces<pb::ForwardResponse>, Status> {
        let caller = from_pb::caller(&request)?;
        let (metadata, _, request) = request.into_parts();
        let named = METHODS.iter().find(|method| method.as_str().eq_ignore_ascii_case(&request.method));
        let Some(method) = named.cloned() else {
            let names = METHODS.map(|method| method.to_string()).join(", ");
            return Err(status::invalid("method", format!("is one of {names}")));
        };
        if request.query.len() > MAX_QUERY || request.query.chars().any(char::is_control) {
            let what = format!("must hold no control characters and at most {MAX_QUERY} bytes");
            return Err(status::invalid("query", what));
        }
        let forward = ForwardRequest {
            path: ForwardPath::new(&request.path).map_err(|reason| status::invalid("path", reason))?,
            query: request.query,
            headers: forwarded_headers(headers_in(request.headers)?),
            body: Bytes::from(request.body),
            repeatable: request.idempotent || method == Method::GET || method == Method::HEAD,
            method,
            top: None,
        };
        let key = request.key.unwrap_or_default();
        let model_type = from_pb::model_type(key.model_type, "key.model_type")?;
        let options = request.options.as_ref();
        let tokens = estimate_text(forward.body.len());
        let call = self.call(&metadata, &caller, Some(key), model_type, options, tokens).await?;
        let mut answer = self.engine.forward(call, &forward).await.map_err(status::from_call)?;
        let head = pb::ForwardResponse {
            status: answer.status.into(),
            headers: answer.headers.into_iter().collect(),
            body: Vec::new(),
            route: answer.body.news().map(|news| to_pb::route(news.route)),
        };
        let body = pieces(answer.body, self.stop.clone(), |piece: Passed, _, _| pb::ForwardResponse {
            body: piece.bytes.into(),
            ..pb::ForwardResponse::default()
        });
        Ok(stream::iter([Ok(head)]).chain(body).boxed())
    }
}

fn headers_in(given: HashMap<String, String>) -> Result<HeaderMap, Status> {
    let size: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > MAX_HEADERS {
        return Err(status::invalid("headers", format!("hold more than {MAX_HEADERS} bytes")));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let field = || format!("headers[{name}]");
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| status::invalid("headers", "has a name that no header can have"))?;
        let value = HeaderValue::from_str(&value)
            .map_err(|_| status::invalid(field(), "holds a character that no header can hold"))?;
        headers.insert(parsed, value);
    }
    Ok(headers)
}
