//! A rolling upgrade on one Redis: the scripts of the previous release beside ours, on the same keys. The files in
//! `previous/` are those of 3711e3c, unchanged; what they write is what the previous release has left behind.

use crate::support::{
    redis::Redis,
    store::{Store, cooldown, ring},
};
use fred::{
    interfaces::ClientLike,
    prelude::{Builder, Client, Config},
    types::{ClusterHash, CustomCommand, Value},
};
use rota::{
    balance::{Cooldown, ErrorClass, Limits, Member, Roster, Scope, Strategy},
    state::{Acquired, Lease},
};
use std::{sync::Arc, time::Duration};

const ACQUIRE: &str = concat!(
    include_str!("previous/plain.lua"),
    include_str!("previous/common.lua"),
    include_str!("previous/acquire.lua")
);
const FAIL: &str = concat!(include_str!("previous/common.lua"), include_str!("previous/fail.lua"));
const NOTE: &str = concat!(include_str!("previous/common.lua"), include_str!("previous/note.lua"));
const COUNT: &str = include_str!("previous/count.lua");

const REPLICA: &str = "previous";
const LONG: Duration = Duration::from_secs(600);
const MONTH: u64 = 30 * 24 * 3600 * 1000;

/// A replica of the previous release, as far as it talks to Redis.
struct Previous {
    client: Client,
    pool: Arc<Roster>,
    /// How far its clock is ahead, in milliseconds.
    offset: u64,
    leases: u128,
}

/// What it was given.
#[derive(Debug, PartialEq)]
struct Pick {
    index: usize,
    lease: String,
    began: u64,
    trial: bool,
    cooling: Vec<usize>,
}

impl Previous {
    async fn start(url: &str, pool: &Arc<Roster>) -> Self {
        let client = Builder::from_config(Config::from_url(url).unwrap()).build().unwrap();
        client.init().await.unwrap();
        Self { client, pool: pool.clone(), offset: 0, leases: 0 }
    }

    /// As that release names them.
    fn keys(&self) -> [String; 5] {
        let (tag, pool) = (self.pool.tenant.simple(), self.pool.id.simple());
        let of_pool = |what: &str| format!("rota:{{{tag}}}:{what}:{pool}");
        [
            of_pool("pool"),
            format!("rota:{{{tag}}}:credentials"),
            of_pool("in-flight"),
            format!("rota:{{{tag}}}:holders"),
            of_pool("used"),
        ]
    }

    async fn run(&self, script: &str, keys: &[&String], args: Vec<Value>) -> Value {
        let mut all: Vec<Value> = vec![script.into(), i64::try_from(keys.len()).unwrap().into()];
        all.extend(keys.iter().map(|key| Value::from(key.as_str())));
        all.extend(args);
        let command = CustomCommand::new_static("EVAL", ClusterHash::FirstKey, false);
        self.client.custom(command, all).await.unwrap()
    }

    async fn pick(&mut self) -> Pick {
        let answer = self.ask().await;
        let lease = format!("{:032x}", self.leases);
        let number = |at: usize| answer[at].as_i64().unwrap();
        assert_eq!(number(0), 1, "it was given none: {answer:?}");
        let cooling = answer[5..].chunks(3).map(|three| three[0].as_i64().unwrap() as usize).collect();
        Pick { index: number(1) as usize, lease, began: number(2) as u64, trial: number(3) == 1, cooling }
    }

    /// Whatever it answers.
    async fn ask(&mut self) -> Vec<Value> {
        self.leases += 1;
        let lease = format!("{:032x}", self.leases);
        let member = |member: &Member| {
            let key = format!("{}.{}", member.key.ordinal, member.key.record);
            let Limits { requests_per_minute, tokens_per_minute, .. } = member.limits;
            let credential = member.credential.to_string();
            let (ordinal, priority, weight) = (member.key.ordinal, member.priority, member.weight);
            (key, ordinal, priority, credential, weight, requests_per_minute, tokens_per_minute, 0)
        };
        let members: Vec<_> = self.pool.members.iter().map(member).collect();
        let none: [u8; 0] = [];
        let strategy = self.pool.strategy.name();
        let question = (self.offset, &lease, 15_000, 30_000, MONTH, strategy, 0, false, false, none, 0, none);
        let args = vec![
            "".into(),
            REPLICA.into(),
            "".into(),
            Value::Bytes(rmp_serde::to_vec(&members).unwrap().into()),
            Value::Bytes(rmp_serde::to_vec(&question).unwrap().into()),
            1.into(),
        ];
        let keys = self.keys();
        self.run(ACQUIRE, &keys.each_ref(), args).await.into_array()
    }

