//! Attacks on the shared state: what one tenant has done, and what its keys hold, costs the others nothing.
#![allow(clippy::print_stdout, reason = "a test that is run by hand tells its figures")]

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use rota::{
    api::pb::{AcquireRequest, ReleaseRequest},
    balance::{LeaseId, Limits, Member, MemberKey, Roster, Scope, Strategy},
    redis::RedisOptions,
    scripted::{Script, Upstream},
    state::{Acquire, Acquired, Hold, Lease, Outcome, Override},
};
use tokio::time::{Instant, sleep};
use tonic::{Code, Request};
use uuid::Uuid;

use super::beside::{floor, in_full, p99};
use crate::support::{
    eventually,
    failure::{error, retry_after, told},
    proxy::Proxy,
    redis::{Redis, patient},
    rota::Rota,
    store::{Store, asking, cooldown, ring},
    world::Scene,
};

const SOON: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(600);
/// A pick costs Redis no more than this, in microseconds, whatever there is of its pool …
const PICK: u64 = 3_000;
/// … or, where other programs slow the machine down, than so many times the cheapest one: half a millisecond.
const DEARER: u64 = 8;
/// How often a cost is measured.
const BATCHES: usize = 5;

/// What each run costs Redis, in microseconds of its processor. Other tests on the machine take some of what it has in its
/// caches, so the cheapest of some batches counts.
async fn cost(redis: &Redis, runs: u64, mut run: impl AsyncFnMut()) -> u64 {
    let used = async || -> u64 {
        let told = redis.command(&["INFO", "cpu"]).await;
        let seconds = |name: &str| told.lines().find_map(|line| line.strip_prefix(name)?.parse::<f64>().ok());
        let [user, system] = ["used_cpu_user:", "used_cpu_sys:"].map(|name| seconds(name).unwrap());
        ((user + system) * 1e6) as u64
    };
    let mut least = u64::MAX;
    for _ in 0..BATCHES {
        let before = used().await;
        for _ in 0..runs {
            run().await;
        }
        least = least.min((used().await - before) / runs);
    }
    least
}

/// How long calls of that pool take, one after the other, until `end`; none is decided alone.
async fn calls(store: &Store, pool: &Arc<Roster>, end: impl Fn() -> bool) -> Vec<Duration> {
    let mut took = Vec::new();
    while !end() || took.len() < 20 {
        let began = Instant::now();
        let (_, lease) = store.take(pool).await;
        took.push(began.elapsed());
        store.release(&lease, None);
        sleep(Duration::from_millis(1)).await;
    }
    took.sort_unstable();
    took
}

/// A pool of another kind, of the same tenant where one is given.
fn pool(members: Range<u32>, tenant: Option<Uuid>, change: impl Fn(u32, &mut Member)) -> Arc<Roster> {
    let ring = ring(members.clone());
    let changed = members.zip(ring.members.iter()).map(|(place, member)| {
        let mut member = Member {
            key: MemberKey::new(place, format!("{:032x}", u64::from(place) * 7919)),
            credential: format!("{:032x}", u64::from(place) * 31).into(),
            ..member.clone()
        };
        change(place, &mut member);
        member
    });
    Arc::new(Roster { members: changed.collect(), tenant: tenant.unwrap_or(ring.tenant), ..(*ring).clone() })
}

fn narrow(member: &mut Member) {
    member.limits = Limits { max_concurrency: 1_000_000, ..Limits::default() };
}

#[tokio::test(flavor = "multi_thread")]
async fn one_lease_too_many_is_refused_with_the_time_until_one_ends() {
    let redis = Redis::start().await;
    for redis in [None, Some(redis.url())] {
        let builder = Rota::builder().arg("--max-leases").arg("3");
        let builder = if let Some(url) = redis { builder.redis(url) } else { builder };
        let rota = builder.start().await;
        let upstream = Upstream::start().await.unwrap();
        let (scene, other) = (Scene::set(&rota, &upstream, 2).await, Scene::set(&rota, &upstream, 2).await);
        let acquire = async |scene: &Scene| {
            let request = AcquireRequest { key: Some(scene.key.clone()), ..AcquireRequest::default() };
            scene.clients.invoke.clone().acquire(request).await.map(tonic::Response::into_inner)
        };
        let mut leases = Vec::new();
        for _ in 0..3 {
            leases.push(acquire(&scene).await.unwrap());
        }
        let refused = acquire(&scene).await.unwrap_err();
        assert_eq!(told(&refused), error(Code::ResourceExhausted, "TENANT_LIMIT"));
        assert!((1..=60).contains(&retry_after(&refused).as_secs()), "{refused:?}");
        // Calls go on, and so does everybody else.
        scene.ask().await.unwrap();
        acquire(&other).await.unwrap();
        let request = ReleaseRequest { lease_id: leases.remove(0).lease_id, outcome: None };
        scene.clients.invoke.clone().release(request).await.unwrap();
        acquire(&scene).await.unwrap();
    }
}

