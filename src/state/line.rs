//! The lines of callers that wait on this replica, one a pool.
//!
//! A caller stands by its score, which is when it came. Only those in front ask the store for a member. The others are woken
//! when they come to the front, so that nobody polls and nobody overtakes. Whoever frees something gives the word: in
//! memory the store itself, over Redis a message to the replica whose caller came first of all. A word may be lost, so the
//! one in front looks once a second as well ([`LOOK`]).
//!
//! One that cannot use what is free steps aside: it has tried those members, or needs more tokens. It is still the first to
//! be asked at each word, but it holds up nobody.
//!
//! Over Redis a replica stands in the pool's shared line with the first of its own callers (`src/state/redis/stand.lua`).
//! When Redis is away, its own line goes on as it is.

use dashmap::DashMap;
use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

/// How often those in front look by themselves.
pub const LOOK: Duration = Duration::from_secs(1);

/// The first in line asks alone, so that the order is exact. When so many in a row were served there is room for many, and
/// one more asks at once for each further row, up to the most.
const ROW: usize = 16;
const MOST_AT_ONCE: usize = 64;

/// A call changes what is usual by this part of the difference.
const SMOOTHING: u32 = 8;

/// The lines of this replica.
#[derive(Debug, Default)]
pub struct Lines {
    /// Callers in all lines. There are none nearly always, and then a pick looks at nothing else here.
    callers: AtomicUsize,
    /// Counts the words given, so that one who asks before it stands in line learns of a word that came between.
    words: AtomicU64,
    /// Numbers those who have come.
    joined: AtomicU64,
    pools: DashMap<Uuid, Line>,
    /// How long a call of a pool usually holds its member, where callers may wait for that.
    usual: DashMap<Uuid, Duration>,
}

/// The line of one pool.
#[derive(Debug, Default)]
struct Line {
    callers: BTreeMap<Rank, Entry>,
    /// How many were served since one has asked in vain.
    served: usize,
    /// How many wait on other replicas, as last heard.
    elsewhere: Arc<AtomicU32>,
}

/// The order of a line: the score, then who joined first.
type Rank = (Instant, u64);

#[derive(Debug)]
struct Entry {
    word: Arc<Notify>,
    aside: bool,
}

/// Where a caller stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// In no line: it goes elsewhere where it is not served.
    #[default]
    Passing,
    /// In no line yet: it will stand in line where it is not served.
    Joining,
    /// First in this replica's line: over Redis it stands there for all of it.
    Front,
    /// Near the front, where many are served: it may ask too.
    Near,
    /// It has stepped aside.
    Aside,
    /// Behind those. It does not ask.
    Behind,
}

/// What one who asks says of the line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stand {
    /// Where it stands.
    pub role: Role,
    /// For how long it has been there: its score, on whichever clock.
    pub age: Duration,
    /// How many wait on this replica.
    pub waiting: u32,
    /// For how long the one behind it has been there, who comes to the front when it is served.
    pub next: Option<Duration>,
    /// How long it can wait.
    pub left: Duration,
}

/// What one who was not served is told of the line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Another caller could be served by what is free: it must not be held up by this one.
    pub steps_aside: bool,
    /// How many wait on other replicas.
    pub elsewhere: u32,
    /// In how long a trial that is on its way takes another call, or the last resort is due, where that is known.
    pub opens: Option<Duration>,
}

impl Lines {
    /// How many words were given so far.
    #[must_use]
    pub fn words(&self) -> u64 {
        self.words.load(Ordering::SeqCst)
    }

    /// Gives the word that something of that pool may be free.
    pub fn wake(&self, pool: Uuid) {
        self.words.fetch_add(1, Ordering::SeqCst);
        if self.callers.load(Ordering::SeqCst) > 0
            && let Some(line) = self.pools.get(&pool)
        {
            line.call();
        }
    }

    /// Gives the word in every line.
    pub fn wake_all(&self) {
        self.words.fetch_add(1, Ordering::SeqCst);
        for line in &self.pools {
            line.call();
        }
    }

    /// Whether a caller of that score may ask without standing in line: nobody waits who came before.
    #[must_use]
    pub fn lets_pass(&self, pool: Uuid, score: Instant) -> bool {
        self.callers.load(Ordering::SeqCst) == 0
            || self.pools.get(&pool).is_none_or(|line| line.front().all(|((first, _), _)| score < *first))
    }

    /// How many stand in the line of that pool, as far as is known here: on this replica, and on others.
    #[must_use]
    pub fn length(&self, pool: Uuid) -> usize {
        self.pools.get(&pool).map_or(0, |line| line.callers.len() + line.elsewhere() as usize)
    }

