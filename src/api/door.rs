//! Takes every call through the gate, from its headers to the last frame of its answer. It reads what the gate needs from
//! gRPC's headers, and says in gRPC's words what the gate answers.
//!
//! Health and reflection need no token. They are small, not compressed, and few on each connection; and connections
//! without a token are few.

use super::{
    deadline::client_timeout,
    operations,
    receive::{self, Limits, mended},
    room,
    send::{Patience, send},
    status,
};
use crate::{
    gate::{Gate, Inside, Operation, PartysCall, Peer, PublicCall, Refusal, bearer},
    provider::Room,
};
use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, request::Parts};
use http_body::{Body as HttpBody, Frame};
use http_body_util::Full;
use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::{Code, Status, body::Body, service::Routes};
use tower::Service;

/// The largest message of a call without a token, in bytes.
const PUBLIC_MESSAGE: usize = 4 << 10;
/// The longest path of one.
const LONGEST_PATH: usize = 128;
/// How long the request of such a call may take to come.
const PUBLIC_TIME: Duration = Duration::from_secs(5);
/// How long reflection may have nothing to say, and how long it may last.
const REFLECTION_SILENCE: Duration = Duration::from_secs(10);
const REFLECTION_LIFE: Duration = Duration::from_secs(60);
/// How long a reader without a token may take for what is said to it.
const PUBLIC_UNREAD: Duration = Duration::from_secs(10);
/// A streamed answer ends by itself at its deadline. One that is still open this much later has no reader.
const UNREAD: Duration = Duration::from_secs(10);

const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// How calls are taken.
#[derive(Debug, Clone, Copy)]
pub struct DoorOptions {
    /// The largest message in, in bytes.
    pub max_message_size: usize,
    /// How long a client may take nothing of an answer that is there.
    pub send_timeout: Duration,
    /// The deadline of a call that has none of its own.
    pub default_deadline: Duration,
}

/// See the module's documentation. Cheap to clone.
#[derive(Clone)]
pub struct Door(Arc<Inner>);

struct Inner {
    gate: Gate,
    routes: Routes,
    options: DoorOptions,
}

/// An answer, and what holds it.
struct Answer {
    response: Response<Body>,
    patience: Patience,
    /// The call, where it is one of our services.
    inside: Option<(Inside, Option<PartysCall>)>,
    /// A call without a token. Its request ends with it.
    public: Option<(PublicCall, DropGuard)>,
    /// What the answer of a provider takes.
    room: Option<Arc<Room>>,
}

impl Door {
    /// Puts services behind that gate.
    #[must_use]
    pub fn new(gate: Gate, routes: Routes, options: DoorOptions) -> Self {
        Self(Arc::new(Inner { gate, routes: routes.prepare(), options }))
    }

    /// Answers a call. Its panic ends it alone, and it ends when its client resets it.
    pub(super) async fn answer(
        self,
        peer: Arc<Peer>,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) {
        let door = &*self.0;
        let answer = {
            let mut answered = pin!(door.answered(&peer, request));
            poll_fn(|cx| match answered.as_mut().poll(cx) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending => respond.poll_reset(cx).map(|_| None),
            })
            .await
        };
        let Some(Answer { response, patience, mut inside, public, room }) = answer else { return };
        let response = response.map(|body| door.gate.contained_body(body, panicked));
        send(respond, response, &peer, patience, |headers| {
            if let Some((inside, _)) = &mut inside {
                note_status(inside, headers);
            }
        })
        .await;
        // Until its last frame is out, or its reader gone.
        drop((inside, public, room));
    }
}

impl Inner {
    async fn answered(&self, peer: &Arc<Peer>, request: Request<RecvStream>) -> Answer {
        let path = request.uri().path();
        match operations::at(path) {
            Some(operation) => self.called(operation, peer, request).await,
            None if path.starts_with("/grpc.") && path.len() <= LONGEST_PATH => {
                self.public(peer, request).await
            }
            // Its body is not read.
            None => Answer::refused(Status::unimplemented(""), None),
        }
    }

