//! Turns messages into domain values. A value that cannot be read is a violation, which names the path of its field.

use super::{pb, status, to_pb};
use crate::{
    balance::{ErrorClass, OnBreak},
    catalog::{Caller, ModelKey, PageRequest, Role, canonical},
    gate::Refusal,
    problem,
    provider::ModelType,
};
use chrono::{DateTime, Utc};
use prost_types::{Struct, Timestamp, Value, value::Kind};
use serde_json::Map;
use std::{sync::Arc, time::Duration};
use tonic::{Request, Status};

/// Who makes the call, as the gate has noted it. Without that nothing is answered.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Arc<Caller>, Status> {
    let caller = request.extensions().get::<Arc<Caller>>().cloned();
    caller.ok_or_else(|| status::from_refusal(Refusal::TokenInvalid))
}

/// The tenant that a request is about: the token's own tenant or, with an operator's token, the tenant that is named.
pub(super) fn tenant(caller: &Caller, named: &str, field: &str) -> Result<String, Status> {
    problem::tenant(caller, named, field).map_err(status::status)
}

/// Reads the key of a request that must name a model. The provider's name is brought to its one spelling.
pub(super) fn key(caller: &Caller, key: Option<pb::ModelKey>, field: &str) -> Result<ModelKey, Status> {
    let key = key.ok_or_else(|| status::invalid(field, "is required"))?;
    let tenant = tenant(caller, &key.tenant_id, &format!("{field}.tenant_id"))?;
    let model_type = model_type(key.model_type, &format!("{field}.model_type"))?;
    Ok(ModelKey { tenant, provider: canonical(&key.provider).to_owned(), model_type, model: key.model })
}

/// Reads a model type that is required.
pub(super) fn model_type(value: i32, field: &str) -> Result<ModelType, Status> {
    optional_model_type(value, field)?.ok_or_else(|| status::invalid(field, "is required"))
}

/// Reads a model type that may be missing.
pub(super) fn optional_model_type(value: i32, field: &str) -> Result<Option<ModelType>, Status> {
    let Ok(value) = pb::ModelType::try_from(value) else {
        return Err(status::invalid(field, "is not a model type"));
    };
    Ok(match value {
        pb::ModelType::Unspecified => None,
        pb::ModelType::Llm => Some(ModelType::Llm),
        pb::ModelType::TextEmbedding => Some(ModelType::TextEmbedding),
        pb::ModelType::Rerank => Some(ModelType::Rerank),
        pb::ModelType::SpeechToText => Some(ModelType::SpeechToText),
        pb::ModelType::Moderation => Some(ModelType::Moderation),
        pb::ModelType::Tts => Some(ModelType::Tts),
    })
}

pub(super) fn role(value: i32, field: &str) -> Result<Option<Role>, Status> {
    match pb::Role::try_from(value) {
        Ok(pb::Role::Unspecified) => Ok(None),
        Ok(pb::Role::Operator) => Ok(Some(Role::Operator)),
        Ok(pb::Role::TenantAdmin) => Ok(Some(Role::TenantAdmin)),
        Ok(pb::Role::Invoker) => Ok(Some(Role::Invoker)),
        Ok(pb::Role::Viewer) => Ok(Some(Role::Viewer)),
        Err(_) => Err(status::invalid(field, "is not a role")),
    }
}

/// Reads an error class that may be missing.
pub(super) fn class(value: i32, field: &str) -> Result<Option<ErrorClass>, Status> {
    match pb::ErrorClass::try_from(value) {
        Ok(pb::ErrorClass::Unspecified) => Ok(None),
        Ok(named) => {
            Ok(ErrorClass::ALL.into_iter().find(|class| to_pb::class(Some(*class)) == i32::from(named)))
        }
        Err(_) => Err(status::invalid(field, "is not an error class")),
    }
}

/// Reads what a stream does when it breaks, which may be missing.
pub(super) fn on_break(value: i32, field: &str) -> Result<Option<OnBreak>, Status> {
    match pb::OnBreak::try_from(value) {
        Ok(pb::OnBreak::Unspecified) => Ok(None),
        Ok(pb::OnBreak::Fail) => Ok(Some(OnBreak::Fail)),
        Ok(pb::OnBreak::Restart) => Ok(Some(OnBreak::Restart)),
        Ok(pb::OnBreak::Continue) => Ok(Some(OnBreak::Continue)),
        Err(_) => Err(status::invalid(field, "is FAIL, RESTART or CONTINUE")),
    }
}