    fn named(&self, pick: &Pick) -> (String, String) {
        let member = &self.pool.members[pick.index];
        (format!("{}.{}", member.key.ordinal, member.key.record), member.credential.to_string())
    }

    async fn fail(&self, pick: &Pick, scope: &str, duration: Duration) {
        let (member, credential) = self.named(pick);
        let [pool, credentials, ..] = &self.keys();
        let millis = duration.as_millis().to_string();
        let began = pick.began.to_string();
        let (offset, month) = (self.offset.to_string(), MONTH.to_string());
        let args: [&str; 13] = [
            &offset,
            &month,
            &pick.lease,
            &member,
            &credential,
            scope,
            &began,
            &millis,
            &millis,
            "0",
            "1",
            "1",
            "RATE_LIMITED",
        ];
        self.run(FAIL, &[pool, credentials], args.map(Value::from).to_vec()).await;
    }

    async fn served(&self, pick: &Pick) {
        let (member, credential) = self.named(pick);
        let [pool, credentials, counts, _, used] = &self.keys();
        let offset = self.offset.to_string();
        let args: [&str; 5] = [&offset, "served", &pick.lease, &member, &credential];
        self.run(NOTE, &[pool, credentials, counts, used], args.map(Value::from).to_vec()).await;
    }

    async fn release(&self, pick: &Pick) {
        let (member, _) = self.named(pick);
        let [_, _, counts, holders, _] = &self.keys();
        let (offset, month) = (self.offset.to_string(), MONTH.to_string());
        let args: [&str; 6] = [&offset, REPLICA, "15000", &month, &member, "-1"];
        self.run(COUNT, &[counts, holders], args.map(Value::from).to_vec()).await;
    }
}

async fn in_flight(store: &Store, pool: &Roster) -> Vec<u32> {
    store.inspect(pool).await.members.iter().map(|member| member.in_flight).collect()
}

async fn both(pool: &Arc<Roster>) -> (Previous, Store) {
    let url = Redis::shared().await.url();
    (Previous::start(&url, pool).await, Store::redis_at(url).await)
}

#[tokio::test]
async fn turns_and_counts_are_shared_with_the_previous_release() {
    let pool = ring(1..=4);
    let (mut old, new) = both(&pool).await;
    let (mut olds, mut news) = (Vec::new(), Vec::<Lease>::new());
    let mut served = Vec::new();
    for turn in 0..12 {
        if turn % 3 == 0 {
            let (index, lease) = new.take(&pool).await;
            news.push(lease);
            served.push(index);
        } else {
            let pick = old.pick().await;
            served.push(pick.index);
            olds.push(pick);
        }
    }
    assert_eq!(served, [0, 1, 2, 3].repeat(3));
    assert_eq!(in_flight(&new, &pool).await, [3; 4]);
    for lease in &news {
        new.release(lease, None);
    }
    new.flush().await;
    assert_eq!(in_flight(&new, &pool).await.iter().sum::<u32>(), 8);
    for pick in &olds {
        old.release(pick).await;
    }
    assert_eq!(in_flight(&new, &pool).await, [0; 4]);
}

#[tokio::test]
async fn weighted_turns_go_on_from_the_credits_of_the_previous_release() {
    let weighted = |(member, weight): (&Member, u32)| Member { weight, ..member.clone() };
    let members = ring(1..=3).members.iter().zip([5, 1, 1]).map(weighted).collect();
    let pool = Arc::new(Roster { strategy: Strategy::WeightedRoundRobin, members, ..(*ring([1])).clone() });
    let (mut old, new) = both(&pool).await;
    let expected = Store::memory().picks(&pool, 40).await;
    let mut served = Vec::new();
    for turn in 0..40 {
        served.push(if turn % 2 == 0 { old.pick().await.index } else { new.take(&pool).await.0 });
    }
    assert_eq!(served, expected);
}

