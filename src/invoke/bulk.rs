//! Embeddings of more texts than a provider takes at once: several requests, each balanced by itself. Their answers are
//! joined in the order of the texts.

use super::{call::Call, engine::Engine, error::CallError, unary::Served};
use crate::{
    provider::estimate_inputs,
    wire::{EmbeddingReply, EmbeddingRequest},
};
use futures::{StreamExt, TryStreamExt, stream};

/// How many requests of one call may be on their way at once, however many configs there are.
const MAX_CONCURRENCY: usize = 16;

impl Engine {
    /// Embeds texts. A batch that fails moves on alone; the call fails with the first that cannot be served.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn embed(
        &self,
        call: &Call,
        request: EmbeddingRequest,
    ) -> Result<Served<EmbeddingReply>, CallError> {
        let batch = self.embedding_batch(call);
        if request.inputs.len() <= batch {
            return self.embed_batch(call, &request).await;
        }
        let batches = request.inputs.batches(batch).into_iter().map(|inputs| {
            let tokens = estimate_inputs(&inputs);
            let request = EmbeddingRequest { inputs, ..request.clone() };
            async move { self.embed_batch(&Call { tokens, ..call.clone() }, &request).await }
        });
        let members = call.chain.first().map_or(0, |pool| pool.members.len());
        let width = members.clamp(1, MAX_CONCURRENCY);
        let served: Vec<_> = stream::iter(batches.collect::<Vec<_>>()).buffered(width).try_collect().await?;
        served.into_iter().reduce(join).ok_or(CallError::NoCredentials)
    }

    async fn embed_batch(
        &self,
        call: &Call,
        request: &EmbeddingRequest,
    ) -> Result<Served<EmbeddingReply>, CallError> {
        self.unary(call, &move |driver, target| driver.embed(target, request)).await
    }

    /// How many texts every member that may serve takes at once.
    fn embedding_batch(&self, call: &Call) -> usize {
        let batches = call.chain.iter().filter_map(|pool| {
            let driver = self.drivers.get(pool.kind.name)?;
            pool.members.iter().map(|member| driver.embedding_batch(&member.target)).min()
        });
        batches.min().unwrap_or(usize::MAX).max(1)
    }
}

/// One answer out of two, the first one's texts before the second one's.
fn join(mut one: Served<EmbeddingReply>, other: Served<EmbeddingReply>) -> Served<EmbeddingReply> {
    one.reply.vectors.extend(other.reply.vectors);
    one.reply.usage.add(other.reply.usage);
    one.room = one.room.and(other.room);
    one.route.attempts.extend(other.route.attempts);
    one.route.degraded |= other.route.degraded;
    one.latency = one.latency.max(other.latency);
    one
}
