//! Whose change is next. The database takes one change at a time, whoever makes it.
//!
//! Each party has a line of its own: a tenant has one for its tokens, and operators share one with the service itself. Only
//! the first of a line stands in the line of all. So a change waits for those of its own party and for one of each other party,
//! however many changes the others have. Across replicas the lock in the database decides.

use crate::catalog::types::Error;
use dashmap::DashMap;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The tenant whose token makes a change; none for operators and the service itself.
type Party = Option<String>;

/// The lines of one replica.
pub(in crate::catalog) struct Turns {
    lines: DashMap<Party, Line>,
    /// Held by the one whose transaction is open.
    database: Arc<Semaphore>,
    /// The most that wait in a line.
    most: usize,
}

struct Line {
    turn: Arc<Semaphore>,
    /// Those who wait, and the one whose turn it is.
    standing: usize,
}

impl Turns {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { lines: DashMap::new(), database: Arc::new(Semaphore::new(1)), most })
    }

    /// Waits until a party's earlier changes are done.
    ///
    /// # Errors
    /// [`Error::TooManyChanges`] where too many wait already.
    pub async fn take(self: &Arc<Self>, party: Option<&str>) -> Result<Turn, Error> {
        let (place, turn) = self.stand(party.map(str::to_owned))?;
        let permit = turn.acquire_owned().await.map_err(|_| Error::Internal)?;
        Ok(Turn { _permit: permit, place })
    }

    fn stand(self: &Arc<Self>, party: Party) -> Result<(Place, Arc<Semaphore>), Error> {
        let new = || Line { turn: Arc::new(Semaphore::new(1)), standing: 0 };
        let mut line = self.lines.entry(party.clone()).or_insert_with(new);
        if line.standing > self.most {
            return Err(Error::TooManyChanges(self.most));
        }
        line.standing += 1;
        Ok((Place { turns: self.clone(), party }, line.turn.clone()))
    }
}

/// A place in a line. Dropped, it is left.
struct Place {
    turns: Arc<Turns>,
    party: Party,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.turns.lines.remove_if_mut(&self.party, |_, line| {
            line.standing = line.standing.saturating_sub(1);
            line.standing == 0
        });
    }
}

/// The turn of a party: no other change of it is under way on this replica.
pub(in crate::catalog) struct Turn {
    _permit: OwnedSemaphorePermit,
    place: Place,
}

/// The right to open the one transaction that writes.
pub(in crate::catalog) type Held = OwnedSemaphorePermit;

impl Turn {
    /// Waits for the database, behind at most one change of each other party.
    pub async fn database(&self) -> Result<Held, Error> {
        self.place.turns.database.clone().acquire_owned().await.map_err(|_| Error::Internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        future.now_or_never()
    }

    #[tokio::test]
    async fn a_party_waits_for_one_change_of_each_other() {
        let turns = Turns::new(10);
        let first = turns.take(Some("busy")).await.unwrap();
        let held = first.database().await.unwrap();
        let mut behind: Vec<_> = (0..3).map(|_| Box::pin(turns.take(Some("busy")))).collect();
        for waiting in &mut behind {
            assert!(waiting.now_or_never().is_none());
        }
        let other = now(turns.take(Some("other"))).expect("its own line is empty").unwrap();
        let operator = now(turns.take(None)).expect("so is the operator's").unwrap();
        let (mut others, mut operators) = (Box::pin(other.database()), Box::pin(operator.database()));
        assert!((&mut others).now_or_never().is_none() && (&mut operators).now_or_never().is_none());
        drop((held, first));
        // Who stood first in the line of all has it, whoever else has come to the front of a line since.
        let held = now(others).expect("next").unwrap();
        let second = now(turns.take(Some("third"))).unwrap().unwrap();
        assert!(now(second.database()).is_none());
        drop(held);
        assert!(now(operators).is_some());
    }

    #[tokio::test]
    async fn a_line_is_bounded_and_leaves_nothing_behind() {
        let turns = Turns::new(2);
        let first = turns.take(Some("busy")).await.unwrap();
        let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(turns.take(Some("busy")))).collect();
        for waiting in &mut waiting {
            assert!(waiting.now_or_never().is_none());
        }
        assert!(matches!(now(turns.take(Some("busy"))), Some(Err(Error::TooManyChanges(2)))));
        assert!(now(turns.take(Some("other"))).expect("no other is refused").is_ok());
        // Who gives up leaves the line.
        drop(waiting.pop());
        let again = Box::pin(turns.take(Some("busy")));
        assert!(again.now_or_never().is_none());
        drop((waiting, first));
        assert!(turns.lines.is_empty());
    }
}