#[tokio::test]
async fn cooldowns_and_trials_are_shared_with_the_previous_release() {
    for scope in ["member", "credential"] {
        let pool = ring(1..=3);
        let (mut old, new) = both(&pool).await;
        let first = old.pick().await;
        old.fail(&first, scope, LONG).await;
        let (left, class) = new.cooling(&pool, first.index).await.unwrap();
        assert!(class == ErrorClass::RateLimited && left > LONG / 2, "{scope}: {left:?}");
        let (second, lease) = new.take(&pool).await;
        new.fails(&lease, &cooldown(Scope::Member, LONG)).await;
        for _ in 0..4 {
            let pick = old.pick().await;
            assert_eq!((pick.index, pick.cooling), (2, vec![first.index, second]), "{scope}");
            assert_eq!(new.take(&pool).await.0, 2, "{scope}");
        }

        // Their cooldowns are over: a trial is one call's, whichever release takes it.
        new.pass(LONG);
        old.offset = u64::try_from(LONG.as_millis()).unwrap();
        let mut trials = Vec::new();
        for _ in 0..3 {
            let pick = old.pick().await;
            match new.ask(&pool).await {
                Acquired::Granted { lease, index } => {
                    if lease.trial {
                        trials.push(index);
                        new.succeed(&lease);
                    }
                }
                other => panic!("{other:?}"),
            }
            if pick.trial {
                trials.push(pick.index);
                old.served(&pick).await;
            }
            new.flush().await;
        }
        trials.sort_unstable();
        assert_eq!(trials, [0, 1], "{scope}");
        assert_eq!((new.cooling(&pool, 0).await, new.cooling(&pool, 1).await), (None, None));
    }
}

#[tokio::test]
async fn limits_are_shared_with_the_previous_release() {
    let limits = Limits { requests_per_minute: 8, tokens_per_minute: 1_000, ..Limits::default() };
    let members = ring([1]).members.iter().map(|member| Member { limits, ..member.clone() }).collect();
    let pool = Arc::new(Roster { members, ..(*ring([1])).clone() });
    let (mut old, new) = both(&pool).await;
    for _ in 0..4 {
        // What is settled is written by either in its own form.
        let (_, lease) = new.take(&pool).await;
        new.release(&lease, Some(10));
        new.flush().await;
        let pick = old.pick().await;
        old.release(&pick).await;
    }
    assert_eq!(old.ask().await[0].as_i64(), Some(3), "it is full");
    assert!(matches!(new.ask(&pool).await, Acquired::Exhausted { first_back: Some(_) }));
    new.pass(Duration::from_secs(65));
    new.take(&pool).await;
    let seen = &new.inspect(&pool).await;
    assert_eq!(seen.members[0].full_until(&limits, seen.now, 990), None, "what both have used is over");
}

#[tokio::test]
async fn a_guess_that_the_previous_release_has_written_over_is_none() {
    let pool = ring([1]);
    let (mut old, new) = both(&pool).await;
    let guess = Cooldown {
        hinted: false,
        is_guess: true,
        class: ErrorClass::ServerError,
        ..cooldown(Scope::Member, LONG)
    };
    let (_, lease) = new.take(&pool).await;
    let late = old.pick().await;
    new.fails(&lease, &guess).await;
    assert_eq!(old.ask().await[0].as_i64(), Some(3), "it cools for both");
    // Its provider names a time to the other.
    old.fail(&late, "member", LONG * 2).await;
    new.pass(Duration::from_secs(5));
    assert!(matches!(new.ask(&pool).await, Acquired::Exhausted { .. }));
    new.pass(LONG * 2);
    let (_, trial) = new.take(&pool).await;
    assert!(trial.trial && !trial.last_resort);
    new.succeed(&trial);
    new.flush().await;
    assert_eq!(new.cooling(&pool, 0).await, None);
}
