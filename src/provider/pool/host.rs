//! The connections to one origin, those who wait for one, and who has which.
//!
//! Over HTTP/1.1 a connection belongs to one call until the answer is read. Over HTTP/2 calls share it, as many as its
//! provider allows. Connections are made by tasks of their own: a caller that gives up takes nothing from the others, and
//! a limit that one tenant set ends nobody else's wait. One that fails takes the call with it that it was made for; the others
//! get connections of their own.
//!
//! There are only so many connections to a host, and each tenant has a part of them. Whoever has to wait for one stands in
//! line, where tenants take turns.

use super::{
    kept::{Age, Idle, Own, Shared, announced},
    line::{Line, Queue},
    link::{Broken, Fate, MAX_STREAMS, Multiple, Single},
    open::{Closes, Open},
};
use crate::{
    balance::{ErrorClass, Failure, Full},
    provider::{
        connect::{Connector, Origin},
        http_error::{failure_of_connect, late, unreached},
        payload::{Outgoing, Payload},
        proxies::Proxy,
        shares::{Counts, Shares},
    },
};
use http::{HeaderValue, Request, Response, Uri, header};
use hyper::body::Incoming;
use parking_lot::Mutex;
use rand::Rng;
use std::{
    mem,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{sleep, timeout},
};
use uuid::Uuid;

/// A connection that breaks so soon after a request was sent had ended before, unnoticed. Later the provider may have been
/// at work.
const STALE: Duration = Duration::from_secs(1);

/// Those who wait for one connection together do not wait longer for it alone.
const LATE: Duration = Duration::from_secs(1);

/// After one that failed, so many times more connections are made for those who still wait.
const DOUBT: usize = 10;

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
    /// How many there are to one host.
    pub(in crate::provider) of_host: usize,
    /// How many there are in all.
    pub(in crate::provider) in_all: usize,
}

/// What all hosts share.
pub(super) struct Common {
    pub(super) connector: Arc<Connector>,
    pub(super) limits: Limits,
    /// The connections of all hosts.
    pub(super) open: Arc<Shares>,
    /// Closes the connections that this tenant does not use.
    pub(super) close_unused: Box<dyn Fn(Uuid) + Send + Sync>,
}

/// See the module's documentation.
pub(in crate::provider) struct Host {
    origin: Origin,
    /// What leads there.
    proxy: Option<Arc<Proxy>>,
    common: Arc<Common>,
    /// The header `Host` of requests to it.
    name: Option<HeaderValue>,
    /// How many connections there are, those that are being made among them.
    connections: AtomicUsize,
    /// Whether anybody stands in line.
    is_awaited: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// Over HTTP/1.1, the last used at the end.
    idle: Vec<Idle>,
    /// Over HTTP/2.
    shared: Vec<Shared>,
    line: Line<Waiter>,
    /// The calls that have a connection, or a place on one.
    calls: Counts,
    /// How many connections are being made.
    dials: usize,
    /// How many of these have taken long already.
    late: usize,
    /// How many calls one of those will serve, as far as is known.
    streams: usize,
}

struct Waiter {
    grant: oneshot::Sender<Result<Lease, Failure>>,
    /// Only a connection that was made after this.
    after: Option<Instant>,
}

/// What a call holds of a connection, for one request. Dropping it before the answer is read closes the connection, or the
/// stream on a shared one.
pub(in crate::provider) struct Lease {
    host: Arc<Host>,
    tenant: Uuid,
    hold: Hold,
    /// Whether the connection has been there before the call.
    reused: bool,
}

enum Hold {
    Own(Own),
    Place(Arc<Multiple>),
    /// It was given back.
    Nothing,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end(false);
    }
}

/// How many calls a connection serves before anything is known of its provider. With TLS it may be HTTP/2: then one is made
/// for all who wait, and tells what is spoken.
fn guess(origin: &Origin) -> usize {
    if origin.tls { MAX_STREAMS } else { 1 }
}

fn no_room(full: Full) -> Failure {
    Failure { unsent: true, ..Failure::no_room(full, "more connections to providers") }
}

