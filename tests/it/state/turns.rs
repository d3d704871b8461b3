//! Turns in advance: what they save, how far they may be from exact ones, and that nobody who cools is among them.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rota::{
    balance::{Cooldown, ErrorClass, Limits, Member, Pool, Scope, Strategy},
    scripted::{Script, Upstream},
    state::{Acquired, Lease, RedisOptions, Switch},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::support::{
    eventually,
    postgres::Postgres,
    redis::{Redis, patient},
    rota::Rota,
    store::{Store, ring},
    world::Scene,
};

/// The longest run in these tests.
const RUN: usize = 32;
/// Who picks at a time on one replica: enough that runs are taken.
const PICKERS: usize = 8;
const SOON: Duration = Duration::from_secs(5);

/// A replica that may hold turns, and the commands that it has sent.
struct Replica {
    store: Store,
    commands: Arc<Mutex<HashMap<&'static str, u64>>>,
}

impl Replica {
    async fn start(redis: &Redis, turns: usize) -> Self {
        let commands = Arc::new(Mutex::new(HashMap::new()));
        let counted = commands.clone();
        let options = RedisOptions {
            turns: turns as u32,
            watch: Some(Arc::new(move |name, _, _| *counted.lock().entry(name).or_default() += 1)),
            ..patient(redis.url())
        };
        Self { store: Store::redis_with(&options).await, commands }
    }

    fn acquires(&self) -> u64 {
        self.commands.lock().get("acquire").copied().unwrap_or_default()
    }

