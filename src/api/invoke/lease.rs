//! Acquire, RenewLease, Release.
//!
//! A lease id is the lease itself, signed with the master key. So any replica can end it without a lookup, and nobody can
//! forge one or turn one to another pool.

use super::service::InvokeApi;
use crate::{
    api::{from_pb, pb, status, to_pb},
    balance::{Failure, LeaseId, Limits, Member, MemberKey, Time},
    catalog::{Caller, ModelKey, ResourceKind},
    invoke::{ClientLease, LEASE_TTL, LeaseReport},
    provider::ModelType,
    state::Lease,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::Utc;
use prost::Message;
use prost_types::Timestamp;
use secrecy::ExposeSecret;
use std::collections::HashMap;
use tonic::{Status, metadata::MetadataMap};
use uuid::Uuid;

const MAX_EXCLUDED: usize = 1000;
const MAX_LEASE_ID: usize = 4096;
/// HMAC-SHA256.
const MARK: usize = 32;

/// What a lease id holds. It holds no secret, but row ids, names, and the digests that cooldowns are kept under.
#[derive(Clone, PartialEq, Message)]
struct Ticket {
    #[prost(message, optional, tag = "1")]
    key: Option<pb::ModelKey>,
    /// Absent where the model is not balanced.
    #[prost(message, optional, tag = "2")]
    hold: Option<Hold>,
}

/// A [`Lease`] as it travels.
#[derive(Clone, PartialEq, Message)]
struct Hold {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bytes = "vec", tag = "2")]
    tenant: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pool: Vec<u8>,
    #[prost(uint32, tag = "4")]
    ordinal: u32,
    #[prost(string, tag = "5")]
    member: String,
    #[prost(string, tag = "6")]
    credential: String,
    #[prost(uint64, tag = "7")]
    began: u64,
    #[prost(bool, tag = "8")]
    trial: bool,
    #[prost(bool, tag = "9")]
    marked: bool,
    #[prost(uint64, tag = "10")]
    tokens: u64,
    #[prost(uint32, tag = "11")]
    tokens_per_minute: u32,
    #[prost(bool, tag = "12")]
    awaited: bool,
}

impl From<&Lease> for Hold {
    fn from(lease: &Lease) -> Self {
        Self {
            id: lease.id.to_string(),
            tenant: lease.tenant.as_bytes().to_vec(),
            pool: lease.pool.as_bytes().to_vec(),
            ordinal: lease.member.key.ordinal,
            member: lease.member.key.to_string(),
            credential: lease.member.credential.to_string(),
            began: lease.began.millis(),
            trial: lease.trial,
            marked: lease.marked,
            tokens: lease.tokens,
            tokens_per_minute: lease.member.limits.tokens_per_minute,
            awaited: lease.awaited,
        }
    }
}

impl Hold {
    fn lease(self) -> Option<Lease> {
        Some(Lease {
            id: LeaseId::parse(&self.id)?,
            tenant: Uuid::from_slice(&self.tenant).ok()?,
            pool: Uuid::from_slice(&self.pool).ok()?,
            // Of a member that is held, no pick is made.
            member: Member {
                key: MemberKey::parse(&self.member)?,
                credential: self.credential.into(),
                address: "".into(),
                priority: 0,
                weight: 1,
                limits: Limits { tokens_per_minute: self.tokens_per_minute, ..Limits::default() },
            },
            began: Time::from_millis(self.began),
            trial: self.trial,
            last_resort: false,
            marked: self.marked,
            tokens: self.tokens,
            awaited: self.awaited,
        })
    }
}

/// A lease that the caller may end.
struct Known {
    id: String,
    key: ModelKey,
    lease: Option<Lease>,
}

impl InvokeApi {
    pub(super) async fn acquired(
        &self,
        metadata: &MetadataMap,
        caller: &Caller,
        request: pb::AcquireRequest,
    ) -> Result<pb::AcquireResponse, Status> {
        let model_type = acquire_in(&request)?;
        let options = request.options.as_ref();
        let tokens = request.tokens.into();
        let call = self.call(metadata, caller, request.key, model_type, options, tokens).await?;
        let granted =
            self.engine.lease(&call, &request.exclude_config_ids).await.map_err(status::from_call)?;
        let Some(member) = granted.member() else { return Err(status::not_found(ResourceKind::Config, "")) };
        let credentials = if caller.may_read_credentials {
            let resource = format!("config {} ({})", member.name, member.id);
            let writer = self.catalog.by(caller);
            let noted = match granted.pool.roster.members.get(granted.index) {
                Some(held) => {
                    writer.note_read("Acquire", &granted.pool.key, &resource, &held.credential).await
                }
                None => writer.note("Acquire", &granted.pool.key, &resource).await,
            };
            if let Err(error) = noted {
                // Nothing is handed out that is not on record; the hold goes back.
                if let Some(lease) = &granted.lease {
                    self.engine.end(lease, None, LeaseReport::Unknown).await;
                }
                return Err(status::from_catalog(error));
            }
            tracing::info!(
                token = %caller.token,
                tenant = granted.pool.key.tenant,
                provider = granted.pool.key.provider,
                model = granted.pool.key.model,
                config = %member.id,
                "credentials were handed out"
            );
            let fields = member.target.fields.iter();
            fields.map(|(name, value)| (name.to_owned(), value.expose_secret().to_owned())).collect()
        } else {
            HashMap::new()
        };
        Ok(pb::AcquireResponse {
            lease_id: self.lease_id(&granted),
            config_id: member.id.to_string(),
            config_name: member.name.to_string(),
            base_url: member.target.base_url.to_string(),
            upstream_model: member.target.model.clone(),
            credentials,
            expires_at: Some(ends()),
            degraded: granted.degraded,
        })
    }

