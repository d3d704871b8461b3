use super::*;
use crate::balance::{Scope, constants::PACE};
use proptest::prelude::*;
use std::time::Duration;

fn cooldown(millis: u64, hinted: bool, trip_after: u32) -> Cooldown {
    Cooldown {
        class: ErrorClass::RateLimited,
        scope: Scope::Member,
        duration: Duration::from_millis(millis),
        max: Duration::from_secs(3600),
        grows: !hinted,
        hinted,
        trip_after,
        is_guess: false,
    }
}

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn cooling(ends: u64) -> Standing {
    Standing::Cooling(Cooling { ends: at(ends), class: ErrorClass::RateLimited })
}

fn ends(record: &Record) -> u64 {
    record.cooling.map_or(0, |cooling| cooling.ends.millis())
}

fn fail(record: &mut Record, now: u64, rule: &Cooldown) {
    record.fail(at(now), at(now), None, rule);
}

fn a_lease() -> LeaseId {
    LeaseId::new(rand::random())
}

fn try_out(record: &mut Record, now: u64) -> LeaseId {
    let lease = a_lease();
    record.begin(at(now), lease, at(now + 500));
    lease
}

#[test]
fn a_cooldown_ends_in_one_trial() {
    let mut record = Record::default();
    let first = a_lease();
    record.fail(at(100), at(50), Some(first), &cooldown(1000, false, 1));
    assert_eq!(record.standing(at(1099)), cooling(1100));
    assert_eq!(record.standing(at(1100)), Standing::HalfOpen);
    let second = try_out(&mut record, 1100);
    assert_eq!(record.standing(at(1100)), Standing::TrialRunning);
    assert_eq!(record.standing(at(1600)), Standing::HalfOpen, "a trial that never reports expires");
    record.succeed(at(1150), at(50), first);
    assert_eq!(record.standing(at(1200)), Standing::TrialRunning, "only the trial's own success counts");
    record.succeed(at(1200), at(1100), second);
    assert_eq!(record.standing(at(1200)), Standing::Available);
}

#[test]
fn a_trial_that_fails_cools_again_twice_as_long() {
    let mut record = Record::default();
    fail(&mut record, 1, &cooldown(10, false, 1));
    let trial = try_out(&mut record, 11);
    record.hand_on(trial);
    assert_eq!(record.standing(at(11)), Standing::HalfOpen, "without a verdict the next may try");
    let trial = try_out(&mut record, 11);
    record.fail(at(20), at(11), Some(trial), &cooldown(10, false, 3));
    assert_eq!(record.standing(at(20)), cooling(40), "a failed trial trips at once");
}

#[test]
fn cooldowns_double_per_episode_up_to_the_clamp_and_health_takes_that_back() {
    let mut record = Record::default();
    let rule = Cooldown { max: Duration::from_secs(60), ..cooldown(10_000, false, 1) };
    let mut now = 1;
    for expected in [10_000, 20_000, 40_000, 60_000, 60_000] {
        let lease = try_out(&mut record, now);
        record.fail(at(now), at(now), Some(lease), &rule);
        assert_eq!(ends(&record) - now, expected);
        now = ends(&record);
    }
    let lease = try_out(&mut record, now);
    record.succeed(at(now), at(now), lease);
    fail(&mut record, now + 4 * millis(EPISODE_DECAY), &rule);
    assert_eq!(
        ends(&record) - (now + 4 * millis(EPISODE_DECAY)),
        20_000,
        "four of five episodes are forgotten"
    );
}

fn guess(millis: u64) -> Cooldown {
    Cooldown { class: ErrorClass::Timeout, is_guess: true, ..cooldown(millis, false, 3) }
}

#[test]
fn a_trial_that_outlives_the_failure_lets_others_in_step_by_step() {
    let step = millis(TRIAL_STEP);
    for took in [0, step * 4] {
        let step = step.max(took);
        let mut record = Record::default();
        record.fail(at(1_000), at(1_000 - took), None, &cooldown(1_000, false, 1));
        record.begin(at(2_000), a_lease(), at(2_000 + 100 * step));
        let mut let_in = Vec::new();
        for age in 0..4 {
            let now = at(2_000 + age * step);
            assert_ne!(Standing::Joinable, record.standing(at(2_000 + age * step - u64::from(age > 0))));
            let mut more = 0;
            while record.standing(now) == Standing::Joinable {
                record.begin(now, a_lease(), at(u64::MAX));
                more += 1;
            }
            let_in.push(more);
            assert_eq!(record.opens(now), Some(at(2_000 + (age + 1) * step)));
        }
        assert_eq!(record.opens(at(2_000 + 100 * step)), None, "another trial may go");
        assert_eq!(let_in, [0, 1, 2, 4]);
    }
}

#[test]
fn whoever_joins_a_trial_speaks_for_it() {
    for serves in [true, false] {
        let mut record = Record::default();
        fail(&mut record, 1_000, &cooldown(1_000, false, 1));
        try_out(&mut record, 2_000);
        let joined = try_out(&mut record, 2_300);
        if serves {
            record.succeed(at(2_400), at(2_300), joined);
            assert_eq!(record.standing(at(2_400)), Standing::Available);
        } else {
            record.fail(at(2_400), at(2_300), Some(joined), &cooldown(1_000, false, 3));
            assert_eq!(record.standing(at(2_400)), cooling(4_400), "one failure is enough");
        }
    }
}

#[test]
fn a_trial_that_never_reports_keeps_what_it_has_shown() {
    let mut record = Record::default();
    fail(&mut record, 1_000, &cooldown(1_000, false, 1));
    record.begin(at(2_000), a_lease(), at(2_600));
    assert_eq!(record.standing(at(2_600)), Standing::HalfOpen);
    record.begin(at(2_600), a_lease(), at(3_200));
    assert_eq!(record.standing(at(2_600)), Standing::Joinable);
}

