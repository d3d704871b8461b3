//! State in Redis, shared by any number of replicas.
//!
//! One script a decision, so that no two replicas can see half of one. All keys of a tenant carry the hash tag
//! `{tenant row id}`: a script may touch a pool and the tenant's credentials on a cluster too. The scripts take
//! durations and read Redis's own clock, so replicas need not agree on the time.
//!
//! When Redis is gone, `acquire`, `fail` and `view` return [`StateError`] at once (no queue, no retry), and what is
//! noted off the path is dropped: trials expire by themselves, and in-flight counts are those of live replicas only.
//! The client reconnects for ever with a growing pause of up to a second.

mod script;
mod writer;

use super::{Acquire, Acquired, Lease, MemberState, StateError, StateStore};
use crate::balance::{Cooldown, ErrorClass, LeaseId, Pool, Scope};
use async_trait::async_trait;
use dashmap::DashMap;
use fred::{
    clients::WithOptions,
    prelude::{Builder, Client, ClientLike, Config, Error as RedisError, FromValue, ReconnectPolicy},
    types::{Value, config::Options},
};
use script::{Run, Script, script};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{sync::oneshot, time::MissedTickBehavior};
use uuid::Uuid;
use writer::{Note, Writer};

/// How a [`RedisStore`] reaches its server.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// `redis://` or `rediss://`.
    pub url: String,
    /// A command that takes longer counts as failed.
    pub command_timeout: Duration,
}

impl RedisOptions {
    /// The defaults for a server at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), command_timeout: Duration::from_millis(500) }
    }
}

/// A replica that has been silent for this long no longer counts as holding calls in flight.
const REPLICA_TTL: Duration = Duration::from_secs(15);
const HEARTBEAT: Duration = Duration::from_secs(5);
/// State of a pool that nobody has called for this long is forgotten.
const STATE_TTL: Duration = Duration::from_hours(720);
/// Beyond this many commands waiting for the server, further ones fail.
const MAX_QUEUED_COMMANDS: usize = 10_000;

/// See the module's documentation.
#[derive(Clone)]
pub struct RedisStore {
    shared: Arc<Shared>,
}

struct Shared {
    client: WithOptions<Client>,
    replica: String,
    acquire: Script,
    fail: Script,
    view: Script,
    writer: Writer,
    /// Calls in flight of this replica, by tenant: those need a heartbeat.
    busy: DashMap<Uuid, u32>,
}

impl RedisStore {
    /// Connects, and waits for the first connection.
    ///
    /// # Errors
    /// Where the URL is malformed or the server does not answer. The text holds no password.
    pub async fn connect(options: &RedisOptions) -> Result<Self, StateError> {
        let config = Config::from_url(&options.url)
            .map_err(|error| StateError(format!("malformed Redis URL: {}", error.details())))?;
        let client = Builder::from_config(config)
            .with_performance_config(|performance| {
                performance.default_command_timeout = options.command_timeout;
            })
            .with_connection_config(|connection| {
                connection.connection_timeout = Duration::from_secs(2);
                connection.internal_command_timeout = Duration::from_secs(2);
                // A script that may have run must not run again behind our back.
                connection.max_command_attempts = 1;
                connection.max_command_buffer_len = MAX_QUEUED_COMMANDS;
                connection.unresponsive.max_timeout = Some(Duration::from_secs(2));
                connection.tcp.nodelay = Some(true);
            })
            // Without a policy fred never reconnects.
            .set_policy(ReconnectPolicy::new_exponential(0, 50, 1000, 2))
            .build()
            .map_err(state_error)?;
        client.init().await.map_err(state_error)?;
        let client = client.with_options(&Options { fail_fast: true, ..Options::default() });
        let replica = Uuid::new_v4().simple().to_string();
        let shared = Arc::new(Shared {
            writer: Writer::start(client.clone(), replica.clone()),
            client,
            replica,
            acquire: script!("acquire.lua"),
            fail: script!("fail.lua"),
            view: script!("view.lua"),
            busy: DashMap::new(),
        });
        tokio::spawn(heartbeat(Arc::downgrade(&shared)));
        Ok(Self { shared })
    }
}

