//! Audit events: who changed what, written in the transaction of the change, without secrets.
//!
//! Events outlive what they tell of, the tenant included.

use crate::catalog::{
    stored::{entity::audit_events, now},
    types::{Caller, ModelKey},
};
use sea_orm::{ConnectionTrait, DbErr, EntityTrait, IntoActiveModel};
use serde::Serialize;
use uuid::Uuid;

/// Who makes a change that no token stands for.
const COMMAND_LINE: &str = "command line";

/// An event to be written.
#[derive(Debug)]
pub(in crate::catalog) struct Event {
    tenant: String,
    action: &'static str,
    resource: String,
    /// JSON, as it is stored; empty for nothing. Written out before a change takes its lock, since it may be long.
    before: String,
    after: String,
}

impl Event {
    pub fn new(action: &'static str, tenant: &str, resource: impl Into<String>) -> Self {
        let (tenant, resource) = (tenant.to_owned(), resource.into());
        Self { tenant, action, resource, before: String::new(), after: String::new() }
    }

    /// What was there.
    pub fn before(mut self, what: &impl Serialize) -> Self {
        self.before = written(what);
        self
    }

    /// What is there now.
    pub fn after(mut self, what: &impl Serialize) -> Self {
        self.after = written(what);
        self
    }

    /// The tenant that it is about; empty for the operator's own things.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Inserts it, and returns its row id. In a change, this is part of the transaction of the change.
    pub async fn insert(self, db: &impl ConnectionTrait, by: Option<&Caller>) -> Result<Uuid, DbErr> {
        let id = Uuid::now_v7();
        let row = audit_events::Model {
            id,
            at: now(),
            before: self.before,
            after: self.after,
            tenant: self.tenant,
            action: self.action.to_owned(),
            resource: self.resource,
            token_id: by.map(|by| by.token),
            actor: by.map_or_else(|| COMMAND_LINE.to_owned(), |by| by.name.clone()),
            role: by.map(|by| by.role.name().to_owned()).unwrap_or_default(),
        };
        audit_events::Entity::insert(row.into_active_model()).exec_without_returning(db).await?;
        Ok(id)
    }
}

/// What a column of an event holds.
pub(in crate::catalog) fn written(what: &impl Serialize) -> String {
    serde_json::to_string(what).ok().filter(|json| json != "null").unwrap_or_default()
}

/// A model as audit events name it.
pub(in crate::catalog) fn model(key: &ModelKey) -> String {
    format!("model {}/{} ({})", key.provider, key.model, key.model_type.name())
}
