//! A call of a model, from its body to the head of its answer.

use super::{
    body::{Body, Held},
    error::Fault,
    options::Options,
    routes,
    serving::Serving,
    stream::{ALIVE, Begun},
    token,
    way::route_headers,
    words::Words,
};
use crate::{
    balance::OnBreak,
    catalog::{Caller, NameError, Pool},
    gate::{Inside, PartysCall},
    invoke::{CallOptions, RelayRequest, Relayed, WholeAnswer, time_within},
    problem,
    provider::{
        ForwardPath, ForwardRequest, ModelType, Room, estimate_text, forwarded_headers, relayed_headers,
    },
    wire::{Endpoint, FieldError, Protocol, Stamp, TopLevel},
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
    request::Parts,
};
use std::{
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::{Instant, sleep_until};

/// Who asks, and since when.
pub(super) struct Asker {
    pub(super) caller: Arc<Caller>,
    pub(super) began: Instant,
    /// The id of the request.
    pub(super) id: String,
}

/// What is called, and where the path names it, the model.
pub(super) struct Target {
    pub(super) endpoint: Endpoint,
    pub(super) model: Option<String>,
    pub(super) array: bool,
}

/// What answers a request.
pub(super) enum Answer {
    /// All at once.
    Whole(Whole),
    /// In pieces.
    Stream(Box<Begun>),
}

/// A whole answer.
pub(super) struct Whole {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) bytes: Bytes,
    pub(super) room: Option<Room>,
}

impl Whole {
    /// JSON that is ours.
    pub(super) fn json(bytes: Vec<u8>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self { status: StatusCode::OK, headers, bytes: bytes.into(), room: None }
    }

