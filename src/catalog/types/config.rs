//! Load balancing configs: the members of a model's pool as a tenant sees them.

use crate::balance;
use crate::catalog::types::policy::PolicySettings;
use std::collections::BTreeMap;

/// The id and name of the virtual config that stands for the credential serving without balancing.
pub const INHERIT: &str = "__inherit__";

/// Which configs of a model: those of the provider, those of the model itself, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigFrom {
    /// All.
    Any,
    /// `predefined-model`: of the provider.
    PredefinedModel,
    /// `custom-model`: of the model.
    CustomModel,
}

/// A config as it is saved.
#[derive(Debug, Clone, Default)]
pub struct NewConfig {
    /// Empty for a new one.
    pub id: String,
    /// For people.
    pub name: String,
    /// The stored credential it links; empty: none.
    pub credential_id: String,
    /// Fields of its own.
    pub credentials: BTreeMap<String, String>,
    /// Required.
    pub enabled: Option<bool>,
    /// Absent: 1.
    pub weight: Option<i32>,
    /// The lower serves first.
    pub priority: i32,
    /// Empty: the provider's.
    pub base_url: String,
    /// Empty: the model's.
    pub upstream_model: String,
    /// What it may take.
    pub limits: balance::Limits,
}

/// A config as listed.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its row id, or [`INHERIT`].
    pub id: String,
    /// For people.
    pub name: String,
    /// The stored credential it links; empty: none.
    pub credential_id: String,
    /// Fields of its own, secrets masked.
    pub credentials: BTreeMap<String, String>,
    /// Whether it may serve.
    pub enabled: bool,
    /// 0 drains.
    pub weight: i32,
    /// The lower serves first.
    pub priority: i32,
    /// Empty: the provider's.
    pub base_url: String,
    /// Empty: the model's.
    pub upstream_model: String,
    /// What an operator should know; empty: nothing.
    pub warning: String,
    /// Whether its secret can be read.
    pub readable: bool,
    /// How the state store knows it.
    pub member: balance::Member,
}

/// A model's configs.
#[derive(Debug, Clone)]
pub struct ConfigSet {
    /// Whether balancing is on.
    pub enabled: bool,
    /// Counts changes of the set, the flag and the policy.
    pub revision: i64,
    /// What is set for the model's calls.
    pub policy: PolicySettings,
    /// The pool's row id in the state store, with every config as a member, whether it may be picked or not.
    pub roster: balance::Roster,
    /// In ring order, [`INHERIT`] first.
    pub configs: Vec<Config>,
}
