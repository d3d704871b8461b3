//! Turns domain values into messages. A message can hold every domain value, so nothing here fails.

use super::pb;
use crate::{
    balance::{ErrorClass, OnBreak},
    catalog::{ModelKey, Role},
    invoke::Route,
    provider::ModelType,
    wire::TokenUsage,
};
use chrono::{DateTime, Utc};
use prost_types::{Struct, Timestamp, Value, value::Kind};
use std::time::Duration;

pub(super) fn model_type(model_type: ModelType) -> i32 {
    let value = match model_type {
        ModelType::Llm => pb::ModelType::Llm,
        ModelType::TextEmbedding => pb::ModelType::TextEmbedding,
        ModelType::Rerank => pb::ModelType::Rerank,
        ModelType::SpeechToText => pb::ModelType::SpeechToText,
        ModelType::Moderation => pb::ModelType::Moderation,
        ModelType::Tts => pb::ModelType::Tts,
    };
    value.into()
}

pub(super) fn key(key: ModelKey) -> pb::ModelKey {
    pb::ModelKey {
        tenant_id: key.tenant,
        provider: key.provider,
        model_type: model_type(key.model_type),
        model: key.model,
    }
}

pub(super) fn role(role: Role) -> i32 {
    let value = match role {
        Role::Operator => pb::Role::Operator,
        Role::TenantAdmin => pb::Role::TenantAdmin,
        Role::Invoker => pb::Role::Invoker,
        Role::Viewer => pb::Role::Viewer,
    };
    value.into()
}

pub(super) fn class(class: Option<ErrorClass>) -> i32 {
    let value = match class {
        None => pb::ErrorClass::Unspecified,
        Some(ErrorClass::RateLimited) => pb::ErrorClass::RateLimited,
        Some(ErrorClass::QuotaExhausted) => pb::ErrorClass::QuotaExhausted,
        Some(ErrorClass::Authentication) => pb::ErrorClass::Authentication,
        Some(ErrorClass::Connection) => pb::ErrorClass::Connection,
        Some(ErrorClass::Timeout) => pb::ErrorClass::Timeout,
        Some(ErrorClass::ServerError) => pb::ErrorClass::ServerError,
        Some(ErrorClass::ModelUnavailable) => pb::ErrorClass::ModelUnavailable,
        Some(ErrorClass::BadRequest) => pb::ErrorClass::BadRequest,
        Some(ErrorClass::ContentFiltered) => pb::ErrorClass::ContentFiltered,
        Some(ErrorClass::ContextTooLong) => pb::ErrorClass::ContextTooLong,
        Some(ErrorClass::Cancelled) => pb::ErrorClass::Cancelled,
    };
    value.into()
}

pub(super) fn on_break(on_break: OnBreak) -> i32 {
    let value = match on_break {
        OnBreak::Fail => pb::OnBreak::Fail,
        OnBreak::Restart => pb::OnBreak::Restart,
        OnBreak::Continue => pb::OnBreak::Continue,
    };
    value.into()
}

pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

pub(super) fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0) }
}

pub(super) fn route(route: Route) -> pb::Route {
    let attempts = route.attempts.into_iter().map(|attempt| pb::Attempt {
        config_id: attempt.config_id.to_string(),
        config_name: attempt.config_name.to_string(),
        error_class: class(attempt.class),
        http_status: attempt.http_status.map_or(0, i32::from),
        message: attempt.message,
        latency: Some(duration(attempt.latency)),
        cooldown: attempt.cooldown.map(duration),
        after_break: attempt.after_break.map_or(0, on_break),
    });
    pb::Route {
        attempts: attempts.collect(),
        config_id: route.config_id,
        config_name: route.config_name,
        provider: route.provider,
        model: route.model,
        upstream_model: route.upstream_model,
        degraded: route.degraded,
    }
}

pub(super) fn usage(usage: TokenUsage, latency: Duration, first_token: Option<Duration>) -> pb::Usage {
    pb::Usage {
        prompt_tokens: usage.prompt,
        completion_tokens: usage.completion,
        total_tokens: usage.total,
        cached_tokens: usage.cached,
        reasoning_tokens: usage.reasoning,
        cache_write_tokens: usage.cache_write,
        prompt_audio_tokens: usage.prompt_audio,
        completion_audio_tokens: usage.completion_audio,
        latency: Some(duration(latency)),
        time_to_first_token: first_token.map(duration),
    }
}

/// Turns a JSON object into a Struct. `None` for other JSON.
pub(super) fn structure(value: serde_json::Value) -> Option<Struct> {
    let serde_json::Value::Object(map) = value else { return None };
    Some(Struct { fields: map.into_iter().map(|(name, value)| (name, json_value(value))).collect() })
}

fn json_value(value: serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(on) => Kind::BoolValue(on),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(list) => {
            let values = list.into_iter().map(json_value).collect();
            Kind::ListValue(prost_types::ListValue { values })
        }
        object @ serde_json::Value::Object(_) => Kind::StructValue(structure(object).unwrap_or_default()),
    };
    Value { kind: Some(kind) }
}
