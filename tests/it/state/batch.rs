//! Callers who ask at the same moment: one command for all, and each gets what it would have got by itself. Most tests run
//! on a runtime of one thread, where it is certain who asks at the same moment.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use rota::{
    balance::{Limits, Member, MemberKey, Roster, Scope, Strategy},
    redis::RedisOptions,
    scripted::{Script, Upstream},
    state::{Acquire, Acquired, Hold, Lease},
};
use tokio::{
    task::{JoinSet, yield_now},
    time::Instant,
};

use crate::support::{
    eventually,
    postgres::Postgres,
    redis::{Redis, patient},
    rota::Rota,
    store::{self, Store, cooldown, ring},
    world::Scene,
};

/// Who asks at once.
const CALLERS: usize = 64;
const LONG: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_secs(5);

/// A replica, and how often it has asked for a pick.
struct Replica {
    store: Store,
    asked: Arc<AtomicU64>,
}

impl Replica {
    async fn start(url: String) -> Self {
        let asked = Arc::new(AtomicU64::new(0));
        let counted = asked.clone();
        let options = RedisOptions {
            watch: Some(Arc::new(move |name, _, _| {
                counted.fetch_add(u64::from(name == "acquire"), Ordering::Relaxed);
            })),
            ..patient(url)
        };
        Self { store: Store::redis_with(&options).await, asked }
    }

    /// What that many get who ask at once, and how many commands that took.
    async fn at_once(&self, pool: &Arc<Roster>, callers: usize) -> (Vec<Acquired>, u64) {
        let before = self.asked.load(Ordering::Relaxed);
        let answers = join_all((0..callers).map(|_| self.store.ask(pool))).await;
        (answers, self.asked.load(Ordering::Relaxed) - before)
    }

    async fn in_flight(&self, pool: &Roster) -> Vec<u32> {
        self.store.inspect(pool).await.members.iter().map(|member| member.in_flight).collect()
    }
}

async fn replica() -> Replica {
    Replica::start(Redis::shared().await.url()).await
}

fn granted(answers: Vec<Acquired>) -> Vec<(usize, Lease)> {
    answers
        .into_iter()
        .map(|answer| match answer {
            Acquired::Granted { index, lease } => (index, lease),
            other => panic!("nothing granted: {other:?}"),
        })
        .collect()
}

fn asking(pool: &Arc<Roster>) -> Acquire<'_> {
    Acquire { trial_ttl: LONG, ..store::asking(pool) }
}

fn indices(leases: &[(usize, Lease)]) -> Vec<usize> {
    leases.iter().map(|(index, _)| *index).collect()
}

/// With records of one length, as a catalog names them.
fn many(members: u32) -> Arc<Roster> {
    let ring = ring((1..=members).map(|place| place * 3));
    let named = |member: &Member| Member {
        key: MemberKey::new(member.key.ordinal, format!("{:016x}", member.key.ordinal)),
        ..member.clone()
    };
    let members = ring.members.iter().map(named).collect();
    Arc::new(Roster { members, ..(*ring).clone() })
}

fn with(strategy: Strategy, weights: &[u32]) -> Arc<Roster> {
    let ring = ring(1..=weights.len() as u32);
    let weighted = |(member, &weight): (&Member, &u32)| Member { weight, ..member.clone() };
    let members = ring.members.iter().zip(weights).map(weighted).collect();
    Arc::new(Roster { strategy, members, ..(*ring).clone() })
}

fn limited(members: u32, limits: Limits) -> Arc<Roster> {
    let ring = ring(1..=members);
    let members = ring.members.iter().map(|member| Member { limits, ..member.clone() }).collect();
    Arc::new(Roster { members, ..(*ring).clone() })
}

#[tokio::test]
async fn one_command_gives_each_the_turn_it_would_have_had() {
    let replica = replica().await;
    let pools = [
        ring(1..=4),
        ring([7]),
        many(300),
        with(Strategy::WeightedRoundRobin, &[5, 1, 1]),
        with(Strategy::LeastConnections, &[3, 1, 1]),
        limited(3, Limits { requests_per_minute: 1_000, ..Limits::default() }),
        limited(3, Limits { max_concurrency: 30, ..Limits::default() }),
    ];
    for pool in pools {
        // Those of a pool that is the same ask one by one.
        let alone = Arc::new(Roster { id: uuid::Uuid::new_v4(), ..(*pool).clone() });
        let mut expected = Vec::new();
        for _ in 0..CALLERS {
            expected.push(replica.store.take(&alone).await.0);
        }
        let (answers, commands) = replica.at_once(&pool, CALLERS).await;
        assert_eq!(commands, 1);
        let leases = granted(answers);
        assert_eq!(indices(&leases), expected, "{pool:?}");

        let mut held = vec![0; pool.members.len()];
        for (index, lease) in &leases {
            held[*index] += 1;
            assert!(!lease.trial && !lease.marked);
        }
        assert_eq!(replica.in_flight(&pool).await, held);
        for (_, lease) in &leases {
            replica.store.release(lease, None);
        }
        assert_eq!(replica.in_flight(&pool).await.iter().sum::<u32>(), 0);
    }
}