/// Leases of one tenant, in some pools, and what picks cost beside them.
async fn leases_of_one_tenant(pools: usize, most: u32, tries: u32) {
    let redis = Redis::start().await;
    let store = Store::redis_at(redis.url()).await;
    let hold = Hold { ttl: LONG, most };
    let (of_attacker, other) = (ring(1..=4), pool(1..5, None, |_, member| narrow(member)));
    // The attacker's own other pool is as quick, too.
    let own = pool(1..5, Some(of_attacker.tenant), |_, member| narrow(member));
    let quiet = cost(&redis, 10, async || drop(store.take(&other).await)).await;
    for _ in 0..pools {
        let pool = Arc::new(Roster { id: Uuid::new_v4(), ..(*of_attacker).clone() });
        let mut granted = 0;
        for some in (0..tries).collect::<Vec<_>>().chunks(500) {
            let asks: Vec<_> = some
                .iter()
                .map(|_| Acquire { hold: Some(hold), lease: LeaseId::new(rand::random()), ..asking(&pool) })
                .collect();
            for answer in join_all(asks.iter().map(|ask| store.together(ask))).await {
                match answer {
                    Acquired::Granted { .. } => granted += 1,
                    Acquired::TooManyLeases { first_ends } => assert!(first_ends <= LONG),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(granted, most);
    }
    for pool in [&own, &other] {
        let beside = cost(&redis, 10, async || drop(store.take(pool).await)).await;
        println!("a pick beside {} leases took {beside} µs, before {quiet} µs", pools as u32 * most);
        assert!(beside <= 2 * quiet.max(200), "{beside} µs, before {quiet}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_one_tenant_slow_down_nobody() {
    leases_of_one_tenant(4, 500, 600).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make attacks: 112,000 leases"]
async fn leases_of_one_tenant_slow_down_nobody_in_full() {
    leases_of_one_tenant(112, 1_000, 1_100).await;
}

#[tokio::test]
async fn leases_that_are_over_are_given_back() {
    for store in [Store::memory(), Store::redis().await] {
        let pool = pool(1..3, None, |_, member| narrow(member));
        let hold = Some(Hold { ttl: Duration::from_secs(60), most: 50 });
        let mut leases = Vec::new();
        for _ in 0..50 {
            match store.together(&Acquire { hold, ..asking(&pool) }).await {
                Acquired::Granted { lease, .. } => leases.push(lease),
                other => panic!("{other:?}"),
            }
        }
        let refused = store.together(&Acquire { hold, ..asking(&pool) }).await;
        assert!(matches!(refused, Acquired::TooManyLeases { .. }), "{refused:?}");
        let in_flight = async || -> u32 {
            store.inspect(&pool).await.members.iter().map(|member| member.in_flight).sum()
        };
        assert_eq!(in_flight().await, 50);
        assert!(store.end(&leases[0], None, Outcome::Served).await);
        assert!(!store.end(&leases[0], None, Outcome::Served).await, "it counts once");
        assert!(store.renew(&leases[1], LONG).await);
        assert_eq!(in_flight().await, 49);
        store.pass(Duration::from_secs(61));
        // A look gives some of them back.
        for _ in 0..4 {
            in_flight().await;
        }
        assert_eq!(in_flight().await, 1, "the one that was renewed");
        assert!(!store.renew(&leases[2], LONG).await);
        assert!(store.end(&leases[1], None, Outcome::Served).await);
        assert_eq!(in_flight().await, 0);
    }
}

/// Keys are replaced again and again, each after a failure, by a replica whose word that they are gone is lost.
async fn replaced_keys_leave_nothing(keys: u32) {
    let redis = Redis::start().await;
    let store = Store::redis_at(redis.url()).await;
    let first = ring([1]);
    let of = |key: u32| {
        let member = Member { key: MemberKey::new(1, format!("{key:032x}")), ..first.members[0].clone() };
        Arc::new(Roster { members: [member].into_iter().collect(), ..(*first).clone() })
    };
    for key in 0..keys {
        let pool = of(key);
        let (_, lease) = store.take(&pool).await;
        store.fails(&lease, &cooldown(Scope::Member, Duration::from_secs(1))).await;
    }
    let name = format!("rota:{{{}}}:pool:{}", first.tenant.simple(), first.id.simple());
    let left = async || redis.command(&["HLEN", &name]).await.parse::<u32>().unwrap();
    assert!(left().await >= keys, "they are kept for late failures");
    store.pass(LONG);
    let pool = of(keys);
    let mut picks = 0;
    while left().await > 1 {
        store.take(&pool).await;
        picks += 1;
        assert!(picks <= keys, "{} are left", left().await);
    }
    println!("{keys} records were gone after {picks} picks");
}

#[tokio::test]
async fn records_that_no_member_names_leave_nothing() {
    replaced_keys_leave_nothing(300).await;
}

#[tokio::test]
#[ignore = "make attacks: 6,000 replaced keys"]
async fn records_that_no_member_names_leave_nothing_in_full() {
    replaced_keys_leave_nothing(6_000).await;
}

/// Pools of 1,000 configs with limits: a pick takes Redis 3 ms at most, whatever has happened to them.
#[tokio::test]
async fn a_pick_from_a_thousand_configs_takes_redis_milliseconds() {
    let redis = Redis::start().await;
    let store = Store::redis_at(redis.url()).await;
    let limits = Limits { requests_per_minute: 1_000, tokens_per_minute: 100_000, max_concurrency: 0 };
    let full = Limits { requests_per_minute: 1, ..limits };
    let (mut slow, mut plain) = (Vec::new(), u64::MAX);
    for strategy in Strategy::ALL {
        for (state, limits) in
            [("quiet", limits), ("all full", full), ("500 fail", limits), ("500 failed", limits)]
        {
            let thousand = pool(1..1_001, None, |place, member| {
                member.limits = limits;
                member.weight = 1 + place % 7;
            });
            let thousand = Arc::new(Roster { strategy, ..(*thousand).clone() });
            let asking = || Acquire { tokens: 100, ..asking(&thousand) };
            let fill = if state == "all full" { 1_000 } else { 100 };
            for _ in 0..fill {
                let asked = store.together(&asking()).await;
                assert!(matches!(asked, Acquired::Granted { .. }), "{asked:?}");
            }
            if state.starts_with("500") {
                let failing: Vec<_> = (0..1_000).step_by(2).collect();
                store.cool(&thousand, &failing, LONG).await;
                if state == "500 failed" {
                    for &index in &failing {
                        let member = &thousand.members[index];
                        store.override_cooldown(&thousand, member, Override::Clear).await;
                    }
                }
            }
            let took = cost(&redis, 10, async || {
                let asked = store.together(&asking()).await;
                assert_eq!(matches!(asked, Acquired::Granted { .. }), state != "all full", "{asked:?}");
            })
            .await;
            println!("{} {state}: {took} µs", strategy.name());
            plain = plain.min(took);
            if took > PICK.max(plain * if in_full() { DEARER } else { 3 * DEARER }) {
                slow.push((strategy, state, took));
            }
        }
    }
    assert!(slow.is_empty(), "{slow:?}");
}

/// A Redis, a store on it through a proxy that takes its time, and pools with calls in flight.
async fn coming_back(pools: usize) {
    let redis = Redis::start().await;
    let proxy = Proxy::start(redis.port()).await;
    let options = patient(format!("redis://127.0.0.1:{}", proxy.port()));
    let store = Store::redis_with(&options).await;
    let Store::Redis { store: resilient, .. } = &store else { unreachable!() };
    resilient.wait(SOON).await.unwrap();
    let (tenant, other) = (Uuid::new_v4(), ring(1..=4));
    let many: Vec<_> = (0..pools).map(|_| pool(1..3, Some(tenant), |_, _| {})).collect();
    let mut leases = Vec::<Lease>::new();
    for some in many.chunks(500) {
        leases.extend(join_all(some.iter().map(async |pool| store.take(pool).await.1)).await);
    }
    store.take(&other).await;
    proxy.delay(Duration::from_millis(1));
    let began = Instant::now();
    let quiet = calls(&store, &other, || began.elapsed() > Duration::from_secs(1)).await;

    redis.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    eventually(SOON, async || if store.degraded() { Ok(()) } else { Err("it is not away".to_owned()) }).await;
    // What has been taken meanwhile is to be told as well.
    let alone = many.last().unwrap();
    let answer = store.acquire(&asking(alone)).await;
    let Acquired::Granted { lease, .. } = answer.acquired else { panic!("nothing granted") };
    leases.push(lease);
    let began = Instant::now();
    let (mut took, mut back) = (Vec::new(), None);
    let mut untold: Vec<_> = many.iter().step_by(pools / 50).chain([alone]).collect();
    while back.is_none_or(|back: Duration| began.elapsed() < back + Duration::from_secs(2)) {
        let asked = Instant::now();
        let answer = store.acquire(&asking(&other)).await;
        took.push(asked.elapsed());
        if let Acquired::Granted { lease, .. } = answer.acquired {
            store.release(&lease, None);
        }
        // They are back when none of some is decided on alone.
        if !store.degraded() && took.len() % 20 == 0 {
            while let Some(pool) = untold.last() {
                let answer = store.acquire(&asking(pool)).await;
                let Acquired::Granted { lease, .. } = answer.acquired else { panic!("nothing granted") };
                store.release(&lease, None);
                if answer.degraded {
                    break;
                }
                untold.pop();
            }
            if untold.is_empty() {
                back = back.or_else(|| Some(began.elapsed()));
            }
        }
        assert!(began.elapsed() < Duration::from_secs(120), "it does not come back");
        sleep(Duration::from_millis(1)).await;
    }
    took.sort_unstable();
    let (longest, before) = (took[took.len() - 1], quiet[quiet.len() - 1]);
    println!(
        "{pools} pools were back after {back:?}: p99 {:?}, longest {longest:?}; before {before:?}",
        p99(&took)
    );
    assert!(p99(&took) <= floor().max(p99(&quiet) * 2), "{:?}", p99(&took));
    // A busy machine holds up a call now and then.
    assert!(longest <= (floor() * 5).max(before * 2), "a call waited {longest:?}");
    eventually(Duration::from_secs(60), async || {
        let seen = store.inspect(alone).await;
        let held: u32 = seen.members.iter().map(|member| member.in_flight).sum();
        if held == 2 { Ok(()) } else { Err(format!("{held} are held")) }
    })
    .await;
    // Redis has the truth of all of them, by another replica's eyes.
    let eyes = Store::redis_at(redis.url()).await;
    for pool in many.iter().step_by(pools / 50) {
        let held: u32 = eyes.inspect(pool).await.members.iter().map(|member| member.in_flight).sum();
        assert!(held >= 1, "{held}");
    }
    for lease in &leases {
        store.release(lease, None);
    }
    store.flush().await;
    for pool in many.iter().step_by(pools / 50) {
        eventually(Duration::from_secs(60), async || {
            let held: u32 = eyes.inspect(pool).await.members.iter().map(|member| member.in_flight).sum();
            if held == 0 { Ok(()) } else { Err(format!("{held} are held")) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pools_come_back_and_no_call_waits() {
    coming_back(1_500).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make attacks: 50,000 pools"]
async fn many_pools_come_back_and_no_call_waits_in_full() {
    coming_back(50_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_takes_too_long_is_no_loss_of_redis() {
    let redis = Redis::start().await;
    let options = RedisOptions { command_timeout: Duration::from_millis(250), ..patient(redis.url()) };
    let store = Store::redis_with(&options).await;
    let Store::Redis { store: resilient, .. } = &store else { unreachable!() };
    resilient.wait(SOON).await.unwrap();
    let (one, other) = (ring(1..=4), ring(1..=4));
    let (_, lease) = store.take(&one).await;
    store.take(&other).await;
    // Longer than a command may take, and shorter than two probes.
    redis.command(&["CLIENT", "PAUSE", "350", "ALL"]).await;
    let began = Instant::now();
    let answer = store.acquire(&asking(&one)).await;
    assert!(answer.degraded && matches!(answer.acquired, Acquired::Granted { .. }));
    assert!(began.elapsed() < Duration::from_millis(340), "{:?}", began.elapsed());
    assert!(!store.degraded(), "it is not away");
    // The other has had no command meanwhile, and is never decided on alone.
    store.take(&other).await;
    eventually(SOON, async || {
        let answer = store.acquire(&asking(&one)).await;
        let Acquired::Granted { lease, .. } = answer.acquired else { panic!("nothing granted") };
        store.release(&lease, None);
        assert!(!store.degraded(), "it is not away");
        if answer.degraded { Err("it is decided on alone".to_owned()) } else { Ok(()) }
    })
    .await;
    // Of the command that was late nothing is left.
    store.flush().await;
    let held =
        async || -> u32 { store.inspect(&one).await.members.iter().map(|member| member.in_flight).sum() };
    assert_eq!(held().await, 2, "the first, and the one that was granted alone");
    store.release(&lease, None);
    store.flush().await;
    assert_eq!(held().await, 1);

    // Two probes in a row are a loss.
    redis.hang();
    eventually(SOON, async || if store.degraded() { Ok(()) } else { Err("it is not away".to_owned()) }).await;
    redis.resume();
    eventually(SOON, async || if store.degraded() { Err("it is away".to_owned()) } else { Ok(()) }).await;
}

/// Keys of one tenant that no release of ours has written.
#[tokio::test(flavor = "multi_thread")]
async fn poisoned_keys_are_the_trouble_of_their_pool_alone() {
    let redis = Redis::start().await;
    let store = Store::redis_at(redis.url()).await;
    let Store::Redis { store: resilient, .. } = &store else { unreachable!() };
    resilient.wait(SOON).await.unwrap();
    let other = ring(1..=3);
    for which in ["pool", "credentials", "in-flight", "holders", "used", "leases", "line", "turn"] {
        let limits = Limits { requests_per_minute: 100, max_concurrency: 100, ..Limits::default() };
        let poisoned = pool(1..4, None, |_, member| member.limits = limits);
        let poisoned = Arc::new(Roster { waits: true, ..(*poisoned).clone() });
        let (tenant, id) = (poisoned.tenant.simple(), poisoned.id.simple());
        let key = match which {
            "credentials" | "holders" => format!("rota:{{{tenant}}}:{which}"),
            "leases" | "line" | "turn" => format!("rota:{{{tenant}}}:{which}:{id}:1"),
            _ => format!("rota:{{{tenant}}}:{which}:{id}"),
        };
        redis.command(&["SET", &key, "poison"]).await;
        let hold = Some(Hold { ttl: LONG, most: 10 });
        for _ in 0..3 {
            let answer = store.acquire(&Acquire { hold, ..asking(&poisoned) }).await;
            let Acquired::Granted { lease, .. } = answer.acquired else { panic!("{which}: nothing granted") };
            assert!(answer.degraded || which == "turn", "{which}");
            store.fail(&lease.attempt(), &cooldown(Scope::Credential, Duration::from_millis(1))).await;
            store.end(&lease, None, Outcome::Served).await;
            store.picks(&other, 3).await;
            assert!(!store.degraded(), "{which}: Redis is taken for away");
        }
        assert_eq!(redis.command(&["DEL", &key]).await, "1", "{which}");
        eventually(SOON, async || {
            let answer = store.acquire(&Acquire { hold, ..asking(&poisoned) }).await;
            if answer.degraded { Err(format!("{which}: it is decided on alone")) } else { Ok(()) }
        })
        .await;
    }
}

#[tokio::test]
async fn records_that_cannot_be_read_count_as_none() {
    let redis = Redis::start().await;
    let store = Store::redis_at(redis.url()).await;
    let pool = ring([1]);
    let key = format!("rota:{{{}}}:pool:{}", pool.tenant.simple(), pool.id.simple());
    let record = async || redis.command(&["HGET", &key, "1"]).await;
    // Of a newer or unknown format: it is left alone, whatever happens.
    for foreign in ["v2 17 x", "{\"ends\":1}", "-5 0 RATE_LIMITED"] {
        redis.command(&["HSET", &key, "1", foreign]).await;
        let (_, lease) = store.take(&pool).await;
        store.fails(&lease, &cooldown(Scope::Member, LONG)).await;
        store.take(&pool).await;
        store.succeed(&lease);
        store.flush().await;
        assert_eq!(record().await, foreign);
    }
    // Broken: it counts as none, and the next failure takes its place.
    let broken = "9 9 RATE_LIMITED 0 - 0 0 0 0 0 nan 0 0 0 0 0 0";
    for broken in ["17", "17 18", "1 2 TIMEOUT x - 0 0 0 0 0 0", broken] {
        redis.command(&["HSET", &key, "1", broken]).await;
        let (_, lease) = store.take(&pool).await;
        assert_eq!(record().await, broken);
        store.fails(&lease, &cooldown(Scope::Member, LONG)).await;
        assert!(matches!(store.ask(&pool).await, Acquired::Exhausted { .. }), "{broken}");
        assert!(record().await.contains("RATE_LIMITED"), "{broken}");
    }
    // So are turns, credits, windows and counts.
    let limits = Limits { requests_per_minute: 10, max_concurrency: 10, ..Limits::default() };
    let pool = Arc::new(Roster {
        strategy: Strategy::WeightedRoundRobin,
        ..(*self::pool(1..3, None, |_, member| member.limits = limits)).clone()
    });
    let of = |what: &str| format!("rota:{{{}}}:{what}:{}", pool.tenant.simple(), pool.id.simple());
    let member = pool.members[0].key.to_string();
    redis.command(&["HSET", &of("pool"), "last", "x", "credits", &format!("{member} x 1")]).await;
    redis.command(&["HSET", &of("used"), &format!("r:{member}"), "1 x 2"]).await;
    redis.command(&["HSET", &of("in-flight"), "nobody", "x", &format!("{member}|nobody"), "x"]).await;
    assert_eq!(store.picks(&pool, 4).await, [0, 1, 0, 1]);
}

/// Callers of a large pool that come one after the other, while its commands take their time.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_has_two_commands_under_way_at_most() {
    const CALLERS: u32 = 200;
    let redis = Redis::start().await;
    let proxy = Proxy::start(redis.port()).await;
    let asked = Arc::new(AtomicU64::new(0));
    let counted = asked.clone();
    let options = RedisOptions {
        watch: Some(Arc::new(move |name, _, _| {
            counted.fetch_add(u64::from(name == "acquire"), Ordering::Relaxed);
        })),
        ..patient(format!("redis://127.0.0.1:{}", proxy.port()))
    };
    let store = Store::redis_with(&options).await;
    let pool = ring(1..=4);
    store.take(&pool).await;
    proxy.delay(Duration::from_millis(20));
    asked.store(0, Ordering::Relaxed);
    let began = Instant::now();
    let callers = (0..CALLERS).map(async |place| {
        sleep(Duration::from_millis(place.into())).await;
        store.take(&pool).await.0
    });
    let mut served = join_all(callers).await;
    // Two commands each time that it takes to go there and back.
    let most = 2 * (began.elapsed().as_millis() as u64 / 40 + 1);
    let commands = asked.load(Ordering::Relaxed);
    assert!(commands <= most, "{commands} commands for {CALLERS} callers");
    served.sort_unstable();
    let shares = served.chunk_by(|a, b| a == b).map(<[usize]>::len).collect::<Vec<_>>();
    assert_eq!(shares, [50; 4]);
}

/// What is used of a limit while Redis is away counts when it is back, and so do leases.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_alone_is_brought_back() {
    let redis = Redis::start().await;
    let store = Store::redis_at(redis.url()).await;
    let Store::Redis { store: resilient, .. } = &store else { unreachable!() };
    resilient.wait(SOON).await.unwrap();
    let limits = Limits { requests_per_minute: 10, tokens_per_minute: 1_000, ..Limits::default() };
    let pool = pool(1..2, None, |_, member| member.limits = limits);
    let asking = || Acquire { tokens: 10, ..asking(&pool) };
    let used = async |by: &Store| {
        let seen = by.inspect(&pool).await;
        let room = |limits: Limits, tokens| seen.members[0].full_until(&limits, seen.now, tokens).is_none();
        let requests =
            (1..100).find(|&most| room(Limits { requests_per_minute: most, ..Limits::default() }, 0));
        let tokens =
            (1..1_000).find(|&most| room(Limits { tokens_per_minute: most, ..Limits::default() }, 1));
        (requests.unwrap() - 1, tokens.unwrap() - 1, seen.members[0].in_flight)
    };
    for _ in 0..2 {
        store.together(&asking()).await;
    }
    // Twice, so that nothing is brought twice.
    for round in 1..=2 {
        redis.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        eventually(SOON, async || if store.degraded() { Ok(()) } else { Err("it is not away".to_owned()) })
            .await;
        let hold = Some(Hold { ttl: LONG, most: 10 });
        for hold in [None, None, hold] {
            let answer = store.acquire(&Acquire { hold, ..asking() }).await;
            assert!(answer.degraded && matches!(answer.acquired, Acquired::Granted { .. }));
        }
        eventually(SOON, async || if store.degraded() { Err("it is away".to_owned()) } else { Ok(()) }).await;
        let eyes = Store::redis_at(redis.url()).await;
        let expected = (2 + 3 * round, (2 + 3 * round) * 10, 2 + 3 * round);
        eventually(SOON, async || match used(&eyes).await {
            seen if seen == expected => Ok(()),
            seen => Err(format!("{seen:?}, expected {expected:?}")),
        })
        .await;
    }
}

/// The heartbeat of one tenant fails: the others' calls go on counting.
#[tokio::test]
async fn heartbeats_go_on_after_one_that_fails() {
    let redis = Redis::start().await;
    let store = Store::redis_at(redis.url()).await;
    let pools: Vec<_> = (0..40).map(|_| ring(1..=2)).collect();
    for pool in &pools {
        store.take(pool).await;
    }
    for pool in pools.iter().step_by(2) {
        redis.command(&["SET", &format!("rota:{{{}}}:holders", pool.tenant.simple()), "poison"]).await;
    }
    for _ in 0..4 {
        store.pass(Duration::from_secs(10));
        store.server().heartbeat().await.unwrap_err();
    }
    for pool in pools.iter().skip(1).step_by(2) {
        let held: u32 = store.inspect(pool).await.members.iter().map(|member| member.in_flight).sum();
        assert_eq!(held, 1, "40 s later, with a heartbeat every 10");
    }
}

/// Many callers of one tenant wait for a trial: they stand in line, and ask Redis no more often than those who are served.
#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_for_a_trial_do_not_poll() {
    const CALLERS: usize = 100;
    let redis = Redis::start().await;
    let rota = Rota::builder().redis(redis.url()).start().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(&rota, &upstream, 2).await;
    for key in &scene.keys {
        let slow = Script::Answer.after(Duration::from_secs(2));
        upstream.script(key, Script::sequence([Script::fail_for(429, "1"), slow, Script::Answer]));
    }
    // Its time is up before it could try again.
    let mut request = Request::new(scene.request());
    request.set_timeout(Duration::from_millis(900));
    scene.clients.invoke.clone().invoke_llm(request).await.unwrap_err();
    sleep(Duration::from_millis(1_100)).await;
    let before = scripts(&redis).await;
    let began = Instant::now();
    let calls = join_all((0..CALLERS).map(async |_| scene.ask().await)).await;
    let each = (scripts(&redis).await - before) as f64 / CALLERS as f64;
    let failed = calls.iter().filter(|call| call.is_err()).count();
    println!("{each:.1} scripts a caller in {:?}", began.elapsed());
    assert!(failed == 0 && each <= 6.0, "{failed} failed, {each} scripts a caller");
}

/// How many scripts a Redis has run.
async fn scripts(redis: &Redis) -> u64 {
    let stats = redis.command(&["INFO", "commandstats"]).await;
    let calls = |line: &str| line.strip_prefix("cmdstat_evalsha:calls=")?.split(',').next()?.parse().ok();
    stats.lines().find_map(calls).unwrap_or(0)
}