    /// A call of that pool has held its member for so long.
    pub fn held(&self, pool: Uuid, took: Duration) {
        let mut usual = self.usual.entry(pool).or_insert(took);
        *usual = (*usual * (SMOOTHING - 1) + took) / SMOOTHING;
    }

    /// How long a call of that pool usually holds its member; none: nobody knows.
    #[must_use]
    pub fn usual(&self, pool: Uuid) -> Option<Duration> {
        self.usual.get(&pool).map(|usual| *usual)
    }

    /// Forgets pools that are no more.
    pub fn forget(&self, pools: &[Uuid]) {
        for pool in pools {
            self.usual.remove(pool);
        }
    }

    /// Lets a caller of that score stand in the line of that pool.
    #[must_use]
    pub fn join(self: &Arc<Self>, pool: Uuid, score: Instant) -> Place {
        self.callers.fetch_add(1, Ordering::SeqCst);
        let rank = (score, self.joined.fetch_add(1, Ordering::Relaxed));
        let word = Arc::new(Notify::new());
        let mut line = self.pools.entry(pool).or_default();
        line.callers.insert(rank, Entry { word: word.clone(), aside: false });
        let elsewhere = line.elsewhere.clone();
        Place { lines: self.clone(), pool, rank, word, elsewhere, left: false }
    }
}

impl Line {
    fn elsewhere(&self) -> u32 {
        self.elsewhere.load(Ordering::Relaxed)
    }

    /// Those who may ask, without those who have stepped aside.
    fn front(&self) -> impl Iterator<Item = (&Rank, &Entry)> {
        let at_once = (self.served / ROW).clamp(1, MOST_AT_ONCE);
        self.callers.iter().filter(|(_, entry)| !entry.aside).take(at_once)
    }

    /// Calls those who may ask.
    fn call(&self) {
        let aside = self.callers.values().filter(|entry| entry.aside);
        for entry in aside.chain(self.front().map(|(_, entry)| entry)) {
            entry.word.notify_one();
        }
    }

    /// Changes the line, and calls those who come to the front by that.
    fn change(&mut self, change: impl FnOnce(&mut Self)) {
        let last = self.front().last().map(|(rank, _)| *rank);
        change(self);
        for (_, entry) in self.front().filter(|(rank, _)| Some(**rank) > last) {
            entry.word.notify_one();
        }
    }
}

/// A caller's place in a line. Dropping it gives it up, and calls those who come to the front by that.
#[derive(Debug)]
pub struct Place {
    lines: Arc<Lines>,
    pool: Uuid,
    rank: Rank,
    word: Arc<Notify>,
    elsewhere: Arc<AtomicU32>,
    left: bool,
}

impl Place {
    /// The pool in whose line it is.
    #[must_use]
    pub const fn pool(&self) -> Uuid {
        self.pool
    }

    /// Where it stands, and how many do.
    #[must_use]
    pub fn stand(&self, left: Duration) -> Stand {
        let age = self.rank.0.elapsed();
        let Some(line) = self.lines.pools.get(&self.pool) else {
            return Stand { role: Role::Front, age, waiting: 1, next: None, left };
        };
        let role = if line.callers.get(&self.rank).is_some_and(|entry| entry.aside) {
            Role::Aside
        } else {
            match line.front().position(|(rank, _)| *rank == self.rank) {
                Some(0) => Role::Front,
                Some(_) => Role::Near,
                None => Role::Behind,
            }
        };
        let mut behind = line.callers.range((Excluded(self.rank), Unbounded)).filter(|(_, one)| !one.aside);
        let next = behind.next().map(|((score, _), _)| score.elapsed());
        Stand { role, age, waiting: u32::try_from(line.callers.len()).unwrap_or(u32::MAX), next, left }
    }

    /// Waits until it may ask.
    pub async fn called(&self) {
        self.word.notified().await;
    }

    /// Notes that it has asked in vain.
    pub fn stays(&self, outlook: Outlook) {
        self.elsewhere.store(outlook.elsewhere, Ordering::Relaxed);
        let Some(mut line) = self.lines.pools.get_mut(&self.pool) else { return };
        line.served = 0;
        if outlook.steps_aside {
            line.change(|line| {
                if let Some(entry) = line.callers.get_mut(&self.rank) {
                    entry.aside = true;
                }
            });
        }
    }

