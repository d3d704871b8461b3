//! Asks Redis once for all who ask at the same moment.
//!
//! Under load many calls want a turn of one pool between two looks at the network. They share a command: it takes as many
//! turns, one after the other, and each caller gets one of them. A turn is still taken after its caller has asked, by a
//! script that nobody else's can come between, so shares over all replicas are as exact as with a command each.
//!
//! For whom there is no turn asks for itself: where a trial is due, which is one call's, or nobody serves.

use super::{
    Shared,
    codec::{self, Cooling, Question, Turns},
};
use crate::{
    balance::{LeaseId, Pool},
    state::{Lease, StateError},
};
use dashmap::{DashMap, Entry};
use fred::types::Value;
use std::sync::Arc;
use tokio::{sync::oneshot, task::yield_now};
use uuid::Uuid;

/// Those for whom nobody has asked yet, by pool.
#[derive(Default)]
pub(super) struct Together(DashMap<Uuid, Waiting>);

struct Waiting {
    pool: Arc<Pool>,
    callers: Vec<Caller>,
}

struct Caller {
    lease: LeaseId,
    tokens: u64,
    answer: oneshot::Sender<Result<Granted, StateError>>,
}

/// A turn on its way to its caller. It is given back where the caller has gone.
struct Granted {
    turn: Option<Turn>,
    shared: Arc<Shared>,
}

/// Who serves, and who of the pool cools.
pub(super) type Turn = (usize, Lease, Vec<Cooling>);

impl Drop for Granted {
    fn drop(&mut self) {
        if let Some((_, lease, _)) = self.turn.take() {
            self.shared.release(&lease, Some(0));
        }
    }
}

impl Shared {
    /// A turn of that pool that is used at once, asked for with others; none where the caller must ask for itself.
    pub(super) async fn turn_with_others(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        lease: LeaseId,
        tokens: u64,
    ) -> Result<Option<Turn>, StateError> {
        let (answer, turn) = oneshot::channel();
        let caller = Caller { lease, tokens, answer };
        match self.together.0.entry(pool.id) {
            Entry::Occupied(mut waiting) if Arc::ptr_eq(&waiting.get().pool, pool) => {
                waiting.get_mut().callers.push(caller);
            }
            // Its members have changed in this moment.
            Entry::Occupied(_) => return Ok(None),
            Entry::Vacant(entry) => {
                entry.insert(Waiting { pool: pool.clone(), callers: vec![caller] });
                tokio::spawn(self.clone().ask_for_all(pool.id));
            }
        }
        let granted = turn.await.ok().transpose()?;
        Ok(granted.and_then(|mut granted| granted.turn.take()))
    }

    async fn ask_for_all(self: Arc<Self>, pool: Uuid) {
        // Whoever is about to ask does so first.
        yield_now().await;
        let Some((_, Waiting { pool, mut callers })) = self.together.0.remove(&pool) else { return };
        callers.retain(|caller| !caller.answer.is_closed());
        if callers.len() < 2 {
            // Each for itself.
            return;
        }
        match self.turns_of(&pool, callers.len()).await {
            Ok((turns, cooling)) => {
                for (caller, (index, marked)) in callers.into_iter().zip(turns.next) {
                    let Some(member) = pool.members.get(index) else { continue };
                    let lease = Lease {
                        id: caller.lease,
                        tenant: pool.tenant,
                        pool: pool.id,
                        member: member.clone(),
                        began: turns.now,
                        trial: false,
                        marked,
                        tokens: caller.tokens,
                    };
                    self.count(pool.tenant, true);
                    let turn = Some((index, lease, cooling.clone()));
                    // It comes back, and is dropped, where the caller has gone.
                    let _ = caller.answer.send(Ok(Granted { turn, shared: self.clone() }));
                }
            }
            Err(error) => {
                for caller in callers {
                    let _ = caller.answer.send(Err(error.clone()));
                }
            }
        }
    }

    /// Takes so many turns of that pool, or fewer, and counts them in flight. And who of it cools.
    async fn turns_of(&self, pool: &Arc<Pool>, turns: usize) -> Result<(Turns, Vec<Cooling>), StateError> {
        let ahead = self.clock.ahead();
        let question = Question::of_turns(ahead, turns, false);
        let (run, refreshes) = self.ahead.run(pool, self.replica.clone(), true, &question)?;
        let answer: Vec<Value> = self.run_of(&self.acquire, run).await?;
        let turns = codec::turns(&answer, pool.members.len(), ahead)?;
        if refreshes && !turns.next.is_empty() {
            self.ahead.refreshed(pool);
        }
        Ok((turns, codec::cooling(&answer)))
    }
}
