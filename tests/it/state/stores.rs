//! The two state stores, one suite: what holds in memory holds on Redis.

use crate::support::{
    eventually,
    redis::Redis,
    store::{self, Store, TRIAL, asking, member, on_both_stores, ring},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rota::{
    balance::{Cooldown, ErrorClass, Gone, GoneMembers, Limits, Member, Roster, Scope, Strategy, Window},
    redis::RedisOptions,
    state::{Acquire, Acquired, Lease, MemberInspection, RedisStore},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio::task::JoinSet;
use uuid::Uuid;

on_both_stores!(
    turns_are_exact_under_concurrency,
    two_of_four_cooling_is_never_all_cooling_and_never_skewed,
    when_all_cooldowns_end_at_once_nobody_is_refused,
    a_member_that_has_failed_is_not_given_again,
    a_credentials_failure_concerns_every_pool_that_uses_it,
    a_trial_is_handed_on_without_a_verdict,
    a_trial_that_never_reports_expires,
    in_flight_counts_follow_the_leases,
    counts_are_of_what_is_held_and_never_negative,
    failures_in_a_row_trip_together,
    a_trial_that_lasts_is_joined,
    a_pool_that_cools_by_a_guess_has_a_last_resort,
    what_is_gone_is_forgotten_and_stays_so,
);

/// Redis forgets by itself; a test cannot let 30 days pass there.
#[tokio::test]
async fn memory_forgets_a_pool_that_nobody_calls_for_a_month() {
    let store = Store::memory();
    let (old, young) = (pool(3), pool(3));
    let turn = async |pool: &Arc<Roster>| {
        let (index, lease) = granted(&store, pool).await;
        store.release(&lease, None);
        index
    };
    assert_eq!([turn(&old).await, turn(&young).await], [0, 0]);
    for _ in 0..31 {
        store.pass(Duration::from_secs(24 * 3600));
        turn(&young).await;
    }
    let last = async |pool: &Arc<Roster>| store.inspect(pool).await.turn.last;
    assert_eq!(last(&old).await, None);
    assert!(last(&young).await.is_some());
}

fn pool(members: u32) -> Arc<Roster> {
    ring(1..=members)
}

fn cooldown(duration: Duration) -> Cooldown {
    Cooldown { max: LONG * 24, ..store::cooldown(Scope::Member, duration) }
}

const LONG: Duration = Duration::from_secs(3600);
async fn acquire(store: &Store, pool: &Arc<Roster>, tried: &[usize], trial_ttl: Duration) -> Acquired {
    let ask = Acquire { tried, trial_ttl, ..asking(pool) };
    store.together(&ask).await
}

async fn in_flight(store: &Store, pool: &Roster) -> Vec<u32> {
    store.inspect(pool).await.members.iter().map(|member| member.in_flight).collect()
}

async fn granted(store: &Store, pool: &Arc<Roster>) -> (usize, Lease) {
    store.take(pool).await
}

/// Cools the members at those indices for that long.
async fn cool(store: &Store, pool: &Arc<Roster>, indices: &[usize], duration: Duration) {
    let mut left = indices.to_vec();
    while !left.is_empty() {
        let (index, lease) = granted(store, pool).await;
        if left.contains(&index) {
            store.fail(&lease.attempt(), &cooldown(duration)).await;
            left.retain(|&other| other != index);
        }
        store.release(&lease, None);
    }
    store.flush().await;
}

async fn turns_are_exact_under_concurrency(store: Store) {
    let pool = pool(3);
    let shares = Arc::new([const { AtomicUsize::new(0) }; 3]);
    let mut callers = JoinSet::new();
    for _ in 0..16 {
        let (store, pool, shares) = (store.clone(), pool.clone(), shares.clone());
        callers.spawn(async move {
            for _ in 0..200 {
                let (index, lease) = granted(&store, &pool).await;
                shares[index].fetch_add(1, Ordering::Relaxed);
                store.release(&lease, None);
            }
        });
    }
    callers.join_all().await;
    let shares: Vec<_> = shares.iter().map(|share| share.load(Ordering::Relaxed)).collect();
    assert_eq!(shares.iter().sum::<usize>(), 3200);
    assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1, "{shares:?}");
}

async fn two_of_four_cooling_is_never_all_cooling_and_never_skewed(store: Store) {
    let pool = pool(4);
    cool(&store, &pool, &[0, 1], LONG).await;
    let shares = Arc::new([const { AtomicUsize::new(0) }; 4]);
    let left = Arc::new(AtomicUsize::new(10_000));
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let (store, pool, shares, left) = (store.clone(), pool.clone(), shares.clone(), left.clone());
        callers.spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            {
                let (index, lease) = granted(&store, &pool).await;
                shares[index].fetch_add(1, Ordering::Relaxed);
                store.release(&lease, None);
            }
        });
    }
    callers.join_all().await;
    let shares: Vec<_> = shares.iter().map(|share| share.load(Ordering::Relaxed)).collect();
    assert_eq!(shares, [0, 0, 5000, 5000]);
}

