//! What a failure costs: whether the member cools down, how long, and how firmly.

use super::{ErrorClass, Failure, Scope};
use std::time::Duration;

/// How long each class cools: `None` is the default, zero is off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cooldowns {
    /// Default 60 s, as in Dify: the window of most vendors' limits.
    pub rate_limited: Option<Duration>,
    /// Default 300 s: credit comes back by a person's hand or a billing period, so asking often is pointless.
    pub quota_exhausted: Option<Duration>,
    /// Default 10 s, as in Dify. Short, since a key may be mended; growth over episodes makes a dead one cheap.
    pub authentication: Option<Duration>,
    /// Default 10 s, as in Dify.
    pub connection: Option<Duration>,
    /// Default 10 s, as in Dify.
    pub timeout: Option<Duration>,
    /// Default 10 s: overload passes quickly.
    pub server_error: Option<Duration>,
    /// Default 60 s: a deployment that is not there yet may come up.
    pub model_unavailable: Option<Duration>,
    /// Default 1 h: no cooldown is longer, whatever the provider asks for.
    pub max: Option<Duration>,
}

/// What one failure asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cooldown {
    /// Why.
    pub class: ErrorClass,
    /// Whose record it goes on.
    pub scope: Scope,
    /// How long from now, before it grows with the episodes.
    pub duration: Duration,
    /// It grows to this at most.
    pub max: Duration,
    /// Whether it doubles per episode.
    pub grows: bool,
    /// Whether the provider named the time. Then it counts even when the attempt began before the running cooldown.
    pub hinted: bool,
    /// It trips at this many failures in a row.
    pub trip_after: u32,
    /// Whether the time is a guess: of a failure that passes by itself, for which nobody has named a time. The last resort
    /// goes by guesses alone.
    pub is_guess: bool,
}

/// 5xx answers other than 503 come singly from healthy providers; three in a row do not.
const SERVER_ERRORS_IN_A_ROW: u32 = 3;

/// Spreads the ends of cooldowns by up to this share, so that members failed together do not return together.
const JITTER: f64 = 0.1;

/// A guess about what fails at once grows to this at most: trying again costs a caller next to nothing, and whoever waits
/// longer makes the outage longer.
const MAX_QUICK_GUESS: Duration = Duration::from_secs(30);
/// A guess about what hangs grows to this at most: each trial costs a caller its patience.
const MAX_SLOW_GUESS: Duration = Duration::from_secs(300);

/// Calls that their callers' deadlines cut off cool at this many in a row: one may just have been impatient.
const CUT_IN_A_ROW: u32 = 3;

