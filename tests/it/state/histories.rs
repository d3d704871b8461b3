//! Generated histories: the same picks, cooldowns and counts in memory and on a real Redis.
//!
//! Both stores' clocks stand still at the same time, and go on together by the test's word. So all that they remember must
//! be equal to the millisecond.

use crate::support::{redis::Redis, store::Store};
use futures::future::join_all;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rota::{
    balance::{
        Cooldown, Cooldowns, ErrorClass, Failure, LeaseId, Limits, Member, MemberKey, Roster, Scope,
        Strategy, Time, Window,
    },
    state::{Acquire, Acquired, Hold, Inspection, Lease, Outcome, Override, Role, Stand},
};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;
use uuid::Uuid;

const HISTORIES: u64 = 1000;
const STEPS: usize = 60;
/// Later than Redis's own clock, so that a script that reads that one shows.
const BEGINNING: u64 = 4_000_000_000_000;

/// On one thread, so that those who ask at once share a command for certain, in the order in which they ask.
#[tokio::test]
async fn memory_and_redis_choose_the_same_from_the_same_history() {
    let url = Redis::shared().await.url();
    let mut workers = JoinSet::new();
    for worker in 0..4 {
        let url = url.clone();
        workers.spawn(async move {
            let redis = Store::redis_at(url).await;
            let mut seen = [0; 3];
            for seed in (worker..HISTORIES).step_by(4) {
                let played = History::new(seed, redis.clone()).play().await;
                seen = std::array::from_fn(|kind| seen[kind] + played[kind]);
            }
            seen
        });
    }
    let seen = workers.join_all().await;
    let [granted, tries, resorts] = [0, 1, 2].map(|kind| seen.iter().map(|seen| seen[kind]).sum::<usize>());
    println!(
        "{granted} calls were granted, {tries} of them as trials or beside one, {resorts} as a last resort"
    );
    // Histories in which nothing happens would agree as well.
    assert!(granted > HISTORIES as usize * 10 && tries > 1_000 && resorts > 50);
}

/// One history, played on both stores at once.
struct History {
    seed: u64,
    random: StdRng,
    memory: Store,
    redis: Store,
    pool: Roster,
    /// Whether most calls fail in a way that cools by a guess.
    outage: bool,
    held: Vec<[Lease; 2]>,
    lookaside: Vec<[Lease; 2]>,
    granted: usize,
    joined: usize,
    resorted: usize,
}

