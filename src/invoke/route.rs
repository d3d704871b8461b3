//! The way a call took: what callers see of its attempts.

use super::{CallError, pick::FirstBack};
use crate::{
    balance::{ErrorClass, Failure},
    catalog::{Pool, PoolMember},
};
use std::{mem, sync::Arc, time::Duration};

/// The way a call took. No secret stands in it.
#[derive(Debug, Clone, Default)]
pub struct Route {
    /// The config that served; empty where none did.
    pub config_id: String,
    /// Its name.
    pub config_name: String,
    /// The provider's name.
    pub provider: String,
    /// The model's name.
    pub model: String,
    /// The model's name as the provider was asked for it; empty where nothing was tried.
    pub upstream_model: String,
    /// Every attempt, in order.
    pub attempts: Vec<AttemptReport>,
    /// Whether this replica decided alone.
    pub degraded: bool,
}

/// What callers see of one attempt.
#[derive(Debug, Clone)]
pub struct AttemptReport {
    /// The config.
    pub config_id: Arc<str>,
    /// Its name.
    pub config_name: Arc<str>,
    /// Why it failed, where it did.
    pub class: Option<ErrorClass>,
    /// The provider's HTTP status, where one came.
    pub http_status: Option<u16>,
    /// The provider's error text; empty where it served.
    pub message: String,
    /// How long it took.
    pub latency: Duration,
    /// The cooldown that its failure asked for.
    pub cooldown: Option<Duration>,
}

impl Route {
    /// The stream that served until now has failed.
    pub(super) fn failed_midstream(&mut self, failure: &Failure, cooldown: Option<Duration>) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.class = Some(failure.class);
            attempt.http_status = failure.http_status;
            attempt.message.clone_from(&failure.message);
            attempt.cooldown = cooldown;
        }
    }
}

/// Builds the route of a call, and the error where it is not served.
#[derive(Debug)]
pub(super) struct RouteBuilder {
    route: Route,
    last_failure: Option<Failure>,
}

impl RouteBuilder {
    /// The route of a call that names this pool.
    pub(super) fn new(pool: &Pool) -> Self {
        let route =
            Route { provider: pool.key.provider.clone(), model: pool.key.model.clone(), ..Route::default() };
        Self { route, last_failure: None }
    }

    /// A pick was made.
    pub(super) fn picked(&mut self, degraded: bool) {
        self.route.degraded |= degraded;
    }

    /// An attempt has served.
    pub(super) fn served(&mut self, pool: &Pool, member: &PoolMember, latency: Duration) {
        let route = &mut self.route;
        route.provider.clone_from(&pool.key.provider);
        route.model.clone_from(&pool.key.model);
        route.config_id = member.id.to_string();
        route.config_name = member.name.to_string();
        self.push(member, latency, None, None);
    }

    /// An attempt has failed, and asks for that cooldown.
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

    /// The route of a call that is served.
    pub(super) fn finish(&mut self) -> Route {
        mem::take(&mut self.route)
    }

    /// The error of a call that nobody serves: the last failure, or that nobody could be tried.
    pub(super) fn fail(&mut self, first_back: Option<FirstBack>) -> CallError {
        if let Some(failure) = self.last_failure.take() {
            let retry_after = first_back.map(|(after, _)| after);
            CallError::Upstream { failure, route: self.finish(), retry_after }
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
        });
    }
}
