//! The same config again: where a call goes when nobody else can serve it, or before it leaves a model whose policy says so.
//!
//! Some failures come singly and quickly from healthy providers: a 500, a 502, a connection that breaks. The attempt after one
//! of them is taken for a part of it: it keeps the member, and the failure is written once, if the last of them fails.
//!
//! A short time that the provider asks for is waited for. That failure is written at once, so that nobody else goes there
//! meanwhile, and the member is picked anew.

use super::attempt::Attempt;
use crate::balance::{Failure, Policy};
use std::time::Duration;
use tokio::time::Instant;

/// How often a call tries members of one pool again.
pub(super) const MAX_AGAIN: u8 = 2;
/// The longest time that a provider may ask for where nobody else can serve. A caller is better told of longer ones.
const SHORT_WAIT: Duration = Duration::from_secs(5);
/// Before the first of two attempts at the same member. Half of it to three halves, at random; twice that before the second.
const PAUSE: Duration = Duration::from_millis(250);
/// What fails later than this has been worked on: it may be billed, and the next attempt would take as long.
const QUICK: Duration = Duration::from_secs(1);
/// A time that the provider asks for is exceeded by up to this part, so that not all who wait come back at once.
const LATENESS: u32 = 10;

/// A member to be tried again.
pub(super) struct Again {
    /// The pool's place in the chain.
    pub(super) place: usize,
    /// The member's index.
    pub(super) index: usize,
    /// When.
    pub(super) at: Instant,
    /// Why.
    pub(super) failure: Failure,
    /// The attempt that keeps the member. None where it is picked anew.
    pub(super) held: Option<Attempt>,
    /// Whether the retry budget has paid for it.
    pub(super) paid: bool,
    /// Whether its time has come.
    pub(super) due: bool,
}

/// How to try a member again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    /// After so long, without giving it back.
    Holding(Duration),
    /// After so long, when it is back.
    Away(Duration),
}

/// How a member may be tried again after that failure, which took so long to come, when a pool's were `tried` again so
/// often. `chance` is a random number in `0.0..1.0`.
pub(super) fn pause_after(
    failure: &Failure,
    took: Duration,
    policy: &Policy,
    tried: u8,
    chance: f64,
) -> Option<Pause> {
    if tried >= MAX_AGAIN {
        return None;
    }
    if failure.is_passing() {
        let pause = (PAUSE * (1 << tried)).mul_f64(0.5 + chance);
        return (took <= QUICK).then_some(Pause::Holding(pause));
    }
    let asked = failure.asked_wait()?;
    let own = policy.cooldowns.decide(failure, 0.0).map_or(asked, |cooldown| cooldown.duration);
    let wait = asked.max(own);
    let bound = policy.wait_for_retry_after.unwrap_or_default().max(SHORT_WAIT);
    (wait <= bound).then(|| Pause::Away(wait + (wait / LATENESS).mul_f64(chance)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{Cooldowns, ErrorClass};

    fn failure(class: ErrorClass, http_status: Option<u16>, retry_after: Option<u64>) -> Failure {
        let retry_after = retry_after.map(Duration::from_secs);
        Failure { http_status, retry_after, ..Failure::new(class, "") }
    }

    #[test]
    fn what_passes_is_tried_again_and_what_is_short_is_waited_for() {
        use ErrorClass::{Authentication, Connection, QuotaExhausted, RateLimited, ServerError, Timeout};
        let holding = Some(Pause::Holding(Duration::from_millis(250)));
        let away = |seconds| Some(Pause::Away(Duration::from_secs(seconds).mul_f64(1.05)));
        let table = [
            (failure(ServerError, Some(500), None), holding),
            (failure(ServerError, Some(502), None), holding),
            (failure(Connection, None, None), holding),
            (failure(ServerError, Some(500), Some(2)), away(2)),
            (failure(ServerError, Some(503), Some(2)), away(2)),
            (failure(RateLimited, Some(429), Some(5)), away(5)),
            (failure(RateLimited, Some(429), Some(6)), None),
            (failure(RateLimited, Some(429), None), None),
            (failure(ServerError, Some(503), None), None),
            (failure(ServerError, Some(501), None), None),
            (failure(ServerError, None, None), None),
            (failure(QuotaExhausted, Some(429), Some(1)), None),
            (failure(Authentication, Some(401), Some(1)), None),
            (failure(Timeout, None, None), None),
            (Failure { unsent: true, ..failure(Connection, None, None) }, None),
            (Failure { ours: true, ..failure(Connection, None, None) }, None),
        ];
        for (failure, expected) in table {
            assert_eq!(pause_after(&failure, QUICK, &Policy::default(), 0, 0.5), expected, "{failure:?}");
            assert_eq!(pause_after(&failure, QUICK, &Policy::default(), MAX_AGAIN, 0.5), None);
        }
    }

    #[test]
    fn a_policy_waits_for_longer_and_its_own_cooldown_is_kept() {
        let asked = failure(ErrorClass::RateLimited, Some(429), Some(20));
        let patient = Policy { wait_for_retry_after: Some(Duration::from_secs(20)), ..Policy::default() };
        let away = |millis| Some(Pause::Away(Duration::from_millis(millis)));
        assert_eq!(pause_after(&asked, QUICK, &patient, 0, 0.0), away(20_000));
        let own = |seconds| Policy {
            cooldowns: Cooldowns { rate_limited: Some(Duration::from_secs(seconds)), ..Cooldowns::default() },
            ..patient.clone()
        };
        assert_eq!(pause_after(&asked, QUICK, &own(21), 0, 0.0), None, "it cools for longer");
        assert_eq!(
            pause_after(&asked, QUICK, &own(0), 0, 0.0),
            away(20_000),
            "it does not cool, and the word is kept"
        );
    }

    #[test]
    fn pauses_grow_and_differ() {
        let lone = failure(ErrorClass::ServerError, Some(500), None);
        let pause = |tried, chance| pause_after(&lone, QUICK, &Policy::default(), tried, chance);
        let holding = |millis| Some(Pause::Holding(Duration::from_millis(millis)));
        assert_eq!((pause(0, 0.0), pause(0, 0.9)), (holding(125), holding(350)));
        assert_eq!((pause(1, 0.0), pause(1, 0.9)), (holding(250), holding(700)));
        assert_eq!(pause_after(&lone, QUICK * 2, &Policy::default(), 0, 0.5), None, "it came late");
    }
}