    /// A call of our services.
    async fn called(&self, operation: Operation, peer: &Peer, request: Request<RecvStream>) -> Answer {
        let (mut head, body) = request.into_parts();
        let mut inside = self.gate.enter(operation, &head.headers);
        let admitted = self.gate.admit(&mut inside, peer, bearer(&head.headers)).await;
        let (caller, mut counted) = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => return Answer::refused(status::from_refusal(refusal), Some(inside)),
        };
        let began = Instant::now();
        let given = client_timeout(&head.headers);
        head.extensions.insert(caller);
        keep_needed(&mut head);
        let work = async {
            let request = self.received(head, body, operation.name, &mut counted).await?;
            let mut routes = self.routes.clone();
            let Ok(response) = routes.call(request).await;
            match mended(response.headers()) {
                Some(status) => Err(status),
                None => Ok(response),
            }
        };
        let called = self.gate.run(&inside, work);
        let outcome = match given {
            // What calls models ends by itself a little earlier.
            Some(given) => timeout(given, called).await.unwrap_or(Err(Refusal::Late)),
            None => called.await,
        };
        let mut response = match outcome {
            Ok(Ok(response)) => response,
            Ok(Err(status)) => return Answer::refused(status, Some(inside)),
            Err(refusal) => return Answer::refused(status::from_refusal(refusal), Some(inside)),
        };
        let patience = if operations::is_paced(operation) {
            let end = began + given.unwrap_or(self.options.default_deadline);
            Patience { end: Some(end + UNREAD), ..Patience::default() }
        } else {
            Patience { unread: Some(self.options.send_timeout), ..Patience::default() }
        };
        let room = room::kept(response.extensions_mut());
        Answer { response, patience, inside: Some((inside, Some(counted))), public: None, room }
    }

    /// The request, as soon as it is there and may be read.
    async fn received(
        &self,
        mut head: Parts,
        body: RecvStream,
        rpc: &str,
        counted: &mut PartysCall,
    ) -> Result<Request<Body>, Status> {
        let encoding = head.headers.remove(&ENCODING);
        let limits = Limits {
            most: self.options.max_message_size,
            memory: self.gate.request_bytes(),
            time: self.gate.receive_timeout(),
            gzip: encoding.as_ref().is_some_and(|name| name == "gzip"),
        };
        match encoding {
            Some(unknown) if !limits.gzip && unknown != "identity" => {
                // The service says which it knows.
                head.headers.insert(ENCODING, unknown);
                Ok(Request::from_parts(head, Body::empty()))
            }
            _ => {
                let held = |bytes| self.gate.hold(counted, bytes);
                let message = receive::received(body, &limits, rpc, held).await?;
                Ok(Request::from_parts(head, Body::new(Full::new(message))))
            }
        }
    }

    /// A call that needs no token.
    async fn public(&self, peer: &Arc<Peer>, request: Request<RecvStream>) -> Answer {
        let is_reflection = request.uri().path().starts_with("/grpc.reflection.");
        let Some(counted) = peer.public_call(is_reflection) else {
            return Answer::refused(status::from_refusal(Refusal::Overloaded), None);
        };
        let (mut head, body) = request.into_parts();
        keep_needed(&mut head);
        let over = CancellationToken::new();
        let packed = head.headers.get(&ENCODING).is_some_and(|name| name != "identity");
        let body = if packed {
            // The service says that it knows no compression.
            Body::empty()
        } else if is_reflection {
            Body::new(Public { body, over: Box::pin(over.clone().cancelled_owned()) })
        } else {
            let limits = Limits { most: PUBLIC_MESSAGE, memory: 0, time: PUBLIC_TIME, gzip: false };
            match receive::received(body, &limits, "", |_| Ok(())).await {
                Ok(message) => Body::new(Full::new(message)),
                Err(status) => return Answer::refused(status, None),
            }
        };
        let request = Request::from_parts(head, body);
        let mut routes = self.routes.clone();
        let response = match self.gate.contained(async move { routes.call(request).await }).await {
            Ok(Ok(response)) => response,
            Err(refusal) => return Answer::refused(status::from_refusal(refusal), None),
        };
        if let Some(status) = mended(response.headers()) {
            return Answer::refused(status, None);
        }
        let patience = Patience {
            unread: Some(PUBLIC_UNREAD),
            end: None,
            silence: is_reflection.then_some(REFLECTION_SILENCE),
            life: is_reflection.then(|| Instant::now() + REFLECTION_LIFE),
        };
        Answer { response, patience, inside: None, public: Some((counted, over.drop_guard())), room: None }
    }
}

impl Answer {
    fn refused(status: Status, inside: Option<Inside>) -> Self {
        let patience = Patience::default();
        Self {
            response: status.into_http(),
            patience,
            inside: inside.map(|inside| (inside, None)),
            public: None,
            room: None,
        }
    }
}

/// The body of a call without a token. It ends with the call: whoever is told no more has no more to say.
struct Public {
    body: RecvStream,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl HttpBody for Public {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        let data = ready!(self.body.poll_data(cx));
        Poll::Ready(data.map(|data| {
            let data = data.map_err(|_| Status::cancelled("the request was broken off"))?;
            let _ = self.body.flow_control().release_capacity(data.len());
            Ok(Frame::data(data))
        }))
    }
}

/// Keeps what a service looks at: the path and a few headers. They are copied, because each is a piece of all that was read
/// from the connection at once, and would keep that in memory while the call lasts.
fn keep_needed(head: &mut Parts) {
    let mut needed = HeaderMap::new();
    for name in [TIMEOUT, ENCODING] {
        let copied = head.headers.get(&name).and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
        if let Some(value) = copied {
            needed.insert(name, value);
        }
    }
    head.headers = needed;
    head.uri = head.uri.path().parse().unwrap_or_default();
}

/// Notes the status where these headers hold it.
fn note_status(inside: &mut Inside, headers: &HeaderMap) {
    if let Some(code) = headers.get("grpc-status") {
        inside.ended(code_name(Code::from_bytes(code.as_bytes())));
    }
}

/// Makes the trailers of an answer that has panicked.
fn panicked() -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    status::from_refusal(Refusal::Panicked).add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}

/// Names a code as the protocol does.
const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
