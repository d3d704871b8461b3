//! Those who wait for connections to one host, in a queue for each tenant. The tenants take turns, so that a thousand calls
//! of one hold back nobody else's first.

use std::collections::{HashMap, VecDeque};
use uuid::Uuid;

/// Whose queue it is. Who needs a new connection stands apart, since older ones do not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Queue {
    pub(super) tenant: Uuid,
    pub(super) needs_new: bool,
}

/// See the module's documentation.
pub(super) struct Line<T> {
    queues: HashMap<Queue, VecDeque<T>>,
    /// Whose turn it is next. Each queue stands here once while somebody is in it.
    turns: VecDeque<Queue>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { queues: HashMap::new(), turns: VecDeque::new() }
    }
}

impl<T> Line<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    pub(super) fn push(&mut self, queue: Queue, waiter: T) {
        let waiting = self.queues.entry(queue).or_default();
        if waiting.is_empty() {
            self.turns.push_back(queue);
        }
        waiting.push_back(waiter);
    }

    /// The queues whose turns come, and how many wait in each.
    pub(super) fn queues(&self) -> impl Iterator<Item = (Queue, usize)> {
        self.turns.iter().map(|queue| (*queue, self.queues.get(queue).map_or(0, VecDeque::len)))
    }

    /// Takes out the first waiter, by turns, whom `may` lets through.
    pub(super) fn next(&mut self, mut may: impl FnMut(Queue, &T) -> bool) -> Option<(Queue, T)> {
        let fits = |queue: &Queue| {
            let first = self.queues.get(queue).and_then(VecDeque::front);
            first.is_some_and(|first| may(*queue, first))
        };
        let at = self.turns.iter().position(fits)?;
        let queue = self.turns.remove(at)?;
        let waiting = self.queues.get_mut(&queue)?;
        let waiter = waiting.pop_front()?;
        if waiting.is_empty() {
            self.queues.remove(&queue);
        } else {
            self.turns.push_back(queue);
        }
        Some((queue, waiter))
    }

    /// Forgets those for whom that is false.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.queues.retain(|_, waiting| {
            waiting.retain(&mut keep);
            !waiting.is_empty()
        });
        self.turns.retain(|queue| self.queues.contains_key(queue));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(tenant: u128) -> Queue {
        Queue { tenant: Uuid::from_u128(tenant), needs_new: false }
    }

    #[test]
    fn tenants_take_turns() {
        let mut line = Line::default();
        for number in 0..1000 {
            line.push(queue(1), number);
        }
        line.push(queue(2), 5000);
        line.push(queue(2), 5001);
        let order: Vec<_> = (0..6).filter_map(|_| line.next(|_, _| true)).map(|(_, waiter)| waiter).collect();
        assert_eq!(order, [0, 5000, 1, 5001, 2, 3]);
    }

    #[test]
    fn who_may_not_yet_is_passed_over_and_keeps_its_turn() {
        let mut line = Line::default();
        line.push(queue(1), 1);
        line.push(queue(2), 2);
        assert_eq!(line.next(|queue, _| queue.tenant == Uuid::from_u128(2)), Some((queue(2), 2)));
        assert_eq!(line.next(|_, _| false), None);
        assert_eq!(line.next(|_, _| true), Some((queue(1), 1)));
        assert!(line.is_empty());
    }

    #[test]
    fn those_who_have_left_are_forgotten() {
        let mut line = Line::default();
        for number in 0..10 {
            line.push(queue(number % 3), number);
        }
        line.retain(|number| *number == 4);
        assert_eq!(line.queues().collect::<Vec<_>>(), [(queue(1), 1)]);
        line.push(queue(0), 11);
        line.retain(|_| false);
        assert!(line.is_empty() && line.queues.is_empty());
    }
}
