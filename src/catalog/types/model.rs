//! Models: what a tenant can call.

use crate::catalog::types::policy::PolicySettings;
use crate::provider::ModelType;

/// Names one model of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelKey {
    /// The tenant's id.
    pub tenant: String,
    /// The provider's name.
    pub provider: String,
    /// What the model does.
    pub model_type: ModelType,
    /// The model's name.
    pub model: String,
}

/// A model's settings.
#[derive(Debug, Clone)]
pub struct NewModel {
    /// Its name.
    pub key: ModelKey,
    /// Empty: the key's.
    pub upstream_model: String,
    /// Absent: true for a new one, unchanged for an old one.
    pub enabled: Option<bool>,
    /// Models to go on with, in order.
    pub fallbacks: Vec<ModelKey>,
    /// How many tokens it takes; 0: not known. Absent: 0 for a new one, unchanged for an old one.
    pub context_window: Option<u32>,
    /// Refused where it is neither 0 nor current.
    pub revision: i64,
}

/// A model as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Its name.
    pub key: ModelKey,
    /// Empty: the key's.
    pub upstream_model: String,
    /// Whether it serves.
    pub enabled: bool,
    /// Models to go on with, in order.
    pub fallbacks: Vec<ModelKey>,
    /// How many tokens it takes; 0: not known.
    pub context_window: u32,
    /// What is set for its calls.
    pub policy: PolicySettings,
    /// Whether calls are balanced.
    pub load_balancing_enabled: bool,
    /// Counts changes.
    pub revision: i64,
}