    /// Gives it up. One that has had its answer is served, or will not wait: those behind may hope for the same. Returns
    /// whether nobody stands in that line any more.
    pub fn leave(&mut self, answered: bool) -> bool {
        if std::mem::replace(&mut self.left, true) {
            return false;
        }
        self.lines.callers.fetch_sub(1, Ordering::SeqCst);
        if let Some(mut line) = self.lines.pools.get_mut(&self.pool) {
            line.change(|line| {
                line.callers.remove(&self.rank);
                if answered {
                    line.served = line.served.saturating_add(1);
                }
            });
        }
        self.lines.pools.remove_if(&self.pool, |_, line| line.callers.is_empty()).is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    /// So many callers, who came one after the other, and when the first did.
    fn line(lines: &Arc<Lines>, callers: u64) -> (Uuid, Instant, Vec<Place>) {
        let (pool, first) = (Uuid::new_v4(), Instant::now());
        let join = |after| lines.join(pool, first + Duration::from_secs(after));
        (pool, first, (0..callers).map(join).collect())
    }

    fn roles(places: &[Place]) -> Vec<Role> {
        places.iter().map(|place| place.stand(Duration::ZERO).role).collect()
    }

    fn is_called(place: &Place) -> bool {
        place.called().now_or_never().is_some()
    }

    #[test]
    fn a_word_calls_the_first_alone_and_leaving_the_next() {
        let lines = Arc::<Lines>::default();
        let (pool, _, mut places) = line(&lines, 3);
        assert_eq!(roles(&places), [Role::Front, Role::Behind, Role::Behind]);
        lines.wake(pool);
        assert_eq!(places.iter().map(is_called).collect::<Vec<_>>(), [true, false, false]);
        drop(places.remove(1));
        assert!(!places.iter().any(is_called), "who stood behind leaves: nobody comes to the front");
        drop(places.remove(0));
        assert!(is_called(&places[0]));
        assert!(places[0].leave(false), "the last");
    }

    #[test]
    fn nobody_overtakes_but_who_came_earlier() {
        let lines = Arc::<Lines>::default();
        let (pool, first, mut places) = line(&lines, 2);
        assert!(!lines.lets_pass(pool, first + Duration::from_secs(9)));
        assert!(lines.lets_pass(pool, first.checked_sub(Duration::from_nanos(1)).unwrap()));
        assert!(lines.lets_pass(Uuid::new_v4(), first));
        places.push(lines.join(pool, first + Duration::from_millis(1)));
        assert_eq!(places[0].stand(Duration::ZERO).waiting, 3);
        drop(places.remove(0));
        assert_eq!(roles(&places), [Role::Behind, Role::Front], "by the score, not by who joined first");
        drop(places);
        assert!(lines.lets_pass(pool, Instant::now()) && lines.length(pool) == 0);
    }

    #[test]
    fn one_that_steps_aside_holds_up_nobody_and_is_called_first() {
        let lines = Arc::<Lines>::default();
        let (pool, first, places) = line(&lines, 2);
        places[0].stays(Outlook { steps_aside: true, elsewhere: 3, opens: None });
        assert_eq!(roles(&places), [Role::Aside, Role::Front]);
        assert!(is_called(&places[1]), "it comes to the front");
        assert_eq!(lines.length(pool), 5, "three of them elsewhere");
        lines.wake(pool);
        assert!(places.iter().all(is_called));
        drop(places);
        let (pool, later, places) = line(&lines, 1);
        places[0].stays(Outlook { steps_aside: true, ..Outlook::default() });
        assert!(lines.lets_pass(pool, later + Duration::from_secs(1)) && later >= first);
    }

    #[test]
    fn many_ask_at_once_where_many_were_served() {
        let lines = Arc::<Lines>::default();
        let (_, _, mut places) = line(&lines, 3 * ROW as u64 + 3);
        for _ in 0..3 * ROW {
            places.remove(0).leave(true);
        }
        assert_eq!(roles(&places), [Role::Front, Role::Near, Role::Near]);
        places[0].stays(Outlook::default());
        assert_eq!(roles(&places), [Role::Front, Role::Behind, Role::Behind]);
    }

    #[test]
    fn what_a_call_usually_takes_follows_what_it_takes() {
        let (lines, pool) = (Lines::default(), Uuid::new_v4());
        assert_eq!(lines.usual(pool), None);
        lines.held(pool, Duration::from_secs(8));
        assert_eq!(lines.usual(pool), Some(Duration::from_secs(8)));
        lines.held(pool, Duration::ZERO);
        assert_eq!(lines.usual(pool), Some(Duration::from_secs(7)));
        lines.forget(&[pool]);
        assert_eq!(lines.usual(pool), None);
    }
}
