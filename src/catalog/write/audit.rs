//! Who changed what: an event in the same transaction as each change, without secrets.
//!
//! Events outlive what they tell of, the tenant included. Sealed fields are told as [`SECRET`], whatever they hold. Reads
//! of credentials are events as well: where one cannot be written, because the database is away, nothing is handed out.

use crate::catalog::{
    Caller, Catalog, Error, ModelKey, Page, PageRequest,
    stored::database::{Paging, now, patiently, time},
    stored::entity::audit_events,
    write::models,
};
use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
};
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

/// What stands for a secret.
pub const SECRET: &str = "[secret]";
/// Who a change without a token is by.
const COMMAND_LINE: &str = "command line";

/// One change, or one read of a credential.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEvent {
    /// Its row id; ids grow with time.
    pub id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// The tenant's id then; empty where the operator's own things were changed.
    pub tenant: String,
    /// The RPC, or the command.
    pub action: String,
    /// What it was done to, such as `provider openai`.
    pub resource: String,
    /// The token's row id; empty for the command line.
    pub token: String,
    /// The token's name, or `command line`.
    pub actor: String,
    /// The token's role; empty for the command line.
    pub role: String,
    /// What was there; null where nothing was.
    pub before: Value,
    /// What is there since; null where nothing is.
    pub after: Value,
}

/// An event in the making.
#[derive(Debug)]
pub(in crate::catalog) struct Event {
    tenant: String,
    action: &'static str,
    resource: String,
    before: Value,
    after: Value,
}

impl Event {
    pub fn new(action: &'static str, tenant: &str, resource: impl Into<String>) -> Self {
        let (tenant, resource) = (tenant.to_owned(), resource.into());
        Self { tenant, action, resource, before: Value::Null, after: Value::Null }
    }

    /// What was there.
    pub fn before(mut self, what: &impl Serialize) -> Self {
        self.before = serde_json::to_value(what).unwrap_or_default();
        self
    }

    /// What is there now.
    pub fn after(mut self, what: &impl Serialize) -> Self {
        self.after = serde_json::to_value(what).unwrap_or_default();
        self
    }

    /// Writes it in the change's own transaction.
    pub async fn write(self, db: &impl ConnectionTrait, by: Option<&Caller>) -> Result<(), DbErr> {
        let text = |value: &Value| if value.is_null() { String::new() } else { value.to_string() };
        let row = audit_events::Model {
            id: Uuid::now_v7(),
            at: now(),
            before: text(&self.before),
            after: text(&self.after),
            tenant: self.tenant,
            action: self.action.to_owned(),
            resource: self.resource,
            token_id: by.map(|by| by.token),
            actor: by.map_or_else(|| COMMAND_LINE.to_owned(), |by| by.name.clone()),
            role: by.map(|by| by.role.name().to_owned()).unwrap_or_default(),
        };
        audit_events::Entity::insert(row.into_active_model()).exec_without_returning(db).await.map(drop)
    }
}

/// A credential's stored fields: plain ones as they are, of sealed ones that they are there.
pub(in crate::catalog) fn fields<S: Serializer>(json: &str, to: S) -> Result<S::Ok, S::Error> {
    let stored: BTreeMap<String, Value> = serde_json::from_str(json).unwrap_or_default();
    to.collect_map(stored.into_iter().map(|(name, value)| match value {
        Value::String(plain) => (name, plain),
        _ => (name, SECRET.to_owned()),
    }))
}

/// A column that holds JSON.
pub(in crate::catalog) fn json<S: Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
    serde_json::from_str::<Value>(text).unwrap_or_default().serialize(to)
}

/// Which events are wanted.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Of this tenant; empty: of all.
    pub tenant: String,
    /// Of this action; empty: of all.
    pub action: String,
}

impl Catalog {
    /// This catalog, with changes told as that caller's.
    #[must_use]
    pub fn by(&self, caller: &Caller) -> Self {
        Self { actor: Some(Arc::new(caller.clone())), ..self.clone() }
    }

    /// Notes what changes no row of ours: that a credential is about to be handed out, or an operator's hand on a
    /// cooldown.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`]; what must not happen unnoted must not happen then.
    pub async fn note(&self, action: &'static str, key: &ModelKey, resource: &str) -> Result<(), Error> {
        let resource = format!("{resource} of {}", models::resource(key));
        let event = Event::new(action, &key.tenant, resource);
        patiently(event.write(self.db(), self.actor.as_deref())).await
    }

    /// Events, newest first.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad page.
    pub async fn list_audit_events(
        &self,
        filter: AuditFilter,
        page: PageRequest,
    ) -> Result<Page<AuditEvent>, Error> {
        let paging = Paging::new(&page, 1)?;
        let mut query =
            audit_events::Entity::find().order_by_desc(audit_events::Column::Id).limit(paging.size + 1);
        if !filter.tenant.is_empty() {
            query = query.filter(audit_events::Column::Tenant.eq(filter.tenant));
        }
        if !filter.action.is_empty() {
            query = query.filter(audit_events::Column::Action.eq(filter.action));
        }
        if let Some(before) = paging.after_id()? {
            query = query.filter(audit_events::Column::Id.lt(before));
        }
        let rows = patiently(query.all(self.db())).await?;
        Ok(paging.page(rows, |row| vec![row.id.to_string()], AuditEvent::from))
    }
}

impl From<audit_events::Model> for AuditEvent {
    fn from(row: audit_events::Model) -> Self {
        let value = |text: &str| serde_json::from_str(text).unwrap_or_default();
        Self {
            id: row.id,
            at: time(row.at),
            before: value(&row.before),
            after: value(&row.after),
            tenant: row.tenant,
            action: row.action,
            resource: row.resource,
            token: row.token_id.map(|id| id.to_string()).unwrap_or_default(),
            actor: row.actor,
            role: row.role,
        }
    }
}