async fn when_all_cooldowns_end_at_once_nobody_is_refused(store: Store) {
    let pool = pool(4);
    let ends = Duration::from_millis(300);
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(granted(&store, &pool).await.1);
    }
    for lease in &leases {
        store.fail(&lease.attempt(), &cooldown(ends)).await;
        store.release(lease, None);
    }
    let Acquired::Exhausted { first_back: Some((left, ErrorClass::RateLimited)) } =
        acquire(&store, &pool, &[], TRIAL).await
    else {
        panic!("all are cooling");
    };
    assert!(left <= ends && left > ends / 3, "{left:?}");
    tokio::time::sleep(ends).await;

    let trials = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let (store, pool, trials) = (store.clone(), pool.clone(), trials.clone());
        callers.spawn(async move {
            loop {
                match acquire(&store, &pool, &[], TRIAL).await {
                    Acquired::Granted { lease, .. } => {
                        if lease.trial {
                            trials.fetch_add(1, Ordering::Relaxed);
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                        store.succeed(&lease);
                        store.release(&lease, None);
                        return;
                    }
                    Acquired::TrialRunning => tokio::time::sleep(Duration::from_millis(5)).await,
                    Acquired::Exhausted { .. } | Acquired::TooManyLeases { .. } => {
                        panic!("refused while trials run")
                    }
                }
            }
        });
    }
    callers.join_all().await;
    assert_eq!(trials.load(Ordering::Relaxed), 4, "one trial a member");
}

async fn a_member_that_has_failed_is_not_given_again(store: Store) {
    let pool = pool(3);
    let (first, lease) = granted(&store, &pool).await;
    let failure = cooldown(LONG);
    // Carried by the acquire that follows: one step for both.
    let ask = Acquire { tried: &[first], failed: Some((&lease, &failure)), ..asking(&pool) };
    assert!(matches!(store.together(&ask).await, Acquired::Granted { index, .. } if index != first));
    for _ in 0..20 {
        assert_ne!(granted(&store, &pool).await.0, first);
    }
    let seen = store.inspect(&pool).await;
    let (left, class) = seen.members[first].cooling(seen.now).unwrap();
    assert!(class == ErrorClass::RateLimited && left > LONG * 59 / 60, "{left:?}");
    let all: Vec<_> = (0..3).collect();
    assert!(matches!(acquire(&store, &pool, &all, TRIAL).await, Acquired::Exhausted { first_back: None }));
}

async fn a_credentials_failure_concerns_every_pool_that_uses_it(store: Store) {
    let one = pool(2);
    let other = Arc::new(Roster { id: Uuid::new_v4(), ..(*one).clone() });
    let strangers = pool(2);
    let (index, lease) = granted(&store, &one).await;
    let failure = Cooldown {
        class: ErrorClass::Authentication,
        scope: Scope::Credential,
        hinted: false,
        ..cooldown(LONG)
    };
    store.fail(&lease.attempt(), &failure).await;
    for _ in 0..4 {
        assert_ne!(granted(&store, &other).await.0, index);
    }
    let seen = store.inspect(&other).await;
    assert_eq!(seen.members[index].cooling(seen.now).unwrap().1, ErrorClass::Authentication);
    let served = [granted(&store, &strangers).await.0, granted(&store, &strangers).await.0];
    assert_eq!(served, [0, 1], "another tenant's credential of the same name is another credential");
}