    pub(super) fn response(self, call: (Inside, PartysCall), patience: Duration) -> Response<Body> {
        let held: Held = Some(Box::new((call, self.room)));
        let mut response = Response::new(Body::whole(self.bytes, held, patience));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// The tenant that a request is for.
pub(super) fn tenant(asker: &Asker, named: &str) -> Result<String, Fault> {
    Ok(problem::tenant(&asker.caller, named, "x-rota-tenant")?)
}

/// Finds the model of that name.
pub(super) async fn pool(
    door: &Serving,
    tenant: &str,
    name: &str,
    model_type: Option<ModelType>,
) -> Result<Arc<Pool>, Fault> {
    door.catalog.named(tenant, name, model_type).await.map_err(|error| match error {
        NameError::Catalog(error) => error.into(),
        NameError::Unknown { name, similar } => {
            let near = match similar.as_slice() {
                [] => String::new(),
                names => format!("; is it one of {}?", names.join(", ")),
            };
            let message =
                format!("the model `{name}` is not known: it is `provider/model` or an alias{near}");
            Fault::of_model(StatusCode::NOT_FOUND, message)
        }
        NameError::Ambiguous { name, candidates } => {
            let message = format!("the model `{name}` may be {}: name one of them", candidates.join(" or "));
            Fault::of_model(StatusCode::BAD_REQUEST, message)
        }
    })
}

/// Makes the call.
pub(super) async fn call(
    door: &Arc<Serving>,
    asker: Asker,
    head: Parts,
    bytes: Bytes,
    target: Target,
) -> Result<Answer, Fault> {
    let endpoint = target.endpoint;
    made(door, asker, head, bytes, target).await.map_err(|fault| fault.of_endpoint(endpoint))
}

async fn made(
    door: &Arc<Serving>,
    asker: Asker,
    head: Parts,
    bytes: Bytes,
    target: Target,
) -> Result<Answer, Fault> {
    let Target { endpoint, model, array } = target;
    let options = Options::read(&head.headers)?;
    let tenant = tenant(&asker, &options.tenant)?;
    let content_type = head.headers.get(CONTENT_TYPE).cloned();
    let top = top_level(&bytes, content_type.as_ref(), endpoint.protocol())?;
    let name = named(model.as_deref(), &top)?;
    let pool = pool(door, &tenant, &name, routes::model_type(endpoint)).await?;
    let on_break = options.on_break.unwrap_or(pool.policy.on_break);
    let is_stream = endpoint == Endpoint::StreamGenerateContent || top.stream();
    let words = Words::new(endpoint, array, Stamp { id: asker.id.clone(), created: now(), model: name });
    let read = words.reader(content_type.as_ref());
    let request = RelayRequest {
        endpoint,
        content_type: content_type.unwrap_or_else(|| HeaderValue::from_static("application/json")),
        query: token::query_without(head.uri.query()),
        headers: relayed(endpoint.protocol(), &head.headers),
        stream: is_stream,
        top,
        read,
        input: OnceLock::new(),
        body: bytes,
    };
    if on_break == OnBreak::Continue && is_stream {
        // What another config goes on with is translated, and has to fit to what was sent before.
        let _ = request.input();
    }
    let call = door.engine.call(pool, call_options(door, &asker, &options, request.body.len()));
    let deadline = call.deadline();
    let (engine, request) = (door.engine.clone(), Arc::new(request));
    let mut relayed = Box::pin(async move { engine.relay(call, request).await });
    // Audio has no sign of life.
    if !is_stream || endpoint == Endpoint::Speech {
        return Ok(answered(relayed.await?, words, deadline));
    }
    tokio::select! {
        relayed = &mut relayed => Ok(answered(relayed?, words, deadline)),
        () = sleep_until(asker.began + ALIVE) => {
            Ok(Answer::Stream(Box::new(Begun::late(relayed, words, deadline, asker.began))))
        }
    }
}

/// Sends a request that Rota does not know to the model's provider.
pub(super) async fn forward(
    door: &Arc<Serving>,
    asker: Asker,
    head: Parts,
    bytes: Bytes,
    path: &str,
) -> Result<Answer, Fault> {
    let options = Options::read(&head.headers)?;
    let tenant = tenant(&asker, &options.tenant)?;
    let content_type = head.headers.get(CONTENT_TYPE);
    let top = top_level(&bytes, content_type, Protocol::OpenAi)?;
    let name = named(None, &top)?;
    let pool = pool(door, &tenant, &name, None).await?;
    let call = door.engine.call(pool, call_options(door, &asker, &options, bytes.len()));
    let mut headers = relayed(Protocol::OpenAi, &head.headers);
    for kept in [CONTENT_TYPE, ACCEPT] {
        if let Some(value) = head.headers.get(&kept) {
            headers.insert(kept, value.clone());
        }
    }
    let request = ForwardRequest {
        method: head.method,
        path: ForwardPath::new(path).map_err(|why| FieldError::new("path", why))?,
        query: token::query_without(head.uri.query()),
        headers: forwarded_headers(headers),
        body: bytes,
        repeatable: false,
        top: Some(top),
    };
    let deadline = call.deadline();
    let answer = door.engine.forward(call, &request).await?;
    Ok(Answer::Stream(Box::new(Begun::forwarded(answer, deadline))))
}

fn top_level(
    bytes: &Bytes,
    content_type: Option<&HeaderValue>,
    protocol: Protocol,
) -> Result<TopLevel, FieldError> {
    match form(content_type) {
        Some(content_type) => TopLevel::form(bytes, content_type),
        None => TopLevel::json(bytes, protocol),
    }
}

/// The media type of a form.
fn form(content_type: Option<&HeaderValue>) -> Option<&str> {
    let text = content_type?.to_str().ok()?;
    let is_form = text.get(..19).is_some_and(|start| start.eq_ignore_ascii_case("multipart/form-data"));
    is_form.then_some(text)
}

fn named(path: Option<&str>, top: &TopLevel) -> Result<String, FieldError> {
    let name = path.or_else(|| top.model()).map(str::trim).unwrap_or_default();
    let name = name.strip_prefix("models/").filter(|_| path.is_some()).unwrap_or(name);
    if name.is_empty() { Err(FieldError::new("model", "is required")) } else { Ok(name.to_owned()) }
}

fn call_options(door: &Serving, asker: &Asker, options: &Options, size: usize) -> CallOptions {
    let deadline = options.timeout.map_or(door.options.default_deadline, time_within);
    CallOptions {
        began: asker.began,
        deadline: asker.began + deadline,
        max_attempts: options.max_attempts,
        fallback: !options.no_fallback,
        tokens: estimate_text(size),
        on_break: options.on_break,
    }
}

/// Those of a caller's headers that go on to a provider that speaks the same protocol.
fn relayed(protocol: Protocol, headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in relayed_headers(protocol) {
        for value in headers.get_all(*name) {
            kept.append(HeaderName::from_static(name), value.clone());
        }
    }
    kept
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What goes out first.
fn answered(relayed: Relayed, mut words: Words, deadline: Instant) -> Answer {
    match relayed {
        Relayed::Whole(served) => {
            let (mut headers, bytes) = match served.reply {
                WholeAnswer::Same { headers, body, .. } => (headers, body),
                WholeAnswer::Translated(output) => {
                    let (writer, stamp) = words.writer();
                    let mut headers = HeaderMap::new();
                    headers.insert(CONTENT_TYPE, HeaderValue::from_static(writer.content_type()));
                    (headers, writer.whole(stamp, output).into())
                }
            };
            route_headers(&served.route, &mut headers);
            Answer::Whole(Whole { status: StatusCode::OK, headers, bytes, room: served.room.of_large() })
        }
        Relayed::Stream(stream) => Answer::Stream(Box::new(Begun::now(*stream, words, deadline))),
    }
}