    pub(super) async fn renewed(
        &self,
        caller: &Caller,
        request: &pb::RenewLeaseRequest,
    ) -> Result<pb::RenewLeaseResponse, Status> {
        let known = self.known(caller, &request.lease_id)?;
        if let Some(lease) = &known.lease
            && !self.engine.renew(lease).await
        {
            return Err(status::not_found(ResourceKind::Lease, &known.id));
        }
        Ok(pb::RenewLeaseResponse { expires_at: Some(ends()) })
    }

    pub(super) async fn released(
        &self,
        caller: &Caller,
        request: pb::ReleaseRequest,
    ) -> Result<pb::ReleaseResponse, Status> {
        let report = report(request.outcome)?;
        let known = self.known(caller, &request.lease_id)?;
        if let Some(lease) = &known.lease {
            // The pool's row, not its name: another model may have taken that since.
            let pool = self.catalog.pool(&known.key).filter(|pool| pool.roster.id == lease.pool);
            let ended = self.engine.end(lease, pool.as_deref(), report.clone()).await;
            tracing::debug!(lease = %lease.id, model = known.key.model, ?report, ended, "lease released");
        }
        Ok(pb::ReleaseResponse {})
    }

    fn lease_id(&self, granted: &ClientLease) -> String {
        let key = Some(to_pb::key(granted.pool.key.clone()));
        let ticket = Ticket { key, hold: granted.lease.as_ref().map(Hold::from) }.encode_to_vec();
        URL_SAFE_NO_PAD.encode([self.catalog.sign(&ticket), ticket].concat())
    }

    fn known(&self, caller: &Caller, id: &str) -> Result<Known, Status> {
        let bytes = if id.len() <= MAX_LEASE_ID { URL_SAFE_NO_PAD.decode(id).ok() } else { None };
        let ticket = bytes
            .as_deref()
            .and_then(|bytes| bytes.split_at_checked(MARK))
            .filter(|(mark, ticket)| self.catalog.signed(ticket, mark))
            .and_then(|(_, ticket)| Ticket::decode(ticket).ok());
        let forged = || status::invalid("lease_id", "is not an id that Acquire has given");
        let Ticket { key, hold } = ticket.ok_or_else(forged)?;
        let key = key.ok_or_else(forged)?;
        let model_type: ModelType = from_pb::model_type(key.model_type, "lease_id")?;
        if caller.tenant.as_ref().is_some_and(|own| *own != key.tenant_id) {
            return Err(status::not_found(ResourceKind::Lease, id));
        }
        let lease = hold.map(|hold| hold.lease().ok_or_else(forged)).transpose()?;
        let key = ModelKey { tenant: key.tenant_id, provider: key.provider, model_type, model: key.model };
        Ok(Known { id: id.to_owned(), key, lease })
    }
}

/// The model type that a request asks for.
pub(super) fn acquire_in(request: &pb::AcquireRequest) -> Result<ModelType, Status> {
    let named = request.key.as_ref().map_or(0, |key| key.model_type);
    let model_type = from_pb::model_type(named, "key.model_type")?;
    if request.exclude_config_ids.len() > MAX_EXCLUDED {
        return Err(status::invalid("exclude_config_ids", format!("must hold at most {MAX_EXCLUDED}")));
    }
    Ok(model_type)
}

pub(super) fn report(outcome: Option<pb::Outcome>) -> Result<LeaseReport, Status> {
    let Some(outcome) = outcome else { return Ok(LeaseReport::Unknown) };
    let class = from_pb::class(outcome.error_class, "outcome.error_class")?;
    let http_status = match u16::try_from(outcome.http_status) {
        Ok(0) => None,
        Ok(code) if (100..600).contains(&code) => Some(code),
        _ => return Err(status::invalid("outcome.http_status", "must be an HTTP status, or 0 for none")),
    };
    let span = |value: Option<prost_types::Duration>, field: &str| {
        value.map(|value| from_pb::duration(value, field)).transpose()
    };
    let retry_after = span(outcome.retry_after, "outcome.retry_after")?;
    let took = span(outcome.latency, "outcome.latency")?;
    let used = outcome.usage.map(|usage| u64::from(usage.total_tokens)).filter(|&tokens| tokens > 0);
    Ok(match class {
        None => LeaseReport::Served { used, took },
        Some(class) => {
            let failure = Failure { http_status, retry_after, ..Failure::new(class, "told by the client") };
            LeaseReport::Failed { failure, used, took }
        }
    })
}

fn ends() -> Timestamp {
    to_pb::timestamp(Utc::now() + LEASE_TTL)
}