impl Host {
    pub(super) fn new(origin: Origin, proxy: Option<Arc<Proxy>>, common: Arc<Common>) -> Arc<Self> {
        let name = HeaderValue::from_str(origin.authority.as_str()).ok();
        let streams = guess(&origin);
        let state = State {
            idle: Vec::new(),
            shared: Vec::new(),
            line: Line::default(),
            calls: Counts::new(common.limits.of_host.saturating_mul(streams)),
            dials: 0,
            late: 0,
            streams,
        };
        Arc::new(Self {
            origin,
            proxy,
            common,
            name,
            connections: AtomicUsize::new(0),
            is_awaited: AtomicBool::new(false),
            state: Mutex::new(state),
        })
    }

    /// A connection that has room, or a new one within that time. With `after`, one that was made after that moment.
    ///
    /// # Errors
    /// Where none could be made. Nothing has been sent.
    pub(in crate::provider) async fn lease(
        self: &Arc<Self>,
        tenant: Uuid,
        within: Option<Duration>,
        after: Option<Instant>,
    ) -> Result<Lease, Failure> {
        let within = within.unwrap_or(self.common.limits.connect);
        let (granted, dialled) = {
            let mut state = self.state.lock();
            if let Some(lease) = self.take(&mut state, tenant, after, true) {
                return Ok(lease);
            }
            let (grant, granted) = oneshot::channel();
            state.line.push(Queue { tenant, needs_new: after.is_some() }, Waiter { grant, after });
            self.is_awaited.store(true, Ordering::Relaxed);
            (granted, self.dial(&mut state, tenant, within))
        };
        if dialled.is_err() {
            (self.common.close_unused)(tenant);
            self.dial(&mut self.state.lock(), tenant, within).map_err(no_room)?;
        }
        match timeout(within, granted).await {
            Ok(granted) => granted.unwrap_or_else(|_| Err(unreached())),
            Err(_) => Err(self.out_of_time(tenant)),
        }
    }

    /// Why nothing has come in time.
    fn out_of_time(&self, tenant: Uuid) -> Failure {
        let is_full = self.connections.load(Ordering::Relaxed) >= self.common.limits.of_host;
        match self.state.lock().calls.check(tenant, 1) {
            Err(full) => no_room(full),
            Ok(()) if is_full => no_room(Full::Replica),
            Ok(()) => Failure { unsent: true, ..late() },
        }
    }

    /// A connection, or a place on one, for a call of that tenant.
    fn take(
        self: &Arc<Self>,
        state: &mut State,
        tenant: Uuid,
        after: Option<Instant>,
        reused: bool,
    ) -> Option<Lease> {
        state.calls.check(tenant, 1).ok()?;
        let now = Instant::now();
        let hold = state.own(tenant, now, after).map(Hold::Own);
        let hold = hold.or_else(|| state.place(now, after).map(Hold::Place))?;
        state.calls.take(tenant, 1).ok()?;
        Some(Lease { host: self.clone(), tenant, hold, reused })
    }

    /// Makes one more connection for that tenant, where those who wait need one and the host may have it.
    fn dial(self: &Arc<Self>, state: &mut State, tenant: Uuid, within: Duration) -> Result<bool, Full> {
        let waiting: usize =
            state.line.queues().map(|(queue, waiting)| waiting.min(state.calls.room(queue.tenant))).sum();
        let coming = state.dials - state.late;
        if coming >= waiting.div_ceil(state.streams)
            || state.dials >= waiting
            || self.connections.load(Ordering::Relaxed) >= self.common.limits.of_host
        {
            return Ok(false);
        }
        let host: Weak<Self> = Arc::downgrade(self);
        let open = Open::new(&self.common.open, tenant, host)?;
        self.connections.fetch_add(1, Ordering::Relaxed);
        state.dials += 1;
        tokio::spawn(Dial { host: self.clone(), tenant, late: false, over: false }.run(open, within));
        Ok(true)
    }

