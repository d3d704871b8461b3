//! The connections to one origin, those who wait for one, and who has which.
//!
//! Over HTTP/1.1 a connection belongs to one call until the answer is read. Over HTTP/2 calls share it, as many as its
//! provider allows. Connections are made by tasks of their own: a caller that gives up takes nothing from the others, and
//! a limit that one tenant set ends nobody else's wait.

use super::link::{Broken, Fate, MAX_STREAMS, Multiple, Single};
use crate::{
    balance::{ErrorClass, Failure},
    provider::{
        connect::{Connector, Origin},
        http_error::{failure_of_connect, late, unreached},
        payload::{Outgoing, Payload},
        proxies::Proxy,
    },
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header};
use hyper::body::Incoming;
use parking_lot::Mutex;
use rand::Rng;
use std::{
    collections::VecDeque,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::oneshot, time::timeout};

/// A connection that breaks so soon after a request was sent had ended before, unnoticed. Later the provider may have been
/// at work.
const STALE: Duration = Duration::from_secs(1);

/// What bounds the connections to each origin.
#[derive(Debug, Clone, Copy)]
pub(in crate::provider) struct Limits {
    /// How long to connect, where a call says nothing else.
    pub(in crate::provider) connect: Duration,
    /// How long one that nobody uses is kept, over HTTP/1.1 and over HTTP/2.
    pub(in crate::provider) idle: [Duration; 2],
    /// How many of those are kept over HTTP/1.1.
    pub(in crate::provider) size: usize,
    /// How long one is used.
    pub(in crate::provider) age: Duration,
}

/// See the module's documentation.
pub(in crate::provider) struct Host {
    origin: Origin,
    /// What leads there.
    proxy: Option<Arc<Proxy>>,
    connector: Arc<Connector>,
    limits: Limits,
    /// The header `Host` of requests to it.
    name: Option<HeaderValue>,
    state: Mutex<State>,
}

struct State {
    /// Over HTTP/1.1, the last used at the end.
    idle: Vec<Idle>,
    /// Over HTTP/2.
    shared: Vec<Shared>,
    waiting: VecDeque<Waiter>,
    /// How many connections are being made.
    dials: usize,
    /// How many calls one of those will serve, as far as is known.
    streams: usize,
}

/// Which requests may use a connection.
#[derive(Clone, Copy)]
struct Age {
    made: Instant,
    ends: Instant,
}

struct Own {
    single: Single,
    age: Age,
    /// How long the server keeps it, where it says so.
    announced: Option<Duration>,
}

struct Idle {
    own: Own,
    until: Instant,
}

struct Shared {
    link: Arc<Multiple>,
    age: Age,
    /// How many calls are on it.
    active: usize,
    /// How long it is kept without any.
    until: Instant,
}

struct Waiter {
    grant: oneshot::Sender<Result<Lease, Failure>>,
    /// Only a connection that was made after this.
    after: Option<Instant>,
}

impl Age {
    fn fits(self, now: Instant, after: Option<Instant>) -> bool {
        self.ends > now && after.is_none_or(|after| self.made > after)
    }
}

/// What a call holds of a connection, for one request.
pub(in crate::provider) struct Lease {
    hold: Hold,
    /// Whether the connection has been there before the call.
    reused: bool,
}

enum Hold {
    Own(Arc<Host>, Own),
    Place(Place),
}

/// A call's place on a shared connection, until it is dropped.
struct Place {
    host: Arc<Host>,
    link: Arc<Multiple>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.host.leave(&self.link);
    }
}

impl Host {
    pub(super) fn new(
        origin: Origin,
        proxy: Option<Arc<Proxy>>,
        connector: Arc<Connector>,
        limits: Limits,
    ) -> Arc<Self> {
        let name = HeaderValue::from_str(origin.authority.as_str()).ok();
        // With TLS it may be HTTP/2. Then one connection is made for all who wait, and tells what is spoken.
        let streams = if origin.tls { MAX_STREAMS } else { 1 };
        let (idle, shared, waiting) = (Vec::new(), Vec::new(), VecDeque::new());
        let state = Mutex::new(State { idle, shared, waiting, dials: 0, streams });
        Arc::new(Self { origin, proxy, connector, limits, name, state })
    }

