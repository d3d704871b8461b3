//! The errors of the catalog.

use std::fmt;

/// What can be missing, taken or in use. Answers name it in `google.rpc.ResourceInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceKind {
    /// A tenant.
    Tenant,
    /// A provider.
    Provider,
    /// A credential.
    Credential,
    /// A model.
    Model,
    /// A tenant's name for a model.
    Alias,
    /// A load balancing config.
    Config,
    /// A token.
    Token,
    /// A client's hold on a config.
    Lease,
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tenant => "tenant",
            Self::Provider => "provider",
            Self::Credential => "credential",
            Self::Model => "model",
            Self::Alias => "alias",
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
    NotFound(ResourceKind, String),
    /// It is there already.
    #[error("{0} exists already: {1}")]
    AlreadyExists(ResourceKind, String),
    /// Something else needs it.
    #[error("{0} is in use: {1}")]
    InUse(ResourceKind, String),
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
    /// The tenant has as much as it may have; nothing was changed.
    #[error("the quota is reached: at most {most} {of}")]
    Quota {
        /// How many there may be.
        most: u64,
        /// Of what.
        of: &'static str,
    },
    /// As many changes of the caller's tenant wait on this replica as may wait.
    #[error("{0} changes of this tenant wait already; try again")]
    TooManyChanges(usize),
    /// What is stored does not open.
    #[error("the secret of this config cannot be read; send it again")]
    SecretUnreadable,
    /// This build of Rota panics when it compiles the model. A defect of ours: logged where it happens.
    #[error("this model cannot be used: compiling its configuration fails with an internal error")]
    Unusable,
    /// The database does not answer.
    #[error("the database cannot be reached; try again")]
    DatabaseUnavailable,
    /// A defect of ours. It is logged where it happens, and nothing of it goes out.
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
