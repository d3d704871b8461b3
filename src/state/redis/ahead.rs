//! What this replica keeps of the pools it picks from: their members as the script takes them, what is in flight and is
//! still to be told, and, where the operator lets it, turns in advance.
//!
//! A run of turns is what the next picks would have been, one after the other, of members that were well when it was
//! taken. Under load a replica takes as many as it has lately used in [`SPAN`], so that a pick asks nobody; idle, it takes
//! none. Every replica serves its own runs in their order, so shares differ from the exact ones by at most the turns
//! that all replicas hold: their number times the longest run.
//!
//! A member that cools leaves every run: here with the answer that says so, elsewhere by a word over pub/sub
//! ([`changes`](super::changes)). While no such word can come, turns are not used. Nor are they from the moment at which
//! somebody's cooldown ends until Redis was asked again, since a trial may be due, which is one call's over all replicas.
//! What a run holds of somebody else is never thrown away but with the roster it was made for, so that nobody loses turns.

use super::{
    codec::{Cooling, Question, Turns, most_turns, packed, ring},
    keys::Keys,
    script::Run,
    writer::{Differences, PoolOf},
};
use crate::{
    balance::{Member, Pool, Scope},
    state::{Acquire, Lease, StateError, clock::millis},
};
use bytes::Bytes;
use dashmap::{DashMap, Entry};
use fred::types::Value;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;
use uuid::Uuid;

/// A run is meant to last this long.
const SPAN: Duration = Duration::from_millis(50);
/// After an answer without turns, or none at all, nobody asks again for this long.
const PAUSE: Duration = Duration::from_millis(5);
/// The time to live of a pool's keys is moved this often: well within that of a replica.
const REFRESH: Duration = Duration::from_secs(5);
/// What has not been picked from for this long is forgotten.
const KEPT: Duration = Duration::from_secs(600);

/// See the module's documentation.
pub(super) struct Ahead {
    /// The most turns of a pool held at once; up to 1: every pick asks Redis.
    most: usize,
    /// Whether word of cooldowns comes.
    listening: AtomicBool,
    /// Counts how often all turns were forgotten: those asked for before are forgotten too.
    forgotten: AtomicU64,
    pools: DashMap<Uuid, Kept>,
    /// Calls that have begun and ended since it was last told, by pool.
    counts: DashMap<PoolOf, Differences>,
}

struct Kept {
    pool: Arc<Pool>,
    /// As the script takes them.
    keys: Vec<Value>,
    ring: Option<Bytes>,
    members: Bytes,
    refreshed: Option<Instant>,
    used: Instant,
    run: Held,
}

#[derive(Default)]
struct Held {
    /// The members' indices, and whether each has a record.
    turns: VecDeque<(usize, bool)>,
    /// When the last of them were taken: on Redis's clock, and on ours.
    taken: Option<(u64, Instant)>,
    /// When somebody may be back who is not among them.
    back: Option<Instant>,
    /// Those on their way, and who has begun to cool since they were asked for, until when.
    filling: Option<Filling>,
    cooled: Vec<(usize, Instant)>,
    not_before: Option<Instant>,
    /// Picks since then, and how many that is in a span.
    picks: u32,
    since: Option<Instant>,
    wanted: usize,
}

/// How a pick goes on.
#[derive(Default)]
pub(super) struct Taken {
    /// A turn that was held.
    pub(super) lease: Option<(usize, Lease)>,
    /// More are needed.
    pub(super) fill: Option<Fill>,
    /// None was held, but some are on their way.
    pub(super) wait: Option<Filling>,
}

/// Turns to be asked for.
pub(super) struct Fill {
    pub(super) turns: usize,
    forgotten: u64,
    done: watch::Sender<Option<Result<(), StateError>>>,
}

/// Turns that were asked for.
#[derive(Clone)]
pub(super) struct Filling(watch::Receiver<Option<Result<(), StateError>>>);

impl Filling {
    /// Waits until they are there.
    pub(super) async fn done(mut self) -> Result<(), StateError> {
        let done = self.0.wait_for(Option::is_some).await.ok().and_then(|done| done.clone());
        done.unwrap_or_else(|| Err(StateError("the command was dropped".into())))
    }
}

impl Ahead {
    pub(super) fn new(most: u32) -> Self {
        Self {
            most: most as usize,
            listening: AtomicBool::new(false),
            forgotten: AtomicU64::new(0),
            pools: DashMap::new(),
            counts: DashMap::new(),
        }
    }

    /// Whether any turns are taken in advance at all.
    pub(super) fn is_on(&self) -> bool {
        self.most > 1
    }

