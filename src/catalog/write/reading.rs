//! Records who has read a secret: that a credential is handed out, or sent to its provider to be tried.

use crate::catalog::{
    handle::Catalog,
    stored::{entity::audit_events, now, patiently},
    types::{Error, ModelKey},
    write::{
        audit::{self, Event},
        reads::{Count, Read},
        writer::Writer,
    },
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};
use serde_json::json;
use std::sync::Arc;

impl Writer {
    /// Records that a credential of a model's config is read. Of the reads of one credential by one token in one minute
    /// there is one event on each replica. It is written before this returns.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`], [`Error::TooManyChanges`]. The secret must not go out then.
    pub async fn note_read(
        &self,
        action: &'static str,
        key: &ModelKey,
        resource: &str,
        credential: &Arc<str>,
    ) -> Result<(), Error> {
        let resource = format!("{resource} of {}", audit::model(key));
        self.note_secret(action, &key.tenant, resource, credential.clone()).await
    }

    /// The same for a stored credential of a provider.
    ///
    /// # Errors
    /// As [`note_read`](Self::note_read).
    pub async fn note_credential(
        &self,
        action: &'static str,
        tenant: &str,
        provider: &str,
        id: &str,
    ) -> Result<(), Error> {
        self.note_secret(action, tenant, format!("credential {id} of {provider}"), id.into()).await
    }

    async fn note_secret(
        &self,
        action: &'static str,
        tenant: &str,
        resource: String,
        credential: Arc<str>,
    ) -> Result<(), Error> {
        let count = self.catalog.reads().of(Read::at(now(), action, self.token(), credential));
        let mut count = count.lock().await;
        if count.event.is_none() {
            let event = Event::new(action, tenant, resource).after(&json!({ "reads": 1 }));
            count.event = Some(self.note_event(event).await?);
            count.told = 1;
        }
        count.reads += 1;
        Ok(())
    }
}

impl Catalog {
    /// Brings the numbers of reads in audit events up to date: of all reads, or of those of minutes that are over.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`]. Then a later call does it.
    pub async fn tell_reads(&self, all: bool) -> Result<(), Error> {
        for (read, count) in self.reads().counted(now(), all) {
            self.tell(&mut *count.lock().await).await?;
            if !all {
                self.reads().forget(&read);
            }
        }
        Ok(())
    }

    async fn tell(&self, count: &mut Count) -> Result<(), Error> {
        let Some(event) = count.event.filter(|_| count.reads > count.told) else { return Ok(()) };
        let writer = self.by_command_line();
        let turn = writer.turn().await?;
        let _held = patiently(turn.database()).await?;
        let update = audit_events::Entity::update_many()
            .col_expr(
                audit_events::Column::After,
                Expr::value(audit::written(&json!({ "reads": count.reads }))),
            )
            .filter(audit_events::Column::Id.eq(event));
        patiently(update.exec(self.db())).await?;
        count.told = count.reads;
        Ok(())
    }
}
