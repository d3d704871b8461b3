//! Arguments of the scripts, and what their answers say.

use super::REPLICA_TTL;
use crate::{
    balance::{Cooldown, Credit, ErrorClass, LeaseId, Limits, Pool, Record, Scope, Trial, Turn, Window},
    state::{Acquired, Inspection, Lease, MemberInspection, STATE_TTL, StateError, clock::millis},
};
use bytes::Bytes;
use fred::types::Value;
use serde::Serialize;
use std::{iter, time::Duration};

/// Arguments in the making.
#[derive(Default)]
pub(super) struct Args(pub(super) Vec<Value>);

impl Args {
    pub(super) fn text(mut self, text: &str) -> Self {
        self.0.push(text.into());
        self
    }

    pub(super) fn number(mut self, number: u64) -> Self {
        self.0.push(i64::try_from(number).unwrap_or(i64::MAX).into());
        self
    }

    pub(super) fn difference(mut self, difference: i64) -> Self {
        self.0.push(difference.into());
        self
    }

    pub(super) fn millis(self, duration: Duration) -> Self {
        self.number(millis(duration))
    }

    pub(super) fn flag(self, set: bool) -> Self {
        self.text(if set { "1" } else { "0" })
    }

    pub(super) fn optional(self, number: Option<u64>) -> Self {
        match number {
            Some(number) => self.number(number),
            None => self.text("-"),
        }
    }

    /// As `fail` in `common.lua` takes them.
    pub(super) fn failure(mut self, lease: &Lease, cooldown: &Cooldown) -> Self {
        self.0.extend(failure(lease, cooldown).map(Value::from));
        self
    }
}

/// A failure as `fail` in `common.lua` takes it.
fn failure(lease: &Lease, cooldown: &Cooldown) -> [String; 11] {
    let scope = match cooldown.scope {
        Scope::Member => "member",
        Scope::Credential => "credential",
    };
    let flag = |set: bool| if set { "1" } else { "0" };
    [
        lease.id.to_string(),
        lease.member.key.to_string(),
        lease.member.credential.to_string(),
        scope.to_owned(),
        lease.began.to_string(),
        whole_millis(cooldown.duration).to_string(),
        whole_millis(cooldown.max).to_string(),
        flag(cooldown.grows).to_owned(),
        flag(cooldown.hinted).to_owned(),
        cooldown.trip_after.to_string(),
        cooldown.class.name().to_owned(),
    ]
}

/// In Lua a number is a double.
fn whole_millis(duration: Duration) -> u64 {
    millis(duration).min(1 << 53)
}

/// Where a script looks at members, it looks at so many for turns that are taken at once, so that it holds up nobody for
/// long.
const MOST_STEPS: usize = 4096;

/// What `acquire.lua` is asked beside the pool's members.
pub(super) struct Question<'q> {
    pub(super) ahead: u64,
    pub(super) lease: &'q str,
    pub(super) holder_ttl: Duration,
    pub(super) trial_ttl: Duration,
    pub(super) tokens: u64,
    pub(super) told_later: bool,
    pub(super) tried: &'q [usize],
    /// How many, or fewer; 0: a pick.
    pub(super) turns: usize,
    pub(super) failed: Option<(&'q Lease, &'q Cooldown)>,
}

/// How many turns of that pool are taken at once where a script looks at its members.
pub(super) fn most_turns(pool: &Pool) -> usize {
    (MOST_STEPS / pool.members.len().max(1)).max(1)
}

impl Question<'_> {
    /// What is asked for so many turns, which are no call's yet.
    pub(super) fn of_turns(ahead: u64, turns: usize, told_later: bool) -> Self {
        Self {
            ahead,
            lease: "-",
            holder_ttl: REPLICA_TTL,
            trial_ttl: Duration::ZERO,
            tokens: 0,
            told_later,
            tried: &[],
            turns,
            failed: None,
        }
    }

    /// Whether it is about no more than whose turn it is.
    pub(super) fn is_for_turns_alone(&self) -> bool {
        self.failed.is_none() && self.tried.is_empty()
    }

    pub(super) fn packed(&self, pool: &Pool) -> Result<Bytes, StateError> {
        let failure = self.failed.map(|(lease, cooldown)| failure(lease, cooldown));
        let list = (
            self.ahead,
            self.lease,
            whole_millis(self.holder_ttl),
            whole_millis(self.trial_ttl),
            whole_millis(STATE_TTL),
            pool.strategy.name(),
            self.tokens,
            pool.counts_in_flight(),
            self.told_later,
            self.tried,
            self.turns.min(most_turns(pool)),
            failure.as_ref().map_or(&[][..], |failure| failure),
        );
        pack(&list)
    }
}