    /// Makes as many connections as those who wait need, for one tenant after the other.
    fn dial_all(self: &Arc<Self>, state: &mut State) {
        loop {
            let tenants: Vec<_> = state
                .line
                .queues()
                .map(|(queue, _)| queue.tenant)
                .filter(|tenant| state.calls.room(*tenant) > 0)
                .collect();
            let Some(tenant) = tenants.get(state.dials % tenants.len().max(1)).copied() else { break };
            match self.dial(state, tenant, self.common.limits.connect) {
                Ok(true) => {}
                Ok(false) => break,
                Err(full) => state.fail_one(tenant, no_room(full)),
            }
        }
        self.is_awaited.store(!state.line.is_empty(), Ordering::Relaxed);
    }

    /// Gives what is free to those who wait.
    fn serve(self: &Arc<Self>, state: &mut State, reused: bool) {
        let now = Instant::now();
        while let Some((Queue { tenant, .. }, waiter)) = state.next_to_serve(now) {
            if waiter.grant.is_closed() {
                continue;
            }
            let lease = self.take(state, tenant, waiter.after, reused);
            // Where the tenant may have no more connections, one that is there does not help either.
            let lease = lease.ok_or_else(|| no_room(Full::Tenant));
            if let Err(Ok(mut lease)) = waiter.grant.send(lease) {
                let hold = mem::replace(&mut lease.hold, Hold::Nothing);
                drop(self.put_back(state, tenant, hold, true));
            }
        }
    }

    /// A call has ended with its connection. Returns the connection where it is closed, to be dropped when the state is free.
    #[must_use]
    fn put_back(&self, state: &mut State, tenant: Uuid, hold: Hold, keep: bool) -> Option<Own> {
        state.calls.give_back(tenant, 1);
        let now = Instant::now();
        match hold {
            Hold::Own(own) if keep && own.age.fits(now, None) && !own.single.is_closed() => {
                let announced = own.announced.unwrap_or(Duration::MAX);
                state.idle.push(Idle { until: now + self.common.limits.idle[0].min(announced), own });
                None
            }
            Hold::Own(own) => Some(own),
            Hold::Place(link) => {
                if let Some(shared) = state.shared.iter_mut().find(|shared| Arc::ptr_eq(&shared.link, &link))
                {
                    shared.active -= 1;
                    shared.until = now + self.common.limits.idle[1];
                }
                None
            }
            Hold::Nothing => None,
        }
    }

    /// A call has ended, and with `keep` its connection may be used by another.
    fn leave(self: &Arc<Self>, tenant: Uuid, hold: Hold, keep: bool) {
        let closed = {
            let mut state = self.state.lock();
            let closed = self.put_back(&mut state, tenant, hold, keep);
            if !state.line.is_empty() {
                self.serve(&mut state, true);
                self.dial_all(&mut state);
            }
            // The oldest goes.
            let surplus = state.idle.len() > self.common.limits.size;
            closed.or_else(|| surplus.then(|| state.idle.remove(0).own))
        };
        drop(closed);
    }

    /// Drops all connections that nobody uses: one of them had ended unnoticed, and they may have as well.
    fn forget_idle(&self) {
        let idle = mem::take(&mut self.state.lock().idle);
        drop(idle);
    }

    /// Closes what nobody uses any more. False: nothing is left.
    pub(super) fn sweep(self: &Arc<Self>, now: Instant) -> bool {
        let mut state = self.state.lock();
        state
            .idle
            .retain(|Idle { own, until }| *until > now && own.age.fits(now, None) && !own.single.is_closed());
        // Calls that are still on one keep it open.
        state.shared.retain(|Shared { link, age, active, until, .. }| {
            link.is_open() && age.fits(now, None) && (*active > 0 || *until > now)
        });
        state.line.retain(|waiter| !waiter.grant.is_closed());
        if !state.line.is_empty() {
            self.serve(&mut state, true);
            self.dial_all(&mut state);
        }
        // Those in use are counted here as well.
        !state.line.is_empty() || self.connections.load(Ordering::Relaxed) > 0
    }

