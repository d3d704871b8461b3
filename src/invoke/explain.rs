//! Why each config of a model would or would not serve the next call. Changes nothing.

use crate::balance::{
    Cooling, ErrorClass, Pick, PickRules, Roster, Standing, Time, last_resort, pick, serving_tier,
};
use crate::catalog::Config;
use crate::state::Inspection;
use std::{fmt, time::Duration};

/// What is known of a config beside its state.
#[derive(Debug, Clone, Copy)]
pub struct ExplainInput {
    /// Whether it is switched on.
    pub enabled: bool,
    /// 0 drains.
    pub weight: i32,
    /// Whether its secret can be read.
    pub readable: bool,
    /// Whether the call has tried it.
    pub tried: bool,
}

impl ExplainInput {
    /// Of a config that is in a pool already: it is switched on, does not drain, and its secret is readable.
    #[must_use]
    pub fn usable(tried: bool) -> Self {
        Self { enabled: true, weight: 1, readable: true, tried }
    }
}

impl From<&Config> for ExplainInput {
    fn from(config: &Config) -> Self {
        Self { enabled: config.enabled, weight: config.weight, readable: config.readable, tried: false }
    }
}

/// One config, explained.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Whether it could serve the next call.
    pub eligible: bool,
    /// Why, or why not.
    pub reason: Reason,
    /// The strategy's own measure; the lower comes first.
    pub score: f64,
}

/// Why a config would or would not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It could.
    Available,
    /// Its cooldown is over: it would serve as a trial.
    Trial,
    /// It is switched off.
    Disabled,
    /// Its weight is 0.
    Draining,
    /// Its secret cannot be decrypted.
    Unreadable,
    /// This call has tried it.
    Tried,
    /// It cools.
    Cooling(ErrorClass, Duration),
    /// It cools by a guess, as all do, so that it serves some calls as the last resort.
    LastResort(ErrorClass, Duration),
    /// Its trial is on its way.
    TrialRunning,
    /// Its trial is on its way and lasts: it would join where nobody else can serve.
    Joinable,
    /// It is at a limit.
    Full(Duration),
    /// One of a better priority can serve.
    LowerTier,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Available => f.write_str("available"),
            Self::Trial => f.write_str("its cooldown is over: it would serve as a trial"),
            Self::Disabled => f.write_str("disabled"),
            Self::Draining => f.write_str("draining: its weight is 0"),
            Self::Unreadable => f.write_str("its secret cannot be read"),
            Self::Tried => f.write_str("this call has tried it"),
            Self::Cooling(class, left) => {
                write!(f, "cooling for {:.1} s more: {}", left.as_secs_f64(), class.name())
            }
            Self::LastResort(class, left) => write!(
                f,
                "cooling for {:.1} s more, as all configs: {}; some calls go through as the last resort",
                left.as_secs_f64(),
                class.name()
            ),
            Self::TrialRunning => f.write_str("its trial is on its way"),
            Self::Joinable => f.write_str("its trial is on its way and lasts: it would serve beside it"),
            Self::Full(left) => write!(f, "at its limit for about {:.1} s more", left.as_secs_f64()),
            Self::LowerTier => f.write_str("a config of a better priority can serve"),
        }
    }
}

