//! The way a call took: what callers see of it.

use super::CallError;
use crate::{
    balance::{Cooldown, ErrorClass, Failure},
    catalog::{Pool, PoolMember},
};
use std::{sync::Arc, time::Duration};

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
    pub attempts: Vec<Attempt>,
    /// Whether this replica decided alone.
    pub degraded: bool,
}

/// One try at one config.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The config.
    pub config_id: Arc<str>,
    /// Its name.
    pub config_name: Arc<str>,
    /// Why it failed, where it did.
    pub class: Option<ErrorClass>,
    /// The provider's HTTP status, where one came.
    pub http_status: Option<u16>,
    /// The provider's error text.
    pub message: String,
    /// How long it took.
    pub latency: Duration,
    /// The cooldown that its failure asked for.
    pub cooldown: Option<Duration>,
}

/// A route in the making.
#[derive(Debug, Default)]
pub(super) struct Trail {
    route: Route,
    last_failure: Option<Failure>,
}

impl Trail {
    pub(super) fn new(pool: &Pool) -> Self {
        let route =
            Route { provider: pool.key.provider.clone(), model: pool.key.model.clone(), ..Route::default() };
        Self { route, last_failure: None }
    }

    /// One that has ended, to be gone on with.
    pub(super) fn of(route: Route) -> Self {
        Self { route, last_failure: None }
    }

    pub(super) fn decided(&mut self, degraded: bool) {
        self.route.degraded |= degraded;
    }

    pub(super) fn served(&mut self, pool: &Pool, member: &PoolMember, latency: Duration) {
        self.route.provider.clone_from(&pool.key.provider);
        self.route.model.clone_from(&pool.key.model);
        self.push(member, latency, None);
        self.route.config_id = member.id.to_string();
        self.route.config_name = member.name.to_string();
    }

    pub(super) fn failed(
        &mut self,
        member: &PoolMember,
        failure: &Failure,
        latency: Duration,
        cooldown: Option<&Cooldown>,
    ) {
        self.push(member, latency, Some((failure, cooldown)));
    }

    pub(super) fn remember(&mut self, failure: Failure) {
        self.last_failure = Some(failure);
    }

    /// Nothing more can be tried.
    pub(super) fn exhausted(&mut self, first_back: Option<(Duration, ErrorClass)>) -> CallError {
        let retry_after = first_back.map(|(after, _)| after);
        if let Some(failure) = self.last_failure.take() {
            self.failed_with(failure, retry_after)
        } else {
            let (retry_after, class) = first_back.unwrap_or((Duration::ZERO, ErrorClass::ServerError));
            CallError::AllCooling { retry_after, class }
        }
    }

    /// The stream that served until now has broken.
    pub(super) fn broke(&mut self, failure: &Failure, cooldown: Option<&Cooldown>) {
        if let Some(attempt) = self.route.attempts.last_mut() {
            attempt.class = Some(failure.class);
            attempt.http_status = failure.http_status;
            attempt.message.clone_from(&failure.message);
            attempt.cooldown = asked_for(cooldown);
        }
    }

    pub(super) fn failed_with(&mut self, failure: Failure, retry_after: Option<Duration>) -> CallError {
        CallError::Upstream { failure, route: std::mem::take(&mut self.route), retry_after }
    }

    pub(super) fn so_far(&self) -> Route {
        self.route.clone()
    }

    pub(super) fn into_route(self) -> Route {
        self.route
    }

    fn push(
        &mut self,
        member: &PoolMember,
        latency: Duration,
        failure: Option<(&Failure, Option<&Cooldown>)>,
    ) {
        self.route.upstream_model.clone_from(&member.target.model);
        let (failure, cooldown) = failure.unzip();
        self.route.attempts.push(Attempt {
            config_id: member.id.clone(),
            config_name: member.name.clone(),
            class: failure.map(|failure| failure.class),
            http_status: failure.and_then(|failure| failure.http_status),
            message: failure.map(|failure| failure.message.clone()).unwrap_or_default(),
            latency,
            cooldown: asked_for(cooldown.flatten()),
        });
    }
}

/// One that trips only after several in a row has not asked for anything yet.
pub(super) fn asked_for(cooldown: Option<&Cooldown>) -> Option<Duration> {
    cooldown.filter(|cooldown| cooldown.trip_after <= 1).map(|cooldown| cooldown.duration)
}