    /// Picks with several pickers until `done`; how often each member served.
    async fn load(&self, pool: &Arc<Pool>, done: impl Fn(u64) -> bool + Clone + Send + 'static) -> Vec<u64> {
        let served = Arc::new((0..pool.members.len()).map(|_| AtomicU64::new(0)).collect::<Vec<_>>());
        let total = Arc::new(AtomicU64::new(0));
        let mut pickers = JoinSet::new();
        for _ in 0..PICKERS {
            let (store, pool, served, total) =
                (self.store.clone(), pool.clone(), served.clone(), total.clone());
            let done = done.clone();
            pickers.spawn(async move {
                while !done(total.fetch_add(1, Ordering::Relaxed)) {
                    let (index, lease) = store.take(&pool).await;
                    served[index].fetch_add(1, Ordering::Relaxed);
                    store.release(&lease, None);
                    tokio::task::yield_now().await;
                }
            });
        }
        pickers.join_all().await;
        served.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Picks until turns are held, so that the next picks ask nobody.
    async fn warm(&self, pool: &Arc<Pool>) {
        let (mut picks, mut asked) = (0_u64, self.acquires());
        let end = Instant::now() + SOON;
        while picks < 8 {
            assert!(Instant::now() < end, "no turns are taken in advance");
            let (_, lease) = self.store.take(pool).await;
            self.store.release(&lease, None);
            let now = self.acquires();
            picks = if now == asked { picks + 1 } else { 0 };
            asked = now;
        }
    }
}

fn pool(strategy: Strategy, weights: &[u32]) -> Arc<Pool> {
    let ring = ring(1..=u32::try_from(weights.len()).unwrap());
    let weighted = |(member, &weight): (&Member, &u32)| Member { weight, ..member.clone() };
    let members = ring.members.iter().zip(weights).map(weighted).collect();
    Arc::new(Pool { strategy, members, ..(*ring).clone() })
}

fn cooldown(scope: Scope, duration: Duration) -> Cooldown {
    Cooldown {
        class: ErrorClass::RateLimited,
        scope,
        duration,
        max: duration,
        grows: false,
        hinted: true,
        trip_after: 1,
    }
}

async fn take_of(store: &Store, pool: &Arc<Pool>, index: usize) -> Lease {
    loop {
        let (taken, lease) = store.take(pool).await;
        if taken == index {
            return lease;
        }
        store.release(&lease, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_a_run_is_one_command_and_shares_stay_even() {
    let redis = Redis::start().await;
    for (strategy, weights) in
        [(Strategy::RoundRobin, vec![1, 1, 1, 1]), (Strategy::WeightedRoundRobin, vec![5, 1, 1, 3])]
    {
        let replica = Replica::start(&redis, RUN).await;
        let pool = pool(strategy, &weights);
        replica.warm(&pool).await;
        let before = replica.acquires();
        let served = replica.load(&pool, |count| count >= 20_000).await;
        let asked = replica.acquires() - before;
        assert!(asked * 10 <= 20_000, "{asked} commands");
        let total: u32 = weights.iter().sum();
        for (count, weight) in served.iter().zip(&weights) {
            let ideal = 20_000.0 * f64::from(*weight) / f64::from(total);
            assert!((*count as f64 - ideal).abs() <= (RUN + 2) as f64, "{served:?} of {weights:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_over_replicas_are_within_what_all_of_them_may_hold() {
    let redis = Redis::start().await;
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Arc::new(Replica::start(&redis, RUN).await));
    }
    let pool = pool(Strategy::RoundRobin, &[1; 4]);
    for round in 0..10 {
        // Each replica has its own pace.
        let mut loads = JoinSet::new();
        for (place, replica) in replicas.iter().cloned().enumerate() {
            let pool = pool.clone();
            let most = 500 + 1_500 * ((round + place) as u64 % 3);
            loads.spawn(async move { replica.load(&pool, move |count| count >= most).await });
        }
        let all = loads.join_all().await;
        let served: Vec<u64> = (0..4).map(|member| all.iter().map(|one| one[member]).sum()).collect();
        // A window begins and ends with up to a run on each replica.
        let bound = (replicas.len() * RUN * 2) as u64;
        let apart = served.iter().max().unwrap() - served.iter().min().unwrap();
        assert!(apart <= bound, "{served:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_and_exact_replicas_ask_for_every_pick() {
    let redis = Redis::start().await;
    let pool = pool(Strategy::RoundRobin, &[1; 3]);
    let exact = Replica::start(&redis, 1).await;
    for picks in 1..=10 {
        let (_, lease) = exact.store.take(&pool).await;
        exact.store.release(&lease, None);
        assert_eq!(exact.acquires(), picks);
    }
    exact.load(&pool, |count| count >= 1_000).await;
    assert!(exact.acquires() <= 1_010, "{}", exact.acquires());

    let idle = Replica::start(&redis, RUN).await;
    for picks in 1..=10 {
        let (_, lease) = idle.store.take(&pool).await;
        idle.store.release(&lease, None);
        assert_eq!(idle.acquires(), picks);
        // Slower than a span has two: none is worth holding.
        sleep(Duration::from_millis(60)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn least_connections_and_limits_ask_for_every_pick() {
    let redis = Redis::start().await;
    let limited = |limits: Limits| {
        let ring = ring(1..=3);
        let members = ring.members.iter().map(|member| Member { limits, ..member.clone() }).collect();
        Arc::new(Pool { members, ..(*ring).clone() })
    };
    let limits = Limits::default();
    let pools = [
        pool(Strategy::LeastConnections, &[1; 3]),
        limited(Limits { requests_per_minute: 1_000_000, ..limits }),
        limited(Limits { tokens_per_minute: 1_000_000, ..limits }),
        limited(Limits { max_concurrency: 1_000, ..limits }),
    ];
    for pool in pools {
        let replica = Replica::start(&redis, RUN).await;
        replica.load(&pool, |count| count >= 500).await;
        assert_eq!(replica.acquires(), 500, "{pool:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cools_is_served_by_nobody_who_holds_turns_of_it() {
    let redis = Redis::start().await;
    let (one, other) = (Replica::start(&redis, RUN).await, Replica::start(&redis, RUN).await);
    let long = Duration::from_secs(600);
    for scope in [Scope::Member, Scope::Credential] {
        let pool = pool(Strategy::RoundRobin, &[1; 4]);
        // Another of the tenant's models with the same credentials.
        let sister = Arc::new(Pool { id: uuid::Uuid::new_v4(), ..(*pool).clone() });
        for pool in [&pool, &sister] {
            one.warm(pool).await;
            other.warm(pool).await;
        }
        let lease = take_of(&one.store, &pool, 2).await;
        one.store.fail(&lease, &cooldown(scope, long)).await;
        // Here at once.
        let concerned: &[_] = if scope == Scope::Member { &[&pool] } else { &[&pool, &sister] };
        for pool in concerned {
            for _ in 0..2 * RUN {
                let (index, lease) = one.store.take(pool).await;
                assert_ne!(index, 2);
                one.store.release(&lease, None);
            }
        }
        // Elsewhere as soon as the word is there.
        for pool in concerned {
            let mut served_well = 0;
            let end = Instant::now() + SOON;
            while served_well < 2 * RUN {
                assert!(Instant::now() < end, "the word did not come");
                let (index, lease) = other.store.take(pool).await;
                other.store.release(&lease, None);
                served_well = if index == 2 { 0 } else { served_well + 1 };
            }
        }
        one.store.release(&lease, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_cooldown_takes_turns_back_and_clearing_brings_them() {
    let redis = Redis::start().await;
    let replica = Replica::start(&redis, RUN).await;
    let pool = pool(Strategy::RoundRobin, &[1; 3]);
    replica.warm(&pool).await;
    let set = Switch::Set { duration: Duration::from_secs(600), class: ErrorClass::RateLimited };
    replica.store.switch(&pool, &pool.members[1], set).await;
    let served = replica.load(&pool, |count| count >= 3_000).await;
    assert_eq!(served[1], 0);
    replica.store.switch(&pool, &pool.members[1], Switch::Clear).await;
    let served = replica.load(&pool, |count| count >= 3_000).await;
    assert!(served[1] >= 900, "{served:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_cooldown_ends_one_trial_goes_over_all_replicas() {
    let redis = Redis::start().await;
    let replicas = [Replica::start(&redis, RUN).await, Replica::start(&redis, RUN).await];
    let pool = pool(Strategy::RoundRobin, &[1; 3]);
    for replica in &replicas {
        replica.warm(&pool).await;
    }
    let lease = take_of(&replicas[0].store, &pool, 0).await;
    let short = Duration::from_millis(300);
    replicas[0].store.fail(&lease, &cooldown(Scope::Member, short)).await;
    replicas[0].store.release(&lease, None);
    // The one trial is held open: whoever else gets that member would be a second one.
    let (trial, over) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
    let mut pickers = JoinSet::new();
    for replica in &replicas {
        for _ in 0..PICKERS {
            let (store, pool, trial, over) =
                (replica.store.clone(), pool.clone(), trial.clone(), over.clone());
            pickers.spawn(async move {
                let mut seconds = 0;
                while !over.load(Ordering::Relaxed) {
                    let (index, lease) = store.take(&pool).await;
                    if index == 0 && lease.trial {
                        assert!(trial.lock().replace(lease).is_none(), "a second trial");
                        continue;
                    }
                    // One that was picked before the word of the cooldown came.
                    seconds += u64::from(index == 0 && trial.lock().is_some());
                    store.release(&lease, None);
                    tokio::task::yield_now().await;
                }
                seconds
            });
        }
    }
    eventually(SOON, async || trial.lock().as_ref().map(|_| ()).ok_or_else(|| "no trial".to_owned())).await;
    sleep(Duration::from_millis(200)).await;
    over.store(true, Ordering::Relaxed);
    assert_eq!(pickers.join_all().await.iter().sum::<u64>(), 0, "calls beside the trial");
    // It serves: everybody has it again.
    let trial = trial.lock().take().unwrap();
    replicas[0].store.succeed(&trial);
    replicas[0].store.release(&trial, None);
    replicas[0].store.flush().await;
    for replica in &replicas {
        let served = replica.load(&pool, |count| count >= 3_000).await;
        assert!(served[0] >= 800, "{served:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_is_told_and_comes_to_nothing() {
    let redis = Redis::start().await;
    let replica = Replica::start(&redis, RUN).await;
    let pool = pool(Strategy::RoundRobin, &[1; 4]);
    replica.warm(&pool).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(replica.store.take(&pool).await);
    }
    replica.store.flush().await;
    let in_flight = async || {
        let seen = replica.store.inspect(&pool).await;
        seen.members.iter().map(|member| member.in_flight).collect::<Vec<_>>()
    };
    let expected: Vec<u32> =
        (0..4).map(|member| held.iter().filter(|(index, _)| *index == member).count() as u32).collect();
    assert_eq!(in_flight().await, expected);
    for (_, lease) in &held {
        replica.store.release(lease, None);
    }
    replica.store.flush().await;
    assert_eq!(in_flight().await, [0; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_come_and_go_are_served_from_the_next_pick_on() {
    let redis = Redis::start().await;
    let replica = Replica::start(&redis, RUN).await;
    let wide = pool(Strategy::RoundRobin, &[1; 4]);
    replica.warm(&wide).await;
    let narrow = Arc::new(Pool { members: wide.members[2..].to_vec().into(), ..(*wide).clone() });
    let mut ordinals = Vec::new();
    for _ in 0..2 * RUN {
        match replica.store.ask(&narrow).await {
            Acquired::Granted { lease, .. } => {
                ordinals.push(lease.member.ordinal);
                replica.store.release(&lease, None);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(ordinals.iter().all(|ordinal| [3, 4].contains(ordinal)), "{ordinals:?}");
}

/// Two replicas of the program under load: ten times fewer commands than calls, a key that fails is left alone, and Redis
/// may go.
#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_holds_turns_loses_no_call() {
    let mut redis = Redis::start().await;
    let upstream = Upstream::start().await.unwrap();
    let database = Postgres::shared().await.fresh_database();
    let settings = Rota::builder().redis(redis.url()).database(database).arg("--turns").arg("64");
    let (first, second) = (settings.start().await, settings.start().await);
    let scene = Scene::set(&first, &upstream, 4).await;
    let mirror = scene.through(&second).await;
    eventually(SOON, async || mirror.ask().await.map(drop).map_err(|status| status.to_string())).await;

    let load = async |seconds: f64| {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        let mut callers = JoinSet::new();
        for caller in 0..16 {
            let scene = if caller % 2 == 0 { scene.clone() } else { mirror.clone() };
            callers.spawn(async move {
                let mut calls = 0_u64;
                while Instant::now() < end {
                    scene.ask().await.unwrap();
                    calls += 1;
                }
                calls
            });
        }
        callers.join_all().await.iter().sum::<u64>()
    };
    load(0.5).await;
    let scripts = async |redis: &Redis| {
        let stats = redis.command(&["INFO", "commandstats"]).await;
        let calls = |name: &str| -> u64 {
            let line = stats.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0,");
            line.split(',').next().unwrap().parse().unwrap()
        };
        calls("cmdstat_evalsha:calls=") + calls("cmdstat_eval:calls=")
    };
    let before = scripts(&redis).await;
    let calls = load(2.0).await;
    let asked = scripts(&redis).await - before;
    assert!(asked * 4 <= calls, "{asked} commands for {calls} calls");

    // One key says 429 from now on: nobody's call fails, and it is left alone.
    upstream.script(&scene.keys[1], Script::fail_for(429, "600"));
    load(0.5).await;
    let hits = scene.hits(&upstream)[1];
    load(1.0).await;
    assert!(scene.hits(&upstream)[1] - hits <= 2, "a key that cools is called");

    redis.kill9();
    load(1.0).await;
    redis.restart().await;
    load(1.0).await;
}