    /// What the script is asked about that pool, and whether the answer is one to [`refreshed`](Self::refreshed). `own` says
    /// that the holder is this replica.
    pub(super) fn run(
        &self,
        pool: &Arc<Pool>,
        holder: String,
        own: bool,
        question: &Question<'_>,
    ) -> Result<(Run, bool), StateError> {
        let now = Instant::now();
        let kept = self.kept(pool, now)?;
        let ring = kept.ring.clone().filter(|_| question.is_for_turns_alone());
        let mode = match &ring {
            None => "",
            Some(_) if question.told_later => "later",
            Some(_) if own && kept.refreshed.is_some_and(|at| now < at + REFRESH) => "plain",
            Some(_) => "refresh",
        };
        let args = vec![
            Value::from_static_str(mode),
            holder.into(),
            Value::Bytes(ring.unwrap_or_default()),
            Value::Bytes(kept.members.clone()),
            Value::Bytes(question.packed(pool)?),
            i64::try_from(question.turns.max(1)).unwrap_or(i64::MAX).into(),
        ];
        Ok((Run::of(kept.keys.clone(), args), own && mode == "refresh"))
    }

    /// Notes that the time to live of the pool's keys and of this replica has been moved. Not before it was: what is counted for a
    /// holder that is not known yet would be taken for a dead one's.
    pub(super) fn refreshed(&self, pool: &Arc<Pool>) {
        if let Some(mut kept) = self.pools.get_mut(&pool.id).filter(|kept| Arc::ptr_eq(&kept.pool, pool)) {
            kept.refreshed = Some(Instant::now());
        }
    }

    /// Notes that so many more calls than before are in flight on the lease's member.
    pub(super) fn count(&self, lease: &Lease, difference: i64) {
        let mut counts = self.counts.entry((lease.tenant, lease.pool)).or_default();
        *counts.entry(lease.member.key.clone()).or_default() += difference;
    }

