//! What goes with a row that is deleted: audit events tell it.

use crate::catalog::stored::entity::{credentials, lb_configs, model_aliases, models, providers, tokens};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect, Select,
};
use serde::Serialize;
use uuid::Uuid;

/// How many of a kind are named.
const NAMED: u64 = 100;

/// A row that is deleted, with what goes with it.
#[derive(Serialize)]
pub(in crate::catalog) struct Deleted<'a, R> {
    #[serde(flatten)]
    pub row: &'a R,
    pub with: With,
}

/// What goes with it: of each kind how many, and the first by name.
#[derive(Serialize, Default)]
pub(in crate::catalog) struct With {
    #[serde(skip_serializing_if = "Share::is_none")]
    providers: Share,
    #[serde(skip_serializing_if = "Share::is_none")]
    credentials: Share,
    #[serde(skip_serializing_if = "Share::is_none")]
    models: Share,
    #[serde(skip_serializing_if = "Share::is_none")]
    aliases: Share,
    #[serde(skip_serializing_if = "Share::is_none")]
    configs: Share,
    #[serde(skip_serializing_if = "Share::is_none")]
    tokens: Share,
}

#[derive(Serialize, Default)]
struct Share {
    count: u64,
    /// Names. Of tokens, what they are recognised by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    first: Vec<String>,
}

impl Share {
    fn is_none(&self) -> bool {
        self.count == 0
    }

    async fn of<E>(db: &impl ConnectionTrait, rows: Select<E>, name: E::Column) -> Result<Self, DbErr>
    where
        E: EntityTrait<Model: Sync>,
    {
        let count = rows.clone().count(db).await?;
        let first = rows.select_only().column(name).limit(NAMED).into_tuple().all(db).await?;
        Ok(Self { count, first })
    }

    /// Configs are many, and linked ones have no name of their own.
    async fn counted(db: &impl ConnectionTrait, rows: Select<lb_configs::Entity>) -> Result<Self, DbErr> {
        Ok(Self { count: rows.count(db).await?, first: Vec::new() })
    }
}

impl With {
    /// All that a tenant has.
    pub async fn tenant(db: &impl ConnectionTrait, id: Uuid) -> Result<Self, DbErr> {
        let providers = providers::Entity::find().filter(providers::Column::TenantId.eq(id));
        let credentials = credentials::Entity::find().filter(credentials::Column::TenantId.eq(id));
        let models = models::Entity::find().filter(models::Column::TenantId.eq(id));
        let aliases = model_aliases::Entity::find().filter(model_aliases::Column::TenantId.eq(id));
        let configs = lb_configs::Entity::find().filter(lb_configs::Column::TenantId.eq(id));
        let tokens = tokens::Entity::find().filter(tokens::Column::TenantId.eq(id));
        Ok(Self {
            providers: Share::of(db, providers, providers::Column::Name).await?,
            credentials: Share::of(db, credentials, credentials::Column::Name).await?,
            models: Share::of(db, models, models::Column::Name).await?,
            aliases: Share::of(db, aliases, model_aliases::Column::Name).await?,
            configs: Share::counted(db, configs).await?,
            tokens: Share::of(db, tokens, tokens::Column::Prefix).await?,
        })
    }

    /// The credentials of a provider, which has no models.
    pub async fn provider(db: &impl ConnectionTrait, id: Uuid) -> Result<Self, DbErr> {
        let credentials = credentials::Entity::find().filter(credentials::Column::ProviderId.eq(id));
        let credentials = Share::of(db, credentials, credentials::Column::Name).await?;
        Ok(Self { credentials, ..Self::default() })
    }

    /// The configs of a model, and those of its provider's credentials that are its own.
    pub async fn model(
        db: &impl ConnectionTrait,
        id: Uuid,
        credentials: Select<credentials::Entity>,
    ) -> Result<Self, DbErr> {
        let configs = lb_configs::Entity::find().filter(lb_configs::Column::ModelId.eq(id));
        Ok(Self {
            credentials: Share::of(db, credentials, credentials::Column::Name).await?,
            configs: Share::counted(db, configs).await?,
            ..Self::default()
        })
    }

    /// The configs that link a credential.
    pub async fn credential(db: &impl ConnectionTrait, id: Uuid) -> Result<Self, DbErr> {
        let configs = lb_configs::Entity::find().filter(lb_configs::Column::CredentialId.eq(id));
        Ok(Self { configs: Share::counted(db, configs).await?, ..Self::default() })
    }
}