fn pack(value: &impl Serialize) -> Result<Bytes, StateError> {
    rmp_serde::to_vec(value).map(Bytes::from).map_err(|error| StateError(error.to_string()))
}

/// The members as `plain.lua` takes them; none where more than the turn tells them apart, or their names are of no form.
pub(super) fn ring(pool: &Pool) -> Option<Bytes> {
    if !pool.strategy.goes_by_turn_alone(&pool.members) {
        return None;
    }
    let record = pool.members.first()?.record().len();
    let longest = pool.members.iter().map(|member| member.key.len()).max()?;
    let mut ring = vec![u8::try_from(5 + longest).ok()?, u8::try_from(record).ok()?];
    for member in pool.members.iter() {
        if member.record().len() != record || *member.key != format!("{}.{}", member.ordinal, member.record())
        {
            return None;
        }
        ring.extend(member.ordinal.to_be_bytes());
        ring.push(u8::try_from(member.key.len()).ok()?);
        ring.extend(member.key.bytes().chain(iter::repeat(0)).take(longest));
    }
    Some(ring.into())
}

/// A pool's members as `acquire.lua` takes them.
pub(super) fn packed(pool: &Pool) -> Result<Bytes, StateError> {
    let members: Vec<_> = pool
        .members
        .iter()
        .map(|member| {
            let Limits { requests_per_minute, tokens_per_minute, max_concurrency } = member.limits;
            (
                &*member.key,
                member.ordinal,
                member.priority,
                &*member.credential,
                member.weight,
                requests_per_minute,
                tokens_per_minute,
                max_concurrency,
            )
        })
        .collect();
    pack(&members)
}

/// One member that cools, as `acquire.lua` reports it beside its answer.
#[derive(Debug, Clone, Copy)]
pub(in crate::state) struct Cooling {
    pub(in crate::state) index: usize,
    pub(in crate::state) left: Duration,
    pub(in crate::state) class: ErrorClass,
}

/// Who cools, by the same answer.
pub(super) fn cooling(answer: &[Value]) -> Vec<Cooling> {
    let head = match whole(answer, 0) {
        1 | 5 => 5,
        2 => 1,
        4 => 4,
        _ => 3,
    };
    let one = |three: &[Value]| {
        Some(Cooling {
            index: usize::try_from(whole(three, 0)).ok()?,
            left: u64::try_from(whole(three, 1)).ok().map(Duration::from_millis)?,
            class: ErrorClass::from_name(&text(three, 2))?,
        })
    };
    answer.get(head..).unwrap_or_default().chunks_exact(3).filter_map(one).collect()
}

/// What `acquire.lua` answers.
pub(super) fn acquired(
    answer: &[Value],
    pool: &Pool,
    lease: LeaseId,
    tokens: u64,
    ahead: u64,
) -> Result<Acquired, StateError> {
    let granted = |began, trial, marked| {
        let index = usize::try_from(whole(answer, 1)).map_err(|_| unexpected())?;
        let lease = Lease {
            id: lease,
            tenant: pool.tenant,
            pool: pool.id,
            member: pool.members.get(index).ok_or_else(unexpected)?.clone(),
            began,
            trial,
            marked,
            tokens,
        };
        Ok(Acquired::Granted { index, lease })
    };
    match whole(answer, 0) {
        1 => {
            let began = u64::try_from(whole(answer, 2)).map_err(|_| unexpected())?;
            granted(began, whole(answer, 3) == 1, whole(answer, 4) == 1)
        }
        5 => granted(time_of_plain(answer, ahead)?, false, false),
        2 => Ok(Acquired::TrialRunning),
        3 => {
            let class = ErrorClass::from_name(&text(answer, 2));
            let back = u64::try_from(whole(answer, 1)).ok().map(Duration::from_millis);
            Ok(Acquired::Exhausted { first_back: back.zip(class) })
        }
        _ => Err(unexpected()),
    }
}

/// The time in the answer of `plain.lua`.
fn time_of_plain(answer: &[Value], ahead: u64) -> Result<u64, StateError> {
    let now = whole(answer, 2).saturating_mul(1000).saturating_add(whole(answer, 3) / 1000);
    u64::try_from(now.saturating_add_unsigned(ahead)).map_err(|_| unexpected())
}

