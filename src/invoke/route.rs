//! The way a call took: what callers see of its attempts.

use crate::balance::{ErrorClass, Failure, OnBreak};
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
    /// How it took over from a stream that broke after its first content, where it did.
    pub after_break: Option<OnBreak>,
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
