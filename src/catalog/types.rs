//! What tenants configure, as the rest of the house sees it.

use super::PolicySettings;
use crate::{
    balance,
    provider::{KindSpec, ModelType, Target},
};
use chrono::{DateTime, Utc};
use std::{collections::BTreeMap, fmt, sync::Arc};
use uuid::Uuid;

/// The id and name of the virtual config that stands for the credential serving without balancing.
pub const INHERIT: &str = "__inherit__";

/// What a masked secret may be sent back as, to keep the stored value.
pub const HIDDEN: &str = "[__HIDDEN__]";

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

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything, for every tenant.
    Operator,
    /// Configuration and calls of one tenant.
    TenantAdmin,
    /// Calls of one tenant.
    Invoker,
    /// Reads of one tenant.
    Viewer,
}

/// Who calls: what a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's row id.
    pub token: Uuid,
    /// What it may do.
    pub role: Role,
    /// The tenant it belongs to; none for an operator.
    pub tenant: Option<String>,
    /// The token's name.
    pub name: String,
    /// Whether credentials may be handed out to it.
    pub may_read_credentials: bool,
    /// SHA-256 of the token's secret, by which [`crate::catalog::Catalog::still_valid`] knows it again.
    pub hash: [u8; 32],
}

/// A tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenant {
    /// The tenant's id.
    pub id: String,
    /// For people.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// A token to be made.
#[derive(Debug, Clone, Default)]
pub struct NewToken {
    /// The tenant it belongs to; empty for an operator.
    pub tenant: String,
    /// What it may do; required.
    pub role: Option<Role>,
    /// For people.
    pub name: String,
    /// When it stops working.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether its bearer may be handed credentials.
    pub may_read_credentials: bool,
}

/// A token without its secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its row id.
    pub id: Uuid,
    /// The tenant it belongs to; empty for an operator.
    pub tenant: String,
    /// What it may do.
    pub role: Role,
    /// For people.
    pub name: String,
    /// The first characters of the secret.
    pub prefix: String,
    /// When it stops working.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether its bearer may be handed credentials.
    pub may_read_credentials: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When a call last came with it.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// A provider to be made.
#[derive(Debug, Clone, Default)]
pub struct NewProvider {
    /// The caller's choice.
    pub name: String,
    /// A [`KindSpec::name`].
    pub kind: String,
    /// For people.
    pub display_name: String,
    /// Empty: the kind's own.
    pub base_url: String,
    /// Absent: true.
    pub enabled: Option<bool>,
}

/// A change of a provider; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct ProviderChange {
    /// For people.
    pub display_name: Option<String>,
    /// Where it is.
    pub base_url: Option<String>,
    /// Whether its models serve.
    pub enabled: Option<bool>,
    /// Refused where it is neither 0 nor current.
    pub revision: i64,
}

/// A provider as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    /// The owner.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// A [`KindSpec::name`].
    pub kind: String,
    /// For people.
    pub display_name: String,
    /// Where it is.
    pub base_url: String,
    /// Whether its models serve.
    pub enabled: bool,
    /// The credential that serves without balancing.
    pub active_credential: Option<Uuid>,
    /// Counts changes.
    pub revision: i64,
}

/// What a credential belongs to: a provider, or one model of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialOwner {
    /// The provider's name.
    pub provider: String,
    /// The model, where it belongs to one.
    pub model: Option<(ModelType, String)>,
}

/// A credential to be stored.
#[derive(Debug, Clone)]
pub struct NewCredential {
    /// What it belongs to.
    pub owner: CredentialOwner,
    /// For people.
    pub name: String,
    /// By field name, in the clear.
    pub fields: BTreeMap<String, String>,
    /// Make it the active one.
    pub activate: bool,
}

/// A change of a credential; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct CredentialChange {
    /// For people.
    pub name: Option<String>,
    /// The new fields; masked or hidden secrets keep the stored value.
    pub fields: Option<BTreeMap<String, String>>,
    /// Refused where it is neither 0 nor current.
    pub revision: i64,
}