    /// Tells of each connection that nobody uses whose it was last, and until when it is kept.
    pub(super) fn unused(&self, mut tell: impl FnMut(Uuid, Instant)) {
        let state = self.state.lock();
        for idle in &state.idle {
            tell(idle.own.open.tenant(), idle.until);
        }
        for shared in state.shared.iter().filter(|shared| shared.active == 0) {
            tell(shared.tenant, shared.until);
        }
    }

    /// Closes those that nobody uses and for whom that is true.
    pub(super) fn close_unused(&self, which: impl Fn(Uuid, Instant) -> bool) {
        let mut state = self.state.lock();
        state.idle.retain(|idle| !which(idle.own.open.tenant(), idle.until));
        state.shared.retain(|shared| shared.active > 0 || !which(shared.tenant, shared.until));
    }

    /// Connects, and gives the connection to those who wait. Returns how many calls it can serve at once.
    async fn connect(self: &Arc<Self>, tenant: Uuid, open: Open, within: Duration) -> Result<usize, Failure> {
        let Common { connector, limits, .. } = &*self.common;
        let connected = connector.connect(&self.origin, self.proxy.as_deref(), within).await;
        let connected = connected.map_err(|error| failure_of_connect(&*error))?;
        let made = Instant::now();
        // Those that were made together do not end together.
        let age = Age { made, ends: made + limits.age.mul_f64(rand::rng().random_range(0.75..=1.0)) };
        if !connected.h2 {
            let single = Single::new(connected.io).await.map_err(|error| failure_of_connect(&error))?;
            let own = Own { single, age, announced: None, open };
            let mut state = self.state.lock();
            state.idle.push(Idle { own, until: made + limits.idle[0] });
            self.serve(&mut state, false);
            if state.idle.len() > limits.size {
                state.idle.remove(0);
            }
            return Ok(1);
        }
        let link = Multiple::new(connected.io, open).await.map_err(|error| failure_of_connect(&error))?;
        let link = Arc::new(link);
        {
            let mut state = self.state.lock();
            let until = made + limits.idle[1];
            state.shared.push(Shared { link: link.clone(), age, tenant, active: 0, until });
            // The first goes at once. The others wait for the word of how many the provider takes.
            self.serve(&mut state, false);
        }
        match link.settled().await.then(|| link.room()) {
            None => Err(unreached()),
            Some(0) => {
                let message = "the provider takes no requests over its connections";
                Err(Failure { unsent: true, ..Failure::new(ErrorClass::Connection, message) })
            }
            Some(streams) => Ok(streams),
        }
    }

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

/// Room for those who wait. The one that has ended may have been dropped where the state is locked.
impl Closes for Host {
    fn closed(self: Arc<Self>) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        if self.is_awaited.load(Ordering::Relaxed)
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move { self.dial_all(&mut self.state.lock()) });
        }
    }
}

impl State {
    /// A connection of HTTP/1.1 that nobody uses. Where the tenant has as many as it may, another's is not for it.
    fn own(&mut self, tenant: Uuid, now: Instant, after: Option<Instant>) -> Option<Own> {
        let at = self.idle.iter().rposition(|idle| idle.fits(now, after))?;
        self.idle.get_mut(at)?.own.open.pass_to(tenant).ok()?;
        Some(self.idle.remove(at).own)
    }

    /// A place on the first shared connection that has room, so that those made for a rush come to rest.
    fn place(&mut self, now: Instant, after: Option<Instant>) -> Option<Arc<Multiple>> {
        let shared = self.shared.iter_mut().find(|shared| shared.has_room(now, after))?;
        shared.active += 1;
        Some(shared.link.clone())
    }

    /// The next who waits and can be served, or has gone.
    fn next_to_serve(&mut self, now: Instant) -> Option<(Queue, Waiter)> {
        let Self { idle, shared, line, calls, .. } = self;
        let has_room = |after| {
            idle.iter().any(|idle| idle.fits(now, after))
                || shared.iter().any(|shared| shared.has_room(now, after))
        };
        if line.is_empty() || !has_room(None) {
            return None;
        }
        line.next(|queue, waiter| {
            waiter.grant.is_closed()
                || (calls.check(queue.tenant, 1).is_ok()
                    && (waiter.after.is_none() || has_room(waiter.after)))
        })
    }