impl Shared {
    async fn run<T: FromValue>(
        &self,
        script: &Script,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<T, StateError> {
        script.run(&self.client, Run::new(keys, args)).await
    }

    async fn acquire(
        &self,
        pool: &Pool,
        lease: LeaseId,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<Acquired, StateError> {
        let answer: Vec<Value> = self.run(&self.acquire, keys, args).await?;
        let number = |at: usize| answer.get(at).and_then(Value::as_i64).unwrap_or(-1);
        match number(0) {
            1 => {
                let index = usize::try_from(number(1)).map_err(|_| unexpected())?;
                let member = pool.members.get(index).ok_or_else(unexpected)?.clone();
                let began = u64::try_from(number(2)).map_err(|_| unexpected())?;
                self.count(pool.tenant, true);
                let lease = Lease {
                    id: lease,
                    tenant: pool.tenant,
                    pool: pool.id,
                    member,
                    began,
                    trial: number(3) == 1,
                    marked: number(4) == 1,
                };
                Ok(Acquired::Granted { index, lease })
            }
            2 => Ok(Acquired::TrialRunning),
            3 => {
                let class =
                    answer.get(2).and_then(Value::as_str).and_then(|name| ErrorClass::from_name(&name));
                let back = u64::try_from(number(1)).ok().map(Duration::from_millis);
                Ok(Acquired::Exhausted { first_back: back.zip(class) })
            }
            _ => Err(unexpected()),
        }
    }

    fn release(&self, lease: &Lease) {
        self.count(lease.tenant, false);
        self.writer.note(Note::Release(lease.clone()));
    }

    fn count(&self, tenant: Uuid, up: bool) {
        if up {
            *self.busy.entry(tenant).or_default() += 1;
        } else if let Some(mut count) = self.busy.get_mut(&tenant) {
            *count = count.saturating_sub(1);
        }
        self.busy.remove_if(&tenant, |_, count| *count == 0);
    }
}

#[async_trait]
impl StateStore for RedisStore {
    async fn acquire(&self, ask: &Acquire<'_>) -> Result<Acquired, StateError> {
        let members = &ask.pool.members;
        let mut args: Vec<Value> = Vec::with_capacity(15 + members.len() * 4);
        args.push(ask.lease.to_string().into());
        args.push(self.shared.replica.as_str().into());
        args.extend([ask.trial_ttl, REPLICA_TTL, STATE_TTL].map(millis));
        args.push(flag(ask.failed.is_some()));
        if let Some((lease, cooldown)) = ask.failed {
            push_failure(&mut args, lease, cooldown);
        }
        for (index, member) in members.iter().enumerate() {
            if ask.tried.contains(&index) {
                args.push(format!("!{}", member.key).into());
            } else {
                args.push((&*member.key).into());
            }
            args.push(i64::from(member.ordinal).into());
            args.push(i64::from(member.priority).into());
            args.push((&*member.credential).into());
        }
        let keys = Keys::of(ask.pool.tenant, ask.pool.id);
        let keys = keys.all();
        let (answer, answered) = oneshot::channel();
        let (shared, pool, lease) = (self.shared.clone(), ask.pool.clone(), ask.lease);
        // A task of its own: what Redis grants while the caller goes away must be given back.
        tokio::spawn(async move {
            let acquired = shared.acquire(&pool, lease, keys, args).await;
            // Where nobody waits any more, dropping the answer gives it back.
            let _ = answer.send(acquired.map(|acquired| Unclaimed { acquired: Some(acquired), shared }));
        });
        let unclaimed = answered.await.map_err(|_| StateError("the command was dropped".into()))??;
        unclaimed.claim()
    }

    async fn fail(&self, lease: &Lease, cooldown: &Cooldown) -> Result<(), StateError> {
        let mut args = vec![millis(STATE_TTL)];
        push_failure(&mut args, lease, cooldown);
        let keys = Keys::of(lease.tenant, lease.pool);
        self.shared.run::<Value>(&self.shared.fail, keys.records(), args).await.map(drop)
    }

    fn succeed(&self, lease: &Lease) {
        if lease.marked {
            self.shared.writer.note(Note::Succeed(lease.clone()));
        }
    }

    fn release(&self, lease: &Lease) {
        self.shared.release(lease);
    }

    async fn view(&self, pool: &Pool) -> Result<Vec<MemberState>, StateError> {
        let args: Vec<Value> = pool
            .members
            .iter()
            .flat_map(|member| [Value::from(&*member.key), Value::from(&*member.credential)])
            .collect();
        let keys = Keys::of(pool.tenant, pool.id).all();
        let answer: Vec<Value> = self.shared.run(&self.shared.view, keys, args).await?;
        let states: Vec<_> = answer
            .chunks_exact(3)
            .map(|three| {
                let number = |at: usize| three.get(at).and_then(Value::as_u64).unwrap_or(0);
                let class =
                    three.get(1).and_then(Value::as_str).and_then(|name| ErrorClass::from_name(&name));
                MemberState {
                    cooling: class.map(|class| (Duration::from_millis(number(0)), class)),
                    in_flight: u32::try_from(number(2)).unwrap_or(u32::MAX),
                }
            })
            .collect();
        if states.len() == pool.members.len() { Ok(states) } else { Err(unexpected()) }
    }

    async fn flush(&self) {
        self.shared.writer.flush().await;
    }
}

/// What Redis granted to a caller that may have gone away meanwhile.
struct Unclaimed {
    acquired: Option<Acquired>,
    shared: Arc<Shared>,
}

impl Unclaimed {
    fn claim(mut self) -> Result<Acquired, StateError> {
        self.acquired.take().ok_or_else(unexpected)
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(Acquired::Granted { lease, .. }) = &self.acquired {
            self.shared.release(lease);
        }
    }
}

/// Keeps this replica's in-flight counts alive while it has any.
async fn heartbeat(shared: Weak<Shared>) {
    let script = script!("heartbeat.lua");
    let mut ticks = tokio::time::interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let tenants: Vec<_> = shared.busy.iter().map(|entry| *entry.key()).collect();
        for tenant in tenants {
            let args = vec![shared.replica.as_str().into(), millis(REPLICA_TTL), millis(STATE_TTL)];
            let keys = vec![Keys::replicas(tenant)];
            if let Err(error) = shared.run::<Value>(&script, keys, args).await {
                tracing::debug!(%error, "heartbeat");
                break;
            }
        }
    }
}

/// The names of one pool's keys. Row ids, never a caller's text.
struct Keys {
    pool: String,
    credentials: String,
    in_flight: String,
    replicas: String,
}

impl Keys {
    fn of(tenant: Uuid, pool: Uuid) -> Self {
        let (tag, pool) = (tenant.simple(), pool.simple());
        Self {
            pool: format!("rota:{{{tag}}}:pool:{pool}"),
            credentials: format!("rota:{{{tag}}}:credentials"),
            in_flight: format!("rota:{{{tag}}}:in-flight:{pool}"),
            replicas: Self::replicas(tenant),
        }
    }

