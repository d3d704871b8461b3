//! Arguments of the scripts, and what their answers say.

use crate::{
    balance::{
        Cooldown, Cooling, Credit, ErrorClass, LeaseId, Limits, Member, MemberKey, Record, Resort, Roster,
        Standing, Time, Trial, Turn, Window, millis,
    },
    redis::{RedisError, Result},
    state::{
        Acquired, Answer, FailedAttempt, Hold, Inspection, Lease, MemberInspection, Outlook, Role, Stand,
    },
};
use bytes::Bytes;
use fred::types::Value;
use serde::Serialize;
use std::{iter, sync::Arc, time::Duration};

/// A failure as `fail` in `common.lua` takes it.
pub(super) fn failure(attempt: &FailedAttempt<'_>, cooldown: &Cooldown) -> Vec<String> {
    vec![
        attempt.trial.map(|trial| trial.to_string()).unwrap_or_default(),
        attempt.member.key.record.to_string(),
        attempt.member.credential.to_string(),
        cooldown.scope.name().to_owned(),
        attempt.began.millis().to_string(),
        whole_millis(cooldown.duration).to_string(),
        whole_millis(cooldown.max).to_string(),
        u8::from(cooldown.grows).to_string(),
        u8::from(cooldown.hinted).to_string(),
        cooldown.trip_after.to_string(),
        cooldown.class.name().to_owned(),
        u8::from(cooldown.is_guess).to_string(),
    ]
}

/// In Lua a number is a double.
fn whole_millis(duration: Duration) -> u64 {
    millis(duration).min(1 << 53)
}

/// Who wants a member.
pub(super) struct Caller {
    pub(super) lease: LeaseId,
    pub(super) trial_ttl: Duration,
    pub(super) tokens: u64,
    pub(super) is_last: bool,
    pub(super) stand: Stand,
}

/// What callers ask, and what one that asks alone has to say beside.
pub(super) struct Question {
    pub(super) pool: Arc<Roster>,
    /// How long the lease lasts, where it ends by itself; none: as long as this replica lives.
    pub(super) hold: Option<Hold>,
    pub(super) tried: Vec<usize>,
    /// The failure of the attempt before, as [`failure`] says it; empty: none.
    pub(super) failed: Vec<String>,
}

impl Question {
    /// Whether it is that of callers who have nothing to say beside.
    pub(super) fn is_shared(&self) -> bool {
        self.hold.is_none() && self.tried.is_empty() && self.failed.is_empty()
    }

    /// As `acquire.lua` takes it.
    pub(super) fn packed(&self, callers: &[Caller]) -> Result<Bytes> {
        let callers: Vec<_> = callers
            .iter()
            .map(|Caller { lease, trial_ttl, tokens, is_last, stand }| {
                let Stand { age, waiting, next, left, .. } = *stand;
                let (age, left) = (whole_millis(age), whole_millis(left));
                // One that was never there is younger than none.
                let next = next.map_or(-1, |next| i64::try_from(whole_millis(next)).unwrap_or(i64::MAX));
                let stand = (role(stand.role), age, waiting, next, left);
                (lease.to_string(), whole_millis(*trial_ttl), tokens, is_last, stand)
            })
            .collect();
        let Self { pool, tried, failed, hold } = self;
        let lasting = hold.map_or_else(Vec::new, |Hold { ttl, most }| vec![whole_millis(ttl), most.into()]);
        let of_pool = (
            pool.strategy.name(),
            pool.counts_in_flight(),
            pool.members.are_alike(),
            pool.last_resort,
            pool.waits,
        );
        pack(&(of_pool, callers, tried, failed, lasting))
    }
}

/// The number of a role in `stand.lua`.
pub(super) const fn role(role: Role) -> u8 {
    match role {
        Role::Passing | Role::Behind => 0,
        Role::Joining => 1,
        Role::Front => 2,
        Role::Aside => 3,
        Role::Near => 4,
    }
}

pub(super) fn pack(value: &impl Serialize) -> Result<Bytes> {
    rmp_serde::to_vec(value).map(Bytes::from).map_err(|error| RedisError::new(error.to_string()).of_command())
}

