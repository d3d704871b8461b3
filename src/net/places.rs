//! Places for connections of which anybody may make as many as he likes. They are few, and the oldest gives way to the
//! newest: whoever takes many keeps nobody out.

use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};
use tokio_util::sync::CancellationToken;

/// See the module's documentation.
pub struct Places {
    most: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    last: u64,
    /// By when they came; each is closed by its token.
    open: BTreeMap<u64, CancellationToken>,
}

impl Places {
    /// So many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, known: Mutex::default() }
    }

    /// Takes a place, until what is returned is dropped. Says whether another gave way to it.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> (Place, bool) {
        let closed = CancellationToken::new();
        let mut known = self.known.lock();
        known.last += 1;
        let number = known.last;
        known.open.insert(number, closed.clone());
        let gives_way = if known.open.len() > self.most { known.open.pop_first() } else { None };
        drop(known);
        if let Some((_, oldest)) = &gives_way {
            oldest.cancel();
        }
        (Place { all: Arc::clone(self), number, closed }, gives_way.is_some())
    }

    /// Closes the oldest. Returns whether there was one.
    pub fn close_oldest(&self) -> bool {
        let oldest = self.known.lock().open.pop_first();
        oldest.inspect(|(_, oldest)| oldest.cancel()).is_some()
    }
}

/// A place, until it is dropped.
pub struct Place {
    all: Arc<Places>,
    number: u64,
    /// Cancelled when it has to give way.
    pub closed: CancellationToken,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.known.lock().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_gives_way() {
        let all = Arc::new(Places::new(2));
        let [(first, _), (second, _)] = [all.enter(), all.enter()];
        let (third, gave_way) = all.enter();
        assert!(gave_way && first.closed.is_cancelled() && !second.closed.is_cancelled());
        drop(second);
        let (fourth, gave_way) = all.enter();
        assert!(!gave_way && all.close_oldest() && third.closed.is_cancelled());
        drop((first, third, fourth));
        assert!(!all.close_oldest());
    }
}