async fn trial(store: &Store, pool: &Arc<Roster>, ttl: Duration) -> Lease {
    let due = eventually(Duration::from_secs(5), async || match acquire(store, pool, &[], ttl).await {
        Acquired::Granted { lease, .. } => Ok(lease),
        other => Err(format!("{other:?}")),
    });
    let lease = due.await;
    assert!(lease.trial);
    lease
}

async fn a_trial_is_handed_on_without_a_verdict(store: Store) {
    let pool = pool(1);
    cool(&store, &pool, &[0], Duration::from_millis(50)).await;
    let first = trial(&store, &pool, TRIAL).await;
    assert!(matches!(acquire(&store, &pool, &[], TRIAL).await, Acquired::TrialRunning));
    store.release(&first, None);
    store.flush().await;
    let second = trial(&store, &pool, TRIAL).await;
    store.succeed(&second);
    store.release(&second, None);
    store.flush().await;
    assert!(!granted(&store, &pool).await.1.trial, "it is available again");
}

async fn a_trial_that_never_reports_expires(store: Store) {
    let pool = pool(1);
    cool(&store, &pool, &[0], Duration::from_millis(50)).await;
    trial(&store, &pool, Duration::from_millis(100)).await;
    assert!(matches!(acquire(&store, &pool, &[], TRIAL).await, Acquired::TrialRunning));
    trial(&store, &pool, TRIAL).await;
}

async fn in_flight_counts_follow_the_leases(store: Store) {
    let pool = pool(2);
    let mut leases = Vec::new();
    for _ in 0..5 {
        leases.push(granted(&store, &pool).await.1);
    }
    let counts = async || -> Vec<u32> {
        store.flush().await;
        in_flight(&store, &pool).await
    };
    assert_eq!(counts().await, [3, 2]);
    for lease in &leases {
        store.release(lease, None);
    }
    assert_eq!(counts().await, [0, 0]);
}

async fn counts_are_of_what_is_held_and_never_negative(store: Store) {
    for seed in 0..30 {
        let mut random = StdRng::seed_from_u64(seed);
        let strategy = Strategy::ALL[random.random_range(0..Strategy::ALL.len())];
        let weighted = |ordinal| Member { weight: ordinal, ..member(ordinal) };
        let members = (1..=3).map(weighted).collect();
        let pool = Arc::new(Roster { strategy, members, ..(*pool(3)).clone() });
        let (mut held, mut over) = (Vec::<(usize, Lease)>::new(), Vec::<Lease>::new());
        for step in 0..40 {
            if held.is_empty() || random.random() {
                held.push(granted(&store, &pool).await);
            } else {
                let (_, lease) = held.swap_remove(random.random_range(0..held.len()));
                store.release(&lease, None);
                over.push(lease);
            }
            let expected = [0, 1, 2].map(|own| held.iter().filter(|(index, _)| *index == own).count() as u32);
            assert_eq!(in_flight(&store, &pool).await, expected, "seed {seed}, step {step}, {strategy:?}");
        }
        for (_, lease) in &held {
            store.release(lease, None);
        }
        // Released once more, which no caller does: nothing wraps.
        for lease in &over {
            store.release(lease, None);
        }
        assert_eq!(in_flight(&store, &pool).await, [0; 3]);
    }
}

