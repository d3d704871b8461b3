//! Counting tokens. It takes no turn, cools nobody, and always has an answer.

use super::{
    call::Call,
    counting::counted,
    engine::Engine,
    error::CallError,
    explain::{ExplainInput, explain},
};
use crate::{
    catalog::Pool,
    provider::{Countable, Driver, TokenCount, Vocabulary, answer_limit, estimate_chat},
    wire::{ChatRequest, Content, Message},
};
use futures::{StreamExt, TryStreamExt, stream};
use rand::seq::SliceRandom;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout, timeout_at};

/// How many configs ask the provider at most.
const MAX_ASKED: usize = 2;
/// More texts than this are estimated: the provider would get a request for each.
const MAX_TEXTS: usize = 64;
/// How many of these requests are on their way at once.
const CONCURRENCY: usize = 8;
/// How many bytes an estimate takes for a token.
const ESTIMATED_BYTES: u64 = 4;
/// How long a call that is to be served waits for its turn to count. Then it is estimated.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long to wait for the provider.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_secs(10);

impl Engine {
    /// How many tokens that is: by the model's vocabulary, else by the provider, else by estimate.
    ///
    /// # Errors
    /// [`CallError::Disabled`].
    pub async fn count_tokens(&self, call: &Call, request: Countable) -> Result<TokenCount, CallError> {
        let pool = call.chain.first().ok_or(CallError::NoCredentials)?;
        if !pool.enabled {
            return Err(CallError::Disabled);
        }
        let driver = self.driver(pool)?;
        let vocabulary = vocabulary(pool, driver);
        if vocabulary.is_none()
            && let Some(tokens) = self.ask(call, pool, driver, &request).await
        {
            return Ok(TokenCount { tokens, estimated: false });
        }
        let request = Arc::new(request);
        // A guess needs no turn.
        if vocabulary.is_some() {
            let counted = async {
                let place = self.counting.place(pool.roster.tenant).await;
                counted(Some(place), request.clone(), vocabulary).await
            };
            if let Ok(Some(count)) = timeout_at(call.deadline, counted).await {
                return Ok(count);
            }
        }
        let guess = TokenCount { tokens: Vec::new(), estimated: true };
        Ok(counted(None, request, None).await.unwrap_or(guess))
    }

    /// How many tokens a model must hold to serve the call, where a model of its chain says how many it does. Counted by
    /// the vocabulary of the model that was named, else estimated.
    pub(super) async fn size(&self, call: &Call, request: &ChatRequest) -> Option<u64> {
        if call.chain.iter().all(|pool| pool.context_window.is_none()) {
            return None;
        }
        // In a box, since few calls need it and every call would have to have room for it.
        Box::pin(self.counted_size(call, request)).await
    }

    async fn counted_size(&self, call: &Call, request: &ChatRequest) -> Option<u64> {
        let windows = call.chain.iter().filter_map(|pool| pool.context_window).map(|size| size.get().into());
        let (smallest, largest): (u64, u64) = (windows.clone().min()?, windows.max()?);
        let answer = answer_limit(request).unwrap_or_default();
        let estimate = estimate_chat(request);
        // A token is a byte at least, and seldom more than eight.
        if estimate.saturating_mul(ESTIMATED_BYTES).saturating_add(answer) <= smallest {
            return None;
        }
        let pool = call.chain.first()?;
        let vocabulary = self.driver(pool).ok().and_then(|driver| vocabulary(pool, driver));
        if vocabulary.is_none() || estimate > largest.saturating_mul(2) {
            return Some(estimate.saturating_add(answer));
        }
        let counted = async {
            let place = timeout(PATIENCE, self.counting.place(pool.roster.tenant)).await.ok()?;
            let request = Arc::new(Countable::Chat(Box::new(request.clone())));
            counted(Some(place), request, vocabulary).await
        };
        let tokens = counted.await.and_then(|counted| counted.tokens.first().copied());
        Some(tokens.unwrap_or(estimate).saturating_add(answer))
    }

    /// What the provider says. None where it does not count, or cannot now.
    async fn ask(
        &self,
        call: &Call,
        pool: &Pool,
        driver: &dyn Driver,
        request: &Countable,
    ) -> Option<Vec<u64>> {
        let requests = match request {
            Countable::Chat(request) => vec![ChatRequest::clone(request)],
            Countable::Texts(texts) if texts.len() > MAX_TEXTS => return None,
            Countable::Texts(texts) => texts.iter().map(|text| conversation(text)).collect(),
        };
        let end = call.deadline.min(Instant::now() + pool.policy.timeouts.attempt.min(ASK_TIMEOUT));
        for index in self.eligible(pool).await {
            let target = &pool.members.get(index)?.target;
            let counts: Vec<_> =
                requests.iter().map(|request| driver.count_tokens(target, request)).collect();
            match timeout_at(end, stream::iter(counts).buffered(CONCURRENCY).try_collect::<Vec<_>>()).await {
                Ok(Ok(counts)) => {
                    return counts.into_iter().map(|tokens| tokens.map(u64::from)).collect();
                }
                Ok(Err(failure)) => {
                    tracing::debug!(class = failure.class.name(), "the provider did not count");
                }
                Err(_) => return None,
            }
        }
        None
    }

    /// Some members that could serve now, in no order, so that counting leans on none.
    pub(super) async fn eligible(&self, pool: &Pool) -> Vec<usize> {
        let mut indices: Vec<usize> = (0..pool.members.len()).collect();
        if pool.balanced {
            let seen = self.state.inspect(&pool.roster).await;
            let inputs = vec![ExplainInput::usable(false); pool.members.len()];
            let (explained, _) = explain(&pool.roster, &inputs, &seen);
            indices.retain(|&index| explained.get(index).is_some_and(|one| one.eligible));
        }
        indices.shuffle(&mut rand::rng());
        indices.truncate(MAX_ASKED);
        indices
    }
}

/// The vocabulary of the model, by the name that a provider knows it by or by the tenant's own.
fn vocabulary(pool: &Pool, driver: &dyn Driver) -> Option<Vocabulary> {
    let upstream = pool.members.iter().map(|member| member.target.model.as_str());
    upstream.chain([pool.key.model.as_str()]).find_map(|model| driver.vocabulary(model))
}

/// A text as providers count it: said by the user.
fn conversation(text: &str) -> ChatRequest {
    let message = Message { role: "user".into(), content: Content::Text(text.into()), ..Message::default() };
    ChatRequest { messages: vec![message], ..ChatRequest::default() }
}