    fn replicas(tenant: Uuid) -> String {
        format!("rota:{{{}}}:replicas", tenant.simple())
    }

    fn records(self) -> Vec<String> {
        vec![self.pool, self.credentials]
    }

    fn counts(self) -> Vec<String> {
        vec![self.pool, self.credentials, self.in_flight]
    }

    fn all(self) -> Vec<String> {
        vec![self.pool, self.credentials, self.in_flight, self.replicas]
    }
}

/// The nine arguments of `fail` in `common.lua`.
fn push_failure(args: &mut Vec<Value>, lease: &Lease, cooldown: &Cooldown) {
    args.push(lease.id.to_string().into());
    args.push((&*lease.member.key).into());
    args.push((&*lease.member.credential).into());
    args.push(match cooldown.scope {
        Scope::Member => "member".into(),
        Scope::Credential => "credential".into(),
    });
    args.push(i64::try_from(lease.began).unwrap_or(i64::MAX).into());
    args.push(millis(cooldown.duration));
    args.push(flag(cooldown.hinted));
    args.push(i64::from(cooldown.trip_after).into());
    args.push(cooldown.class.name().into());
}

fn millis(duration: Duration) -> Value {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).into()
}

fn flag(set: bool) -> Value {
    if set { "1".into() } else { "0".into() }
}

fn state_error(error: RedisError) -> StateError {
    StateError(format!("{:?}: {}", error.kind(), error.details()))
}

fn unexpected() -> StateError {
    StateError("Redis answered what no script of ours says".into())
}
