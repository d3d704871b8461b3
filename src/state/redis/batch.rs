//! Asks Redis once for all who ask at the same moment.
//!
//! Under load many calls want a member of one pool between two looks at the network. They share a command: it picks for
//! one after the other, as if each had asked alone, and nobody else's command comes between. So shares over all replicas
//! are as exact as with a command each. A caller who has more to say has a command of its own: that an attempt has failed,
//! which members it has tried, or that its lease ends by itself.
//!
//! A pool has two commands under way at most. Who comes meanwhile waits for the next, which serves all of them. So a large pool
//! holds up the others for as long as two of its commands take, and callers who are few wait for nobody. Commands of a caller's
//! own cannot be shared: as many of them are under way as weigh no more.

use super::{
    codec::{self, Caller, CoolingMember, Question, failure},
    rosters::{MOST_LOOKED_AT, most_callers},
    script::ACQUIRE,
    shared::Shared,
};
use crate::{
    balance::Roster,
    redis::{RedisError, Result},
    state::{Acquire, Acquired, Answer},
};
use dashmap::DashMap;
use fred::types::Value;
use std::{cmp::Reverse, collections::VecDeque, mem, sync::Arc};
use tokio::{sync::oneshot, task::yield_now};
use uuid::Uuid;

/// So many commands of a pool are under way.
const UNDER_WAY: usize = 2;

/// See the module's documentation.
pub(super) struct Batches {
    shared: Arc<Shared>,
    lanes: DashMap<LaneOf, Lane>,
}

/// A pool, and whether it is the lane of commands that serve one caller.
type LaneOf = (Uuid, bool);

/// The commands of a pool.
#[derive(Default)]
struct Lane {
    under_way: usize,
    waiting: VecDeque<Batch>,
}

/// Callers whom one command serves, in the order in which they asked, and where each waits for its answer.
struct Batch {
    question: Question,
    callers: Vec<(Caller, Sender)>,
}

type Sender = oneshot::Sender<Result<Reply>>;

/// An answer on its way to its caller.
struct Reply {
    answer: Option<Answer>,
    cooling: Arc<[CoolingMember]>,
    /// Where the lease is given back if the caller has gone. None where it ends by itself.
    shared: Option<Arc<Shared>>,
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(Answer { acquired: Acquired::Granted { lease, .. }, .. }) = &self.answer
            && let Some(shared) = &self.shared
        {
            shared.release(lease, Some(0));
        }
    }
}

impl Batches {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, lanes: DashMap::new() }
    }

    /// Picks, and says who of the pool cools.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        ask: &Acquire<'_>,
    ) -> Result<(Answer, Arc<[CoolingMember]>)> {
        let (sender, reply) = oneshot::channel();
        let Acquire { lease, trial_ttl, tokens, is_last, stand, .. } = *ask;
        let caller = (Caller { lease, trial_ttl, tokens, is_last, stand }, sender);
        let failed = ask.failed.map(|(lease, cooldown)| failure(&lease.attempt(), cooldown));
        let question = Question {
            pool: ask.pool.clone(),
            hold: ask.hold,
            tried: ask.tried.to_vec(),
            failed: failed.unwrap_or_default(),
        };
        self.join(question, caller);
        let mut reply =
            reply.await.map_err(|_| RedisError::new("the command was dropped").of_command())??;
        let answer = reply.answer.take().ok_or_else(codec::unexpected)?;
        Ok((answer, reply.cooling.clone()))
    }

    /// Adds a caller to those of that pool, and sees to it that somebody asks for them.
    fn join(self: &Arc<Self>, question: Question, caller: (Caller, Sender)) {
        let pool = question.pool.clone();
        let of = (pool.id, !question.is_shared());
        let most = if of.1 { (MOST_LOOKED_AT / pool.members.len().max(1)).max(UNDER_WAY) } else { UNDER_WAY };
        let mut lane = self.lanes.entry(of).or_default();
        if let Some(last) = lane.waiting.back_mut().filter(|last| !of.1 && last.takes(&pool)) {
            last.callers.push(caller);
            return;
        }
        lane.waiting.push_back(Batch { question, callers: vec![caller] });
        if lane.under_way < most {
            lane.under_way += 1;
            let runner = Runner { batches: self.clone(), of, ended: false };
            // In a task of its own, so that it goes on where the caller goes away.
            tokio::spawn(runner.run());
        }
    }
}

