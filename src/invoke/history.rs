//! What has become of a call so far. Its route or its error is made from this.

use super::{
    error::CallError,
    route::{AttemptReport, Route},
    waiting::FirstBack,
};
use crate::{
    balance::{ErrorClass, Failure, OnBreak},
    catalog::{Pool, PoolMember},
};
use std::{mem, time::Duration};

/// The picks and attempts of a call so far.
#[derive(Debug)]
pub(super) struct CallHistory {
    route: Route,
    last_failure: Option<Failure>,
    /// How the attempts to come take over from a stream that broke, where they do.
    after_break: Option<OnBreak>,
    /// The field that a provider could not be sent, and why.
    unwritable: Option<(String, String)>,
}

impl CallHistory {
    /// The history of a call that names this pool.
    pub(super) fn new(pool: &Pool) -> Self {
        let route =
            Route { provider: pool.key.provider.clone(), model: pool.key.model.clone(), ..Route::default() };
        Self { route, last_failure: None, after_break: None, unwritable: None }
    }

    /// The history of a call whose stream broke, to be gone on with.
    pub(super) fn resumed(route: Route, how: OnBreak) -> Self {
        Self { route, last_failure: None, after_break: Some(how), unwritable: None }
    }

    /// Adds a pick.
    pub(super) fn picked(&mut self, degraded: bool) {
        self.route.degraded |= degraded;
    }

    /// Adds the attempt that has served.
    pub(super) fn served(&mut self, pool: &Pool, member: &PoolMember, latency: Duration) {
        let route = &mut self.route;
        route.provider.clone_from(&pool.key.provider);
        route.model.clone_from(&pool.key.model);
        route.config_id = member.id.to_string();
        route.config_name = member.name.to_string();
        self.push(member, latency, None, None);
    }

    /// Adds an attempt that has failed, and the cooldown that its failure asks for.
    pub(super) fn failed(
        &mut self,
        member: &PoolMember,
        failure: Failure,
        latency: Duration,
        cooldown: Option<Duration>,
    ) {
        self.push(member, latency, Some(&failure), cooldown);
        self.last_failure = Some(failure);
    }

    /// Adds a provider that the request could not be written for.
    pub(super) fn unwritable(&mut self, field: String, why: String) {
        self.unwritable.get_or_insert((field, why));
    }

    /// Adds the cooldown that the last failure asks for after all.
    pub(super) fn cooled(&mut self, cooldown: Option<Duration>) {
        if let Some(attempt) = self.route.attempts.last_mut() {
            attempt.cooldown = cooldown;
        }
    }

    /// Takes back the cooldown of the attempt before: its failure is the request's.
    pub(super) fn forgive(&mut self) {
        self.cooled(None);
    }

    /// Ends the history of a call that is served.
    pub(super) fn finish(&mut self) -> Route {
        mem::take(&mut self.route)
    }

    /// Ends the history of a call that nobody serves. The error is the last failure, or that nobody could be tried.
    pub(super) fn fail(&mut self, first_back: Option<FirstBack>, all_tried: bool) -> CallError {
        if let Some(failure) = self.last_failure.take() {
            // Where nobody is known to come back, the provider's own word is the best there is.
            let asked = failure.retry_after.filter(|_| all_tried && failure.class.moves_on());
            let retry_after = first_back.map(|(after, _)| after).or(asked);
            CallError::Upstream { failure, route: self.finish(), retry_after }
        } else if let Some((field, why)) = self.unwritable.take() {
            CallError::Unwritable { field, why }
        } else {
            let (retry_after, class) = first_back.unwrap_or((Duration::ZERO, ErrorClass::ServerError));
            CallError::AllCooling { retry_after, class }
        }
    }

    fn push(
        &mut self,
        member: &PoolMember,
        latency: Duration,
        failure: Option<&Failure>,
        cooldown: Option<Duration>,
    ) {
        self.route.upstream_model.clone_from(&member.target.model);
        self.route.attempts.push(AttemptReport {
            config_id: member.id.clone(),
            config_name: member.name.clone(),
            class: failure.map(|failure| failure.class),
            http_status: failure.and_then(|failure| failure.http_status),
            message: failure.map(|failure| failure.message.clone()).unwrap_or_default(),
            latency,
            cooldown,
            after_break: self.after_break,
        });
    }
}