/// The members as `plain.lua` takes them; none where more than the turn tells them apart, or their records' names are not
/// of one length.
pub(super) fn ring(pool: &Roster) -> Option<Bytes> {
    if !pool.strategy.goes_by_turn_alone(&pool.members) {
        return None;
    }
    let record = pool.members.first()?.key.record.len();
    let keys: Vec<_> = pool.members.iter().map(|member| member.key.to_string()).collect();
    let longest = keys.iter().map(String::len).max()?;
    let mut ring = vec![u8::try_from(5 + longest).ok()?, u8::try_from(record).ok()?];
    for (member, key) in pool.members.iter().zip(keys) {
        if member.key.record.len() != record {
            return None;
        }
        ring.extend(member.key.ordinal.to_be_bytes());
        ring.push(u8::try_from(key.len()).ok()?);
        ring.extend(key.bytes().chain(iter::repeat(0)).take(longest));
    }
    Some(ring.into())
}

/// A pool's members as `acquire.lua` takes them, by columns: what every pick needs, and the names of records, which one needs
/// only where somebody has failed.
pub(super) fn members(pool: &Roster) -> Result<(Bytes, Bytes)> {
    fn column<'m, T>(members: &'m [Member], of: impl Fn(&'m Member) -> T) -> Vec<T> {
        members.iter().map(of).collect()
    }
    let members = &*pool.members;
    let is_limited = members.iter().any(|member| !member.limits.is_none());
    let limits = |of: fn(&Limits) -> u32| is_limited.then(|| column(members, |member| of(&member.limits)));
    let always = (
        column(members, |member| member.key.to_string()),
        column(members, |member| member.key.ordinal),
        column(members, |member| member.priority),
        column(members, |member| member.weight),
        limits(|limits| limits.requests_per_minute),
        limits(|limits| limits.tokens_per_minute),
        limits(|limits| limits.max_concurrency),
    );
    let records =
        (column(members, |member| &*member.key.record), column(members, |member| &*member.credential));
    Ok((pack(&always)?, pack(&records)?))
}

/// One member that cools, as `acquire.lua` reports it beside its answer: its index, for how long yet, and why.
pub type CoolingMember = (usize, Duration, ErrorClass);

/// Who cools, by an answer to so many callers.
pub(super) fn cooling(answer: &[Value], callers: usize) -> Arc<[CoolingMember]> {
    let one = |three: &[Value]| {
        let index = usize::try_from(whole(three, 0)).ok()?;
        let left = Duration::from_millis(u64::try_from(whole(three, 1)).ok()?);
        Some((index, left, ErrorClass::from_name(&text(three, 2))?))
    };
    answer.get(1 + 2 * callers..).unwrap_or_default().chunks_exact(3).filter_map(one).collect()
}

/// How many records of the pool cannot be read, by an answer to so many callers.
pub(super) fn broken(answer: &[Value], callers: usize) -> Option<i64> {
    let mut told = answer.get(1 + 2 * callers..).unwrap_or_default().chunks_exact(3).rev();
    told.next().filter(|three| whole(three, 0) == -1).map(|three| whole(three, 1))
}

/// What `acquire.lua` answers each caller.
pub(super) fn answers(answer: &[Value], pool: &Roster, callers: &[Caller]) -> Result<Vec<Answer>> {
    let began = time(answer)?;
    let of_caller = |(place, caller): (usize, &Caller)| {
        let (code, detail) = (whole(answer, 2 * place + 1), 2 * place + 2);
        let mut outlook = Outlook { steps_aside: code < -2, ..Outlook::default() };
        if code == -1 || code == -3 {
            let opens = u64::try_from(whole(answer, detail)).unwrap_or_default();
            outlook.opens = (opens > 0).then(|| Duration::from_millis(opens));
            return Ok(Answer { acquired: Acquired::TrialRunning, degraded: false, outlook });
        }
        if code == -5 {
            let ends = u64::try_from(whole(answer, detail)).unwrap_or_default();
            let acquired = Acquired::TooManyLeases { first_ends: Duration::from_millis(ends) };
            return Ok(Answer { acquired, degraded: false, outlook });
        }
        if code < 0 {
            let back = text(answer, detail);
            let mut words = back.split(' ');
            let mut first = || {
                let left = Duration::from_millis(words.next()?.parse().ok()?);
                Some((left, ErrorClass::from_name(words.next()?)?))
            };
            let first_back = first();
            outlook.elsewhere = words.next().and_then(|word| word.parse().ok()).unwrap_or_default();
            return Ok(Answer { acquired: Acquired::Exhausted { first_back }, degraded: false, outlook });
        }
        let index = usize::try_from(code).map_err(|_| unexpected())?;
        let lease = Lease {
            id: caller.lease,
            tenant: pool.tenant,
            pool: pool.id,
            member: pool.members.get(index).ok_or_else(unexpected)?.clone(),
            began,
            trial: whole(answer, detail) >= 2,
            last_resort: whole(answer, detail) == 3,
            marked: whole(answer, detail) > 0,
            tokens: caller.tokens,
            awaited: pool.waits,
        };
        Ok(Answer { acquired: Acquired::Granted { index, lease }, degraded: false, outlook })
    };
    callers.iter().enumerate().map(of_caller).collect()
}

