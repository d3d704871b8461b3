//! Requests that no driver knows. What may have been carried out is sent once.

use super::{
    Call, CallError, Engine,
    attempts::{Shape, Won},
    route::Trail,
    stream::{Opened, Streamed},
};
use crate::{
    provider::{ForwardReply, ForwardRequest, Forwarded},
    telemetry::AttemptSpan,
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// A provider's answer, whatever its status.
pub struct ForwardAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The headers, by names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Streamed<Bytes>,
}

impl Engine {
    /// Sends a request as it is. Returns when an answer's head has come. Moves on after what has done no work, and if the
    /// request may be repeated, after every failure that is the config's.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn forward(&self, call: Call, request: &ForwardRequest) -> Result<ForwardAnswer, CallError> {
        // Another model's provider may know no such endpoint.
        let chain = call.chain.into_iter().take(1).collect();
        let call = &Call { chain, repeatable: request.repeatable, ..call };
        // An answer that counts as a failure and ends the call is the caller's all the same.
        let refused = Mutex::new(None);
        let attempt = async |driver, target| match self.drivers.forward(driver, target, request).await? {
            Forwarded::Answer(reply) => Ok(reply),
            Forwarded::Refused(reply, failure) => {
                *refused.lock() = Some(reply);
                Err(failure)
            }
        };
        let won = self.run(call, Shape::Forwarded, &|driver, target| Box::pin(attempt(driver, target))).await;
        match (won, refused.into_inner()) {
            (Ok(won), _) => Ok(self.answer(won, call)),
            (Err(CallError::Upstream { route, .. }), Some(reply)) => {
                let pool = call.chain.first().cloned().ok_or(CallError::NoCredentials)?;
                // Its span has ended with the failure.
                let span = AttemptSpan::default();
                let (trail, model) = (Trail::of(route), self.named(&pool));
                Ok(self.answer(Won { reply, held: None, trail, pool, model, span }, call))
            }
            (Err(error), _) => Err(error),
        }
    }
}

impl Engine {
    fn answer(&self, won: Won<ForwardReply>, call: &Call) -> ForwardAnswer {
        let Won { reply, held, trail, pool, model, span } = won;
        let opened = Won { reply: Opened::at_once(reply.body), held, trail, pool, model, span };
        let body = Streamed::new(opened, call, self.metrics.clone());
        ForwardAnswer { status: reply.status, headers: reply.headers, body }
    }
}
