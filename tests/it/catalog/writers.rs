//! Two writers of one set, each at a replica of its own: revisions without gaps, and never a mix of two sets.

use std::{collections::BTreeMap, time::Duration};

use rota::{
    api::pb::{LoadBalancingConfig, PoolState, WatchPoolRequest},
    scripted::Upstream,
};
use tokio::task::JoinHandle;
use tonic::Code;

use crate::support::{
    eventually,
    listing::names,
    postgres::Postgres,
    redis::Redis,
    refusal::refused,
    rota::Rota,
    world::{Scene, config},
};

const ROUNDS: i64 = 1000;

/// What a writer makes of the set it has seen: every row is renamed after the writer and the round, and every other
/// round the first row makes way for a new one.
fn set_of(writer: usize, round: i64, seen: &[LoadBalancingConfig]) -> Vec<LoadBalancingConfig> {
    let replaced = usize::try_from(round % 2).unwrap();
    let mut set = seen[replaced..].to_vec();
    set.extend((0..replaced).map(|_| config("", "key")));
    for (row, config) in set.iter_mut().enumerate() {
        config.name = format!("writer {writer} round {round} row {row}");
    }
    set
}

/// Everything that a replica tells a watcher of the pool, up to that revision.
fn watch(scene: &Scene, until: i64) -> JoinHandle<Vec<PoolState>> {
    let (mut client, key) = (scene.clients.config.clone(), scene.key.clone());
    tokio::spawn(async move {
        let request = WatchPoolRequest { key: Some(key) };
        let mut stream = client.watch_pool(request).await.unwrap().into_inner();
        let mut states: Vec<PoolState> = Vec::new();
        while states.last().is_none_or(|state| state.revision < until) {
            states.push(stream.message().await.unwrap().expect("it does not end").state.unwrap());
        }
        states
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_one_wins_each_revision_and_both_replicas_have_it_in_full() {
    let redis = Redis::shared().await;
    let settings = Rota::builder().redis(redis.url()).database(Postgres::shared().await.fresh_database());
    let replicas = [settings.start().await, settings.start().await];
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(&replicas[0], &upstream, 2).await;
    let writers = [scene.clone(), scene.through(&replicas[1]).await];
    let mut seen = scene.set_of("").await;
    let last = seen.revision + ROUNDS;
    let watchers = [watch(&writers[0], last), watch(&writers[1], last)];
    let mut accepted = BTreeMap::from([(seen.revision, seen.configs.clone())]);
    let mut wins = [0, 0];

    for round in 0..ROUNDS {
        // Neither has the start of the other every time.
        let first = usize::from(round % 2 == 1);
        let order = [first, 1 - first];
        let save = |writer: usize| {
            writers[writer].save_with("", seen.revision, set_of(writer, round, &seen.configs))
        };
        let [one, two] = order.map(save);
        let (one, two) = tokio::join!(one, two);
        let (winner, saved, lost) = match one {
            Ok(saved) => (order[0], saved, two),
            Err(_) => (order[1], two.expect("one of them wins"), one),
        };
        refused(lost, Code::Aborted, "STALE_REVISION");
        wins[winner] += 1;
        assert_eq!(saved.revision, seen.revision + 1, "a gap");
        let sent = set_of(winner, round, &seen.configs);
        assert_eq!(names(&saved.configs), names(&sent));
        // The loser reads again, at its replica; every now and then both do, and the winner's serves the new set.
        let read = writers[1 - winner].set_of("").await;
        assert_eq!((read.revision, read.enabled), (saved.revision, true));
        assert_eq!(read.configs, saved.configs, "round {round}");
        if round % 10 == 0 {
            assert_eq!(writers[winner].set_of("").await, read);
            let route = writers[winner].ask().await.unwrap().route.unwrap();
            assert!(names(&sent).contains(&&*route.config_name), "round {round}: {}", route.config_name);
        }
        accepted.insert(saved.revision, saved.configs);
        seen = read;
    }
    assert_eq!(seen.revision, last);
    assert!(wins[0] > 0 && wins[1] > 0, "no race: {wins:?}");

    for watcher in watchers {
        let states = tokio::time::timeout(Duration::from_secs(30), watcher).await.unwrap().unwrap();
        assert!(states.is_sorted_by_key(|state| state.revision));
        for state in states {
            assert_eq!(names(&state.configs), names(&accepted[&state.revision]), "{}", state.revision);
        }
    }
    // Both serve the last set, each row of it, and nothing else.
    let expected: Vec<_> = names(&accepted[&last]).into_iter().map(str::to_owned).collect();
    for writer in &writers {
        eventually(Duration::from_secs(30), async || match writer.served_by(expected.len()).await {
            served if served == expected => Ok(()),
            served => Err(format!("{served:?}")),
        })
        .await;
    }
}