/// The clamp where none is set.
const MAX: Duration = Duration::from_secs(3600);
/// No clamp: a hundred years.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl Cooldowns {
    /// What `failure` asks for; `None` where it does not cool. `jitter` is a random number in `0.0..1.0`.
    ///
    /// A time that the tenant has set wins and is exact. Then the provider's hint, exact as well. Then the class's own
    /// default, jittered, and doubled per episode, up to a limit of the class. All are clamped by [`Cooldowns::max`].
    ///
    /// ```
    /// use rota::balance::{Cooldowns, ErrorClass, Failure};
    /// use std::time::Duration;
    ///
    /// let mut failure = Failure::new(ErrorClass::RateLimited, "slow down");
    /// failure.retry_after = Some(Duration::from_secs(5));
    /// let cooldown = Cooldowns::default().decide(&failure, 0.5).unwrap();
    /// assert_eq!(cooldown.duration, Duration::from_secs(5));
    /// ```
    #[must_use]
    pub fn decide(&self, failure: &Failure, jitter: f64) -> Option<Cooldown> {
        let (own, default) = self.of(failure.class).filter(|_| !failure.ours)?;
        if own.is_some_and(|own| own.is_zero()) {
            return None;
        }
        let hint = failure.retry_after.filter(|hint| !hint.is_zero());
        let exact = own.or(hint);
        let spread = |time: Duration| time.mul_f64(1.0 + JITTER * jitter.clamp(0.0, 1.0));
        let duration = exact.unwrap_or_else(|| spread(default));
        let most_guessed = most_guessed(failure).filter(|_| exact.is_none());
        let max = match self.max {
            None => MAX,
            Some(max) if max.is_zero() => FOREVER,
            Some(max) => max,
        };
        let max = most_guessed.map_or(max, |most| max.min(spread(most)));
        let at_once =
            failure.class != ErrorClass::ServerError || hint.is_some() || failure.http_status == Some(503);
        Some(Cooldown {
            class: failure.class,
            scope: if failure.is_of_address() { Scope::Address } else { failure.class.scope() },
            duration: duration.min(max),
            max,
            grows: exact.is_none(),
            hinted: hint.is_some(),
            trip_after: if at_once { 1 } else { SERVER_ERRORS_IN_A_ROW },
            is_guess: most_guessed.is_some(),
        })
    }

    /// What a call asks for that had no answer when its caller's deadline cut it off, long after answers usually come.
    #[must_use]
    pub fn decide_cut(&self, jitter: f64) -> Option<Cooldown> {
        let timeout = Failure::new(ErrorClass::Timeout, "no answer within the caller's deadline");
        self.decide(&timeout, jitter).map(|cooldown| Cooldown { trip_after: CUT_IN_A_ROW, ..cooldown })
    }

    /// The time set and the default one.
    const fn of(&self, class: ErrorClass) -> Option<(Option<Duration>, Duration)> {
        Some(match class {
            ErrorClass::RateLimited => (self.rate_limited, Duration::from_secs(60)),
            ErrorClass::QuotaExhausted => (self.quota_exhausted, Duration::from_secs(300)),
            ErrorClass::Authentication => (self.authentication, Duration::from_secs(10)),
            ErrorClass::Connection => (self.connection, Duration::from_secs(10)),
            ErrorClass::Timeout => (self.timeout, Duration::from_secs(10)),
            ErrorClass::ServerError => (self.server_error, Duration::from_secs(10)),
            ErrorClass::ModelUnavailable => (self.model_unavailable, Duration::from_secs(60)),
            ErrorClass::BadRequest
            | ErrorClass::ContentFiltered
            | ErrorClass::ContextTooLong
            | ErrorClass::Cancelled => return None,
        })
    }
}

