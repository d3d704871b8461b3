//! A scripted upstream: a server on loopback that speaks the vendors' protocols and misbehaves on demand.
//!
//! `rota demo` and the tests call it in place of a provider. It answers each request in the dialect of the vendor that
//! the request is for. `{…}/anything/{…}` returns what came in. A [`Script`] per API key says what it does: it can put a
//! good answer in any [`Framing`], an error in any [`ErrorForm`], or send bytes as they are ([`Raw`]). Without a script it
//! answers well and says in its answer which key served; a prompt that says so gets every tool called or JSON
//! ([`CALL_ALL`], [`IN_JSON`]). With thinking on, it calls each tool once, one a round, and asks
//! for what it thought as the vendor does. It stops when its [`Upstream`] is dropped; calls then cannot connect.

mod anthropic;
mod cohere;
mod dialect;
mod echo;
mod framing;
mod gemini;
mod openai;
mod raw;
mod reasoning;
mod recorded;
mod reply;
mod responses;
mod script;
mod thinking;
mod vendors;

pub use dialect::{CALL_ALL, IN_JSON};
pub use framing::{ErrorForm, Framing};
pub use raw::Raw;
pub use recorded::Recorded;
pub use script::Script;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, Uri},
    response::Response,
};
use futures::stream;
use parking_lot::Mutex;
use reply::{Reply, Step};
use serde_json::Value;
use std::{
    collections::{HashMap, VecDeque},
    future, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How many requests are remembered.
const REMEMBERED: usize = 1000;

/// A running scripted upstream.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

impl Upstream {
    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn start() -> io::Result<Self> {
        Self::serve(Shared::default()).await
    }

    /// One whose answers name the key without what stands before its first `-`. Who hands answers on as they came must
    /// blot out a key that stands in them.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn discreet() -> io::Result<Self> {
        Self::serve(Shared { discreet: true, ..Shared::default() }).await
    }

    async fn serve(shared: Shared) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(shared);
        let stop = CancellationToken::new();
        let router = Router::new().fallback(serve).with_state(Arc::clone(&shared));
        let server = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        tokio::spawn(server.into_future());
        Ok(Self { address, shared, _stop: stop.drop_guard() })
    }

    /// What goes into a provider's `base_url`, where its API is under `/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("{}/v1", self.origin())
    }

    /// Its address without a path, such as `http://127.0.0.1:4711`.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, requests with that key get this.
    pub fn script(&self, key: impl Into<String>, script: Script) {
        self.shared.scripts.lock().insert(key.into(), script);
    }

    /// How many requests came with that key.
    #[must_use]
    pub fn hits(&self, key: &str) -> u64 {
        self.shared.hits.lock().get(key).copied().unwrap_or_default()
    }

    /// How many requests came.
    #[must_use]
    pub fn total_hits(&self) -> u64 {
        self.shared.hits.lock().values().sum()
    }

    /// How many requests are being answered now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::SeqCst)
    }

    /// How many pieces of bodies have gone out. Clients that do not read hold them up.
    #[must_use]
    pub fn pieces_sent(&self) -> u64 {
        self.shared.pieces_sent.load(Ordering::SeqCst)
    }

    /// How many clients went away before the end of their answer.
    #[must_use]
    pub fn cancelled(&self) -> u64 {
        self.shared.cancelled.load(Ordering::SeqCst)
    }

    /// The last requests, at most 1000, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.lock().iter().cloned().collect()
    }
}

#[derive(Default)]
struct Shared {
    discreet: bool,
    scripts: Mutex<HashMap<String, Script>>,
    hits: Mutex<HashMap<String, u64>>,
    in_flight: AtomicUsize,
    cancelled: AtomicU64,
    pieces_sent: AtomicU64,
    requests: Mutex<VecDeque<Recorded>>,
}

/// One request being answered. Dropped before [`finish`](Self::finish), its client went away.
struct InFlight {
    shared: Arc<Shared>,
    finished: bool,
}

impl InFlight {
    fn new(shared: Arc<Shared>) -> Self {
        shared.in_flight.fetch_add(1, Ordering::SeqCst);
        Self { shared, finished: false }
    }

    fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // Before the count goes down: who waits for that may then read this.
        if !self.finished {
            self.shared.cancelled.fetch_add(1, Ordering::SeqCst);
        }
        self.shared.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    raw: Bytes,
) -> Response {
    let at = Instant::now();
    // A form is kept as text.
    let body: Value =
        serde_json::from_slice(&raw).unwrap_or_else(|_| String::from_utf8_lossy(&raw).into_owned().into());
    let (path, query) = (uri.path().to_owned(), uri.query().unwrap_or_default().to_owned());
    let mut request =
        Recorded { at, key: String::new(), named: String::new(), method, path, query, body, raw, headers };
    let dialect = vendors::of(&request);
    request.key = dialect.key(&request).unwrap_or_default().to_owned();
    let named =
        request.key.split_once('-').filter(|_| shared.discreet).map_or(&*request.key, |(_, rest)| rest);
    request.named = named.to_owned();
    let mut in_flight = InFlight::new(Arc::clone(&shared));
    *shared.hits.lock().entry(request.key.clone()).or_default() += 1;
    let behaviour = shared.scripts.lock().get_mut(&request.key).map_or(Script::Answer, Script::next);
    let reply = behaviour.reply(dialect, &request);
    remember(&shared, request);

    let Some(Reply { status, headers, delay, steps }) = reply else { return future::pending().await };
    tokio::time::sleep(delay).await;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().extend(headers);
    if steps.is_empty() {
        in_flight.finish();
        return response;
    }
    *response.body_mut() = Body::from_stream(stream::unfold((steps, in_flight), play));
    response
}

/// Plays the next step of a body.
async fn play(
    (mut steps, mut in_flight): (VecDeque<Step>, InFlight),
) -> Option<(io::Result<Bytes>, (VecDeque<Step>, InFlight))> {
    loop {
        let item = match steps.pop_front()? {
            Step::Send(bytes) => Ok(bytes),
            Step::Repeat(_, 0) => continue,
            Step::Repeat(bytes, times) => {
                if times > 1 {
                    steps.push_front(Step::Repeat(bytes.clone(), times - 1));
                }
                Ok(bytes)
            }
            Step::Wait(delay) => {
                tokio::time::sleep(delay).await;
                continue;
            }
            Step::Stall => future::pending().await,
            Step::Flush => {
                tokio::task::yield_now().await;
                continue;
            }
            Step::Break => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
        };
        if steps.is_empty() || item.is_err() {
            in_flight.finish();
        }
        in_flight.shared.pieces_sent.fetch_add(1, Ordering::SeqCst);
        return Some((item, (steps, in_flight)));
    }
}

fn remember(shared: &Shared, request: Recorded) {
    let mut requests = shared.requests.lock();
    if requests.len() == REMEMBERED {
        requests.pop_front();
    }
    requests.push_back(request);
}
