//! A whole answer and the room that it takes: what is read of all answers is bounded, for each tenant and in all.
//!
//! While it comes and is read, an answer counts five times its size: its bytes, its text without escapes, what is made of
//! that, and what the allocator has not given back yet. Once it has been read it counts once and a fifth, until whoever holds
//! its [`Room`] drops that.

use super::shares::{Share, Shares};
use crate::balance::Failure;
use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};
use uuid::Uuid;

/// How often its size an answer counts while it is read.
const READING: usize = 5;

/// What an answer takes of the room for answers, until it is dropped.
#[derive(Debug, Default)]
pub struct Room(Vec<Share>);

/// What takes less is as well forgotten once it has been read: calls are bounded by their number.
const SMALL: usize = 64 << 10;

impl Room {
    /// The room of a large answer; none of a small one.
    #[must_use]
    pub fn of_large(self) -> Option<Self> {
        let size: usize = self.0.iter().map(Share::amount).sum();
        (size > SMALL).then_some(self)
    }

    /// The room for both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

/// An answer that has come whole.
#[derive(Debug)]
pub struct Whole<T> {
    /// What it says.
    pub reply: T,
    /// What it takes.
    pub room: Room,
}

impl<T> Whole<T> {
    /// The same with something else made of it.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Whole<U> {
        Whole { reply: make(self.reply), room: self.room }
    }
}

impl<T> Deref for Whole<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.reply
    }
}

impl<T> DerefMut for Whole<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.reply
    }
}

/// The room of an answer that is being read.
pub(super) struct Reading<'s> {
    of: &'s Arc<Shares>,
    tenant: Uuid,
    /// None before the first bytes.
    share: Option<Share>,
    size: usize,
}

impl<'s> Reading<'s> {
    pub(super) fn new(of: &'s Arc<Shares>, tenant: Uuid) -> Self {
        Self { of, tenant, share: None, size: 0 }
    }

    /// More bytes have come. It fails where there is no room for them.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Failure> {
        self.size += bytes;
        let amount = self.size.saturating_mul(READING);
        let grown = match &mut self.share {
            Some(share) => share.resize(amount),
            None => self.of.take(self.tenant, amount).map(|share| self.share = Some(share)),
        };
        grown.map_err(|full| Failure::no_room(full, "the provider's answer"))
    }

    /// It has been read: what is left is what it says.
    pub(super) fn read(self) -> Room {
        let mut share = self.share;
        if let Some(share) = &mut share {
            // Less than it was, so that there is room for it.
            let _ = share.resize(self.size.saturating_add(self.size / 5));
        }
        Room(share.into_iter().collect())
    }
}
