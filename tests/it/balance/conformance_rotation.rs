//! Dify's cases of rotation and cooldown, by number: what either store picks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rota::{
    balance::{Cooldown, Cooldowns, ErrorClass, Failure, Roster},
    state::Acquired,
};
use tokio::task::JoinSet;

use crate::support::{
    redis::Redis,
    store::{Store, on_both_stores, ring},
};

on_both_stores!(
    case_01_turns_go_round,
    case_02_two_alternate,
    case_03_one_always_serves,
    case_04_the_turn_after_the_last_is_the_firsts,
    case_05_beside_one_cooling_turns_begin_with_the_second,
    case_06_the_turns_of_one_cooling_are_shared_evenly,
    case_07_beside_two_cooling_the_third_serves,
    case_08_concurrent_callers_are_never_refused_while_one_is_healthy,
    case_20_a_cooldown_is_never_shortened,
    case_21_one_trial_goes_when_the_cooldown_ends,
    case_23_cooldowns_grow_with_the_episodes_up_to_an_hour,
    case_34_a_member_that_goes_costs_no_other_its_turn,
);

const MINUTE: Duration = Duration::from_secs(60);

fn cooldown(class: ErrorClass, hint: Option<Duration>) -> Cooldown {
    let failure = Failure { retry_after: hint, ..Failure::new(class, "") };
    Cooldowns::default().decide(&failure, 0.0).unwrap()
}

async fn case_01_turns_go_round(store: Store) {
    assert_eq!(store.picks(&ring(1..=3), 6).await, [0, 1, 2, 0, 1, 2]);
}

async fn case_02_two_alternate(store: Store) {
    assert_eq!(store.picks(&ring(1..=2), 4).await, [0, 1, 0, 1]);
}

async fn case_03_one_always_serves(store: Store) {
    assert_eq!(store.picks(&ring(1..=1), 5).await, [0; 5]);
}

async fn case_04_the_turn_after_the_last_is_the_firsts(store: Store) {
    // Edits leave gaps between ordinals, up to the highest there is.
    for pool in [ring(1..=3), ring([2, 5, i32::MAX as u32])] {
        for cycle in 1..=4 {
            let picked = store.picks(&pool, 3).await;
            assert_eq!(picked, [0, 1, 2], "cycle {cycle}");
        }
    }
}

async fn case_05_beside_one_cooling_turns_begin_with_the_second(store: Store) {
    let pool = ring(1..=3);
    store.cool(&pool, &[0], MINUTE).await;
    assert_eq!(store.picks(&pool, 2).await, [1, 2]);
}

async fn case_06_the_turns_of_one_cooling_are_shared_evenly(store: Store) {
    for away in 0..3 {
        let pool = ring(1..=3);
        store.cool(&pool, &[away], MINUTE).await;
        let picked = store.picks(&pool, 100).await;
        let share = |index| picked.iter().filter(|&&other| other == index).count();
        let mut expected = [50; 3];
        expected[away] = 0;
        assert_eq!([share(0), share(1), share(2)], expected);
    }
}

async fn case_07_beside_two_cooling_the_third_serves(store: Store) {
    let pool = ring(1..=3);
    store.cool(&pool, &[0, 1], MINUTE).await;
    assert_eq!(store.picks(&pool, 5).await, [2; 5]);
}

async fn case_08_concurrent_callers_are_never_refused_while_one_is_healthy(store: Store) {
    let pool = ring(1..=2);
    store.cool(&pool, &[0], MINUTE).await;
    let mut callers = JoinSet::new();
    for _ in 0..16 {
        let (store, pool) = (store.clone(), pool.clone());
        callers.spawn(async move { store.picks(&pool, 100).await });
    }
    assert_eq!(callers.join_all().await.concat(), [1; 1600]);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_09_all_cooling_is_known_in_one_round_trip() {
    let server = Redis::start().await;
    for store in [Store::memory(), Store::redis_at(server.url()).await] {
        let pool = ring(1..=3);
        store.picks(&pool, 1).await;
        store.cool(&pool, &[0, 1, 2], MINUTE).await;
        server.command(&["CONFIG", "RESETSTAT"]).await;
        for _ in 0..20 {
            let Acquired::Exhausted { first_back: Some((left, ErrorClass::RateLimited)) } =
                store.ask(&pool).await
            else {
                panic!("all are cooling")
            };
            assert!(left <= MINUTE && left > MINUTE * 5 / 6, "{left:?}");
        }
        let stats = server.command(&["INFO", "commandstats"]).await;
        let calls = stats.split("cmdstat_evalsha:calls=").nth(1).and_then(|rest| rest.split(',').next());
        let calls: u32 = calls.map_or(0, |calls| calls.parse().unwrap());
        // A heartbeat may fall among them.
        let expected = if matches!(store, Store::Memory(_)) { 0..=0 } else { 20..=21 };
        assert!(expected.contains(&calls), "{calls} scripts for 20 questions");
    }
}

async fn case_20_a_cooldown_is_never_shortened(store: Store) {
    let pool = ring(1..=1);
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(store.take(&pool).await.1);
    }
    store.fails(&leases[0], &cooldown(ErrorClass::RateLimited, None)).await;
    // A class that cools for 10 s, and a provider that names 10 s.
    store.fails(&leases[1], &cooldown(ErrorClass::Connection, None)).await;
    store.fails(&leases[2], &cooldown(ErrorClass::RateLimited, Some(MINUTE / 6))).await;
    let (left, class) = store.cooling(&pool, 0).await.unwrap();
    assert!(left <= MINUTE && left > MINUTE * 5 / 6, "{left:?}");
    assert_eq!(class, ErrorClass::RateLimited);
    store.fails(&leases[3], &cooldown(ErrorClass::RateLimited, Some(MINUTE * 2))).await;
    let (left, _) = store.cooling(&pool, 0).await.unwrap();
    assert!(left > MINUTE, "longer it may get: {left:?}");
}

