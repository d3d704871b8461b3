//! What stands in columns of text.

use crate::{catalog::types::ConfigFrom, provider::Switches};

/// The switches of a provider, as JSON. What cannot be read, as after a downgrade, is off.
pub fn switches(json: &str) -> Switches {
    if json.is_empty() {
        return Switches::NONE;
    }
    serde_json::from_str(json).unwrap_or_else(|error| {
        tracing::error!(%error, "the switches of a provider cannot be read; all are off");
        Switches::NONE
    })
}

/// Where a config comes from, as it is stored.
pub fn source_name(from: ConfigFrom) -> &'static str {
    match from {
        ConfigFrom::Any => "",
        ConfigFrom::PredefinedModel => "predefined-model",
        ConfigFrom::CustomModel => "custom-model",
    }
}

/// What the saved set of a model says of `__inherit__`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inherit {
    /// Nothing was said: it is a member.
    Default,
    /// A saved set holds it.
    Enabled,
    /// A saved set switches it off.
    Disabled,
    /// A saved set leaves it out.
    LeftOut,
}

impl Inherit {
    /// As stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::LeftOut => "left_out",
        }
    }

    /// From the column; what it does not know is the default.
    pub fn from_name(name: &str) -> Self {
        [Self::Enabled, Self::Disabled, Self::LeftOut]
            .into_iter()
            .find(|state| state.name() == name)
            .unwrap_or(Self::Default)
    }
}

/// Whether a row of that source belongs to that listing.
pub fn in_listing(source: &str, from: ConfigFrom) -> bool {
    from == ConfigFrom::Any || source.is_empty() || source == source_name(from)
}