    /// A connection that has room, or a new one within that time. With `after`, one that was made after that moment.
    ///
    /// # Errors
    /// Where none could be made. Nothing has been sent.
    pub(in crate::provider) async fn lease(
        self: &Arc<Self>,
        within: Option<Duration>,
        after: Option<Instant>,
    ) -> Result<Lease, Failure> {
        let within = within.unwrap_or(self.limits.connect);
        let granted = {
            let mut state = self.state.lock();
            if let Some(hold) = self.take(&mut state, after) {
                return Ok(Lease { hold, reused: true });
            }
            let (grant, granted) = oneshot::channel();
            state.waiting.push_back(Waiter { grant, after });
            self.dial(&mut state, within);
            granted
        };
        match timeout(within, granted).await {
            Ok(granted) => granted.unwrap_or_else(|_| Err(unreached())),
            Err(_) => Err(Failure { unsent: true, ..late() }),
        }
    }

    fn take(self: &Arc<Self>, state: &mut State, after: Option<Instant>) -> Option<Hold> {
        let now = Instant::now();
        let fits =
            |idle: &Idle| idle.until > now && idle.own.age.fits(now, after) && idle.own.single.is_ready();
        if let Some(at) = state.idle.iter().rposition(fits) {
            return Some(Hold::Own(self.clone(), state.idle.remove(at).own));
        }
        self.place(state, now, after).map(Hold::Place)
    }

    /// A place on the first shared connection that has room, so that those made for a rush come to rest.
    fn place(self: &Arc<Self>, state: &mut State, now: Instant, after: Option<Instant>) -> Option<Place> {
        let has_room = |shared: &&mut Shared| {
            shared.active < shared.link.room() && shared.age.fits(now, after) && shared.link.is_open()
        };
        let shared = state.shared.iter_mut().find(has_room)?;
        shared.active += 1;
        Some(Place { host: self.clone(), link: shared.link.clone() })
    }

    /// Makes as many connections as those who wait need.
    fn dial(self: &Arc<Self>, state: &mut State, within: Duration) {
        while state.dials < state.waiting.len().div_ceil(state.streams) {
            state.dials += 1;
            tokio::spawn(Dial { host: self.clone(), over: false }.run(within));
        }
    }

    /// Gives a connection to the first who waits for one, or keeps it.
    fn offer(self: &Arc<Self>, mut own: Own, reused: bool) {
        let now = Instant::now();
        let announced = own.announced.unwrap_or(Duration::MAX);
        let until = now + self.limits.idle[0].min(announced);
        let mut state = self.state.lock();
        if !own.age.fits(now, None) || own.single.is_closed() {
            return;
        }
        while own.single.is_ready()
            && let Some(at) = state.waiting.iter().position(|waiter| own.age.fits(now, waiter.after))
            && let Some(waiter) = state.waiting.remove(at)
        {
            let lease = Lease { hold: Hold::Own(self.clone(), own), reused };
            match waiter.grant.send(Ok(lease)) {
                Err(Ok(Lease { hold: Hold::Own(_, back), .. })) => own = back,
                _ => return,
            }
        }
        if state.idle.len() >= self.limits.size {
            if state.idle.is_empty() {
                return;
            }
            state.idle.remove(0);
        }
        state.idle.push(Idle { own, until });
    }

