//! The addresses that this replica cannot reach, by tenant.
//!
//! They are of this replica alone: its resolver, its route, its certificates may be at fault. What other replicas say of an
//! address comes by [`hear`](Addresses::hear), and counts where this replica knows nothing better.
//!
//! Where no address fails there are no records, and a call costs one look at their number.

use super::{Clock, Inspection, Lease};
use crate::balance::{
    AddressRecord, Cooldown, Cooling, ErrorClass, LeaseId, Member, Roster, Scope, Standing, Time, VOTE_WINDOW,
};
use dashmap::DashMap;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use uuid::Uuid;

/// So many records a tenant may have, and all of them. Beyond that a failure cools nobody.
const MOST_OF_TENANT: usize = 1_000;
const MOST: usize = 50_000;
/// How often records that have nothing left to say are looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// Addresses fail for so long before this replica says that none can be reached, and it judges no more often.
const JUDGED_AFTER: Duration = Duration::from_secs(1);
const JUDGED_EVERY: Duration = Duration::from_millis(250);
/// An answer says for this long that not every address fails.
const ANSWERED: Duration = Duration::from_secs(10);

/// An address, and the pool that alone knows its record; nil: every pool of the tenant.
type Key = (Arc<str>, Uuid);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    clock: Clock,
    tenants: DashMap<Uuid, HashMap<Key, AddressRecord>>,
    /// How many records there are.
    count: AtomicUsize,
    /// When records were last looked through, and when this replica was last judged.
    swept: AtomicU64,
    judged: AtomicU64,
    /// When any address last answered, as far as that was noted.
    answered: AtomicU64,
    /// Until when this replica is taken to be cut off.
    cut_off_until: AtomicU64,
}

/// What another replica says of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// It could not reach it.
    Failed,
    /// Most that have tried it could not reach it: it cools for that long.
    Agreed(Duration, ErrorClass),
    /// It was served from there.
    Served,
    /// An operator has cleared its cooldown.
    Cleared,
}

/// What a pick must know of the addresses of a pool's members.
#[derive(Debug, Default)]
pub(super) struct Ways {
    /// Indices of members that are not to be picked.
    pub(super) blocked: Vec<usize>,
    /// Addresses whose trial the caller has taken.
    trials: Vec<Arc<str>>,
    /// Whether the trial of one is on its way.
    pub(super) is_trial_running: bool,
    /// When the first that cools may be tried again, one that was tried included.
    pub(super) first_back: Option<Cooling>,
}

impl Ways {
    fn comes_back(&mut self, back: Cooling) {
        if self.first_back.is_none_or(|first| back.ends < first.ends) {
            self.first_back = Some(back);
        }
    }
}

impl Addresses {
    /// Its clock.
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Now, on its clock.
    pub(super) fn now(&self) -> Time {
        self.clock.now()
    }

    /// Whether nothing is known of any address of any tenant.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Whether nothing is known of any address of that tenant.
    pub(super) fn knows_nothing_of(&self, tenant: Uuid) -> bool {
        self.is_empty() || !self.tenants.contains_key(&tenant)
    }

    /// The member could not be reached. Returns whether that is news for other replicas.
    pub(super) fn fail(&self, tenant: Uuid, pool: Uuid, member: &Member, cooldown: &Cooldown) -> bool {
        let shared = cooldown.scope == Scope::Address;
        let key = (member.address.clone(), if shared { Uuid::nil() } else { pool });
        let now = self.now();
        let is_news = self.change(tenant, key, |record| record.fail(now, cooldown)).unwrap_or_default();
        self.judge(now);
        is_news && shared
    }

    /// The member has answered, whatever it said. Returns whether that is news for other replicas.
    pub(super) fn serve(&self, tenant: Uuid, pool: Uuid, member: &Member) -> bool {
        if self.is_empty() || member.address.is_empty() {
            return false;
        }
        let now = self.now();
        self.answered.store(now.millis(), Ordering::Relaxed);
        if self.cut_off_until.swap(0, Ordering::Relaxed) > now.millis() {
            tracing::info!("an address can be reached again: this replica is not cut off any more");
        }
        let Some(mut records) = self.tenants.get_mut(&tenant) else { return false };
        let mut is_news = false;
        for pool in [Uuid::nil(), pool] {
            if let Some(record) = records.get_mut(&(member.address.clone(), pool)) {
                is_news |= record.serve(now) && pool.is_nil();
            }
        }
        is_news
    }