#[tokio::test]
async fn who_cools_has_no_turn_and_who_is_due_a_trial_has_one() {
    let replica = replica().await;
    let pool = ring(1..=3);
    replica.store.cool(&pool, &[1], LONG).await;
    let (answers, commands) = replica.at_once(&pool, CALLERS).await;
    assert_eq!(commands, 1);
    let shares = indices(&granted(answers));
    assert_eq!([0, 1, 2].map(|member| shares.iter().filter(|&&index| index == member).count()), [32, 0, 32]);

    replica.store.pass(LONG);
    let (answers, commands) = replica.at_once(&pool, CALLERS).await;
    assert_eq!(commands, 1);
    let leases = granted(answers);
    let trials: Vec<_> = leases.iter().filter(|(_, lease)| lease.trial).collect();
    assert_eq!(trials.len(), 1);
    assert_eq!(leases.iter().filter(|(index, _)| *index == 1).count(), 1, "a trial is one call's");
    assert!(leases.iter().all(|(index, lease)| *index == 1 || !lease.marked));

    // The trial is running.
    let (answers, commands) = replica.at_once(&pool, CALLERS).await;
    assert_eq!(commands, 1);
    assert!(granted(answers).iter().all(|(index, _)| *index != 1));

    let (_, trial) = trials[0];
    replica.store.succeed(trial);
    replica.store.release(trial, None);
    replica.store.flush().await;
    let (answers, commands) = replica.at_once(&pool, 3).await;
    assert_eq!(commands, 1);
    // Its record is there still: that it served is to be told.
    assert!(granted(answers).iter().all(|(index, lease)| (*index == 1) == lease.marked));
}

#[tokio::test]
async fn a_limit_is_shared_out_among_those_who_ask_at_once() {
    let replica = replica().await;
    for limits in [
        Limits { max_concurrency: 5, ..Limits::default() },
        Limits { requests_per_minute: 5, ..Limits::default() },
    ] {
        let pool = limited(2, limits);
        let (answers, commands) = replica.at_once(&pool, CALLERS).await;
        assert_eq!(commands, 1);
        let served = answers.iter().filter(|answer| matches!(answer, Acquired::Granted { .. })).count();
        assert_eq!(served, 10, "{limits:?}");
        let full = |answer: &&Acquired| matches!(answer, Acquired::Exhausted { first_back: Some(_) });
        assert_eq!(answers.iter().filter(full).count(), CALLERS - 10);
    }
}

/// A batch is bounded, so that a large pool holds up nobody.
#[tokio::test]
async fn callers_beyond_what_one_command_bears_have_another() {
    let replica = replica().await;
    let pool = with(Strategy::LeastConnections, &[1; 100]);
    let (answers, commands) = replica.at_once(&pool, CALLERS).await;
    assert_eq!(commands, 4, "of 20 callers each");
    assert_eq!(indices(&granted(answers)), (0..CALLERS).collect::<Vec<_>>());
}

#[tokio::test]
async fn where_nobody_serves_each_is_told_when_somebody_will() {
    let replica = replica().await;
    let pool = ring(1..=3);
    replica.store.cool(&pool, &[0, 1, 2], LONG).await;
    let (answers, commands) = replica.at_once(&pool, CALLERS).await;
    assert_eq!((answers.len(), commands), (CALLERS, 1));
    for answer in answers {
        match answer {
            Acquired::Exhausted { first_back: Some((left, _)) } => assert!(left <= LONG),
            other => panic!("{other:?}"),
        }
    }
    let (answers, _) = replica.at_once(&ring([]), CALLERS).await;
    assert!(answers.iter().all(|answer| matches!(answer, Acquired::Exhausted { first_back: None })));
}

#[tokio::test]
async fn what_two_replicas_take_at_once_is_exact_together() {
    let url = Redis::shared().await.url();
    let (one, other) = (Replica::start(url.clone()).await, Replica::start(url).await);
    let pool = ring(1..=3);
    for round in 1..=50_u32 {
        let ((some, _), (others, _)) = tokio::join!(one.at_once(&pool, 10), other.at_once(&pool, 7));
        let leases = granted(some.into_iter().chain(others).collect());
        assert_eq!(leases.len(), 17);
        let held = one.in_flight(&pool).await;
        let (most, least) = (held.iter().max().unwrap(), held.iter().min().unwrap());
        assert!(most - least <= 1 && held.iter().sum::<u32>() == 17 * round, "{held:?}");
    }
}

#[tokio::test]
async fn members_that_change_meanwhile_are_served_to_those_who_ask_for_them() {
    let replica = replica().await;
    let old = ring(1..=2);
    let new = Arc::new(Roster { members: ring(3..=4).members.clone(), ..(*old).clone() });
    let (olds, news) = tokio::join!(replica.at_once(&old, CALLERS), replica.at_once(&new, CALLERS));
    for (answers, pool) in [(olds.0, &old), (news.0, &new)] {
        for (index, lease) in granted(answers) {
            assert_eq!(lease.member, pool.members[index]);
        }
    }
}

