//! Requests that are sent as they are. What may have been carried out is sent once, unless it is known to ask a model for an
//! answer.

use super::{
    call::{Call, CallMode},
    engine::Engine,
    error::CallError,
    opened::Opened,
    reply::Passed,
    stream::Streamed,
    walk::Success,
};
use crate::{
    balance::Failure,
    provider::{ByteStream, Driver, ForwardRequest, Forwarded},
    wire::UsageListener,
};
use futures::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// A provider's answer, whatever its status.
pub struct ForwardAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The headers, by names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Streamed<Passed>,
}

impl Engine {
    /// Sends a request as it is. Returns when an answer's head has come. Moves on after what has done no work, and if the
    /// request may be repeated, after every failure that is the config's.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn forward(&self, call: Call, request: &ForwardRequest) -> Result<ForwardAnswer, CallError> {
        // Another model's provider may know no such endpoint.
        let pool = call.chain.into_iter().next().ok_or(CallError::NoCredentials)?;
        let idle = pool.policy.timeouts.stream_idle;
        // What is known to ask a model for an answer may be asked twice, as every other call.
        let known = self.driver(&pool).ok().and_then(Driver::protocol).and_then(|own| request.endpoint(own));
        let repeatable = request.repeatable || known.is_some();
        let call = &Call { chain: vec![pool], repeatable, ..call };
        // An answer that counts as a failure and ends the call is the caller's all the same.
        let refused = Mutex::new(None);
        let attempt = async |driver, target| match self.drivers.forward(driver, target, request).await? {
            Forwarded::Answer(reply) => Ok(reply),
            Forwarded::Refused(reply, failure) => {
                *refused.lock() = Some(reply);
                Err(failure)
            }
        };
        let served =
            self.run(call, CallMode::Forward, &|driver, target| Box::pin(attempt(driver, target))).await;
        let (reply, mut attempt, route) = match (served, refused.into_inner()) {
            (Ok(Success { reply, attempt, route, .. }), _) => (reply, Some(attempt), route),
            // The attempt has ended with the failure.
            (Err(CallError::Upstream { route, .. }), Some(reply)) => (reply, None, route),
            (Err(error), _) => return Err(error),
        };
        if let Some(attempt) = attempt.as_mut().filter(|_| (400..500).contains(&reply.status)) {
            attempt.use_nothing();
        }
        let body = Streamed::new(Opened::at_once(listened(reply.body)), attempt, route, idle, call);
        Ok(ForwardAnswer { status: reply.status, headers: reply.headers, body })
    }
}

/// The same bytes, with what they say of the tokens used.
fn listened(body: ByteStream) -> BoxStream<'static, Result<Passed, Failure>> {
    let mut listener = UsageListener::default();
    body.map(move |piece| piece.map(|bytes| Passed { usage: listener.hear(&bytes), bytes })).boxed()
}