    fn kept(
        &self,
        pool: &Arc<Pool>,
        now: Instant,
    ) -> Result<dashmap::mapref::one::RefMut<'_, Uuid, Kept>, StateError> {
        let fresh = || {
            let keys = Keys::of(pool.tenant, pool.id).all().into_iter().map(Value::from);
            Ok(Kept {
                pool: pool.clone(),
                keys: keys.collect(),
                ring: ring(pool),
                members: packed(pool)?,
                refreshed: None,
                used: now,
                run: Held::default(),
            })
        };
        match self.pools.entry(pool.id) {
            Entry::Vacant(entry) => Ok(entry.insert(fresh()?)),
            Entry::Occupied(mut entry) => {
                let kept = entry.get_mut();
                kept.used = now;
                if !Arc::ptr_eq(&kept.pool, pool) {
                    *kept = fresh()?;
                }
                Ok(entry.into_ref())
            }
        }
    }

    /// The next turn of the pool that is held, where the question is one that it answers.
    pub(super) fn take(&self, ask: &Acquire<'_>) -> Result<Taken, StateError> {
        let first = ask.failed.is_none() && ask.tried.is_empty() && ask.hold.is_none();
        if !(self.is_on() && first && ask.pool.has_turns_in_advance()) {
            return Ok(Taken::default());
        }
        let now = Instant::now();
        let mut kept = self.kept(ask.pool, now)?;
        let run = &mut kept.run;
        run.count(now, self.most);
        if !self.listening.load(Ordering::SeqCst) {
            return Ok(Taken::default());
        }
        let asks = run.back.is_some_and(|back| now >= back);
        let turn = if asks { None } else { run.turns.pop_front() };
        let most = run.wanted.min(most_turns(ask.pool));
        let due = run.filling.is_none() && run.not_before.is_none_or(|at| now >= at);
        let fill = (due && most > 1 && (turn.is_none() || run.turns.len() <= most / 4)).then(|| {
            let (done, filling) = watch::channel(None);
            run.filling = Some(Filling(filling));
            run.cooled.clear();
            let turns = most.saturating_sub(run.turns.len()).max(1);
            Fill { turns, forgotten: self.forgotten.load(Ordering::SeqCst), done }
        });
        // Asking by itself takes no less time.
        let wait = if asks || turn.is_some() { None } else { run.filling.clone() };
        let member = turn.and_then(|(index, marked)| Some((index, marked, ask.pool.members.get(index)?)));
        let lease = member.zip(run.taken).map(|((index, marked, member), (began, at))| {
            let lease = Lease {
                id: ask.lease,
                tenant: ask.pool.tenant,
                pool: ask.pool.id,
                member: member.clone(),
                began: began.saturating_add(millis(now.saturating_duration_since(at))),
                trial: false,
                marked,
                tokens: ask.tokens,
            };
            (index, lease)
        });
        drop(kept);
        if let Some((_, lease)) = &lease {
            self.count(lease, 1);
        }
        Ok(Taken { lease, fill, wait })
    }

    /// The turns that were asked for have come, or an error.
    pub(super) fn filled(&self, pool: &Arc<Pool>, fill: Fill, answer: Result<Turns, StateError>) {
        let done = answer.as_ref().map(drop).map_err(StateError::clone);
        if let Some(mut kept) = self.pools.get_mut(&pool.id).filter(|kept| Arc::ptr_eq(&kept.pool, pool)) {
            self.fill(&mut kept.run, &fill, answer);
        }
        fill.done.send_replace(Some(done));
    }

    fn fill(&self, run: &mut Held, fill: &Fill, answer: Result<Turns, StateError>) {
        let now = Instant::now();
        run.filling = None;
        match answer {
            Ok(turns)
                if self.listening.load(Ordering::SeqCst)
                    && self.forgotten.load(Ordering::SeqCst) == fill.forgotten =>
            {
                let cooled = std::mem::take(&mut run.cooled);
                let back = turns.back.map(|back| now + back);
                run.back = cooled.iter().map(|(_, back)| *back).chain(back).min();
                run.taken = Some((turns.now, now));
                run.not_before = turns.next.is_empty().then(|| now + PAUSE);
                let is_well = |index: usize| cooled.iter().all(|(cooled, _)| *cooled != index);
                run.turns.extend(turns.next.into_iter().filter(|(index, _)| is_well(*index)));
            }
            _ => run.not_before = Some(now + PAUSE),
        }
    }

    /// An answer says who of the pool cools.
    pub(super) fn learn(&self, pool: &Arc<Pool>, cooling: &[Cooling]) {
        if self.is_on()
            && !cooling.is_empty()
            && let Some(mut kept) = self.pools.get_mut(&pool.id).filter(|kept| Arc::ptr_eq(&kept.pool, pool))
        {
            for one in cooling {
                kept.run.drop(one.index, one.left);
            }
        }
    }

    /// Those of that pool who share a record of that name cool for so long.
    pub(super) fn record_cooled(&self, pool: Uuid, record: &str, left: Duration) {
        if self.is_on()
            && let Some(mut kept) = self.pools.get_mut(&pool)
        {
            kept.drop(left, |member| member.record() == record);
        }
    }

    /// A credential of that tenant cools for so long, in all pools.
    pub(super) fn credential_cooled(&self, tenant: Uuid, credential: &str, left: Duration) {
        if self.is_on() {
            for mut kept in self.pools.iter_mut().filter(|kept| kept.pool.tenant == tenant) {
                kept.drop(left, |member| *member.credential == *credential);
            }
        }
    }

    /// The failure of that call has its member cool for so long, or its credential.
    pub(super) fn failed(&self, lease: &Lease, scope: Scope, left: Duration) {
        match scope {
            Scope::Member => self.record_cooled(lease.pool, lease.member.record(), left),
            Scope::Credential => self.credential_cooled(lease.tenant, &lease.member.credential, left),
        }
    }

    /// Whether word of cooldowns comes from now on. What was held while none came is not known to be right.
    pub(super) fn listen(&self, listening: bool) {
        if !listening {
            self.listening.store(false, Ordering::SeqCst);
        }
        self.forget();
        if listening {
            self.listening.store(true, Ordering::SeqCst);
        }
    }

    /// Forgets all turns: the server that gave them is another, or has lost its memory.
    pub(super) fn forget(&self) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        for mut kept in self.pools.iter_mut() {
            kept.refreshed = None;
            kept.run.turns.clear();
        }
    }

    /// Notes that a call is over; false where that is to be said at once, since others wait for it.
    pub(super) fn release(&self, lease: &Lease) -> bool {
        let waits =
            self.is_on() && self.pools.get(&lease.pool).is_some_and(|kept| kept.pool.has_turns_in_advance());
        if waits {
            self.count(lease, -1);
        }
        waits
    }

    /// What has become more or less in flight since the last time.
    pub(super) fn take_counts(&self) -> Vec<(PoolOf, Differences)> {
        let mut all = Vec::new();
        self.counts.retain(|pool, differences| {
            all.push((*pool, std::mem::take(differences)));
            false
        });
        all
    }

    /// Forgets pools that nobody picks from any more.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        self.pools.retain(|_, kept| now < kept.used + KEPT);
    }
}

impl Kept {
    /// Those of the members cool for so long.
    fn drop(&mut self, left: Duration, cools: impl Fn(&Member) -> bool) {
        let Self { pool, run, .. } = self;
        for (index, _) in pool.members.iter().enumerate().filter(|(_, member)| cools(member)) {
            run.drop(index, left);
        }
    }
}

impl Held {
    /// Counts a pick, and learns once a span how many there are in one.
    fn count(&mut self, now: Instant, most: usize) {
        self.picks += 1;
        let since = *self.since.get_or_insert(now);
        let took = now.saturating_duration_since(since);
        if took >= SPAN {
            self.wanted = ((f64::from(self.picks) * SPAN.div_duration_f64(took)) as usize).min(most);
            (self.picks, self.since) = (0, Some(now));
        }
    }

    /// That member cools for so long.
    fn drop(&mut self, index: usize, left: Duration) {
        self.turns.retain(|(turn, _)| *turn != index);
        let back = Instant::now() + left;
        if self.filling.is_some() {
            self.cooled.push((index, back));
        }
        self.back = Some(self.back.map_or(back, |known| known.min(back)));
    }
}