#[tokio::test]
async fn what_is_granted_to_callers_that_have_gone_is_given_back() {
    let replica = replica().await;
    let pool = ring(1..=2);
    for stay in [0, 1, 5] {
        let asks: Vec<_> = (0..CALLERS).map(|_| asking(&pool)).collect();
        let mut asking: Vec<_> = asks.iter().map(|ask| replica.store.acquire(ask)).collect();
        // All have asked after the first poll, and no answer is there.
        for one in &mut asking {
            assert!(futures::poll!(one.as_mut()).is_pending());
        }
        asking.truncate(stay);
        let stayed = granted(join_all(asking).await.into_iter().map(|answer| answer.acquired).collect());
        eventually(Duration::from_secs(5), async || {
            let held: u32 = replica.in_flight(&pool).await.iter().sum();
            if held == stay as u32 { Ok(()) } else { Err(format!("{held} are held")) }
        })
        .await;
        for (_, lease) in stayed {
            replica.store.release(&lease, None);
        }
    }
}

#[tokio::test]
async fn a_lease_that_ends_by_itself_does_so_where_its_caller_has_gone() {
    let replica = replica().await;
    let pool = ring([1]);
    replica.store.take(&pool).await;
    let ask = Acquire { hold: Some(Hold { ttl: SOON, most: 10 }), ..asking(&pool) };
    let mut asked = replica.store.acquire(&ask);
    assert!(futures::poll!(asked.as_mut()).is_pending());
    // The command is sent, and nobody waits for its answer.
    yield_now().await;
    drop(asked);
    eventually(SOON, async || match replica.in_flight(&pool).await[..] {
        [2] => Ok(()),
        ref held => Err(format!("{held:?} are held")),
    })
    .await;
    replica.store.pass(SOON);
    assert_eq!(replica.in_flight(&pool).await, [1], "the call of the replica is counted as before");
}

#[tokio::test]
async fn without_redis_each_is_told() {
    let mut redis = Redis::start().await;
    let replica = Replica::start(redis.url()).await;
    let pool = ring(1..=2);
    replica.at_once(&pool, CALLERS).await;
    redis.kill9();
    eventually(Duration::from_secs(5), async || {
        let ask = asking(&pool);
        let server = replica.store.server();
        let answers = join_all((0..CALLERS).map(|_| server.acquire(&ask))).await;
        let failed = answers.iter().filter(|answer| answer.is_err()).count();
        if failed == CALLERS { Ok(()) } else { Err(format!("{failed} failed")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_cooldown_ends_under_load_one_trial_goes_over_all_replicas() {
    let url = Redis::shared().await.url();
    let replicas = [Replica::start(url.clone()).await, Replica::start(url).await];
    let pool = ring(1..=3);
    let (index, lease) = replicas[0].store.take(&pool).await;
    assert_eq!(index, 0);
    let short = Duration::from_millis(300);
    replicas[0].store.fails(&lease, &cooldown(Scope::Member, short)).await;
    // The one trial is held open: whoever else gets that member would be a second one.
    let trials = Arc::new(AtomicU64::new(0));
    let mut pickers = JoinSet::new();
    for replica in &replicas {
        for _ in 0..8 {
            let (store, pool, trials) = (replica.store.clone(), pool.clone(), trials.clone());
            pickers.spawn(async move {
                let mut picks = 0;
                while picks < 200 {
                    let (index, lease) = store.take(&pool).await;
                    if index == 0 {
                        assert!(lease.trial && trials.fetch_add(1, Ordering::Relaxed) == 0, "a second call");
                        continue;
                    }
                    picks += u64::from(trials.load(Ordering::Relaxed) == 1);
                    store.release(&lease, None);
                }
            });
        }
    }
    pickers.join_all().await;
    assert_eq!(trials.load(Ordering::Relaxed), 1);
}

/// Two replicas of the program under load: fewer commands than calls, a key that fails is left alone, and Redis may go.
#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_under_load_loses_no_call() {
    let mut redis = Redis::start().await;
    let upstream = Upstream::start().await.unwrap();
    let database = Postgres::shared().await.fresh_database();
    let settings = Rota::builder().redis(redis.url()).database(database);
    let (first, second) = (settings.start().await, settings.start().await);
    let scene = Scene::set(&first, &upstream, 4).await;
    let mirror = scene.through(&second).await;
    eventually(SOON, async || mirror.ask().await.map(drop).map_err(|status| status.to_string())).await;

    let load = async |seconds: f64| {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
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
    // What is released takes commands too.
    println!("{asked} commands for {calls} calls");
    assert!(asked < calls, "{asked} commands for {calls} calls");

    // One key says 429 from now on: nobody's call fails, and it is left alone.
    upstream.script(&scene.keys[1], Script::fail_for(429, "600"));
    load(0.5).await;
    let hits = scene.hits(&upstream)[1];
    load(1.0).await;
    assert_eq!(scene.hits(&upstream)[1], hits, "a key that cools is called");

    redis.kill9();
    load(1.0).await;
    redis.restart().await;
    load(1.0).await;
}
