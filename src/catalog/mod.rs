//! What tenants configured: providers, credentials, models, pools, and the tokens that may use them.
//!
//! A [`Catalog`] stores it in SQLite or PostgreSQL and keeps compiled [`Pool`]s in memory, so that a call needs no SQL.
//! A [`Writer`] makes changes. Each is one transaction with a row in the outbox, and returns when this replica serves it.
//! The other replicas read the outbox. Secrets are sealed at rest, and opened only inside a pool.
//!
//! | part | holds |
//! |---|---|
//! | `types` | what tenants configure, as the rest of the house sees it |
//! | `stored` | tables, migrations, the database |
//! | `secrets` | master key, sealing, rotation |
//! | `write` | changes, with their outbox rows and audit events |
//! | `read` | lists from the database |
//! | `compiled` | pools in memory, and how they follow the outbox |
//!
//! When the database is gone, changes and lists answer [`Error::DatabaseUnavailable`]. Calls and known tokens go on from
//! memory. A panic or a row that cannot be read stops its own model alone.

mod addresses;
mod compiled;
mod handle;
mod names;
mod open;
mod read;
mod secrets;
mod stored;
mod types;
mod write;

pub use compiled::tokens::Recognised;
pub use handle::Catalog;
pub use names::canonical;
pub use open::OpenOptions;
pub use read::overview::{Bundle, Configurations};
pub use secrets::{
    key_ring::{KeyRing, KeyRingError},
    master_key::MasterKeySource,
    rotation::{MasterRotation, TenantRotation},
};
pub use stored::{
    connect::{DatabaseOptions, OpenError},
    facts::{Address, DatabaseFacts},
};
pub use types::{
    AuditEvent, AuditFilter, Bounds, Callable, Caller, Config, ConfigFrom, ConfigSet, CooldownSettings,
    Credential, CredentialChange, CredentialOwner, DatabaseState, Error, HIDDEN, INHERIT, Millis, Model,
    ModelAlias, ModelKey, NameError, NewConfig, NewCredential, NewModel, NewProvider, NewToken, Page,
    PageRequest, PolicySettings, Pool, PoolMember, Provider, ProviderChange, ResourceKind, Role, Tenant,
    Token, Violation,
};
pub use write::writer::Writer;
