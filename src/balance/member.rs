//! The members of a pool, and a call's hold on one.

use super::Limits;
use std::{fmt, ops::Deref, sync::Arc};
use uuid::Uuid;

/// The members of a pool, by ascending ordinal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    list: Vec<Member>,
    alike: bool,
}

impl Members {
    /// Whether nothing but the turn and their failures tells them apart: one priority, no limits.
    #[must_use]
    pub fn are_alike(&self) -> bool {
        self.alike
    }
}

impl Deref for Members {
    type Target = [Member];

    fn deref(&self) -> &[Member] {
        &self.list
    }
}

impl From<Vec<Member>> for Members {
    fn from(list: Vec<Member>) -> Self {
        let priority = list.first().map(|first| first.priority);
        let is_like_first = |member: &Member| member.limits.is_none() && Some(member.priority) == priority;
        let alike = list.iter().all(is_like_first);
        Self { list, alike }
    }
}

impl FromIterator<Member> for Members {
    fn from_iter<T: IntoIterator<Item = Member>>(members: T) -> Self {
        Vec::from_iter(members).into()
    }
}

/// One member of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Names it between picks.
    pub key: MemberKey,
    /// Names the record of the credential behind it, which all pools of the tenant share.
    pub credential: Arc<str>,
    /// Names the address that it is called at: members of one scheme, host and port share it. Empty: not known.
    pub address: Arc<str>,
    /// The lower serves first.
    pub priority: i32,
    /// Its share under the weighted strategies; at least 1.
    pub weight: u32,
    /// What it may take.
    pub limits: Limits,
}

/// Names a member of a pool between picks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MemberKey {
    /// Its place in the ring. Never given twice within a pool, so the pointer of the rotation survives edits.
    pub ordinal: u32,
    /// Names its record of failures. Changes with its API key, address or upstream model, so that neither a cooldown nor
    /// a late failure of the old one touches the new one; members that are alike in all three share it.
    pub record: Arc<str>,
}

impl MemberKey {
    /// The key of the member with that ordinal and that record.
    #[must_use]
    pub fn new(ordinal: u32, record: impl Into<Arc<str>>) -> Self {
        Self { ordinal, record: record.into() }
    }

    /// The key that displays as that text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (ordinal, record) = text.split_once('.')?;
        Some(Self::new(ordinal.parse().ok()?, record))
    }
}

impl fmt::Display for MemberKey {
    /// `ordinal.record`: how it is stored in Redis and told to clients.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.ordinal, self.record)
    }
}

/// Names one call's hold on one member. The caller makes it, so that a repeated command is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(Uuid);

impl LeaseId {
    /// The id of those random bytes.
    #[must_use]
    pub fn new(random: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(random).into_uuid())
    }

    /// The id that displays as that text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}