impl Batches {
    fn forget(&self, of: &LaneOf) {
        self.lanes.remove_if(of, |_, lane| lane.under_way == 0 && lane.waiting.is_empty());
    }
}

impl Batch {
    /// Whether one more caller of that pool can be served by it: its members have not changed in this moment, and it is not
    /// full.
    fn takes(&self, pool: &Arc<Roster>) -> bool {
        Arc::ptr_eq(&self.question.pool, pool) && self.callers.len() < most_callers(pool)
    }
}

/// Sends the commands of a lane one after the other, until none waits.
struct Runner {
    batches: Arc<Batches>,
    of: LaneOf,
    ended: bool,
}

impl Runner {
    async fn run(mut self) {
        let (_, is_of_one) = self.of;
        if !is_of_one {
            // Whoever is about to ask does so first.
            yield_now().await;
        }
        while let Some(batch) = self.next() {
            if let Err(error) = send(self.batches.shared.clone(), batch).await {
                // Those who wait need not wait as long for the same.
                let waiting =
                    self.batches.lanes.get_mut(&self.of).map(|mut lane| mem::take(&mut lane.waiting));
                for (_, sender) in waiting.into_iter().flatten().flat_map(|batch| batch.callers) {
                    let _ = sender.send(Err(error.clone()));
                }
            }
        }
    }

    /// The next that waits. Where none does, this one is no longer under way from that moment on.
    fn next(&mut self) -> Option<Batch> {
        let mut lane = self.batches.lanes.get_mut(&self.of)?;
        let batch = lane.waiting.pop_front();
        if batch.is_none() {
            self.ended = true;
            lane.under_way = lane.under_way.saturating_sub(1);
            drop(lane);
            self.batches.forget(&self.of);
        }
        batch
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // It has panicked. Whoever waits is told by that.
        if let Some(mut lane) = self.batches.lanes.get_mut(&self.of) {
            lane.under_way = lane.under_way.saturating_sub(1);
            lane.waiting.clear();
        }
        self.batches.forget(&self.of);
    }
}

/// Asks for those of a batch.
///
/// # Errors
/// Why there is no answer; each of them has been told.
async fn send(shared: Arc<Shared>, batch: Batch) -> Result<()> {
    let Batch { question, callers } = batch;
    let mut there: Vec<_> = callers.into_iter().filter(|(_, sender)| !sender.is_closed()).collect();
    // Those who were woken together ask in any order.
    there.sort_by_key(|(caller, _)| Reverse(caller.stand.age));
    let (callers, senders): (Vec<_>, Vec<_>) = there.into_iter().unzip();
    if callers.is_empty() && question.failed.is_empty() {
        return Ok(());
    }
    match pick(&shared, &question, &callers).await {
        Ok((answers, cooling)) => {
            let owner = question.hold.is_none().then_some(shared);
            for (sender, answer) in senders.into_iter().zip(answers) {
                let reply = Reply { answer: Some(answer), cooling: cooling.clone(), shared: owner.clone() };
                // It comes back, and is dropped, where the caller has gone.
                let _ = sender.send(Ok(reply));
            }
            Ok(())
        }
        Err(error) => {
            for sender in senders {
                let _ = sender.send(Err(error.clone()));
            }
            Err(error)
        }
    }
}

async fn pick(
    shared: &Shared,
    question: &Question,
    callers: &[Caller],
) -> Result<(Vec<Answer>, Arc<[CoolingMember]>)> {
    let (run, refreshes) = shared.rosters.run(question, callers, &shared.replica, shared.clock.ahead())?;
    let answer: Vec<Value> = shared.connection.run(&ACQUIRE, run).await?;
    let answers = codec::answers(&answer, &question.pool, callers)?;
    let granted = answers.iter().filter(|one| matches!(one.acquired, Acquired::Granted { .. })).count();
    if question.hold.is_none() {
        shared.begun(question.pool.tenant, granted as u32);
        if refreshes && granted > 0 {
            shared.rosters.refreshed(&question.pool);
        }
    }
    if let Some(broken) = codec::broken(&answer, callers.len()) {
        shared.found_broken(&question.pool, broken);
    }
    Ok((answers, codec::cooling(&answer, callers.len())))
}
