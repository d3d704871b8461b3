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
    codec::{self, Caller, CoolingMember, Question, failure},
    keys::holder,
    rosters::most_callers,
    script::ACQUIRE,
    shared::Shared,
};
use crate::{
    balance::Roster,
    redis::{RedisError, Result},
    state::{Acquire, Acquired, Answer},
};
use dashmap::{DashMap, Entry};
use fred::types::Value;
use std::{cmp::Reverse, sync::Arc};
use tokio::{sync::oneshot, task::yield_now};
use uuid::Uuid;

/// See the module's documentation.
pub(super) struct Batches {
    shared: Arc<Shared>,
    /// Callers for whom nobody has asked yet, by pool.
    waiting: DashMap<Uuid, Batch>,
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
        Self { shared, waiting: DashMap::new() }
    }

    /// Picks, and says who of the pool cools.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        ask: &Acquire<'_>,
    ) -> Result<(Answer, Arc<[CoolingMember]>)> {
        let (sender, reply) = oneshot::channel();
        let Acquire { lease, trial_ttl, tokens, is_last, stand, .. } = *ask;
        let caller = (Caller { lease, trial_ttl, tokens, is_last, stand }, sender);
        if ask.failed.is_none() && ask.tried.is_empty() && ask.hold.is_none() {
            self.join(ask.pool, caller);
        } else {
            let failed = ask.failed.map(|(lease, cooldown)| failure(&lease.attempt(), cooldown));
            let question = Question {
                pool: ask.pool.clone(),
                holder: ask.hold.map(|ttl| (holder(ask.lease), ttl)),
                tried: ask.tried.to_vec(),
                failed: failed.unwrap_or_default(),
            };
            let batch = Batch { question, callers: vec![caller] };
            // In a task of its own, so that it goes on where the caller goes away.
            tokio::spawn(send(self.shared.clone(), batch));
        }
        let mut reply = reply.await.map_err(|_| RedisError("the command was dropped".into()))??;
        let answer = reply.answer.take().ok_or_else(codec::unexpected)?;
        Ok((answer, reply.cooling.clone()))
    }

    /// Adds a caller to those of that pool, and sees to it that somebody asks for them.
    fn join(self: &Arc<Self>, pool: &Arc<Roster>, caller: (Caller, Sender)) {
        let empty = || Batch { question: Question::of(pool), callers: Vec::new() };
        let mut batch = match self.waiting.entry(pool.id) {
            Entry::Occupied(batch) => batch.into_ref(),
            Entry::Vacant(entry) => {
                let (batches, id) = (self.clone(), pool.id);
                tokio::spawn(async move {
                    // Whoever is about to ask does so first.
                    yield_now().await;
                    if let Some((_, batch)) = batches.waiting.remove(&id) {
                        send(batches.shared.clone(), batch).await;
                    }
                });
                entry.insert(empty())
            }
        };
        let changed = !Arc::ptr_eq(&batch.question.pool, pool);
        if changed || batch.callers.len() >= most_callers(pool) {
            // Its members have changed in this moment, or it is full.
            let full = std::mem::replace(&mut *batch, empty());
            tokio::spawn(send(self.shared.clone(), full));
        }
        batch.callers.push(caller);
    }
}

async fn send(shared: Arc<Shared>, batch: Batch) {
    let Batch { question, callers } = batch;
    let mut there: Vec<_> = callers.into_iter().filter(|(_, sender)| !sender.is_closed()).collect();
    // Those who were woken together ask in any order.
    there.sort_by_key(|(caller, _)| Reverse(caller.stand.age));
    let (callers, senders): (Vec<_>, Vec<_>) = there.into_iter().unzip();
    if callers.is_empty() && question.failed.is_empty() {
        return;
    }
    match pick(&shared, &question, &callers).await {
        Ok((answers, cooling)) => {
            let owner = question.holder.is_none().then_some(shared);
            for (sender, answer) in senders.into_iter().zip(answers) {
                let reply = Reply { answer: Some(answer), cooling: cooling.clone(), shared: owner.clone() };
                // It comes back, and is dropped, where the caller has gone.
                let _ = sender.send(Ok(reply));
            }
        }
        Err(error) => {
            for sender in senders {
                let _ = sender.send(Err(error.clone()));
            }
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
    if question.holder.is_none() {
        *shared.busy.entry(question.pool.tenant).or_default() += granted as u32;
        if refreshes && granted > 0 {
            shared.rosters.refreshed(&question.pool);
        }
    }
    Ok((answers, codec::cooling(&answer, callers.len())))
}
