//! The schema, version by version. Never edit a released migration; add a new one.
//!
//! A migration only adds, and what it adds has a default: replicas of an earlier build go on beside it.
//!
//! Columns have the few types that SQLite and PostgreSQL share. Foreign keys delete what belongs to a deleted row.

use super::connection::Transaction;
use chrono::Utc;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use std::collections::HashSet;

/// Every migration, oldest first.
const ALL: &[Version] =
    &[FIRST, BALANCING, LEASES, LAST_USE, AUDIT, SWITCHES, CONTEXT, AUDIT_ACTIONS, ALIASES];

/// Its name, and its statements. `{uuid}`, `{blob}` and `{bool}` are filled in per database.
struct Version(&'static str, &'static [&'static str]);

/// Runs those of this build that have not run. What a later build has run is no error: it only adds.
pub(in crate::catalog) async fn run(tx: &Transaction) -> Result<(), DbErr> {
    // As sea-orm-migration names and makes it, which ran the first of them.
    let table = "CREATE TABLE IF NOT EXISTS seaql_migrations (version VARCHAR NOT NULL PRIMARY KEY, applied_at BIGINT NOT NULL)";
    tx.execute_unprepared(table).await?;
    let pending: HashSet<_> = pending(tx).await?.into_iter().collect();
    for Version(name, statements) in ALL.iter().filter(|version| pending.contains(version.0)) {
        for statement in *statements {
            tx.execute_unprepared(&for_backend(statement, tx.get_database_backend())).await?;
        }
        let at = Utc::now().timestamp();
        let done = format!("INSERT INTO seaql_migrations (version, applied_at) VALUES ('{name}', {at})");
        tx.execute_unprepared(&done).await?;
    }
    Ok(())
}

/// The names of those that have not run. Writes nothing.
pub(in crate::catalog) async fn pending(db: &impl ConnectionTrait) -> Result<Vec<&'static str>, DbErr> {
    let mut ran = HashSet::new();
    if has_table(db, "seaql_migrations").await? {
        let all = Statement::from_string(db.get_database_backend(), "SELECT version FROM seaql_migrations");
        for row in db.query_all_raw(all).await? {
            ran.insert(row.try_get::<String>("", "version")?);
        }
    }
    Ok(ALL.iter().map(|version| version.0).filter(|name| !ran.contains(*name)).collect())
}

/// Whether there is a table of that name, which is one of ours.
pub(in crate::catalog) async fn has_table(db: &impl ConnectionTrait, name: &str) -> Result<bool, DbErr> {
    let backend = db.get_database_backend();
    let tables = match backend {
        DbBackend::Sqlite => "sqlite_master WHERE type = 'table' AND name",
        _ => "information_schema.tables WHERE table_schema = current_schema() AND table_name",
    };
    let ask = Statement::from_string(backend, format!("SELECT 1 AS there FROM {tables} = '{name}'"));
    Ok(db.query_one_raw(ask).await?.is_some())
}

fn for_backend(statement: &str, backend: DbBackend) -> String {
    let (uuid, blob) = match backend {
        DbBackend::Sqlite => ("BLOB", "BLOB"),
        _ => ("UUID", "BYTEA"),
    };
    statement.replace("{uuid}", uuid).replace("{blob}", blob).replace("{bool}", "BOOLEAN")
}

const FIRST: Version = Version("m0001_first", &[
    "CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL)",
    "CREATE TABLE counter (id INTEGER PRIMARY KEY NOT NULL CHECK (id = 1), last BIGINT NOT NULL)",
    "INSERT INTO counter (id, last) VALUES (1, 0)",
    "CREATE TABLE outbox (number BIGINT PRIMARY KEY NOT NULL, tenant_id {uuid}, scope TEXT NOT NULL,
        scope_id {uuid} NOT NULL, created_at BIGINT NOT NULL)",
    "CREATE TABLE tenants (id {uuid} PRIMARY KEY NOT NULL, name TEXT NOT NULL UNIQUE, display_name TEXT NOT NULL,
        data_key_id {uuid} NOT NULL, created_at BIGINT NOT NULL)",
    "CREATE TABLE data_keys (id {uuid} PRIMARY KEY NOT NULL,
        tenant_id {uuid} NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
        master_key_id TEXT NOT NULL, sealed TEXT NOT NULL)",
    "CREATE INDEX data_keys_tenant ON data_keys (tenant_id)",
    "CREATE TABLE tokens (id {uuid} PRIMARY KEY NOT NULL,
        tenant_id {uuid} REFERENCES tenants (id) ON DELETE CASCADE,
        role TEXT NOT NULL, name TEXT NOT NULL, hash {blob} NOT NULL UNIQUE, prefix TEXT NOT NULL,
        expires_at BIGINT, created_at BIGINT NOT NULL)",
    "CREATE INDEX tokens_tenant ON tokens (tenant_id)",
    "CREATE TABLE providers (id {uuid} PRIMARY KEY NOT NULL,
        tenant_id {uuid} NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
        name TEXT NOT NULL, kind TEXT NOT NULL, display_name TEXT NOT NULL, base_url TEXT NOT NULL,
        enabled {bool} NOT NULL, revision BIGINT NOT NULL, UNIQUE (tenant_id, name))",
    "CREATE TABLE credentials (id {uuid} PRIMARY KEY NOT NULL,
        tenant_id {uuid} NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
        provider_id {uuid} NOT NULL REFERENCES providers (id) ON DELETE CASCADE,
        model_type TEXT NOT NULL, model TEXT NOT NULL, name TEXT NOT NULL, fields TEXT NOT NULL,
        active {bool} NOT NULL, revision BIGINT NOT NULL, UNIQUE (provider_id, model_type, model, name))",
    "CREATE UNIQUE INDEX credentials_active ON credentials (provider_id, model_type, model) WHERE active",
    "CREATE INDEX credentials_tenant ON credentials (tenant_id)",
    "CREATE TABLE models (id {uuid} PRIMARY KEY NOT NULL,
        tenant_id {uuid} NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
        provider_id {uuid} NOT NULL REFERENCES providers (id) ON DELETE CASCADE,
        model_type TEXT NOT NULL, name TEXT NOT NULL, upstream_model TEXT NOT NULL, enabled {bool} NOT NULL,
        lb_enabled {bool} NOT NULL, lb_revision BIGINT NOT NULL, next_ordinal INTEGER NOT NULL,
        inherit TEXT NOT NULL, revision BIGINT NOT NULL, UNIQUE (provider_id, model_type, name))",
    "CREATE INDEX models_tenant ON models (tenant_id)",
    "CREATE TABLE lb_configs (id {uuid} PRIMARY KEY NOT NULL,
        tenant_id {uuid} NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
        model_id {uuid} NOT NULL REFERENCES models (id) ON DELETE CASCADE,
        ordinal INTEGER NOT NULL, source TEXT NOT NULL, name TEXT NOT NULL,
        credential_id {uuid} REFERENCES credentials (id) ON DELETE CASCADE,
        fields TEXT NOT NULL, enabled {bool} NOT NULL, weight INTEGER NOT NULL, priority INTEGER NOT NULL,
        base_url TEXT NOT NULL, upstream_model TEXT NOT NULL, UNIQUE (model_id, ordinal))",
    "CREATE INDEX lb_configs_credential ON lb_configs (credential_id)",
    "CREATE INDEX lb_configs_tenant ON lb_configs (tenant_id)",
    "CREATE TABLE default_models (
        tenant_id {uuid} NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
        model_type TEXT NOT NULL, model_id {uuid} NOT NULL REFERENCES models (id) ON DELETE CASCADE,
        PRIMARY KEY (tenant_id, model_type))",
    "CREATE INDEX default_models_model ON default_models (model_id)",
]);

