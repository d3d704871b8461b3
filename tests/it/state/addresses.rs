//! What one replica cannot reach, and what replicas tell each other of it.

use std::{sync::Arc, time::Duration};

use rota::{
    balance::{Cooldown, Cooldowns, ErrorClass, Failure, Member, Members, Roster, Scope},
    redis::RedisOptions,
    state::{
        Acquire, Acquired, FailedAttempt, Hold, Lease, MemoryStore, Override, ReachableStore, RedisStore,
        ResilientStore, StateStore,
    },
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::support::{
    eventually,
    redis::{Redis, patient},
    store::{asking, member, ring},
};

const SECOND: Duration = Duration::from_secs(1);
/// Longer than any word takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A pool whose members are at these addresses.
fn pool(addresses: &[&str]) -> Arc<Roster> {
    pool_of(Uuid::new_v4(), addresses)
}

fn pool_of(tenant: Uuid, addresses: &[&str]) -> Arc<Roster> {
    let at = |(ordinal, address): (u32, &&str)| Member { address: (*address).into(), ..member(ordinal) };
    let members = (1..).zip(addresses).map(at).collect::<Members>();
    Arc::new(Roster { tenant, members, ..(*ring([])).clone() })
}

/// What a refused connection asks for, with the times that a tenant has set.
fn refused(cooldowns: &Cooldowns) -> Cooldown {
    let failure = Failure { unsent: true, ..Failure::new(ErrorClass::Connection, "refused") };
    cooldowns.decide(&failure, 0.0).unwrap()
}

fn alone() -> ReachableStore {
    ReachableStore::alone(Arc::new(MemoryStore::default()))
}

/// One replica of those on that Redis, and its side of the server.
async fn replica(options: &RedisOptions) -> (ReachableStore, RedisStore) {
    let redis = RedisStore::connect(options).await.unwrap();
    (ReachableStore::of_fleet(ResilientStore::new(redis.clone()), &redis, options), redis)
}

async fn replicas(count: usize) -> Vec<ReachableStore> {
    let options = patient(Redis::shared().await.url());
    let mut replicas = Vec::new();
    for _ in 0..count {
        replicas.push(replica(&options).await.0);
    }
    replicas
}

async fn ask_for(store: &ReachableStore, pool: &Arc<Roster>, hold: Option<Duration>) -> Acquired {
    let hold = hold.map(|ttl| Hold { ttl, most: 10 });
    let ask = Acquire { hold, ..asking(pool) };
    store.acquire(&ask).await.acquired
}

async fn ask(store: &ReachableStore, pool: &Arc<Roster>) -> Acquired {
    ask_for(store, pool, None).await
}

async fn take(store: &ReachableStore, pool: &Arc<Roster>) -> (usize, Lease) {
    match ask(store, pool).await {
        Acquired::Granted { index, lease } => (index, lease),
        other => panic!("nothing granted: {other:?}"),
    }
}

/// A call that is served.
async fn serve(store: &ReachableStore, pool: &Arc<Roster>) -> usize {
    let (index, lease) = take(store, pool).await;
    store.succeed(&lease);
    store.release(&lease, None);
    index
}

async fn picks(store: &ReachableStore, pool: &Arc<Roster>, count: usize) -> Vec<usize> {
    let mut picked = Vec::new();
    for _ in 0..count {
        picked.push(serve(store, pool).await);
    }
    picked
}

/// A call that cannot reach the address of whoever is picked.
async fn fail(store: &ReachableStore, pool: &Arc<Roster>, cooldown: &Cooldown) {
    let (_, lease) = take(store, pool).await;
    store.fail(&lease.attempt(), cooldown).await;
    store.release(&lease, None);
}

/// A call of the first member, picked before, cannot reach it.
async fn fail_late(store: &ReachableStore, pool: &Roster, cooldown: &Cooldown) {
    let began = store.inspect(pool).await.now;
    let attempt =
        FailedAttempt { tenant: pool.tenant, pool: pool.id, member: &pool.members[0], began, trial: None };
    store.fail(&attempt, cooldown).await;
}

/// Why each member cools.
async fn cooling(store: &ReachableStore, pool: &Roster) -> Vec<Option<ErrorClass>> {
    let seen = store.inspect(pool).await;
    seen.members.iter().map(|member| member.cooling(seen.now).map(|(_, class)| class)).collect()
}

/// When the first is back, where nobody serves.
async fn first_back(store: &ReachableStore, pool: &Arc<Roster>) -> (Duration, ErrorClass) {
    match ask(store, pool).await {
        Acquired::Exhausted { first_back: Some(first) } => first,
        other => panic!("somebody serves: {other:?}"),
    }
}

/// Waits until the first member of the pool cools, or until it does not.
async fn until_cooling(store: &ReachableStore, pool: &Roster, cools: bool) {
    eventually(PATIENCE, async || match cooling(store, pool).await[0] {
        class if class.is_some() == cools => Ok(()),
        class => Err(format!("{class:?}")),
    })
    .await;
}

#[tokio::test]
async fn an_address_that_cannot_be_reached_takes_its_members_away_together() {
    let (store, tenant) = (alone(), Uuid::new_v4());
    let (first, other) = (pool_of(tenant, &["a", "a", "b", "c"]), pool_of(tenant, &["b", "a"]));
    fail(&store, &first, &refused(&Cooldowns::default())).await;
    let cools = Some(ErrorClass::Connection);
    assert_eq!(cooling(&store, &first).await, [cools, cools, None, None]);
    assert_eq!(picks(&store, &first, 4).await, [2, 3, 2, 3], "the others go on in turn");
    assert_eq!(picks(&store, &other, 2).await, [0, 0], "every pool of the tenant learns");
    assert_eq!(picks(&store, &pool(&["a"]), 2).await, [0, 0], "no other tenant does");
    // A call that began before says nothing new when it fails late.
    store.clock().advance(SECOND);
    fail_late(&store, &first, &refused(&Cooldowns::default())).await;
    let seen = store.inspect(&first).await;
    let left = seen.members[0].cooling(seen.now).unwrap().0;
    assert!(left <= Duration::from_millis(9_000), "{left:?}");
}

#[tokio::test]
async fn a_limit_that_a_pool_has_set_judges_no_other() {
    let (store, tenant) = (alone(), Uuid::new_v4());
    let (strict, other) = (pool_of(tenant, &["a", "b"]), pool_of(tenant, &["a", "b"]));
    let cooldown = Cooldown { scope: Scope::AddressOfPool, ..refused(&Cooldowns::default()) };
    fail(&store, &strict, &cooldown).await;
    assert_eq!(picks(&store, &strict, 2).await, [1, 1]);
    assert_eq!(picks(&store, &other, 2).await, [0, 1]);
}

#[tokio::test]
async fn where_nobody_else_can_serve_one_call_a_second_goes_through() {
    let (store, pool) = (alone(), pool(&["a", "a"]));
    let cooldown = refused(&Cooldowns::default());
    fail(&store, &pool, &cooldown).await;
    for _ in 0..5 {
        let (left, class) = first_back(&store, &pool).await;
        assert!(left <= SECOND && class == ErrorClass::Connection, "{left:?} {class:?}");
        store.clock().advance(SECOND);
        let (_, lease) = take(&store, &pool).await;
        assert!(matches!(ask(&store, &pool).await, Acquired::TrialRunning));
        store.fail(&lease.attempt(), &cooldown).await;
        store.release(&lease, None);
    }
    store.clock().advance(SECOND);
    let (_, lease) = take(&store, &pool).await;
    store.release(&lease, None);
    let (_, lease) = take(&store, &pool).await;
    assert!(matches!(ask(&store, &pool).await, Acquired::TrialRunning), "one without a verdict is handed on");
    store.succeed(&lease);
    assert_eq!(picks(&store, &pool, 3).await.len(), 3);
}

#[tokio::test]
async fn a_trial_that_outlives_the_failure_lets_others_in() {
    let (store, pool) = (alone(), pool(&["a", "a"]));
    fail(&store, &pool, &refused(&Cooldowns::default())).await;
    store.clock().advance(SECOND);
    let (_, slow) = take(&store, &pool).await;
    store.clock().advance(SECOND);
    let (_, second) = take(&store, &pool).await;
    store.succeed(&slow);
    assert_eq!(picks(&store, &pool, 2).await.len(), 2, "its answer counts though another has the trial");
    store.release(&second, None);
}

#[tokio::test]
async fn a_time_that_the_tenant_has_set_is_obeyed() {
    let (store, pool) = (alone(), pool(&["a"]));
    let cooldowns = Cooldowns { connection: Some(20 * SECOND), ..Cooldowns::default() };
    fail(&store, &pool, &refused(&cooldowns)).await;
    store.clock().advance(5 * SECOND);
    let (left, _) = first_back(&store, &pool).await;
    assert!(left > 14 * SECOND, "{left:?}");
    store.clock().advance(15 * SECOND);
    take(&store, &pool).await;

    let without = Arc::new(Roster {
        id: Uuid::new_v4(),
        last_resort: false,
        ..(*pool_of(Uuid::new_v4(), &["a"])).clone()
    });
    fail(&store, &without, &refused(&Cooldowns::default())).await;
    store.clock().advance(5 * SECOND);
    let (left, _) = first_back(&store, &without).await;
    assert!(left > 4 * SECOND, "without a last resort: {left:?}");
}

#[tokio::test]
async fn an_operator_and_a_health_check_end_it() {
    for change in [Override::Clear, Override::Recover] {
        let (store, pool) = (alone(), pool(&["a", "a"]));
        fail(&store, &pool, &refused(&Cooldowns::default())).await;
        store.override_cooldown(&pool, &pool.members[1], change).await;
        assert_eq!(cooling(&store, &pool).await, [None, None]);
        assert_eq!(picks(&store, &pool, 2).await.len(), 2);
    }
}

/// It may have another way there than this replica.
#[tokio::test]
async fn a_client_that_calls_by_itself_gets_what_is_left() {
    let (store, pool) = (alone(), pool(&["a", "b"]));
    fail(&store, &pool, &refused(&Cooldowns::default())).await;
    let held = async || match ask_for(&store, &pool, Some(30 * SECOND)).await {
        Acquired::Granted { index, .. } => index,
        other => panic!("nothing granted: {other:?}"),
    };
    assert_eq!([held().await, held().await], [1, 1]);
    fail(&store, &pool, &refused(&Cooldowns::default())).await;
    held().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_cannot_reach_serves_the_others() {
    let (replicas, pool) = (replicas(2).await, pool(&["a", "a", "b"]));
    fail(&replicas[0], &pool, &refused(&Cooldowns::default())).await;
    assert_eq!(picks(&replicas[0], &pool, 2).await, [2, 2]);
    let mut all = picks(&replicas[1], &pool, 3).await;
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2]);
    assert_eq!(cooling(&replicas[1], &pool).await, [None; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_most_cannot_reach_is_known_to_all() {
    let (replicas, pool) = (replicas(3).await, pool(&["a", "a", "b"]));
    let cooldown = refused(&Cooldowns::default());
    // Until the last one listens, words pass it by.
    eventually(PATIENCE, async || {
        for replica in &replicas[..2] {
            replica.override_cooldown(&pool, &pool.members[0], Override::Clear).await;
            fail_late(replica, &pool, &cooldown).await;
        }
        sleep(Duration::from_millis(50)).await;
        match cooling(&replicas[2], &pool).await[..] {
            [Some(ErrorClass::Connection), Some(ErrorClass::Connection), None] => Ok(()),
            ref other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(picks(&replicas[2], &pool, 2).await, [2, 2]);
    // One that is served again tells those who only know it by word.
    replicas[0].clock().advance(40 * SECOND);
    while serve(&replicas[0], &pool).await == 2 {}
    until_cooling(&replicas[2], &pool, false).await;
    assert_eq!(cooling(&replicas[1], &pool).await[0], Some(ErrorClass::Connection), "by what it has seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_fails_where_others_are_served_says_so_and_does_not_count() {
    let options = patient(Redis::shared().await.url());
    let (sick, of_sick) = replica(&options).await;
    let (well, of_well) = replica(&options).await;
    let (third, _) = replica(&options).await;
    let pool = pool(&["a", "a"]);
    let cooldown = refused(&Cooldowns::default());
    let began = Instant::now();
    while !sick.is_cut_off() {
        assert!(began.elapsed() < PATIENCE, "it never says so");
        sick.clock().advance(SECOND);
        if let Acquired::Granted { lease, .. } = ask(&sick, &pool).await {
            sick.fail(&lease.attempt(), &cooldown).await;
            sick.release(&lease, None);
        }
        // Somebody doubts the address: what is served is told.
        serve(&well, &pool).await;
        sleep(Duration::from_millis(20)).await;
    }
    // With one more that fails it would be most, if its word counted and nobody had been served.
    fail(&third, &pool, &cooldown).await;
    for _ in 0..20 {
        serve(&well, &pool).await;
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(cooling(&well, &pool).await, [None, None]);

    // A trial of a member is left to others.
    let change = Override::Set { duration: Duration::from_millis(1), class: ErrorClass::ServerError };
    for member in pool.members.iter() {
        well.override_cooldown(&pool, member, change).await;
    }
    let (_, one) = take_any(&well, &pool).await;
    let (_, other) = take_any(&sick, &pool_of(pool.tenant, &["z"])).await;
    of_well.heartbeat().await.unwrap();
    of_sick.heartbeat().await.unwrap();
    well.release(&one, None);
    sick.clock().advance(SECOND);
    assert!(!matches!(ask(&sick, &pool).await, Acquired::Granted { .. }), "it takes a trial");
    assert_eq!(picks(&well, &pool, 2).await.len(), 2);
    // An address that answers ends it.
    sick.succeed(&other);
    assert!(!sick.is_cut_off());
}

/// Takes one as soon as there is one.
async fn take_any(store: &ReachableStore, pool: &Arc<Roster>) -> (usize, Lease) {
    let end = Instant::now() + PATIENCE;
    loop {
        match ask(store, pool).await {
            Acquired::Granted { index, lease } => return (index, lease),
            other => assert!(Instant::now() < end, "{other:?}"),
        }
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cooldown_that_is_cleared_is_cleared_everywhere() {
    let (replicas, pool) = (replicas(2).await, pool(&["a", "b"]));
    fail(&replicas[0], &pool, &refused(&Cooldowns::default())).await;
    until_cooling(&replicas[0], &pool, true).await;
    eventually(PATIENCE, async || {
        // Until the other listens, words pass it by.
        replicas[1].override_cooldown(&pool, &pool.members[0], Override::Clear).await;
        sleep(Duration::from_millis(50)).await;
        match cooling(&replicas[0], &pool).await[0] {
            None => Ok(()),
            class => Err(format!("{class:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_replica_none_of_whose_addresses_answers_is_cut_off() {
    let (store, pool) = (alone(), pool(&["a", "b"]));
    let cooldown = refused(&Cooldowns::default());
    for _ in 0..2 {
        fail(&store, &pool, &cooldown).await;
    }
    assert!(!store.is_cut_off(), "a moment's trouble");
    store.clock().advance(2 * SECOND);
    fail(&store, &pool, &cooldown).await;
    assert!(store.is_cut_off());
    store.clock().advance(2 * SECOND);
    serve(&store, &pool).await;
    assert!(!store.is_cut_off());
}