/// Turns, as `acquire.lua` answers.
#[derive(Debug)]
pub(super) struct Turns {
    /// When they were taken, on Redis's clock.
    pub(super) now: u64,
    /// After how long somebody may be back who is not among them.
    pub(super) back: Option<Duration>,
    /// The indices of those that serve, in order, and whether each has a record.
    pub(super) next: Vec<(usize, bool)>,
}

/// What `acquire.lua` answers where turns of a pool of so many were asked for.
pub(super) fn turns(answer: &[Value], members: usize, ahead: u64) -> Result<Turns, StateError> {
    if let (5, Ok(first), Ok(turns)) =
        (whole(answer, 0), usize::try_from(whole(answer, 1)), usize::try_from(whole(answer, 4)))
    {
        let next = (0..members).cycle().skip(first).take(turns).map(|index| (index, false));
        return Ok(Turns { now: time_of_plain(answer, ahead)?, back: None, next: next.collect() });
    }
    let turn = |word: &str| {
        let index = word.trim_end_matches('!');
        Some((index.parse().ok()?, index.len() < word.len()))
    };
    let next = text(answer, 3).split_whitespace().map(turn).collect::<Option<_>>();
    match (whole(answer, 0), next) {
        (4, Some(next)) => Ok(Turns {
            now: u64::try_from(whole(answer, 1)).map_err(|_| unexpected())?,
            back: u64::try_from(whole(answer, 2)).ok().map(Duration::from_millis),
            next,
        }),
        _ => Err(unexpected()),
    }
}

/// What `inspect.lua` answers.
pub(super) fn inspection(answer: &[Value], pool: &Pool) -> Result<Inspection, StateError> {
    let members: Vec<_> = answer
        .get(3..)
        .unwrap_or_default()
        .chunks_exact(5)
        .map(|five| MemberInspection {
            own: record(&text(five, 0)),
            credential: record(&text(five, 1)),
            in_flight: u32::try_from(whole(five, 2)).unwrap_or(0),
            requests: window(&text(five, 3)),
            tokens: window(&text(five, 4)),
        })
        .collect();
    if members.len() != pool.members.len() {
        return Err(unexpected());
    }
    let turn = Turn { last: u32::try_from(whole(answer, 1)).ok(), credits: credits(&text(answer, 2)) };
    Ok(Inspection { now: u64::try_from(whole(answer, 0)).map_err(|_| unexpected())?, turn, members })
}

/// A record as `common.lua` writes it.
fn record(text: &str) -> Option<Record> {
    let words: Vec<_> = text.split(' ').collect();
    let [since, until, class, streak, lease, lease_until, episodes, healthy, window, calls, fails] =
        words[..]
    else {
        return None;
    };
    let number = |word: &str| word.parse::<u64>().ok();
    let small = |word: &str| word.parse::<u32>().ok();
    Some(Record {
        since: number(since)?,
        until: number(until)?,
        class: ErrorClass::from_name(class),
        streak: small(streak)?,
        trial: LeaseId::parse(lease).zip(number(lease_until)).map(|(lease, until)| Trial { lease, until }),
        episodes: small(episodes)?,
        healthy: number(healthy)?,
        window: number(window)?,
        calls: small(calls)?,
        fails: small(fails)?,
    })
}

fn window(text: &str) -> Window {
    let numbers: Vec<u64> = text.split(' ').filter_map(|word| word.parse().ok()).collect();
    numbers.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?))).collect()
}

fn credits(text: &str) -> Vec<Credit> {
    let words: Vec<_> = text.split(' ').collect();
    let credit = |three: &[&str]| {
        let [key, weight, credit] = three else { return None };
        Some(Credit { key: (*key).into(), weight: weight.parse().ok()?, credit: credit.parse().ok()? })
    };
    words.chunks_exact(3).filter_map(credit).collect()
}

fn whole(answer: &[Value], at: usize) -> i64 {
    answer.get(at).and_then(Value::as_i64).unwrap_or(-1)
}

fn text(answer: &[Value], at: usize) -> String {
    answer.get(at).and_then(Value::as_string).unwrap_or_default()
}

pub(super) fn unexpected() -> StateError {
    StateError("Redis answered what no script of ours says".into())
}