    /// Tells the first of that tenant who waits that nothing comes.
    fn fail_one(&mut self, tenant: Uuid, failure: Failure) {
        if let Some((_, waiter)) = self.line.next(|queue, _| queue.tenant == tenant) {
            // Who has gone needs no word.
            let _ = waiter.grant.send(Err(failure));
        }
    }
}

/// A connection that is being made for a tenant.
struct Dial {
    host: Arc<Host>,
    tenant: Uuid,
    late: bool,
    over: bool,
}

impl Dial {
    /// Makes it, for who has so much time. It goes on for at least the usual time: others may wait for it too.
    async fn run(mut self, open: Open, within: Duration) {
        let host = self.host.clone();
        let usual = host.common.limits.connect;
        let mut made = pin!(timeout(within.max(usual), host.connect(self.tenant, open, within)));
        let in_time = tokio::select! {
            outcome = &mut made => Some(outcome),
            () = sleep(LATE) => None,
        };
        let outcome = if let Some(outcome) = in_time {
            outcome
        } else {
            self.is_late();
            made.await
        };
        // Where its time was over, whoever still waits came later. Their own time ends their wait.
        self.end(outcome.ok());
    }

    /// Those who wait for it with others get another.
    fn is_late(&mut self) {
        let mut state = self.host.state.lock();
        self.late = true;
        state.late += 1;
        self.host.dial_all(&mut state);
    }

    fn end(&mut self, outcome: Option<Result<usize, Failure>>) {
        self.over = true;
        let host = &self.host;
        let mut state = host.state.lock();
        state.dials -= 1;
        state.late -= usize::from(self.late);
        state.line.retain(|waiter| !waiter.grant.is_closed());
        match outcome {
            Some(Ok(streams)) => {
                state.streams = streams;
                state.calls.set_most(host.common.limits.of_host.saturating_mul(streams));
                host.serve(&mut state, false);
            }
            Some(Err(failure)) => {
                state.fail_one(self.tenant, failure);
                let is_over = state.line.is_empty();
                state.streams = if is_over { guess(&host.origin) } else { (state.streams / DOUBT).max(1) };
            }
            None => {}
        }
        host.dial_all(&mut state);
    }
}

/// A dial that a panic ends leaves nobody waiting.
impl Drop for Dial {
    fn drop(&mut self) {
        if !self.over {
            self.end(Some(Err(unreached())));
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
            Hold::Own(own) => own.single.send(self.host.addressed(request)).await,
            Hold::Place(link) => link.send(request.map(Payload::outgoing)).await,
            // It is given back with the answer only, and that is yet to come.
            Hold::Nothing => std::future::pending().await,
        };
        match (sent, &mut self.hold) {
            (Ok(response), hold) => {
                if let Hold::Own(own) = hold {
                    own.announced = announced(response.headers()).or(own.announced);
                }
                Ok((response, self))
            }
            (Err(Broken { error, fate: Fate::Unheard }), hold) => {
                let stale = self.reused && began.elapsed() < STALE;
                if stale && matches!(hold, Hold::Own(_)) {
                    self.host.forget_idle();
                }
                Err(Broken { error, fate: if stale { Fate::Unheard } else { Fate::Unknown } })
            }
            (Err(broken), _) => Err(broken),
        }
    }

    /// The answer is read: another call may have the connection.
    pub(super) fn give_back(mut self) {
        self.end(true);
    }

    fn end(&mut self, keep: bool) {
        match mem::replace(&mut self.hold, Hold::Nothing) {
            Hold::Nothing => {}
            // It is a moment until it can take a request, and somebody waits.
            Hold::Own(mut own)
                if keep && !own.single.is_ready() && self.host.is_awaited.load(Ordering::Relaxed) =>
            {
                let (host, tenant) = (self.host.clone(), self.tenant);
                tokio::spawn(async move {
                    let is_ready = own.single.ready().await;
                    host.leave(tenant, Hold::Own(own), is_ready);
                });
            }
            hold => self.host.leave(self.tenant, hold, keep),
        }
    }
}
