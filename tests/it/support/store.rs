//! A state store alone, with a clock that goes ahead by word: what is said of picks and cooldowns is said to it.

use std::{ops::Deref, sync::Arc, time::Duration};

use rota::{
    balance::{
        Cooldown, ErrorClass, LeaseId, Limits, Member, MemberKey, Members, Roster, Scope, Strategy, Time,
    },
    redis::RedisOptions,
    state::{
        Acquire, Acquired, Answer, Lease, MemoryStore, Override, RedisStore, ResilientStore, Stand,
        StateStore,
    },
};
use uuid::Uuid;

use super::redis::{Redis, patient};

/// Longer than any trial here takes.
pub const TRIAL: Duration = Duration::from_secs(30);

/// What a provider asks for that names a time.
pub fn cooldown(scope: Scope, duration: Duration) -> Cooldown {
    Cooldown {
        class: ErrorClass::RateLimited,
        scope,
        duration,
        max: duration,
        grows: false,
        hinted: true,
        trip_after: 1,
        is_guess: false,
    }
}

/// Asks for any member of `pool`.
pub fn asking(pool: &Arc<Roster>) -> Acquire<'_> {
    Acquire {
        pool,
        tried: &[],
        failed: None,
        lease: LeaseId::new(rand::random()),
        trial_ttl: TRIAL,
        tokens: 0,
        hold: None,
        is_last: true,
        stand: Stand::default(),
    }
}

/// Either store.
#[derive(Clone)]
pub enum Store {
    Memory(Arc<MemoryStore>),
    Redis { server: RedisStore, store: Arc<ResilientStore> },
}

/// Runs each test, a function of a [`Store`], on both stores.
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        mod on_memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$name($crate::support::store::Store::memory()).await; })*
        }
        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$name($crate::support::store::Store::redis().await).await; })*
        }
    };
}
pub(crate) use on_both_stores;

impl Deref for Store {
    type Target = dyn StateStore;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Memory(store) => &**store,
            Self::Redis { store, .. } => &**store,
        }
    }
}

impl Store {
    pub fn memory() -> Self {
        Self::Memory(Arc::default())
    }

    /// On the shared Redis, with a clock of its own.
    pub async fn redis() -> Self {
        Self::redis_at(Redis::shared().await.url()).await
    }

    pub async fn redis_at(url: String) -> Self {
        Self::redis_with(&patient(url)).await
    }

    pub async fn redis_with(options: &RedisOptions) -> Self {
        let server = RedisStore::connect(options).await.unwrap();
        Self::Redis { store: ResilientStore::new(server.clone()), server }
    }

    /// What Redis itself is asked through.
    pub fn server(&self) -> &RedisStore {
        match self {
            Self::Memory(_) => panic!("it is in memory"),
            Self::Redis { server, .. } => server,
        }
    }

    /// Stops its clock at that time.
    pub fn stop_at(&self, time: Time) {
        match self {
            Self::Memory(store) => store.clock().stop_at(time),
            Self::Redis { server, .. } => server.clock().stop_at(time),
        }
    }

    /// Lets time pass.
    pub fn pass(&self, by: Duration) {
        match self {
            Self::Memory(store) => store.clock().advance(by),
            Self::Redis { server, .. } => server.clock().advance(by),
        }
    }

    /// Asks for a member of `pool`.
    pub async fn ask(&self, pool: &Arc<Roster>) -> Acquired {
        self.together(&asking(pool)).await
    }

    /// The answer to `ask`, which this replica must not have given alone.
    pub async fn together(&self, ask: &Acquire<'_>) -> Acquired {
        let Answer { acquired, degraded, .. } = self.acquire(ask).await;
        assert!(!degraded, "decided alone");
        acquired
    }

    /// Is given a member.
    pub async fn take(&self, pool: &Arc<Roster>) -> (usize, Lease) {
        match self.ask(pool).await {
            Acquired::Granted { index, lease } => (index, lease),
            other => panic!("nothing granted: {other:?}"),
        }
    }

    /// Is given members one after the other, each call over before the next.
    pub async fn picks(&self, pool: &Arc<Roster>, count: usize) -> Vec<usize> {
        let mut picked = Vec::new();
        for _ in 0..count {
            let (index, lease) = self.take(pool).await;
            self.release(&lease, None);
            picked.push(index);
        }
        picked
    }

    /// The call under `lease` fails and is over.
    pub async fn fails(&self, lease: &Lease, cooldown: &Cooldown) {
        self.fail(&lease.attempt(), cooldown).await;
        self.release(lease, None);
        self.flush().await;
    }

    /// Cools the members at those indices for that long, without taking a turn.
    pub async fn cool(&self, pool: &Roster, indices: &[usize], duration: Duration) {
        for &index in indices {
            let change = Override::Set { duration, class: ErrorClass::RateLimited };
            self.override_cooldown(pool, &pool.members[index], change).await;
        }
    }

    /// What is left of the cooldown of the member at `index`, and why it cools.
    pub async fn cooling(&self, pool: &Roster, index: usize) -> Option<(Duration, ErrorClass)> {
        let seen = self.inspect(pool).await;
        seen.members[index].cooling(seen.now)
    }
}

/// A pool under round robin, its members with these ordinals, each with a credential of its own.
pub fn ring(ordinals: impl IntoIterator<Item = u32>) -> Arc<Roster> {
    let members = ordinals.into_iter().map(member).collect::<Members>();
    let (id, tenant, strategy) = (Uuid::new_v4(), Uuid::new_v4(), Strategy::RoundRobin);
    Arc::new(Roster { id, tenant, strategy, last_resort: true, members, waits: false })
}

/// A member of that place, with a credential of its own.
pub fn member(ordinal: u32) -> Member {
    Member {
        key: MemberKey::new(ordinal, ordinal.to_string()),
        credential: format!("credential-{ordinal}").into(),
        address: "".into(),
        priority: 0,
        weight: 1,
        limits: Limits::default(),
    }
}
