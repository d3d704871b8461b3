//! What serves: a model with its members, their addresses and their opened credentials.

use crate::balance;
use crate::catalog::types::model::ModelKey;
use crate::provider::{KindSpec, Target};
use std::{num::NonZeroU32, sync::Arc};

/// One model, ready to be called: an immutable snapshot, compiled when configuration changes.
#[derive(Debug)]
pub struct Pool {
    /// The model's name.
    pub key: ModelKey,
    /// What its provider speaks.
    pub kind: &'static KindSpec,
    /// Whether the model and its provider are enabled.
    pub enabled: bool,
    /// Whether calls rotate. Where not, `members` is the one credential that serves, or nothing.
    pub balanced: bool,
    /// What holds for its calls.
    pub policy: balance::Policy,
    /// Models to go on with when this one cannot serve, in order.
    pub fallbacks: Vec<ModelKey>,
    /// How many tokens the model takes, where that is known.
    pub context_window: Option<NonZeroU32>,
    /// Whether something was left out because its secret cannot be read.
    pub unreadable: bool,
    /// What the state store needs; `roster.members[i]` is the balancer's side of `members[i]`.
    pub roster: Arc<balance::Roster>,
    /// The member that each config is, and the name of its credential's record, of those that are switched off as well.
    pub configured: Vec<(balance::MemberKey, Arc<str>)>,
    /// Those that may be picked, in ring order.
    pub members: Vec<PoolMember>,
}

/// One config, ready to be called.
#[derive(Debug)]
pub struct PoolMember {
    /// Its row id, or [`INHERIT`](crate::catalog::INHERIT).
    pub id: Arc<str>,
    /// For people.
    pub name: Arc<str>,
    /// Where it goes.
    pub target: Target,
}