async fn case_21_one_trial_goes_when_the_cooldown_ends(store: Store) {
    let pool = ring(1..=2);
    let (index, lease) = store.take(&pool).await;
    store.fails(&lease, &cooldown(ErrorClass::RateLimited, None)).await;
    store.pass(Duration::from_secs(55));
    assert_eq!(store.picks(&pool, 4).await, [1; 4], "not before its time");

    store.pass(Duration::from_secs(5));
    let trials = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..16 {
        let (store, pool, trials) = (store.clone(), pool.clone(), trials.clone());
        callers.spawn(async move {
            for _ in 0..10 {
                let (picked, lease) = store.take(&pool).await;
                // It stays on its way: only the others are given back.
                if picked == index {
                    assert!(lease.trial);
                    trials.fetch_add(1, Ordering::Relaxed);
                } else {
                    store.release(&lease, None);
                }
            }
        });
    }
    callers.join_all().await;
    assert_eq!(trials.load(Ordering::Relaxed), 1, "one trial, the rest by the other");
}

async fn case_23_cooldowns_grow_with_the_episodes_up_to_an_hour(store: Store) {
    let pool = ring(1..=1);
    let mut expected = MINUTE / 6;
    for episode in 1..=10 {
        let (_, lease) = store.take(&pool).await;
        assert_eq!(lease.trial, episode > 1);
        store.fails(&lease, &cooldown(ErrorClass::Authentication, None)).await;
        let (left, _) = store.cooling(&pool, 0).await.unwrap();
        let near = expected.saturating_sub(Duration::from_secs(1))..=expected;
        assert!(near.contains(&left), "episode {episode}: {left:?} instead of {expected:?}");
        store.pass(left);
        expected = (expected * 2).min(MINUTE * 60);
    }
    assert_eq!(expected, MINUTE * 60, "the clamp was reached");
    // Those that fail together do not come back together.
    let jittered = |jitter| Cooldowns::default().decide(&Failure::new(ErrorClass::Connection, ""), jitter);
    let [least, most] = [0.0, 1.0].map(|jitter| jittered(jitter).unwrap().duration);
    assert_eq!((least, most), (MINUTE / 6, MINUTE / 6 + MINUTE / 60));
}

async fn case_34_a_member_that_goes_costs_no_other_its_turn(store: Store) {
    // Whoever served last and whoever goes: the others follow in their order.
    for served in 1..=3 {
        for gone in 0..3 {
            let pool = ring(1..=3);
            store.picks(&pool, served).await;
            let mut members = pool.members.to_vec();
            members.remove(gone);
            let left = Roster { members: members.into(), ..(*pool).clone() };
            let expected: Vec<_> = (0..6)
                .map(|turn| (served + turn) % 3)
                .filter(|&index| index != gone)
                .map(|index| if index > gone { index - 1 } else { index })
                .collect();
            let picked = store.picks(&Arc::new(left), 4).await;
            assert_eq!(picked, expected, "{served} served, then {gone} went");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_35_the_position_outlives_hours_of_idling() {
    let server = Redis::start().await;
    for store in [Store::memory(), Store::redis_at(server.url()).await] {
        let pool = ring(1..=3);
        assert_eq!(store.picks(&pool, 2).await, [0, 1]);
        store.pass(MINUTE * 150);
        assert_eq!(store.picks(&pool, 2).await, [2, 0]);
        if matches!(store, Store::Redis { .. }) {
            // The store's clock is not the one by which the server forgets.
            let key = format!("rota:{{{}}}:pool:{}", pool.tenant.simple(), pool.id.simple());
            let expires: i64 = server.command(&["TTL", &key]).await.parse().unwrap();
            assert!(expires == -1 || expires > 7200, "forgotten after {expires} s");
        }
    }
}