pub(super) fn page(size: i32, token: String) -> PageRequest {
    PageRequest { size, token }
}

/// Reads a duration, which must not be negative.
pub(super) fn duration(duration: prost_types::Duration, field: &str) -> Result<Duration, Status> {
    // The conversion of prost-types overflows at the least number of seconds.
    if duration.seconds < 0 || duration.nanos < 0 {
        return Err(status::invalid(field, "must not be negative"));
    }
    Duration::try_from(duration).map_err(|_| status::invalid(field, "is not a duration"))
}

pub(super) fn time(timestamp: Timestamp, field: &str) -> Result<DateTime<Utc>, Status> {
    u32::try_from(timestamp.nanos)
        .ok()
        .and_then(|nanos| DateTime::from_timestamp(timestamp.seconds, nanos))
        .ok_or_else(|| status::invalid(field, "is not a time"))
}

/// Reads a free-form map as JSON. A Struct gives every number a fraction, and providers refuse `"max_tokens": 100.0`, so whole
/// numbers lose it.
pub(super) fn json_map(fields: Struct, field: &str) -> Result<Map<String, serde_json::Value>, Status> {
    fields.fields.into_iter().map(|(name, value)| Ok((name, json(value, field)?))).collect()
}

fn json(value: Value, field: &str) -> Result<serde_json::Value, Status> {
    use serde_json::Value as Json;
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(value)) => Json::Bool(value),
        Some(Kind::NumberValue(value)) => {
            number(value).ok_or_else(|| status::invalid(field, "holds a number that JSON does not have"))?
        }
        Some(Kind::StringValue(value)) => Json::String(value),
        Some(Kind::ListValue(list)) => {
            Json::Array(list.values.into_iter().map(|value| json(value, field)).collect::<Result<_, _>>()?)
        }
        Some(Kind::StructValue(value)) => Json::Object(json_map(value, field)?),
    })
}

fn number(value: f64) -> Option<serde_json::Value> {
    /// Beyond this a double does not tell whole numbers apart.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole, and within what an i64 holds")]
        return Some((value as i64).into());
    }
    serde_json::Number::from_f64(value).map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_go_out_without_a_fraction() {
        let text = |value| number(value).map(|number| number.to_string());
        assert_eq!(text(100.0).as_deref(), Some("100"));
        assert_eq!(text(-0.0).as_deref(), Some("0"));
        assert_eq!(text(0.7).as_deref(), Some("0.7"));
        assert_eq!(text(1e300).as_deref(), Some("1e+300"));
        assert_eq!(text(f64::NAN), None);
        assert_eq!(text(f64::INFINITY), None);
    }

    #[test]
    fn a_span_is_never_negative() {
        let read = |seconds, nanos| duration(prost_types::Duration { seconds, nanos }, "f").ok();
        assert_eq!(read(1, 500_000_000), Some(Duration::from_millis(1500)));
        assert_eq!(read(0, 0), Some(Duration::ZERO));
        assert_eq!(read(i64::MAX, 0), Some(Duration::from_secs(i64::MAX.unsigned_abs())));
        for (seconds, nanos) in [(-1, 0), (0, -1), (i64::MIN, i32::MIN), (i64::MIN, i32::MAX)] {
            assert_eq!(read(seconds, nanos), None, "{seconds} s {nanos} ns");
        }
    }

    #[test]
    fn a_tenants_token_sees_no_other_tenant() {
        let caller = |tenant: Option<&str>| Caller {
            token: uuid::Uuid::nil(),
            role: Role::TenantAdmin,
            tenant: tenant.map(ToOwned::to_owned),
            name: String::new(),
            may_read_credentials: false,
            hash: [0; 32],
        };
        assert_eq!(tenant(&caller(Some("a")), "", "f").unwrap(), "a");
        assert_eq!(tenant(&caller(Some("a")), "a", "f").unwrap(), "a");
        assert_eq!(tenant(&caller(Some("a")), "b", "f").unwrap_err().code(), tonic::Code::NotFound);
        assert_eq!(tenant(&caller(None), "b", "f").unwrap(), "b");
        assert_eq!(tenant(&caller(None), "", "f").unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
