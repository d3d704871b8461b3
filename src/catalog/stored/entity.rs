//! The tables as sea-orm sees them.
//!
//! Ids are UUIDv7 made by this service: the id of a row is part of the associated data of its sealed fields, so it must be
//! known before the row is inserted. Times are milliseconds since 1970. `fields` is the JSON that `secrets/fields.rs` reads
//! and writes. An empty text means "none", so that unique indexes hold on both databases.
#![allow(
    missing_docs,
    clippy::struct_field_names,
    reason = "fields are columns; the macros want a struct Model"
)]

/// Who owns everything else.
pub mod tenants {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Serialize)]
    #[sea_orm(table_name = "tenants")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        /// The caller's id.
        pub name: String,
        pub display_name: String,
        /// The key that seals what is new.
        #[serde(skip)]
        pub data_key_id: Uuid,
        pub created_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// The tenants' data keys, sealed by a master key.
pub mod data_keys {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "data_keys")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub master_key_id: String,
        pub sealed: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// Access tokens by the hash of their secret.
pub mod tokens {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Serialize)]
    #[sea_orm(table_name = "tokens")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        /// None for an operator's.
        #[serde(skip)]
        pub tenant_id: Option<Uuid>,
        pub role: String,
        pub name: String,
        /// SHA-256 of the secret.
        #[serde(skip)]
        pub hash: Vec<u8>,
        pub prefix: String,
        pub expires_at: Option<i64>,
        pub created_at: i64,
        pub may_read_credentials: bool,
        #[serde(skip)]
        pub last_used_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// Provider accounts and endpoints.
pub mod providers {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Serialize)]
    #[sea_orm(table_name = "providers")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        #[serde(skip)]
        pub tenant_id: Uuid,
        pub name: String,
        pub kind: String,
        pub display_name: String,
        pub base_url: String,
        pub enabled: bool,
        pub revision: i64,
        /// JSON; empty: all off.
        #[serde(serialize_with = "crate::catalog::stored::redacted::json")]
        pub switches: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// Named sets of secrets. With an empty `model_type` and `model` one belongs to the provider.
pub mod credentials {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Serialize)]
    #[sea_orm(table_name = "credentials")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        #[serde(skip)]
        pub tenant_id: Uuid,
        #[serde(skip)]
        pub provider_id: Uuid,
        /// By name, not by row: a credential may be there before its model.
        pub model_type: String,
        pub model: String,
        pub name: String,
        #[serde(serialize_with = "crate::catalog::stored::redacted::fields")]
        pub fields: String,
        /// At most one per owner: a unique index says so.
        pub active: bool,
        pub revision: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// Models and the settings of their pools.
pub mod models {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Serialize)]
    #[sea_orm(table_name = "models")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        #[serde(skip)]
        pub tenant_id: Uuid,
        #[serde(skip)]
        pub provider_id: Uuid,
        pub model_type: String,
        pub name: String,
        pub upstream_model: String,
        pub enabled: bool,
        pub lb_enabled: bool,
        pub lb_revision: i64,
        /// The ordinal of the next config; never goes down.
        pub next_ordinal: i32,
        /// `default`, `enabled`, `disabled` or `left_out`.
        pub inherit: String,
        pub revision: i64,
        /// JSON; empty: all defaults.
        #[serde(serialize_with = "crate::catalog::stored::redacted::json")]
        pub policy: String,
        /// JSON; empty: none.
        #[serde(serialize_with = "crate::catalog::stored::redacted::json")]
        pub fallbacks: String,
        /// Tokens; 0: not known.
        pub context_window: i32,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {
        #[sea_orm(
            belongs_to = "super::providers::Entity",
            from = "Column::ProviderId",
            to = "super::providers::Column::Id"
        )]
        Provider,
    }
    impl Related<super::providers::Entity> for Entity {
        fn to() -> RelationDef {
            Relation::Provider.def()
        }
    }
    impl ActiveModelBehavior for ActiveModel {}
}

/// The members of the pools.
pub mod lb_configs {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Serialize)]
    #[sea_orm(table_name = "lb_configs")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        #[serde(skip)]
        pub tenant_id: Uuid,
        #[serde(skip)]
        pub model_id: Uuid,
        pub ordinal: i32,
        /// Empty, `predefined-model` or `custom-model`.
        pub source: String,
        /// Empty for a linked one: the credential's name takes its place.
        pub name: String,
        pub credential_id: Option<Uuid>,
        #[serde(serialize_with = "crate::catalog::stored::redacted::fields")]
        pub fields: String,
        pub enabled: bool,
        pub weight: i32,
        pub priority: i32,
        pub base_url: String,
        pub upstream_model: String,
        /// Limits; 0: none.
        pub requests_per_minute: i32,
        pub tokens_per_minute: i32,
        pub max_concurrency: i32,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// The model a tenant means when it names none.
pub mod default_models {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Serialize)]
    #[sea_orm(table_name = "default_models")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        #[serde(skip)]
        pub tenant_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub model_type: String,
        pub model_id: Uuid,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// The names that tenants have given to their models.
pub mod model_aliases {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "model_aliases")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub name: String,
        /// The target.
        pub model_id: Uuid,
        pub revision: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {
        #[sea_orm(
            belongs_to = "super::tenants::Entity",
            from = "Column::TenantId",
            to = "super::tenants::Column::Id"
        )]
        Tenant,
        #[sea_orm(
            belongs_to = "super::models::Entity",
            from = "Column::ModelId",
            to = "super::models::Column::Id"
        )]
        Model,
    }
    impl ActiveModelBehavior for ActiveModel {}
}

/// What changed, in commit order, for the other replicas.
pub mod outbox {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "outbox")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub number: i64,
        pub tenant_id: Option<Uuid>,
        pub scope: String,
        pub scope_id: Uuid,
        pub created_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// Facts about the database itself, such as the check value of the master key.
pub mod meta {
    use sea_orm::entity::prelude::*;

    /// The key of the row that tells the right master key.
    pub const MASTER_KEY_CHECK: &str = "master_key_check";

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "meta")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub key: String,
        pub value: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// Who changed what. Names instead of references: events outlive their tenants.
pub mod audit_events {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "audit_events")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub at: i64,
        pub tenant: String,
        pub action: String,
        pub resource: String,
        /// None for the command line.
        pub token_id: Option<Uuid>,
        pub actor: String,
        pub role: String,
        /// JSON, or empty for nothing.
        pub before: String,
        pub after: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}
