//! Asks Redis once for all who ask at the same moment.
//!
//! Under load many calls want a member of one pool between two looks at the network. They share a command: it picks for
//! one after the other, as if each had asked alone, and nobody else's command comes between. So shares over all replicas
//! are as exact as with a command each. A caller who has more to say has a command of its own: that an attempt has failed,
//! which members it has tried, or that its lease ends by itself.
//!
//! A command is sent at once, whether or not another is on its way: to wait for that would save commands, and cost callers
//! who are few up to a round trip.

use super::{
    RedisStore, Shared,
    codec::{self, CoolingMember, Question, failure},
    holder,
    rosters::most_callers,
};
use crate::{
    balance::{LeaseId, Roster},
    state::{Acquire, Acquired, StateError},
};
use dashmap::{DashMap, Entry};
use fred::types::Value;
use std::{sync::Arc, time::Duration};
use tokio::{sync::oneshot, task::yield_now};
use uuid::Uuid;

/// Callers for whom nobody has asked yet, by pool.
pub(super) type Waiting = DashMap<Uuid, Batch>;

/// Callers whom one command serves, in the order in which they asked.
pub(super) struct Batch {
    pool: Arc<Roster>,
    callers: Vec<Caller>,
    question: Question,
}

pub(super) struct Caller {
    pub(super) lease: LeaseId,
    pub(super) trial_ttl: Duration,
    pub(super) tokens: u64,
    answer: oneshot::Sender<Result<Answer, StateError>>,
}

/// An answer on its way to its caller. A lease is given back where the caller has gone.
struct Answer {
    acquired: Option<Acquired>,
    cooling: Arc<[CoolingMember]>,
    shared: Arc<Shared>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(Acquired::Granted { lease, .. }) = self.acquired.take() {
            self.shared.release(&lease, Some(0));
        }
    }
}

impl RedisStore {
    /// Picks, and says who of the pool cools.
    ///
    /// # Errors
    /// Where the server cannot be reached.
    pub(in crate::state) async fn acquire_and_learn(
        &self,
        ask: &Acquire<'_>,
    ) -> Result<(Acquired, Arc<[CoolingMember]>), StateError> {
        let (answer, answered) = oneshot::channel();
        let Acquire { lease, trial_ttl, tokens, .. } = *ask;
        let caller = Caller { lease, trial_ttl, tokens, answer };
        if ask.failed.is_none() && ask.tried.is_empty() && ask.hold.is_none() {
            self.shared.join(ask.pool, caller);
        } else {
            let question = Question {
                holder: ask.hold.map(|ttl| (holder(ask.lease), ttl)),
                tried: ask.tried.to_vec(),
                failed: ask.failed.map(|(lease, cooldown)| failure(&lease.attempt(), cooldown)),
            };
            let batch = Batch { pool: ask.pool.clone(), callers: vec![caller], question };
            // In a task of its own, so that it goes on where the caller goes away.
            tokio::spawn(self.shared.clone().send(batch));
        }
        let lost = |_| StateError("the command was dropped".into());
        let mut answer = answered.await.map_err(lost)??;
        let acquired = answer.acquired.take().ok_or_else(codec::unexpected)?;
        Ok((acquired, answer.cooling.clone()))
    }
}

impl Shared {
    /// Adds a caller to those of that pool, and sees to it that somebody asks for them.
    fn join(self: &Arc<Self>, pool: &Arc<Roster>, caller: Caller) {
        let mut batch = match self.waiting.entry(pool.id) {
            Entry::Occupied(batch) => batch.into_ref(),
            Entry::Vacant(entry) => {
                let (shared, id) = (self.clone(), pool.id);
                tokio::spawn(async move {
                    // Whoever is about to ask does so first.
                    yield_now().await;
                    if let Some((_, batch)) = shared.waiting.remove(&id) {
                        shared.send(batch).await;
                    }
                });
                entry.insert(Batch::of(pool))
            }
        };
        let changed = !Arc::ptr_eq(&batch.pool, pool);
        if changed || batch.callers.len() >= most_callers(pool) {
            // Its members have changed in this moment, or it is full.
            let full = std::mem::replace(&mut *batch, Batch::of(pool));
            tokio::spawn(self.clone().send(full));
        }
        batch.callers.push(caller);
    }

    async fn send(self: Arc<Self>, mut batch: Batch) {
        batch.callers.retain(|caller| !caller.answer.is_closed());
        if batch.callers.is_empty() && batch.question.failed.is_none() {
            return;
        }
        let Batch { pool, callers, question } = &batch;
        let picked = self.pick(pool, callers, question).await;
        match picked {
            Ok((acquired, cooling)) => {
                for (caller, acquired) in batch.callers.into_iter().zip(acquired) {
                    let answer =
                        Answer { acquired: Some(acquired), cooling: cooling.clone(), shared: self.clone() };
                    // It comes back, and is dropped, where the caller has gone.
                    let _ = caller.answer.send(Ok(answer));
                }
            }
            Err(error) => {
                for caller in batch.callers {
                    let _ = caller.answer.send(Err(error.clone()));
                }
            }
        }
    }

    async fn pick(
        &self,
        pool: &Arc<Roster>,
        callers: &[Caller],
        question: &Question,
    ) -> Result<(Vec<Acquired>, Arc<[CoolingMember]>), StateError> {
        let (run, refreshes) =
            self.rosters.run(pool, callers, question, &self.replica, self.clock.offset())?;
        let answer: Vec<Value> = self.run_of(&self.acquire, run).await?;
        let acquired = codec::acquired(&answer, pool, callers)?;
        let granted = acquired.iter().filter(|one| matches!(one, Acquired::Granted { .. })).count();
        if question.holder.is_none() {
            self.count_up(pool.tenant, granted);
            if refreshes && granted > 0 {
                self.rosters.refreshed(pool);
            }
        }
        Ok((acquired, codec::cooling(&answer, callers.len())))
    }
}

impl Batch {
    fn of(pool: &Arc<Roster>) -> Self {
        Self { pool: pool.clone(), callers: Vec::new(), question: Question::default() }
    }
}