/// A credential as listed.
#[derive(Debug, Clone, PartialEq)]
pub struct Credential {
    /// Its row id.
    pub id: Uuid,
    /// The tenant.
    pub tenant: String,
    /// What it belongs to.
    pub owner: CredentialOwner,
    /// For people.
    pub name: String,
    /// By field name, secrets masked.
    pub fields: BTreeMap<String, String>,
    /// Whether it serves without balancing.
    pub active: bool,
    /// Counts changes.
    pub revision: i64,
    /// What is wrong with it; empty: nothing.
    pub warning: String,
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
    /// What is set for its calls.
    pub policy: PolicySettings,
    /// Whether calls are balanced.
    pub load_balancing_enabled: bool,
    /// Counts changes.
    pub revision: i64,
}

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
    pub roster: balance::Pool,
    /// In ring order, [`INHERIT`] first.
    pub configs: Vec<Config>,
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The page.
    pub items: Vec<T>,
    /// Where the next page starts; empty on the last.
    pub next: String,
}

/// Which page of a list.
#[derive(Debug, Clone, Default)]
pub struct PageRequest {
    /// At most this many; 0 means 100.
    pub size: i32,
    /// [`Page::next`] of the page before; empty for the first.
    pub token: String,
}

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
    /// Whether something was left out because its secret cannot be read.
    pub unreadable: bool,
    /// What the state store needs; `roster.members[i]` is the balancer's side of `members[i]`.
    pub roster: Arc<balance::Pool>,
    /// Those that may be picked, in ring order.
    pub members: Vec<PoolMember>,
}

/// One config, ready to be called.
#[derive(Debug)]
pub struct PoolMember {
    /// Its row id, or [`INHERIT`].
    pub id: Arc<str>,
    /// For people.
    pub name: Arc<str>,
    /// Where it goes.
    pub target: Target,
}

/// What can be missing, taken or in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thing {
    /// A tenant.
    Tenant,
    /// A provider.
    Provider,
    /// A credential.
    Credential,
    /// A model.
    Model,
    /// A load balancing config.
    Config,
    /// A token.
    Token,
    /// A client's hold on a config.
    Lease,
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tenant => "tenant",
            Self::Provider => "provider",
            Self::Credential => "credential",
            Self::Model => "model",
            Self::Config => "config",
            Self::Token => "token",
            Self::Lease => "lease",
        })
    }
}

/// One field that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its path, such as `configs[2].weight`. Never the value: it may be huge or secret.
    pub field: String,
    /// What is wrong, in words.
    pub description: String,
}

/// Why the catalog refuses.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Malformed or missing fields; nothing was changed.
    #[error("{}", violations_text(.0))]
    Invalid(Vec<Violation>),
    /// It is not there, or not this tenant's.
    #[error("{0} not found: {1}")]
    NotFound(Thing, String),
    /// It is there already.
    #[error("{0} exists already: {1}")]
    AlreadyExists(Thing, String),
    /// Something else needs it.
    #[error("{0} is in use: {1}")]
    InUse(Thing, String),
    /// Someone else changed it first.
    #[error("stale revision: {given} was sent, {current} is current")]
    StaleRevision {
        /// The one sent.
        given: i64,
        /// The one stored.
        current: i64,
    },
    /// Balancing needs two.
    #[error("balancing needs at least 2 usable configs, this model has {0}")]
    NotEnoughConfigs(usize),
    /// What is stored does not open.
    #[error("the secret of this config cannot be read; send it again")]
    SecretUnreadable,
    /// The database does not answer.
    #[error("the database cannot be reached; try again")]
    DatabaseUnavailable,
    /// Ours: logged where it happens, and nothing of it goes out.
    #[error("internal error")]
    Internal,
}

fn violations_text(violations: &[Violation]) -> String {
    violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect::<Vec<_>>().join("; ")
}

impl Error {
    /// One field is not as it must be.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation { field: field.into(), description: description.into() }])
    }

    /// Puts the fields of a violation under the message field that held them.
    #[must_use]
    pub fn under(self, parent: &str) -> Self {
        match self {
            Self::Invalid(mut violations) => {
                for violation in &mut violations {
                    violation.field = format!("{parent}.{}", violation.field);
                }
                Self::Invalid(violations)
            }
            other => other,
        }
    }
}
