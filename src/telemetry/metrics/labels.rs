//! What tells the series of a metric apart: labels, and OpenTelemetry's words for what stands in them.

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
    /// What the model does, as `llm`.
    pub model_type: &'static str,
    /// The model's name.
    pub model: String,
}

/// A model that is called, as labels name it. Cheap to clone and to look up by: names are kept once a service, so that
/// models are the same where theirs are in the same place.
#[derive(Debug, Clone)]
pub struct Model(pub(super) Arc<ModelNames>);

impl PartialEq for Model {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Model {}

impl Hash for Model {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl Deref for Model {
    type Target = ModelNames;

    fn deref(&self) -> &ModelNames {
        &self.0
    }
}

impl Model {
    /// What stands for the models beyond the bound.
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

impl EncodeLabelSet for Model {
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

/// OpenTelemetry's word for what a model does (`gen_ai.operation.name`), or one like it where it has none.
pub(in crate::telemetry) fn operation(model_type: &'static str) -> &'static str {
    match model_type {
        "llm" => "chat",
        "text-embedding" => "embeddings",
        "speech2text" => "speech_to_text",
        "tts" => "text_to_speech",
        other => other,
    }
}

/// How a pick went.
#[derive(Debug, Clone, Copy)]
pub enum PickOutcome {
    /// One serves.
    Granted,
    /// None can before a trial has ended.
    TrialRunning,
    /// None can.
    Exhausted,
}

impl PickOutcome {
    /// Its name in metrics and traces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::TrialRunning => "trial_running",
            Self::Exhausted => "exhausted",
        }
    }
}

/// Why a call is turned away before anything is done for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// The replica serves as many as it may.
    Overloaded,
    /// Its tenant has as many at once as it may.
    TenantCalls,
    /// Its tenant has begun as many in this second as it may.
    TenantRate,
}

impl Shed {
    pub(super) const fn labels(self) -> ShedLabels {
        let reason = match self {
            Self::Overloaded => "overloaded",
            Self::TenantCalls => "tenant_calls",
            Self::TenantRate => "tenant_rate",
        };
        ShedLabels { reason }
    }
}

/// Where turns and cooldowns live now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreMode {
    /// In the process, for this replica is alone.
    Memory,
    /// On Redis.
    Shared,
    /// In the process, for Redis is away.
    Alone,
}

/// How many members of a model's pool stand how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standings {
    /// They may be picked.
    pub eligible: i64,
    /// They cool down.
    pub cooling: i64,
    /// They are at a limit, or one trial is on its way.
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
    pub(super) model: Model,
    pub(super) error_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TokenLabels {
    #[prometheus(flatten)]
    pub(super) model: Model,
    pub(super) gen_ai_token_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct MemberLabels {
    #[prometheus(flatten)]
    pub(super) model: Model,
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
