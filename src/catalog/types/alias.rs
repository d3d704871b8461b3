//! What a tenant's models are called by: their own names, and aliases.

use crate::catalog::types::{error::Error, model::ModelKey};
use std::num::NonZeroU32;

/// A tenant's name for one of its models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelAlias {
    /// 1 to 256 characters, none of them control. No two of a tenant are the same.
    pub name: String,
    /// The model that it means. It belongs to the same tenant.
    pub target: ModelKey,
    /// Counts changes. A change is refused where it is neither 0 nor current.
    pub revision: i64,
}

/// A name by which a tenant can call a model over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callable {
    /// `provider/model`, or an alias.
    pub name: String,
    /// Whether it is an alias.
    pub is_alias: bool,
    /// The model that serves.
    pub target: ModelKey,
    /// How many tokens the model takes, where that is known.
    pub context_window: Option<NonZeroU32>,
}

/// Why a name means no model.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NameError {
    /// No model and no alias of the tenant has it.
    #[error("model not found: {name}")]
    Unknown {
        /// The name, shortened to what an answer may repeat.
        name: String,
        /// Names that are like it, the likeliest first: at most 5, as `provider/model` or an alias.
        similar: Vec<String>,
    },
    /// Several providers have a model of that name.
    #[error("the model {name} is there more than once")]
    Ambiguous {
        /// The name, shortened to what an answer may repeat.
        name: String,
        /// What could be meant: at most 10, as `provider/model`.
        candidates: Vec<String>,
    },
    /// It could not be looked up, or its model cannot be used.
    #[error(transparent)]
    Catalog(#[from] Error),
}