    /// The member is well, by word of a health check or of an operator. Returns whether anything was known of its address.
    pub(super) fn recover(&self, tenant: Uuid, member: &Member) -> bool {
        let now = self.now();
        let Some(mut records) = self.tenants.get_mut(&tenant) else { return false };
        let of_it = records.iter_mut().filter(|((address, _), _)| *address == member.address);
        of_it.map(|(_, record)| record.recover(now)).count() > 0
    }

    /// Takes in what another replica says.
    pub(super) fn hear(&self, tenant: Uuid, address: Arc<str>, word: Word) {
        let now = self.now();
        let key = (address, Uuid::nil());
        match word {
            Word::Failed => {
                self.change(tenant, key, |record| record.doubt(now));
            }
            Word::Agreed(left, class) => {
                self.change(tenant, key, |record| record.learn(now, Cooling { ends: now + left, class }));
            }
            Word::Served | Word::Cleared => {
                let Some(mut records) = self.tenants.get_mut(&tenant) else { return };
                let Some(record) = records.get_mut(&key) else { return };
                if word == Word::Cleared {
                    record.recover(now);
                } else if record.serves_elsewhere(now) {
                    drop(records);
                    self.judge(now);
                }
            }
        }
    }

    /// Looks at the addresses of the pool's members, and takes the trials that are due at those not `tried` for `lease`.
    pub(super) fn look(&self, pool: &Roster, tried: &[usize], lease: LeaseId) -> Ways {
        let now = self.now();
        let mut ways = Ways::default();
        let Some(mut records) = self.tenants.get_mut(&pool.tenant) else { return ways };
        for (index, member) in pool.members.iter().enumerate() {
            let is_tried = tried.contains(&index);
            for of in [Uuid::nil(), pool.id] {
                let Some(record) = records.get_mut(&(member.address.clone(), of)) else { continue };
                if !is_tried && record.begin(now, lease) {
                    ways.trials.push(member.address.clone());
                }
                let is_mine = ways.trials.contains(&member.address);
                match record.standing(now) {
                    Standing::TrialRunning if !is_mine => ways.is_trial_running |= !is_tried,
                    Standing::Cooling(cooling) => {
                        let resort = record.last_resort(now).filter(|_| pool.last_resort);
                        ways.comes_back(Cooling { ends: resort.unwrap_or(cooling.ends), ..cooling });
                    }
                    _ => continue,
                }
                if !is_tried {
                    ways.blocked.push(index);
                }
                break;
            }
        }
        ways
    }

    /// Opens the way to the address that failed longest ago, since nobody else may serve: where that is a second ago, and
    /// the tenant has not set the time. `lease` takes its trial.
    pub(super) fn open_last_resort(&self, pool: &Roster, ways: &mut Ways, lease: LeaseId) -> bool {
        if !pool.last_resort {
            return false;
        }
        let now = self.now();
        let Some(mut records) = self.tenants.get_mut(&pool.tenant) else { return false };
        let mut first: Option<(Time, Key)> = None;
        for member in ways.blocked.iter().filter_map(|index| pool.members.get(*index)) {
            for of in [Uuid::nil(), pool.id] {
                let key = (member.address.clone(), of);
                let due = records.get(&key).and_then(|record| record.last_resort(now));
                if let Some(due) = due.filter(|due| *due <= now)
                    && first.as_ref().is_none_or(|(earliest, _)| due < *earliest)
                {
                    first = Some((due, key));
                }
            }
        }
        let Some((_, key)) = first else { return false };
        let Some(record) = records.get_mut(&key) else { return false };
        record.cut_short(now);
        record.begin(now, lease);
        let address = key.0;
        ways.blocked.retain(|index| pool.members.get(*index).is_none_or(|other| other.address != address));
        ways.trials.push(address);
        true
    }

    /// Hands on the trials that were taken but for that of the member who serves. Returns whether there was one of its.
    pub(super) fn settle(&self, pool: &Roster, ways: &Ways, served: Option<&Member>, lease: LeaseId) -> bool {
        let served = served.map(|member| &member.address);
        for address in ways.trials.iter().filter(|address| Some(*address) != served) {
            self.hand_on_at(pool.tenant, pool.id, address, lease);
        }
        ways.trials.iter().any(|address| Some(address) == served)
    }

    /// The call under that lease ended without a verdict: the next may try its address.
    pub(super) fn hand_on(&self, lease: &Lease) {
        self.hand_on_at(lease.tenant, lease.pool, &lease.member.address, lease.id);
    }