    /// Gives places on shared connections to those who wait. Returns those that nobody took, which have to be dropped when
    /// the state is free.
    #[must_use]
    fn serve(self: &Arc<Self>, state: &mut State, reused: bool) -> Vec<Lease> {
        let (now, mut left) = (Instant::now(), Vec::new());
        for waiter in mem::take(&mut state.waiting) {
            if waiter.grant.is_closed() {
                continue;
            }
            match self.place(state, now, waiter.after) {
                Some(place) => {
                    let lease = Lease { hold: Hold::Place(place), reused };
                    left.extend(waiter.grant.send(Ok(lease)).err().and_then(Result::ok));
                }
                None => state.waiting.push_back(waiter),
            }
        }
        left
    }

    /// A call has left a shared connection.
    fn leave(self: &Arc<Self>, link: &Arc<Multiple>) {
        let left = {
            let mut state = self.state.lock();
            if let Some(shared) = state.shared.iter_mut().find(|shared| Arc::ptr_eq(&shared.link, link)) {
                shared.active -= 1;
                shared.until = Instant::now() + self.limits.idle[1];
            }
            if state.waiting.is_empty() { Vec::new() } else { self.serve(&mut state, true) }
        };
        drop(left);
    }

    /// Drops all connections that nobody uses: one of them had ended unnoticed, and they may have as well.
    fn forget_idle(&self) {
        self.state.lock().idle.clear();
    }

    /// Closes what nobody uses any more. False: nothing is left.
    pub(super) fn sweep(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        state
            .idle
            .retain(|Idle { own, until }| *until > now && own.age.fits(now, None) && !own.single.is_closed());
        // Calls that are still on one keep it open.
        state.shared.retain(|Shared { link, age, active, until }| {
            link.is_open() && age.fits(now, None) && (*active > 0 || *until > now)
        });
        let State { idle, shared, waiting, dials, .. } = &*state;
        !(idle.is_empty() && shared.is_empty() && waiting.is_empty() && *dials == 0)
    }
}

/// A connection that is being made.
struct Dial {
    host: Arc<Host>,
    over: bool,
}

impl Dial {
    /// Makes it, for who has so much time. It goes on for at least the usual time: others may wait for it too.
    async fn run(mut self, within: Duration) {
        let host = self.host.clone();
        let usual = host.limits.connect;
        let outcome = timeout(within.max(usual), self.connect(within)).await;
        self.over = true;
        let left = {
            let mut state = host.state.lock();
            state.dials -= 1;
            state.waiting.retain(|waiter| !waiter.grant.is_closed());
            match outcome {
                Ok(Ok(streams)) => {
                    state.streams = streams;
                    let left = host.serve(&mut state, false);
                    host.dial(&mut state, usual);
                    left
                }
                Ok(Err(failure)) => {
                    // Those that other connections are being made for go on waiting.
                    while state.waiting.len() > state.dials * state.streams
                        && let Some(waiter) = state.waiting.pop_front()
                    {
                        // Who has gone needs no word.
                        let _ = waiter.grant.send(Err(failure.clone()));
                    }
                    Vec::new()
                }
                // Whoever still waits came later. Their own time ends their wait.
                Err(_) => {
                    host.dial(&mut state, usual);
                    Vec::new()
                }
            }
        };
        drop(left);
    }

    /// Connects, and gives the connection to those who wait. Returns how many calls it can serve at once.
    async fn connect(&self, within: Duration) -> Result<usize, Failure> {
        let host = &self.host;
        let connected = host.connector.connect(&host.origin, host.proxy.as_deref(), within).await;
        let connected = connected.map_err(|error| failure_of_connect(&*error))?;
        let made = Instant::now();
        // Those that were made together do not end together.
        let age = Age { made, ends: made + host.limits.age.mul_f64(rand::rng().random_range(0.75..=1.0)) };
        if !connected.h2 {
            let single = Single::new(connected.io).await.map_err(|error| failure_of_connect(&error))?;
            host.offer(Own { single, age, announced: None }, false);
            return Ok(1);
        }
        let link = Multiple::new(connected.io).await.map_err(|error| failure_of_connect(&error))?;
        let link = Arc::new(link);
        let left = {
            let mut state = host.state.lock();
            let shared = Shared { link: link.clone(), age, active: 0, until: made + host.limits.idle[1] };
            state.shared.push(shared);
            // The first goes at once. The others wait for the word of how many the provider takes.
            host.serve(&mut state, false)
        };
        drop(left);
        match link.settled().await.then(|| link.room()) {
            None => Err(unreached()),
            Some(0) => {
                let message = "the provider takes no requests over its connections";
                Err(Failure { unsent: true, ..Failure::new(ErrorClass::Connection, message) })
            }
            Some(streams) => Ok(streams),
        }
    }
}