/// How long a cooldown grows that passes by itself; none for one that does not.
fn most_guessed(failure: &Failure) -> Option<Duration> {
    match failure.class {
        ErrorClass::Connection | ErrorClass::ServerError => Some(MAX_QUICK_GUESS),
        // To try to reach an address again costs a caller little.
        ErrorClass::Timeout if failure.is_of_address() => Some(MAX_QUICK_GUESS),
        ErrorClass::Timeout => Some(MAX_SLOW_GUESS),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Doubt, *};
    use proptest::prelude::*;

    fn failure(class: ErrorClass, status: Option<u16>, hint: Option<u64>) -> Failure {
        Failure {
            class,
            http_status: status,
            retry_after: hint.map(Duration::from_secs),
            unsent: false,
            ours: false,
            full: None,
            doubt: Doubt::None,
            message: String::new(),
        }
    }

    #[test]
    fn what_a_replica_itself_lacks_cools_nobody() {
        let failure = Failure { ours: true, ..failure(ErrorClass::Connection, None, Some(5)) };
        assert_eq!(Cooldowns::default().decide(&failure, 0.0), None);
    }

    #[test]
    fn classes_that_move_on_are_those_that_cool() {
        for class in ErrorClass::ALL {
            let cooldown = Cooldowns::default().decide(&failure(class, None, None), 0.0);
            assert_eq!(cooldown.is_some(), class.moves_on(), "{class:?}");
        }
    }

    #[test]
    fn a_hint_wins_and_is_exact_and_clamped() {
        let rules = Cooldowns::default();
        for (hint, expected) in [(5, 5), (300, 300), (86_400, 3600)] {
            let cooldown =
                rules.decide(&failure(ErrorClass::RateLimited, Some(429), Some(hint)), 0.9).unwrap();
            assert_eq!((cooldown.duration.as_secs(), cooldown.hinted), (expected, true));
        }
    }

    #[test]
    fn a_time_that_is_set_wins_and_is_exact_and_zero_is_off() {
        let rules = Cooldowns {
            rate_limited: Some(Duration::from_secs(7)),
            timeout: Some(Duration::ZERO),
            max: Some(Duration::from_secs(5)),
            ..Cooldowns::default()
        };
        let cooldown = rules.decide(&failure(ErrorClass::RateLimited, Some(429), Some(90)), 0.9).unwrap();
        assert_eq!((cooldown.duration.as_secs(), cooldown.grows), (5, false), "clamped like all");
        assert_eq!(rules.decide(&failure(ErrorClass::Timeout, None, None), 0.0), None);
    }

    #[test]
    fn a_guess_grows_to_a_limit_and_only_what_nobody_has_named_is_one() {
        let decide = |rules: &Cooldowns, class, hint| rules.decide(&failure(class, None, hint), 1.0).unwrap();
        let rules = Cooldowns::default();
        for (class, most) in [
            (ErrorClass::Connection, Some(33)),
            (ErrorClass::ServerError, Some(33)),
            (ErrorClass::Timeout, Some(330)),
            (ErrorClass::RateLimited, None),
            (ErrorClass::QuotaExhausted, None),
            (ErrorClass::Authentication, None),
            (ErrorClass::ModelUnavailable, None),
        ] {
            let cooldown = decide(&rules, class, None);
            let max = Duration::from_secs(most.unwrap_or(3600));
            assert_eq!((cooldown.max, cooldown.is_guess), (max, most.is_some()), "{class:?}");
            assert!(!decide(&rules, class, Some(5)).is_guess, "{class:?}: the provider has named it");
        }
        let set = Cooldowns { timeout: Some(Duration::from_secs(7)), ..Cooldowns::default() };
        assert!(!decide(&set, ErrorClass::Timeout, None).is_guess, "the tenant has set it");
        let short = Cooldowns { max: Some(Duration::from_secs(5)), ..Cooldowns::default() };
        assert_eq!(decide(&short, ErrorClass::Connection, None).max, Duration::from_secs(5));
    }

    #[test]
    fn calls_that_are_cut_off_cool_together() {
        let cut = Cooldowns::default().decide_cut(0.0).unwrap();
        assert_eq!((cut.class, cut.trip_after), (ErrorClass::Timeout, CUT_IN_A_ROW));
        let off = Cooldowns { timeout: Some(Duration::ZERO), ..Cooldowns::default() };
        assert_eq!(off.decide_cut(0.0), None);
    }

    #[test]
    fn a_lone_500_does_not_trip_but_503_and_a_hint_do() {
        let rules = Cooldowns::default();
        let trip = |status, hint| {
            rules.decide(&failure(ErrorClass::ServerError, Some(status), hint), 0.0).unwrap().trip_after
        };
        assert_eq!(trip(500, None), 3);
        assert_eq!(trip(502, None), 3);
        assert_eq!(trip(503, None), 1);
        assert_eq!(trip(500, Some(2)), 1);
    }

    #[test]
    fn a_dead_key_and_an_empty_account_concern_the_credential() {
        for class in ErrorClass::ALL {
            let shared = matches!(class, ErrorClass::Authentication | ErrorClass::QuotaExhausted);
            assert_eq!(class.scope() == Scope::Credential, shared, "{class:?}");
        }
    }

    #[test]
    fn what_was_not_sent_cools_the_address_and_not_for_long() {
        let unsent = Failure { unsent: true, ..failure(ErrorClass::Connection, None, None) };
        let cooldown = Cooldowns::default().decide(&unsent, 0.0).unwrap();
        assert_eq!((cooldown.scope, cooldown.max), (Scope::Address, MAX_QUICK_GUESS));
        let sent = Cooldowns::default().decide(&failure(ErrorClass::Connection, None, None), 0.0).unwrap();
        assert_eq!(sent.scope, Scope::Member);
    }

    proptest! {
        #[test]
        fn jitter_adds_at_most_a_tenth(jitter in -1.0f64..2.0) {
            let cooldown = Cooldowns::default()
                .decide(&failure(ErrorClass::RateLimited, Some(429), None), jitter)
                .unwrap();
            prop_assert!(cooldown.duration >= Duration::from_secs(60));
            prop_assert!(cooldown.duration <= Duration::from_secs(66));
        }
    }
}