impl History {
    fn new(seed: u64, redis: Store) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let strategy = Strategy::ALL[random.random_range(0..Strategy::ALL.len())];
        let members =
            (1..=random.random_range(1..=6)).map(|ordinal| any_member(ordinal, &mut random)).collect();
        let (last_resort, waits) = (random.random_ratio(3, 4), random.random());
        let pool =
            Roster { id: Uuid::new_v4(), tenant: Uuid::new_v4(), strategy, last_resort, members, waits };
        let (memory, outage) = (Store::memory(), random.random_ratio(1, 4));
        for store in [&memory, &redis] {
            store.stop_at(Time::from_millis(BEGINNING + seed * 1_000));
        }
        let (held, lookaside) = (Vec::new(), Vec::new());
        let (granted, joined, resorted) = (0, 0, 0);
        Self { seed, random, memory, redis, pool, outage, held, lookaside, granted, joined, resorted }
    }

    async fn play(mut self) -> [usize; 3] {
        for step in 0..STEPS {
            let at = format!("seed {}, step {step}, {:?}", self.seed, self.pool.strategy);
            match self.random.random_range(0..20) {
                0..7 => self.acquire(&at).await,
                7..9 => self.acquire_at_once(&at).await,
                9..14 => self.finish().await,
                14..17 => self.pass().await,
                17 => self.edit(),
                18 => self.override_cooldown().await,
                _ => self.end_lookaside(&at).await,
            }
            // Otherwise memory would be compared with memory. A store that has lost Redis says so for longer than a step.
            assert!(!self.redis.degraded(), "{at}: Redis was away");
            if step % 4 != 3 && step != STEPS - 1 {
                continue;
            }
            let (a, b) = (self.seen(&self.memory).await, self.seen(&self.redis).await);
            assert_eq!(a, b, "{at}");
        }
        [self.granted, self.joined, self.resorted]
    }

    async fn pass(&mut self) {
        let longest = [10, 300, 2_000, 120_000][self.random.random_range(0..4)];
        let by = Duration::from_millis(self.random.random_range(0..longest));
        self.memory.pass(by);
        self.redis.pass(by);
        self.redis.server().heartbeat().await.unwrap();
    }

    async fn acquire(&mut self, at: &str) {
        let tried: Vec<_> = (0..self.pool.members.len()).filter(|_| self.random.random_ratio(1, 6)).collect();
        let tokens = self.random.random_range(0..400);
        let hold = self.random.random_ratio(1, 6).then_some(Hold { ttl: Duration::from_secs(25), most: 5 });
        let failed = match self.held.len() {
            0 => None,
            count if self.random.random_ratio(1, 3) => {
                Some((self.held.swap_remove(self.random.random_range(0..count)), self.any_cooldown()))
            }
            _ => None,
        };
        let is_last = self.random.random_ratio(3, 4);
        let lease = LeaseId::new(rand::random());
        let pool = Arc::new(self.pool.clone());
        let stores = [&self.memory, &self.redis];
        let role = if self.random.random() { Role::Joining } else { Role::Passing };
        let stand = Stand { role, left: Duration::from_secs(7200), ..Stand::default() };
        let (mut answers, mut outlooks) = (Vec::new(), Vec::new());
        for (index, store) in stores.into_iter().enumerate() {
            let failed = failed.as_ref().map(|(leases, cooldown)| (&leases[index], cooldown));
            let trial_ttl = Duration::from_secs(35);
            let ask = Acquire {
                pool: &pool,
                tried: &tried,
                failed,
                lease,
                trial_ttl,
                tokens,
                hold,
                is_last,
                stand,
            };
            let answer = store.acquire(&ask).await;
            assert!(!answer.degraded, "{at}: decided alone");
            outlooks.push(answer.outlook);
            answers.push(answer.acquired);
            if let Some((lease, _)) = failed {
                store.release(lease, None);
            }
        }
        // It goes at once, so that nobody has to wait behind it.
        self.redis.leave(&pool);
        self.redis.flush().await;
        let stands = match &answers[0] {
            Acquired::TrialRunning => true,
            Acquired::Exhausted { first_back } => pool.waits && first_back.is_some(),
            Acquired::Granted { .. } | Acquired::TooManyLeases { .. } => false,
        };
        assert!(role == Role::Passing || !stands || outlooks[0] == outlooks[1], "{at}: {outlooks:?}");
        let [one, other] = <[Acquired; 2]>::try_from(answers).unwrap();
        self.compare(one, other, hold.is_some(), at);
    }

    /// Both stores must have answered the same.
    fn compare(&mut self, one: Acquired, other: Acquired, ends_by_itself: bool, at: &str) {
        match (one, other) {
            (Acquired::Granted { index: a, lease: one }, Acquired::Granted { index: b, lease: two }) => {
                assert_eq!((a, &one), (b, &two), "{at}");
                self.granted += 1;
                self.joined += usize::from(one.trial && !one.last_resort);
                self.resorted += usize::from(one.last_resort);
                if ends_by_itself { &mut self.lookaside } else { &mut self.held }.push([one, two]);
            }
            (Acquired::TrialRunning, Acquired::TrialRunning) => {}
            (Acquired::TooManyLeases { first_ends: a }, Acquired::TooManyLeases { first_ends: b }) => {
                assert_eq!(a, b, "{at}");
            }
            (Acquired::Exhausted { first_back: a }, Acquired::Exhausted { first_back: b }) => {
                assert_eq!(a, b, "{at}");
            }
            other => panic!("{at}: {other:?}"),
        }
    }

    /// Several ask at the same moment: on Redis they share a command, in memory one comes after the other.
    async fn acquire_at_once(&mut self, at: &str) {
        let pool = Arc::new(self.pool.clone());
        let asks: Vec<_> = (0..self.random.random_range(2..8))
            .map(|_| Acquire {
                pool: &pool,
                tried: &[],
                failed: None,
                lease: LeaseId::new(rand::random()),
                trial_ttl: Duration::from_secs(35),
                tokens: self.random.random_range(0..400),
                hold: None,
                is_last: self.random.random_ratio(3, 4),
                stand: Stand::default(),
            })
            .collect();
        let shared = join_all(asks.iter().map(|ask| self.redis.together(ask))).await;
        for (place, (ask, shared)) in asks.iter().zip(shared).enumerate() {
            let alone = self.memory.together(ask).await;
            self.compare(alone, shared, false, &format!("{at}, caller {place}"));
        }
    }

    async fn finish(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let leases = self.held.swap_remove(self.random.random_range(0..self.held.len()));
        let failing = if self.outage { 2 } else { 1 };
        let failure = self.random.random_ratio(failing, 3).then(|| self.any_cooldown());
        let served = self.random.random_ratio(4, 5);
        let used = self.random.random_bool(0.5).then(|| self.random.random_range(0..600));
        let stores = [&self.memory, &self.redis];
        for (store, lease) in stores.into_iter().zip(&leases) {
            match &failure {
                Some(cooldown) => store.fail(&lease.attempt(), cooldown).await,
                None if served => store.succeed(lease),
                None => {}
            }
            store.release(lease, used);
        }
        self.redis.flush().await;
    }

    async fn end_lookaside(&mut self, at: &str) {
        if self.lookaside.is_empty() {
            return;
        }
        let renew = self.random.random_bool(0.5);
        let chosen = self.random.random_range(0..self.lookaside.len());
        let outcome = self.random.random_range(0..3);
        let cooldown = self.any_cooldown();
        let outcome = [Outcome::Served, Outcome::Unknown, Outcome::Failed(&cooldown)][outcome];
        let leases = &self.lookaside[chosen];
        let stores = [&self.memory, &self.redis];
        let mut answers = Vec::new();
        for (store, lease) in stores.into_iter().zip(leases) {
            answers.push(if renew {
                store.renew(lease, Duration::from_secs(45)).await
            } else {
                store.end(lease, Some(50), outcome).await
            });
        }
        assert_eq!(answers[0], answers[1], "{at}: renew {renew}, {outcome:?}");
    }

    /// A member goes, comes, or changes its key, its weight or its tier.
    fn edit(&mut self) {
        let mut members = self.pool.members.to_vec();
        let count = members.len();
        let chosen = self.random.random_range(0..count);
        match self.random.random_range(0..4) {
            0 if count > 1 => drop(members.remove(chosen)),
            1 => {
                let ordinal = members.last().map_or(1, |last| last.key.ordinal + 1);
                let member = any_member(ordinal, &mut self.random);
                members.push(member);
            }
            2 => {
                members[chosen].key.record = self.random.random_range(0..9).to_string().into();
            }
            _ => {
                let ordinal = members[chosen].key.ordinal;
                let key = members[chosen].key.clone();
                members[chosen] = Member { key, ..any_member(ordinal, &mut self.random) };
            }
        }
        self.pool.members = members.into();
    }

    async fn override_cooldown(&mut self) {
        let member = self.pool.members[self.random.random_range(0..self.pool.members.len())].clone();
        let change = match self.random.random_range(0..3) {
            0 => Override::Set { duration: self.any_duration(), class: self.any_class() },
            1 => Override::Clear,
            _ => Override::Recover,
        };
        self.memory.override_cooldown(&self.pool, &member, change).await;
        self.redis.override_cooldown(&self.pool, &member, change).await;
    }

    /// All that is known of the pool.
    async fn seen(&self, store: &Store) -> Inspection {
        let mut seen = store.inspect(&self.pool).await;
        for (member, state) in self.pool.members.iter().zip(&mut seen.members) {
            // What was counted before an edit took its limit away, only Redis tells.
            if member.limits.requests_per_minute == 0 {
                state.requests = Window::default();
            }
            if member.limits.tokens_per_minute == 0 {
                state.tokens = Window::default();
            }
        }
        seen
    }

    fn any_class(&mut self) -> ErrorClass {
        ErrorClass::ALL[self.random.random_range(0..7)]
    }

    fn any_duration(&mut self) -> Duration {
        Duration::from_secs(10 * self.random.random_range(0..9) + 5)
    }

    fn any_cooldown(&mut self) -> Cooldown {
        if self.outage && self.random.random_ratio(9, 10) {
            let failure = Failure::new(ErrorClass::Timeout, "");
            return Cooldowns::default().decide(&failure, self.random.random()).unwrap();
        }
        Cooldown {
            class: self.any_class(),
            scope: if self.random.random() { Scope::Member } else { Scope::Credential },
            duration: self.any_duration(),
            max: Duration::from_secs(155),
            grows: self.random.random(),
            hinted: self.random.random(),
            trip_after: self.random.random_range(1..4),
            is_guess: self.random.random_ratio(3, 4),
        }
    }
}

fn any_member(ordinal: u32, random: &mut StdRng) -> Member {
    let limit =
        |random: &mut StdRng, most| if random.random_ratio(1, 3) { random.random_range(1..most) } else { 0 };
    Member {
        // Two in a pool may be alike.
        key: MemberKey::new(ordinal, random.random_range(0..9).to_string()),
        credential: format!("credential-{}", random.random_range(0..4)).into(),
        address: "".into(),
        priority: random.random_range(0..2),
        weight: random.random_range(1..10),
        limits: Limits {
            requests_per_minute: limit(random, 12),
            tokens_per_minute: limit(random, 3000),
            max_concurrency: limit(random, 5),
        },
    }
}
