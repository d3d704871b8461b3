//! What `acquire.lua` is told of a pool whoever asks: its keys and its members, packed once.

use super::{
    codec::{Caller, Question, members, ring},
    keys::{Key, REPLICA_TTL, keys},
};
use crate::{
    balance::Roster,
    redis::{Args, Result, Run},
    state::STATE_TTL,
};
use bytes::Bytes;
use dashmap::{DashMap, mapref::one::RefMut};
use fred::types::Value;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// The time to live of a pool's keys is moved this often: well within that of a replica.
const REFRESH: Duration = Duration::from_secs(5);
/// What has not been picked from for this long is forgotten.
const KEPT: Duration = Duration::from_secs(600);
/// A command holds up nobody for longer than some milliseconds: it weighs so many members at most, over all its callers.
const MOST_WEIGHED: usize = 20_000;
/// The same where it looks at limits or at calls in flight anew for each caller.
pub(super) const MOST_LOOKED_AT: usize = 2_000;

/// How many callers may share a command for that pool.
pub(super) fn most_callers(pool: &Roster) -> usize {
    let once = pool.members.are_alike() && !pool.strategy.counts_in_flight();
    let most = if once { MOST_WEIGHED } else { MOST_LOOKED_AT };
    (most / pool.members.len().max(1)).max(1)
}

/// The pools that this replica has picked from lately.
#[derive(Default)]
pub(super) struct Rosters(DashMap<Uuid, Packed>);

struct Packed {
    pool: Arc<Roster>,
    keys: Vec<Value>,
    /// As `plain.lua` takes the members, where it serves.
    ring: Option<Bytes>,
    members: Bytes,
    /// The names of their records.
    records: Bytes,
    /// When the time to live of the pool's keys and of this replica was last moved.
    refreshed: Option<Instant>,
    used: Instant,
}

impl Rosters {
    /// The run of `acquire.lua` that answers those callers, and whether it moves the time to live of keys and replica.
    pub(super) fn run(
        &self,
        question: &Question,
        callers: &[Caller],
        replica: &str,
        ahead: i64,
    ) -> Result<(Run, bool)> {
        let packed = self.packed(&question.pool)?;
        let ring = packed.ring.clone().filter(|_| question.is_shared());
        let is_fresh = packed.refreshed.is_some_and(|at| at.elapsed() < REFRESH);
        let mode = match &ring {
            None => "",
            Some(_) if is_fresh => "plain",
            Some(_) => "refresh",
        };
        let args = Args::default()
            .text(mode)
            .bytes(ring.unwrap_or_default())
            .number(callers.len() as u64)
            .all([ahead])
            .text(replica)
            .millis(REPLICA_TTL)
            .millis(STATE_TTL)
            .bytes(packed.members.clone())
            .bytes(question.packed(callers)?)
            .bytes(packed.records.clone());
        Ok((Run::new(packed.keys.clone(), args), mode != "plain"))
    }

    /// Notes that the time to live of the pool's keys and of this replica has been moved. Not before it was: what is
    /// counted for a holder that is not known yet would be taken for a dead one's.
    pub(super) fn refreshed(&self, pool: &Arc<Roster>) {
        if let Some(mut packed) = self.0.get_mut(&pool.id).filter(|packed| Arc::ptr_eq(&packed.pool, pool)) {
            packed.refreshed = Some(Instant::now());
        }
    }

    /// Forgets what Redis knows: it is another server, or has lost its memory.
    pub(super) fn forget_refreshed(&self) {
        for mut packed in self.0.iter_mut() {
            packed.refreshed = None;
        }
    }

    /// Forgets pools that nobody picks from any more.
    pub(super) fn sweep(&self) {
        self.0.retain(|_, packed| packed.used.elapsed() < KEPT);
    }

    fn packed(&self, pool: &Arc<Roster>) -> Result<RefMut<'_, Uuid, Packed>> {
        let mut packed = self.0.entry(pool.id).or_try_insert_with(|| Packed::of(pool))?;
        packed.used = Instant::now();
        if !Arc::ptr_eq(&packed.pool, pool) {
            *packed = Packed::of(pool)?;
        }
        Ok(packed)
    }
}

impl Packed {
    fn of(pool: &Arc<Roster>) -> Result<Self> {
        let (members, records) = members(pool)?;
        Ok(Self {
            pool: pool.clone(),
            keys: keys(Key::ALL, pool.tenant, pool.id).map(Value::from).into(),
            ring: ring(pool),
            members,
            records,
            refreshed: None,
            used: Instant::now(),
        })
    }
}
