//! Lists audit events.

use crate::catalog::{
    handle::Catalog,
    stored::{Paging, entity::audit_events, patiently, time},
    types::{AuditEvent, AuditFilter, Error, Page, PageRequest},
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

impl Catalog {
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
