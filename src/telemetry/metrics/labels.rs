//! The labels of metrics, and OpenTelemetry's words for their values.

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use std::{
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

/// The names of a model.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ModelNames {
    /// The tenant's id.
    pub tenant: String,
    /// The tenant's name for the provider.
    pub provider: String,
    /// OpenTelemetry's name for the kind of provider (`gen_ai.provider.name`).
    pub kind: &'static str,
    /// What the model does, such as `llm`.
    pub model_type: &'static str,
    /// The model's name.
    pub model: String,
}

/// The labels of a model that is called. Cheap to clone and to compare: a service stores the names of a model once, so two
/// models are the same if their names are at the same address.
#[derive(Debug, Clone)]
pub struct ModelLabels(pub(super) Arc<ModelNames>);

impl PartialEq for ModelLabels {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ModelLabels {}

impl Hash for ModelLabels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl Deref for ModelLabels {
    type Target = ModelNames;

    fn deref(&self) -> &ModelNames {
        &self.0
    }
}

impl ModelLabels {
    /// The labels that the models beyond the bound share.
    pub(super) fn other() -> Self {
        const OTHER: &str = "other";
        Self(Arc::new(ModelNames {
            tenant: OTHER.into(),
            provider: OTHER.into(),
            kind: OTHER,
            model_type: OTHER,
            model: OTHER.into(),
        }))
    }
}

impl EncodeLabelSet for ModelLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        let labels = [
            ("gen_ai_operation_name", operation(self.model_type)),
            ("gen_ai_provider_name", self.kind),
            ("gen_ai_request_model", &self.model),
            ("rota_provider", &self.provider),
            ("rota_tenant", &self.tenant),
        ];
        labels.encode(encoder)
    }
}

/// OpenTelemetry's word for what a model does (`gen_ai.operation.name`), or a similar word if it has none.
pub(in crate::telemetry) fn operation(model_type: &'static str) -> &'static str {
    match model_type {
        "llm" => "chat",
        "text-embedding" => "embeddings",
        "speech2text" => "speech_to_text",
        "tts" => "text_to_speech",
        other => other,
    }
}

/// How a pick ended.
#[derive(Debug, Clone, Copy)]
pub enum PickOutcome {
    /// A config serves.
    Granted,
    /// A config serves although it cools: all do, by a guess.
    LastResort,
    /// No config can serve before a trial has ended.
    TrialRunning,
    /// No config can serve.
    Exhausted,
}

impl PickOutcome {
    /// Its name in metrics and traces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::LastResort => "last_resort",
            Self::TrialRunning => "trial_running",
            Self::Exhausted => "exhausted",
        }
    }
}

/// Why a call is refused before any work is done for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// The replica serves as much as it may.
    Overloaded,
    /// The tenant has as many calls at once as it may.
    TenantCalls,
    /// The tenant begins calls faster than it may.
    TenantRate,
    /// The requests of the tenant are as large, together, as they may be.
    TenantBytes,
}

impl Shed {
    pub(super) const fn labels(self) -> ShedLabels {
        let reason = match self {
            Self::Overloaded => "overloaded",
            Self::TenantCalls => "tenant_calls",
            Self::TenantRate => "tenant_rate",
            Self::TenantBytes => "tenant_bytes",
        };
        ShedLabels { reason }
    }
}

/// Where turns and cooldowns live now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreMode {
    /// In the process: no Redis is set.
    Memory,
    /// On Redis.
    Shared,
    /// In the process, while Redis is away.
    Alone,
}

/// How many members of a model's pool are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standings {
    /// They may be picked.
    pub eligible: i64,
    /// They are in a cooldown.
    pub cooling: i64,
    /// They are at a limit, or wait for the verdict of a trial.
    pub waiting: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CallLabels {
    pub(super) rpc_method: &'static str,
    pub(super) rpc_response_status_code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ErrorLabels {
    #[prometheus(flatten)]
    pub(super) model: ModelLabels,
    pub(super) error_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TokenLabels {
    #[prometheus(flatten)]
    pub(super) model: ModelLabels,
    pub(super) gen_ai_token_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct MemberLabels {
    #[prometheus(flatten)]
    pub(super) model: ModelLabels,
    pub(super) standing: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ShedLabels {
    pub(super) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PickLabels {
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CommandLabels {
    pub(super) operation: &'static str,
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StoreLabels {
    pub(super) mode: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TaskLabels {
    pub(super) task: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BuildLabels {
    pub(super) version: &'static str,
}