/// Explains each member of `roster`, which holds every config, and says which the next call would get.
#[must_use]
pub fn explain(
    roster: &Roster,
    inputs: &[ExplainInput],
    seen: &Inspection,
) -> (Vec<Explanation>, Option<usize>) {
    let all: Vec<_> = roster
        .members
        .iter()
        .zip(inputs)
        .zip(&seen.members)
        .map(|((member, input), state)| state.candidate(member, seen.now, input.tried, 0))
        .collect();
    let usable = |(input, _): &(&ExplainInput, _)| input.enabled && input.weight > 0 && input.readable;
    let usable = inputs.iter().zip(all.iter().enumerate()).filter(usable);
    let (places, candidates): (Vec<_>, Vec<_>) =
        usable.map(|(_, (place, candidate))| (place, candidate.clone())).unzip();
    let tier = serving_tier(&candidates);
    let rules =
        PickRules { strategy: roster.strategy, joins: true, last_resort: roster.last_resort, now: seen.now };
    let picked = match pick(&candidates, rules, &mut seen.turn.clone()) {
        Pick::Serve { index, .. } | Pick::LastResort { index } => places.get(index).copied(),
        Pick::TrialRunning | Pick::Exhausted { .. } => None,
    };
    let has_last_resort = roster.last_resort && last_resort(&candidates).is_some();
    let left = |ends: Time| ends.since(seen.now);
    let explained = all.iter().zip(inputs).enumerate().map(|(place, (candidate, input))| {
        let reason = if !input.enabled {
            Reason::Disabled
        } else if !input.readable {
            Reason::Unreadable
        } else if input.weight == 0 {
            Reason::Draining
        } else if input.tried {
            Reason::Tried
        } else {
            match (candidate.standing, candidate.full_until) {
                (Standing::Cooling(Cooling { ends, class }), _)
                    if has_last_resort && candidate.resort.is_some() =>
                {
                    Reason::LastResort(class, left(ends))
                }
                (Standing::Cooling(Cooling { ends, class }), _) => Reason::Cooling(class, left(ends)),
                (_, Some(ends)) => Reason::Full(left(ends)),
                (Standing::TrialRunning, None) => Reason::TrialRunning,
                (Standing::Joinable, None) => Reason::Joinable,
                (_, None) if tier.is_some_and(|tier| candidate.member.priority > tier) => Reason::LowerTier,
                (Standing::HalfOpen, None) => Reason::Trial,
                (Standing::Available, None) => Reason::Available,
            }
        };
        let eligible = match reason {
            Reason::Available | Reason::Trial => true,
            Reason::Joinable => tier.is_none(),
            Reason::LastResort(..) => picked == Some(place),
            _ => false,
        };
        Explanation { eligible, reason, score: roster.strategy.score(candidate, &all, &seen.turn) }
    });
    (explained.collect(), picked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        balance::{Limits, Member, MemberKey, Strategy},
        state::MemberInspection,
    };
    use uuid::Uuid;

    fn member(ordinal: u32, priority: i32) -> Member {
        Member {
            key: MemberKey::new(ordinal, "0"),
            credential: format!("c{ordinal}").into(),
            address: "".into(),
            priority,
            weight: 1,
            limits: Limits::default(),
        }
    }

    const ON: ExplainInput = ExplainInput { enabled: true, weight: 1, readable: true, tried: false };

    #[test]
    fn every_config_has_its_reason_and_the_next_is_named() {
        let members =
            vec![member(1, 0), member(2, 0), member(3, 0), member(4, 0), member(5, 0), member(6, 1)];
        let strategy = Strategy::RoundRobin;
        let roster = Roster {
            id: Uuid::nil(),
            tenant: Uuid::nil(),
            strategy,
            last_resort: true,
            members: members.into(),
            waits: false,
        };
        let mut seen = Inspection::blank(&roster, Time::from_millis(1_000_000_000));
        let mut cooling = crate::balance::Record::default();
        cooling
            .set(seen.now, Cooling { ends: seen.now + Duration::from_secs(5), class: ErrorClass::Timeout });
        seen.members[3] = MemberInspection { own: Some(cooling), ..MemberInspection::default() };
        seen.turn.last = Some(4);
        let inputs = [
            ON,
            ExplainInput { enabled: false, ..ON },
            ExplainInput { weight: 0, ..ON },
            ON,
            ExplainInput { readable: false, ..ON },
            ON,
        ];
        let (explained, picked) = explain(&roster, &inputs, &seen);
        let reasons: Vec<_> = explained.iter().map(|one| one.reason).collect();
        assert_eq!(
            reasons,
            [
                Reason::Available,
                Reason::Disabled,
                Reason::Draining,
                Reason::Cooling(ErrorClass::Timeout, Duration::from_secs(5)),
                Reason::Unreadable,
                Reason::LowerTier,
            ]
        );
        assert_eq!(picked, Some(0));
        assert!((explained[0].score - 2.0).abs() < f64::EPSILON, "behind 5 and 6 in the ring");
        assert_eq!(explained[3].reason.to_string(), "cooling for 5.0 s more: TIMEOUT");
    }
}
