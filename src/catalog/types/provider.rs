//! Providers: accounts and endpoints of a tenant.

use crate::provider::Switches;
use uuid::Uuid;

/// A provider to be made.
#[derive(Debug, Clone, Default)]
pub struct NewProvider {
    /// The caller's choice.
    pub name: String,
    /// A [`crate::provider::KindSpec::name`].
    pub kind: String,
    /// For people.
    pub display_name: String,
    /// Empty: the kind's own.
    pub base_url: String,
    /// Absent: true.
    pub enabled: Option<bool>,
    /// What its server does not take.
    pub switches: Switches,
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
    /// What its server does not take.
    pub switches: Option<Switches>,
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
    /// A [`crate::provider::KindSpec::name`].
    pub kind: String,
    /// For people.
    pub display_name: String,
    /// Where it is.
    pub base_url: String,
    /// Whether its models serve.
    pub enabled: bool,
    /// The credential that serves without balancing.
    pub active_credential: Option<Uuid>,
    /// What its server does not take.
    pub switches: Switches,
    /// Counts changes.
    pub revision: i64,
}