async fn failures_in_a_row_trip_together(store: Store) {
    let pool = pool(1);
    let rule = Cooldown { trip_after: 3, hinted: false, ..cooldown(LONG) };
    for failures in [2, 3] {
        for _ in 0..failures {
            let (_, lease) = granted(&store, &pool).await;
            store.fail(&lease.attempt(), &rule).await;
            store.release(&lease, None);
        }
        if failures == 2 {
            let (_, lease) = granted(&store, &pool).await;
            store.succeed(&lease);
            store.release(&lease, None);
            store.flush().await;
        }
    }
    assert!(matches!(acquire(&store, &pool, &[], TRIAL).await, Acquired::Exhausted { first_back: Some(_) }));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_on_one_redis_share_turns_and_cooldowns() {
    let (one, two) = (Store::redis().await, Store::redis().await);
    let pool = pool(4);
    let mut served = Vec::new();
    for turn in 0..8 {
        served.push(granted(if turn % 2 == 0 { &one } else { &two }, &pool).await.0);
    }
    assert_eq!(served, [0, 1, 2, 3, 0, 1, 2, 3]);
    cool(&one, &pool, &[2], LONG).await;
    for _ in 0..8 {
        assert_ne!(granted(&two, &pool).await.0, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acquire_is_one_command_and_survives_the_loss_of_the_scripts() {
    let server = Redis::start().await;
    let store = Store::redis_at(server.url()).await;
    let pool = pool(4);
    granted(&store, &pool).await;
    server.command(&["CONFIG", "RESETSTAT"]).await;
    for _ in 0..50 {
        granted(&store, &pool).await;
    }
    let stats = server.command(&["INFO", "commandstats"]).await;
    // A heartbeat may fall among them.
    let calls = |command: &str| -> u32 {
        let count =
            stats.split(&format!("cmdstat_{command}:calls=")).nth(1).and_then(|rest| rest.split(',').next());
        count.map_or(0, |count| count.parse().unwrap())
    };
    assert!((50..=51).contains(&calls("evalsha")) && calls("eval") <= 1, "{stats}");

    server.command(&["SCRIPT", "FLUSH"]).await;
    let (_, lease) = granted(&store, &pool).await;
    server.command(&["SCRIPT", "FLUSH"]).await;
    store.release(&lease, None);
    store.flush().await;
    let held: u32 = in_flight(&store, &pool).await.iter().sum();
    assert_eq!(held, 51, "the release was written too");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_grants_to_a_caller_that_has_gone_is_given_back() {
    let store = Store::redis().await;
    let pool = pool(2);
    for _ in 0..50 {
        let ask = asking(&pool);
        let mut acquiring = store.acquire(&ask);
        // The command is on its way after the first poll, and rarely back already.
        if let Poll::Ready(answer) = futures::poll!(acquiring.as_mut())
            && let Acquired::Granted { lease, .. } = answer.acquired
        {
            store.release(&lease, None);
        }
        drop(acquiring);
    }
    eventually(Duration::from_secs(5), async || {
        let held: u32 = in_flight(&store, &pool).await.iter().sum();
        if held == 0 { Ok(()) } else { Err(format!("{held} are held")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_an_acquire_fails_fast_and_comes_back_by_itself() {
    let mut server = Redis::start().await;
    let store = RedisStore::connect(&RedisOptions::new(server.url())).await.unwrap();
    let pool = pool(2);
    store.acquire(&asking(&pool)).await.unwrap();
    server.kill9();
    let ask = || asking(&pool);
    eventually(Duration::from_secs(5), async || {
        let began = std::time::Instant::now();
        let answer = store.acquire(&ask()).await;
        match answer {
            Err(_) if began.elapsed() < Duration::from_millis(100) => Ok(()),
            other => Err(format!("{other:?} after {:?}", began.elapsed())),
        }
    })
    .await;
    server.restart().await;
    eventually(Duration::from_secs(5), async || {
        store.acquire(&ask()).await.map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_one_replica_announces_is_heard_by_the_other() {
    let (one, two) = (Store::redis().await, Store::redis().await);
    let (one, two) = (one.server().change_feed(), two.server().change_feed());
    let hears = async || tokio::time::timeout(Duration::from_secs(10), two.heard()).await;
    hears().await.expect("the first look, when it begins to listen");
    for _ in 0..3 {
        one.announce().await;
        hears().await.expect("word of the change");
    }
}

async fn a_trial_that_lasts_is_joined(store: Store) {
    let pool = pool(1);
    cool(&store, &pool, &[0], Duration::from_secs(10)).await;
    store.pass(Duration::from_secs(11));
    let (_, trial) = granted(&store, &pool).await;
    assert!(trial.trial);
    assert!(matches!(store.ask(&pool).await, Acquired::TrialRunning));
    store.pass(Duration::from_secs(2));
    let (_, joined) = granted(&store, &pool).await;
    assert!(joined.trial && !joined.last_resort);
    let elsewhere = Acquire { is_last: false, ..asking(&pool) };
    assert!(matches!(store.together(&elsewhere).await, Acquired::TrialRunning), "it can go to another model");
    store.succeed(&joined);
    for lease in [trial, joined] {
        store.release(&lease, None);
    }
    store.flush().await;
    let (_, next) = granted(&store, &pool).await;
    assert!(!next.trial);
}

async fn a_pool_that_cools_by_a_guess_has_a_last_resort(store: Store) {
    let pool = pool(2);
    let guess = Cooldown {
        class: ErrorClass::ServerError,
        hinted: false,
        is_guess: true,
        max: LONG,
        ..cooldown(LONG)
    };
    for _ in 0..2 {
        let (_, lease) = granted(&store, &pool).await;
        store.fails(&lease, &guess).await;
        store.pass(Duration::from_millis(100));
    }
    let Acquired::Exhausted { first_back: Some((wait, _)) } = store.ask(&pool).await else {
        panic!("it is not due yet");
    };
    assert!(wait <= Duration::from_secs(1), "{wait:?}");
    // A second later one goes through, to the one that failed first, and no other.
    store.pass(Duration::from_secs(2));
    let elsewhere = Acquire { is_last: false, ..asking(&pool) };
    assert!(matches!(store.together(&elsewhere).await, Acquired::Exhausted { .. }));
    let (index, lease) = granted(&store, &pool).await;
    assert_eq!((index, lease.trial, lease.last_resort), (0, true, true));
    assert!(matches!(store.ask(&pool).await, Acquired::Exhausted { .. }));
    store.fails(&lease, &guess).await;
    store.pass(Duration::from_secs(2));
    // That one serves: so do more and more, until it is back.
    for _ in 0..3 {
        let (index, lease) = granted(&store, &pool).await;
        assert_eq!((index, lease.last_resort), (1, true));
        store.succeed(&lease);
        store.release(&lease, None);
        store.flush().await;
        store.pass(Duration::from_secs(1));
    }
    let (index, lease) = granted(&store, &pool).await;
    assert_eq!((index, lease.trial), (1, false));
    // What the provider has named is obeyed.
    store.fails(&lease, &cooldown(LONG)).await;
    store.pass(Duration::from_secs(2));
    let (index, lease) = granted(&store, &pool).await;
    assert_eq!((index, lease.last_resort), (0, true));
    store.fails(&lease, &cooldown(LONG)).await;
    store.pass(Duration::from_secs(2));
    assert!(matches!(store.ask(&pool).await, Acquired::Exhausted { .. }));
}

async fn what_is_gone_is_forgotten_and_stays_so(store: Store) {
    let limits = Limits { requests_per_minute: 1_000, tokens_per_minute: 1_000, ..Limits::default() };
    let members = ring(1..=3).members.iter().map(|member| Member { limits, ..member.clone() }).collect();
    let pool = Arc::new(Roster { members, ..(*ring([1])).clone() });
    let mut leases = Vec::new();
    for scope in [Scope::Member, Scope::Credential, Scope::Member] {
        let (_, lease) = granted(&store, &pool).await;
        store.fail(&lease.attempt(), &Cooldown { scope, ..cooldown(LONG) }).await;
        leases.push(lease);
    }
    let [first, second] = [0, 1].map(|index| pool.members[index].clone());
    let keys = vec![first.key.clone(), second.key.clone()];
    let left = GoneMembers { pool: pool.id, keys, records: vec![first.key.record.clone()] };
    let credentials = vec![second.credential.clone()];
    let gone = Gone { tenant: pool.tenant, members: vec![left], credentials, ..Gone::default() };
    store.forget(&gone).await;
    // Their calls end: what they have used and that they served brings nothing back.
    for lease in &leases {
        store.succeed(lease);
        store.release(lease, Some(5));
    }
    store.flush().await;
    let seen = store.inspect(&pool).await.members;
    let known = |index: usize| {
        let MemberInspection { own, credential, requests, tokens, .. } = &seen[index];
        (own.is_some(), credential.is_some(), *requests != Window::default(), *tokens != Window::default())
    };
    assert_eq!([known(0), known(1)], [(false, false, false, false); 2]);
    assert_eq!(known(2), (true, false, true, true), "whoever stays is remembered");
    store.forget(&Gone { tenant: pool.tenant, pools: vec![pool.id], whole: true, ..Gone::default() }).await;
    assert_eq!(store.inspect(&pool).await.members, vec![MemberInspection::default(); 3]);
}
