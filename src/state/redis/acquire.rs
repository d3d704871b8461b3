//! Asks who serves: a turn that is held, or Redis.

use super::{
    REPLICA_TTL, RedisStore, Shared,
    ahead::Fill,
    codec::{self, Cooling, Question, unexpected},
    holder,
    script::Run,
};
use crate::{
    balance::{LeaseId, Pool, Scope},
    state::{Acquire, Acquired, StateError},
};
use fred::types::Value;
use futures::future::BoxFuture;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::runtime::Handle;

/// A pick that finds no turn in advance waits for those on their way; others may be quicker to take them. After so many
/// times it asks for itself.
const WAITS: usize = 3;

impl RedisStore {
    /// [`StateStore::acquire`], and who of the pool cools.
    pub(in crate::state) async fn acquire_and_learn(
        &self,
        ask: &Acquire<'_>,
    ) -> Result<(Acquired, Vec<Cooling>), StateError> {
        let pool = ask.pool;
        for _ in 0..WAITS {
            let taken = self.shared.ahead.take(ask)?;
            if let Some(fill) = taken.fill {
                let (shared, pool) = (self.shared.clone(), pool.clone());
                tokio::spawn(async move { shared.fill(&pool, fill).await });
            }
            if let Some((index, lease)) = taken.lease {
                self.shared.count(pool.tenant, true);
                return Ok((Acquired::Granted { index, lease }, Vec::new()));
            }
            match taken.wait {
                Some(wait) => wait.done().await?,
                None => break,
            }
        }
        let own = ask.hold.is_none();
        let told_later = own && self.shared.tells_later(pool);
        let first = ask.failed.is_none() && ask.tried.is_empty();
        if own && first && !told_later && pool.has_turns_in_advance() {
            let turn = self.shared.turn_with_others(pool, ask.lease, ask.tokens).await?;
            if let Some((index, lease, cooling)) = turn {
                return Ok((Acquired::Granted { index, lease }, cooling));
            }
        }
        let holder = if own { self.shared.replica.clone() } else { holder(ask.lease) };
        let question = Question {
            ahead: self.shared.clock.ahead(),
            lease: &ask.lease.to_string(),
            holder_ttl: ask.hold.unwrap_or(REPLICA_TTL),
            trial_ttl: ask.trial_ttl,
            tokens: ask.tokens,
            told_later,
            tried: ask.tried,
            turns: 0,
            failed: ask.failed,
        };
        let (run, refreshes) = self.shared.ahead.run(pool, holder, own, &question)?;
        let (shared, pool, lease, tokens) = (self.shared.clone(), pool.clone(), ask.lease, ask.tokens);
        let asked = async move { shared.acquire(&pool, lease, tokens, own, run, refreshes).await };
        let asked = Asked { command: Some(Box::pin(asked)), own, shared: self.shared.clone() };
        let (acquired, cooling) = asked.await?;
        if let Some((failed, cooldown)) = ask.failed
            && cooldown.scope == Scope::Credential
        {
            // In this pool that is known by now, but not in others.
            let of_failed = |one: &&Cooling| {
                ask.pool
                    .members
                    .get(one.index)
                    .is_some_and(|member| member.credential == failed.member.credential)
            };
            if let Some(one) = cooling.iter().find(of_failed) {
                self.shared.ahead.failed(failed, Scope::Credential, one.left);
            }
        }
        Ok((acquired, cooling))
    }
}

impl Shared {
    async fn acquire(
        &self,
        pool: &Arc<Pool>,
        lease: LeaseId,
        tokens: u64,
        own: bool,
        run: Run,
        refreshes: bool,
    ) -> Result<(Acquired, Vec<Cooling>), StateError> {
        let answer: Vec<Value> = self.run_of(&self.acquire, run).await?;
        let acquired = codec::acquired(&answer, pool, lease, tokens, self.clock.ahead())?;
        let cooling = codec::cooling(&answer);
        if let (Acquired::Granted { lease, .. }, true) = (&acquired, own) {
            self.count(pool.tenant, true);
            if refreshes {
                self.ahead.refreshed(pool);
            }
            if self.tells_later(pool) {
                self.ahead.count(lease, 1);
            }
        }
        self.ahead.learn(pool, &cooling);
        Ok((acquired, cooling))
    }

    /// Takes turns of that pool in advance.
    async fn fill(&self, pool: &Arc<Pool>, fill: Fill) {
        let taken = async {
            let question = Question::of_turns(self.clock.ahead(), fill.turns, true);
            let (run, _) = self.ahead.run(pool, self.replica.clone(), true, &question)?;
            let answer: Vec<Value> = self.run_of(&self.acquire, run).await?;
            self.ahead.learn(pool, &codec::cooling(&answer));
            codec::turns(&answer, pool.members.len(), self.clock.ahead())
        };
        let taken = taken.await;
        self.ahead.filled(pool, fill, taken);
    }
}

type Command = BoxFuture<'static, Result<(Acquired, Vec<Cooling>), StateError>>;

/// A question on its way. Should its caller go away meanwhile, it goes on by itself, and gives back what Redis grants.
struct Asked {
    command: Option<Command>,
    /// Whether a lease lives as long as this replica; otherwise it ends by itself.
    own: bool,
    shared: Arc<Shared>,
}

impl Future for Asked {
    type Output = Result<(Acquired, Vec<Cooling>), StateError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(command) = &mut self.command else { return Poll::Ready(Err(unexpected())) };
        let answer = ready!(command.as_mut().poll(context));
        self.command = None;
        Poll::Ready(answer)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        // Not where the runtime itself ends: nothing goes on then.
        if let (Some(command), true, Ok(runtime)) = (self.command.take(), self.own, Handle::try_current()) {
            let shared = self.shared.clone();
            runtime.spawn(async move {
                if let Ok((Acquired::Granted { lease, .. }, _)) = command.await {
                    shared.release(&lease, Some(0));
                }
            });
        }
    }
}