#[test]
fn several_of_the_last_resort_that_serve_end_a_guess_and_a_failure_begins_anew() {
    let mut record = Record::default();
    record.fail(at(1_000), at(990), None, &Cooldown { trip_after: 1, ..guess(10_000) });
    let serve = |record: &mut Record, now| {
        record.begin(at(now), a_lease(), at(now + 500));
        record.succeed(at(now + 10), at(now), a_lease());
    };
    serve(&mut record, 2_000);
    serve(&mut record, 3_000);
    assert_eq!(record.resort.unwrap().pace(), PACE / 4);
    record.fail(at(3_500), at(3_400), None, &guess(10_000));
    assert_eq!(record.resort, Some(Resort { failed: at(3_500), passed: at(3_000), served: 0 }));
    for now in [5_000, 6_000, 7_000] {
        assert_ne!(record.standing(at(now)), Standing::Available);
        serve(&mut record, now);
    }
    assert_eq!(record.standing(at(7_010)), Standing::Available);
    // One that has hung since before it was well again says nothing new.
    record.fail(at(8_000), at(6_500), None, &Cooldown { trip_after: 1, ..guess(10_000) });
    assert_eq!(record.standing(at(8_000)), Standing::Available);
    record.fail(at(8_000), at(7_005), None, &Cooldown { trip_after: 1, ..guess(10_000) });
    assert_ne!(record.standing(at(8_000)), Standing::Available);
}

#[test]
fn what_is_no_guess_is_obeyed() {
    let mut record = Record::default();
    fail(&mut record, 1_000, &cooldown(10_000, true, 1));
    record.fail(at(2_000), at(1_500), None, &guess(60_000));
    assert_eq!((record.resort, ends(&record)), (None, 62_000), "not even when a guess lengthens it");
    record.succeed(at(3_000), at(2_500), a_lease());
    assert_ne!(record.standing(at(3_000)), Standing::Available);
}

#[test]
fn a_hint_is_neither_grown_nor_an_episode() {
    let mut record = Record::default();
    for now in [1, 10_001, 20_001] {
        fail(&mut record, now, &cooldown(5_000, true, 1));
        assert_eq!(ends(&record), now + 5_000);
    }
    fail(&mut record, 30_001, &cooldown(1_000, false, 1));
    assert_eq!(ends(&record), 31_001);
}

#[test]
fn a_late_failure_counts_only_with_a_hint_while_cooling() {
    let mut record = Record::default();
    record.fail(at(100), at(90), None, &cooldown(1000, false, 1));
    record.fail(at(600), at(95), None, &cooldown(1000, false, 1));
    assert_eq!((ends(&record), record.episodes), (1100, 1));
    record.fail(at(600), at(95), None, &cooldown(1000, true, 1));
    assert_eq!((ends(&record), record.episodes), (1600, 1));
}

#[test]
fn after_an_operators_clear_earlier_calls_cannot_cool_it() {
    let mut record = Record::default();
    fail(&mut record, 100, &cooldown(1000, false, 1));
    record.clear(at(200));
    for hinted in [false, true] {
        record.fail(at(300), at(150), None, &cooldown(1000, hinted, 1));
        assert_eq!(record.standing(at(300)), Standing::Available);
    }
    fail(&mut record, 300, &cooldown(1000, false, 1));
    assert_eq!(record.standing(at(300)), cooling(1300));
}

#[test]
fn failures_in_a_row_trip_and_a_success_between_begins_anew() {
    let mut record = Record::default();
    let rule = cooldown(1000, false, 3);
    fail(&mut record, 1, &rule);
    fail(&mut record, 2, &rule);
    record.succeed(at(2), at(1), a_lease());
    fail(&mut record, 3, &rule);
    fail(&mut record, 4, &rule);
    assert_eq!(record.standing(at(4)), Standing::Available);
    fail(&mut record, 5, &rule);
    assert_eq!(record.standing(at(5)), cooling(1005));
}

#[test]
fn half_of_many_calls_failing_trips_and_half_of_few_does_not() {
    let mut record = Record::default();
    let rule = cooldown(1000, false, 3);
    let mut tripped = None;
    for call in 1..=40 {
        try_out(&mut record, call);
        if call % 2 == 0 {
            fail(&mut record, call, &rule);
        } else {
            record.succeed(at(call), at(call), a_lease());
        }
        if tripped.is_none() && record.standing(at(call)) != Standing::Available {
            tripped = Some(call);
        }
    }
    assert_eq!(tripped, Some(u64::from(SHARE_VOLUME)));
}

#[test]
fn a_record_is_spent_when_nothing_late_can_come() {
    let mut record = Record::default();
    fail(&mut record, 1_000, &cooldown(1000, false, 1));
    assert!(!record.is_spent(at(10 * millis(KEPT))), "it is half-open");
    let lease = try_out(&mut record, 2_000);
    record.succeed(at(3_000), at(2_000), lease);
    assert!(!record.is_spent(at(3_000 + millis(KEPT) - 1)));
    assert!(record.is_spent(at(3_000 + millis(KEPT))));
}

proptest! {
    #[test]
    fn a_cooldown_never_gets_shorter(
        failures in proptest::collection::vec((1u64..50, 0u64..200, 1u64..500, any::<bool>(), 1u32..4), 1..60)
    ) {
        let mut record = Record::default();
        let mut now = 1000;
        for (step, age, millis, hinted, trip) in failures {
            now += step;
            let before = ends(&record);
            record.fail(at(now), at(now - age), None, &cooldown(millis, hinted, trip));
            prop_assert!(ends(&record) >= before);
        }
    }
}