/// What `inspect.lua` answers.
pub(super) fn inspection(answer: &[Value], pool: &Roster) -> Result<Inspection> {
    let members: Vec<_> = answer
        .get(3..)
        .unwrap_or_default()
        .chunks_exact(5)
        .map(|five| MemberInspection {
            own: record(&text(five, 0)),
            credential: record(&text(five, 1)),
            address: Standing::Available,
            in_flight: u32::try_from(whole(five, 2)).unwrap_or(0),
            requests: window(&text(five, 3)),
            tokens: window(&text(five, 4)),
        })
        .collect();
    if members.len() != pool.members.len() {
        return Err(unexpected());
    }
    let turn = Turn { last: u32::try_from(whole(answer, 1)).ok(), credits: credits(&text(answer, 2)) };
    Ok(Inspection { now: time(answer)?, turn, members })
}

/// The words of a record, as `common.lua` writes it. What Redis holds of them outlives a version: another order or another
/// meaning needs keys of another name.
pub(super) const RECORD_FIELDS: &str = "since ends class streak lease lease_ends episodes healthy window calls fails \
     took trial_began joined failed passed served";
/// So many of them are as old as records are. Of a record without the others, these are 0.
pub(super) const RECORD_FIELDS_AT_FIRST: u64 = 11;

/// A record as `common.lua` writes it.
fn record(text: &str) -> Option<Record> {
    let words: Vec<_> = text.split(' ').collect();
    let [
        since,
        ends,
        class,
        streak,
        lease,
        lease_ends,
        episodes,
        healthy,
        window,
        calls,
        fails,
        ref more @ ..,
    ] = words[..]
    else {
        return None;
    };
    // A release before these words writes none of them.
    let [took, trial_began, joined, failed, passed, served] =
        std::array::from_fn(|place| more.get(place).copied().unwrap_or("0"));
    // 0 is never.
    let time = |word: &str| {
        let millis = word.parse().ok()?;
        Some((millis > 0).then_some(Time::from_millis(millis)))
    };
    let number = |word: &str| word.parse::<u32>().ok();
    let (trial_began, joined) = (time(trial_began)?, number(joined)?);
    // Of one whose beginning is not known, no joining is granted: it begins at its end.
    let trial = |lease, ends| Trial { joined, ..Trial::new(lease, trial_began.unwrap_or(ends), ends) };
    let (resort, resort_served) = (time(failed)?.zip(time(passed)?), number(served)?);
    Some(Record {
        since: time(since)?,
        cooling: ErrorClass::from_name(class).zip(time(ends)?).map(|(class, ends)| Cooling { ends, class }),
        streak: number(streak)?,
        trial: LeaseId::parse(lease).zip(time(lease_ends)?).map(|(lease, ends)| trial(lease, ends)),
        episodes: number(episodes)?,
        healthy: time(healthy)?,
        window: time(window)?,
        calls: number(calls)?,
        fails: number(fails)?,
        took: Duration::from_millis(took.parse().ok()?),
        resort: resort.map(|(failed, passed)| Resort { failed, passed, served: resort_served }),
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
        Some(Credit {
            key: MemberKey::parse(key)?,
            weight: weight.parse().ok()?,
            credit: credit.parse().ok()?,
        })
    };
    words.chunks_exact(3).filter_map(credit).collect()
}

/// The time with which every answer begins.
fn time(answer: &[Value]) -> Result<Time> {
    u64::try_from(whole(answer, 0)).map(Time::from_millis).map_err(|_| unexpected())
}

fn whole(answer: &[Value], at: usize) -> i64 {
    answer.get(at).and_then(Value::as_i64).unwrap_or(-1)
}

fn text(answer: &[Value], at: usize) -> String {
    answer.get(at).and_then(Value::as_string).unwrap_or_default()
}

pub(super) fn unexpected() -> RedisError {
    RedisError::new("Redis answered what no script of ours says").of_command()
}
