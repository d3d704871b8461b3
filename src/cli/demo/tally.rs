//! Counts what has happened so far, from the answers of the API.

use super::stage::{FAILING, NAMES};
use crate::api::pb::{ErrorClass, LoadBalancingConfig, Route};
use std::{mem, time::Duration};
use tokio::time::Instant;
use tonic::Status;

/// How a call ended: its route, or the error that the caller got.
pub(super) type Outcome = Result<Route, Status>;

/// The calls so far.
pub(super) struct Tally {
    start: Instant,
    pub(super) unary: u64,
    pub(super) streamed: u64,
    /// How many ended in an error for their caller.
    pub(super) failed: u64,
    /// What the first of those said.
    pub(super) first_failure: Option<String>,
    /// How many had an attempt that failed and were served by another config.
    pub(super) moved_on: u64,
    pub(super) members: [Member; 3],
    /// The failing key's cooldown.
    pub(super) rest: Option<Rest>,
    events: Vec<Event>,
}

/// One config.
pub(super) struct Member {
    pub(super) name: &'static str,
    /// How many calls it served.
    pub(super) served: u64,
    /// How many attempts it answered with 429.
    pub(super) refused: u64,
    pub(super) in_flight: i32,
    /// What is left of its cooldown.
    pub(super) cooling: Option<Duration>,
}

/// A cooldown, as seen by looking again and again.
pub(super) struct Rest {
    from: Instant,
    /// What it was given: Retry-After.
    pub(super) given: Duration,
    hits_at_first: u64,
    /// Requests that reached the upstream with that key meanwhile.
    pub(super) hits: u64,
    pub(super) ended: Option<Ended>,
}

/// A cooldown that is over.
pub(super) struct Ended {
    pub(super) after: Duration,
    /// What the config had served when it was seen to be over.
    pub(super) served: u64,
}

/// Something worth a line.
pub(super) struct Event {
    /// Since the first call.
    pub(super) at: Duration,
    pub(super) text: String,
}

impl Tally {
    pub(super) fn new() -> Self {
        let member = |name| Member { name, served: 0, refused: 0, in_flight: 0, cooling: None };
        Self {
            start: Instant::now(),
            unary: 0,
            streamed: 0,
            failed: 0,
            first_failure: None,
            moved_on: 0,
            members: NAMES.map(member),
            rest: None,
            events: Vec::new(),
        }
    }