    fn hand_on_at(&self, tenant: Uuid, pool: Uuid, address: &Arc<str>, lease: LeaseId) {
        let Some(mut records) = self.tenants.get_mut(&tenant) else { return };
        for of in [Uuid::nil(), pool] {
            if let Some(record) = records.get_mut(&(address.clone(), of)) {
                record.hand_on(lease);
            }
        }
    }

    /// Adds to what is known of a pool's members how their addresses stand.
    pub(super) fn add_to(&self, inspection: &mut Inspection, pool: &Roster) {
        let now = self.now();
        let Some(records) = self.tenants.get(&pool.tenant) else { return };
        for (seen, member) in inspection.members.iter_mut().zip(pool.members.iter()) {
            for of in [Uuid::nil(), pool.id] {
                let Some(record) = records.get(&(member.address.clone(), of)) else { continue };
                let standing = match record.standing(now) {
                    // On the clock of the store.
                    Standing::Cooling(Cooling { ends, class }) => {
                        Standing::Cooling(Cooling { ends: inspection.now + ends.since(now), class })
                    }
                    standing => standing,
                };
                seen.address = seen.address.and(standing);
            }
        }
    }

    /// Whether none of the addresses that this replica has tried lately can be reached.
    pub(super) fn is_cut_off(&self) -> bool {
        let until = self.cut_off_until.load(Ordering::Relaxed);
        until > 0 && self.now().millis() < until
    }

    /// The addresses that fail here, of every tenant.
    pub(super) fn failing(&self) -> Vec<(Uuid, Arc<str>)> {
        let now = self.now();
        let mut failing = Vec::new();
        for records in &self.tenants {
            let of_all = records
                .iter()
                .filter(|((_, pool), record)| pool.is_nil() && record.fails_here(now).is_some());
            failing.extend(of_all.map(|((address, _), _)| (*records.key(), address.clone())));
        }
        failing
    }

    /// Forgets a tenant that is no more.
    pub(super) fn forget(&self, tenant: Uuid) {
        if let Some((_, records)) = self.tenants.remove(&tenant) {
            self.count.fetch_sub(records.len(), Ordering::Relaxed);
        }
    }

    /// Changes a record, made where there is none; none where there are too many.
    fn change<T>(&self, tenant: Uuid, key: Key, change: impl FnOnce(&mut AddressRecord) -> T) -> Option<T> {
        if key.0.is_empty() {
            return None;
        }
        let mut records = self.tenants.entry(tenant).or_default();
        if !records.contains_key(&key) {
            if records.len() >= MOST_OF_TENANT || self.count.load(Ordering::Relaxed) >= MOST {
                return None;
            }
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        Some(change(records.entry(key).or_default()))
    }

    /// Judges whether it is this replica that is at fault: every address that it has tried lately fails, and these are
    /// several, or others are served from there.
    fn judge(&self, now: Time) {
        let last = self.judged.load(Ordering::Relaxed);
        if now < Time::from_millis(last) + JUDGED_EVERY
            || self.judged.swap(now.millis(), Ordering::Relaxed) != last
        {
            return;
        }
        let (mut began, mut several, mut serves_others) = (now, false, false);
        let mut one: Option<Arc<str>> = None;
        for records in &self.tenants {
            let shared = records.iter().filter(|((_, pool), _)| pool.is_nil());
            for ((address, _), record) in shared {
                let Some((first, elsewhere)) = record.fails_here(now) else { continue };
                began = began.min(first);
                several |= one.get_or_insert_with(|| address.clone()) != address;
                serves_others |= elsewhere;
            }
        }
        let answered = Time::from_millis(self.answered.load(Ordering::Relaxed));
        let none_answers = answered < began || now >= answered + ANSWERED;
        if now >= began + JUDGED_AFTER && none_answers && (several || serves_others) {
            let until = (now + VOTE_WINDOW).millis();
            if self.cut_off_until.swap(until, Ordering::Relaxed) <= now.millis() {
                tracing::warn!("this replica can reach none of the addresses that it has tried lately");
            }
        }
    }

    /// Drops records that have nothing left to say. Looks once in a while.
    pub(super) fn sweep(&self) {
        let now = self.now();
        let last = self.swept.load(Ordering::Relaxed);
        if now < Time::from_millis(last) + SWEEP || self.swept.swap(now.millis(), Ordering::Relaxed) != last {
            return;
        }
        self.tenants.retain(|_, records| {
            let before = records.len();
            records.retain(|_, record| !record.is_spent(now));
            self.count.fetch_sub(before - records.len(), Ordering::Relaxed);
            !records.is_empty()
        });
    }
}