/// A dial that a panic ends leaves nobody waiting.
impl Drop for Dial {
    fn drop(&mut self) {
        if !self.over {
            let mut state = self.host.state.lock();
            state.dials -= 1;
            state.waiting.clear();
        }
    }
}

impl Lease {
    /// Sends a request and waits for the head of its answer. Returns what holds the connection while the body comes.
    pub(super) async fn send(
        mut self,
        request: Request<Payload>,
    ) -> Result<(Response<Incoming>, Self), Broken> {
        let began = Instant::now();
        let sent = match &mut self.hold {
            Hold::Own(host, own) => own.single.send(host.addressed(request)).await,
            Hold::Place(place) => place.link.send(request.map(Payload::outgoing)).await,
        };
        match (sent, &mut self.hold) {
            (Ok(response), hold) => {
                if let Hold::Own(_, own) = hold {
                    own.announced = announced(response.headers()).or(own.announced);
                }
                Ok((response, self))
            }
            (Err(Broken { error, fate: Fate::Unheard }), hold) => {
                let stale = self.reused && began.elapsed() < STALE;
                if stale && let Hold::Own(host, _) = hold {
                    host.forget_idle();
                }
                Err(Broken { error, fate: if stale { Fate::Unheard } else { Fate::Unknown } })
            }
            (Err(broken), _) => Err(broken),
        }
    }

    /// The answer is read: another call may have the connection.
    pub(super) fn give_back(self) {
        if let Hold::Own(host, own) = self.hold {
            host.offer(own, true);
        }
    }
}

impl Host {
    /// A request as HTTP/1.1 has it.
    fn addressed(&self, mut request: Request<Payload>) -> Request<Outgoing> {
        if let Some(name) = &self.name {
            request.headers_mut().entry(header::HOST).or_insert_with(|| name.clone());
        }
        match &self.proxy {
            // A proxy that forwards wants the whole URL, and to know who asks.
            Some(proxy) if !self.origin.tls => {
                if let Some(authorization) = &proxy.authorization {
                    request.headers_mut().insert(header::PROXY_AUTHORIZATION, authorization.clone());
                }
            }
            _ => {
                if let Some(path) = request.uri().path_and_query().cloned() {
                    *request.uri_mut() = Uri::from(path);
                }
            }
        }
        request.map(Payload::outgoing)
    }
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// How long a server says that it keeps the connection, less a second for the way: `Keep-Alive: timeout=5`, as Node and
/// Apache send it.
fn announced(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(KEEP_ALIVE)?.to_str().ok()?;
    let seconds = text.split(',').find_map(|word| word.trim().strip_prefix("timeout="))?;
    Some(Duration::from_secs(seconds.trim().parse::<u64>().ok()?.min(u32::MAX.into()).saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_how_long_it_keeps_a_connection() {
        let table = [
            ("timeout=5", Some(4)),
            ("max=100, timeout=75", Some(74)),
            ("timeout=0", Some(0)),
            ("max=100", None),
            ("timeout=soon", None),
        ];
        for (value, seconds) in table {
            let headers = HeaderMap::from_iter([(KEEP_ALIVE, HeaderValue::from_static(value))]);
            assert_eq!(announced(&headers), seconds.map(Duration::from_secs), "{value}");
        }
        assert_eq!(announced(&HeaderMap::new()), None);
    }
}