    /// How many calls have ended.
    pub(super) fn made(&self) -> u64 {
        self.unary + self.streamed
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// A config's part of the calls served, in percent.
    pub(super) fn share(&self, member: &Member) -> f64 {
        let served: u64 = self.members.iter().map(|member| member.served).sum();
        100.0 * member.served as f64 / served.max(1) as f64
    }

    pub(super) fn tell(&mut self, text: String) {
        self.events.push(Event { at: self.elapsed(), text });
    }

    /// What has not been told yet.
    pub(super) fn take_events(&mut self) -> Vec<Event> {
        mem::take(&mut self.events)
    }

    /// Counts a call that has ended.
    pub(super) fn count(&mut self, streamed: bool, outcome: Outcome) {
        *(if streamed { &mut self.streamed } else { &mut self.unary }) += 1;
        let route = match outcome {
            Ok(route) => route,
            Err(status) => {
                self.failed += 1;
                if self.first_failure.is_none() {
                    let failure = format!("{:?}: {}", status.code(), status.message());
                    self.tell(format!("a call failed: {failure}"));
                    self.first_failure = Some(failure);
                }
                return;
            }
        };
        let failures =
            || route.attempts.iter().filter(|attempt| attempt.error_class() != ErrorClass::Unspecified);
        self.moved_on += u64::from(failures().count() > 0);
        let mut first = None;
        for member in &mut self.members {
            member.served += u64::from(member.name == route.config_name);
            for attempt in
                failures().filter(|attempt| attempt.config_name == member.name && attempt.http_status == 429)
            {
                first = first.or((member.refused == 0).then_some(attempt));
                member.refused += 1;
            }
        }
        // The first alone: the others are counted beside it.
        if let Some(attempt) = first {
            let kind = if streamed { "streamed" } else { "unary" };
            let (refused, server) = (&attempt.config_name, &route.config_name);
            let wait = attempt.cooldown.and_then(|wait| Duration::try_from(wait).ok()).unwrap_or_default();
            let wait = wait.as_secs_f64();
            self.tell(format!(
                "{refused}: 429, try again in {wait:.0} s; its {kind} call moved on to {server}"
            ));
        }
    }

    /// Notes the state of the configs, and how many requests the upstream had with the failing key.
    pub(super) fn see(&mut self, configs: &[LoadBalancingConfig], hits: u64) {
        for member in &mut self.members {
            let Some(config) = configs.iter().find(|config| config.name == member.name) else { continue };
            member.in_flight = config.in_flight;
            let left = config.ttl.and_then(|ttl| Duration::try_from(ttl).ok()).unwrap_or_default();
            member.cooling = config.in_cooldown.then_some(left);
        }
        let Some(failing) = self.members.iter().find(|member| member.name == FAILING) else { return };
        match (&mut self.rest, failing.cooling) {
            (None, Some(left)) => {
                let from = Instant::now();
                self.rest = Some(Rest { from, given: left, hits_at_first: hits, hits: 0, ended: None });
            }
            (Some(rest), Some(_)) => rest.hits = hits - rest.hits_at_first,
            (Some(rest), None) if rest.ended.is_none() => {
                rest.ended = Some(Ended { after: rest.from.elapsed(), served: failing.served });
                self.tell(format!("{FAILING}'s cooldown is over: it is in the rotation again"));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::report, *};
    use crate::api::pb::{Attempt, Route};
    use tonic::Status;

    #[expect(clippy::unnecessary_wraps, reason = "an outcome is a result")]
    fn served_by(name: &str, refused_by: &[&str]) -> Outcome {
        let refused = refused_by.iter().map(|name| Attempt {
            config_name: (*name).into(),
            error_class: ErrorClass::RateLimited.into(),
            http_status: 429,
            ..Attempt::default()
        });
        let served = Attempt { config_name: name.into(), ..Attempt::default() };
        Ok(Route {
            config_name: name.into(),
            attempts: refused.chain([served]).collect(),
            ..Route::default()
        })
    }

    fn seen(cooling: bool) -> Vec<LoadBalancingConfig> {
        let config = |name: &str| LoadBalancingConfig { name: name.into(), ..LoadBalancingConfig::default() };
        let mut configs: Vec<_> = NAMES.map(config).into();
        let failing = configs.iter_mut().find(|config| config.name == FAILING).unwrap();
        failing.in_cooldown = cooling;
        failing.ttl = cooling.then(|| Duration::from_secs(6).try_into().unwrap());
        configs
    }

    #[test]
    fn a_cooldown_and_a_comeback_are_told() {
        let mut tally = Tally::new();
        tally.see(&seen(false), 0);
        tally.count(false, served_by("alice", &[]));
        tally.count(true, served_by("carol", &["bob"]));
        tally.see(&seen(true), 1);
        tally.see(&seen(true), 1);
        tally.see(&seen(false), 1);
        tally.count(false, served_by("bob", &[]));
        tally.see(&seen(false), 2);
        let told = report::happened(&tally);
        assert!(told.contains("2 unary and 1 streamed"), "{told}");
        assert!(told.contains("none failed"), "{told}");
        assert!(told.contains("alice 1 (33 %), bob 1 (33 %), carol 1 (33 %)"), "{told}");
        assert!(
            told.contains("bob answered 429 once, 1 call moved on. It cooled 0.0 s without a call"),
            "{told}"
        );
        assert!(told.contains("came back and served 1."), "{told}");
    }

    #[test]
    fn calls_during_a_cooldown_are_not_hidden() {
        let mut tally = Tally::new();
        tally.see(&seen(true), 5);
        tally.see(&seen(true), 7);
        let told = report::happened(&tally);
        assert!(told.contains("so far with 2 calls"), "{told}");
    }

    #[test]
    fn a_failed_call_is_told() {
        let mut tally = Tally::new();
        tally.count(true, Err(Status::unavailable("nobody is there")));
        tally.count(true, served_by("alice", &[]));
        assert_eq!((tally.made(), tally.failed), (2, 1));
        let told = report::happened(&tally);
        assert!(told.contains("1 FAILED, the first with Unavailable: nobody is there"), "{told}");
    }
}