/// Policies, fallbacks and limits.
const BALANCING: Version = Version(
    "m0002_balancing",
    &[
        "ALTER TABLE models ADD COLUMN policy TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE models ADD COLUMN fallbacks TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE lb_configs ADD COLUMN requests_per_minute INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE lb_configs ADD COLUMN tokens_per_minute INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE lb_configs ADD COLUMN max_concurrency INTEGER NOT NULL DEFAULT 0",
    ],
);

/// Tokens that credentials may be handed to.
const LEASES: Version = Version(
    "m0003_leases",
    &["ALTER TABLE tokens ADD COLUMN may_read_credentials BOOLEAN NOT NULL DEFAULT FALSE"],
);

/// When tokens were last used.
const LAST_USE: Version = Version("m0004_last_use", &["ALTER TABLE tokens ADD COLUMN last_used_at BIGINT"]);

/// Who changed what. No reference to tenants: events outlive them.
const AUDIT: Version = Version(
    "m0005_audit",
    &[
        "CREATE TABLE audit_events (id {uuid} PRIMARY KEY NOT NULL, at BIGINT NOT NULL, tenant TEXT NOT NULL,
            action TEXT NOT NULL, resource TEXT NOT NULL, token_id {uuid}, actor TEXT NOT NULL, role TEXT NOT NULL,
            before TEXT NOT NULL, after TEXT NOT NULL)",
        "CREATE INDEX audit_events_tenant ON audit_events (tenant, id)",
    ],
);

/// What servers of a provider do not take.
const SWITCHES: Version = Version(
    "m0006_provider_switches",
    &["ALTER TABLE providers ADD COLUMN switches TEXT NOT NULL DEFAULT ''"],
);

/// How many tokens models take.
const CONTEXT: Version = Version(
    "m0007_context_window",
    &["ALTER TABLE models ADD COLUMN context_window INTEGER NOT NULL DEFAULT 0"],
);

/// Finds the audit events of an action among very many.
const AUDIT_ACTIONS: Version = Version(
    "m0008_audit_actions",
    &[
        "CREATE INDEX audit_events_action ON audit_events (action, id)",
        "CREATE INDEX audit_events_tenant_action ON audit_events (tenant, action, id)",
    ],
);

/// Tenants' names for models. An alias goes with its target: an earlier build deletes models without looking for aliases.
const ALIASES: Version = Version(
    "m0009_model_aliases",
    &[
        "CREATE TABLE model_aliases (id {uuid} PRIMARY KEY NOT NULL,
            tenant_id {uuid} NOT NULL REFERENCES tenants (id) ON DELETE CASCADE, name TEXT NOT NULL,
            model_id {uuid} NOT NULL REFERENCES models (id) ON DELETE CASCADE, revision BIGINT NOT NULL,
            UNIQUE (tenant_id, name))",
        "CREATE INDEX model_aliases_model ON model_aliases (model_id)",
    ],
);
