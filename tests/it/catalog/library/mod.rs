//! The catalog as a library, on a real SQLite file: what is stored, compiled and served, and with how many statements.

mod aliases;
mod bounds;
mod configs;
mod credentials;
mod fallbacks;
mod keys;
mod names;
mod overview;
#[cfg(debug_assertions)]
mod poison;
mod policy;
mod pools;
mod replicas;
mod schema;
mod together;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rota::{
    catalog::{
        Bounds, Catalog, Config, ConfigFrom, ConfigSet, Credential, CredentialOwner, DatabaseFacts,
        DatabaseOptions, Error, INHERIT, KeyRing, MasterKeySource, ModelAlias, ModelKey, NewConfig,
        NewCredential, NewModel, NewProvider, OpenError, OpenOptions, PoolMember, Writer,
    },
    provider::{ModelType, guard::Networks},
};
use sea_orm::{Database, DatabaseConnection};
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::sql::{Sql, sqlite_url};

pub const KEY: &str = "sk-proj-aaaaaaaaaaaaaaaaaaaaaa11";
pub const OTHER_KEY: &str = "sk-proj-bbbbbbbbbbbbbbbbbbbbbb22";
/// 32 bytes that are not all the same.
pub const MASTER: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub const OTHER_MASTER: &str = "HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A database of its own, and one replica on it.
pub struct Bed {
    dir: TempDir,
    pub catalog: Catalog,
}

impl Bed {
    pub async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let catalog = open(&dir, MASTER).await.unwrap();
        catalog.migrate().await.unwrap();
        catalog.load().await.unwrap();
        Self { dir, catalog }
    }

    /// With tenant `acme`, its provider `openai` and the model `gpt`.
    pub async fn with_model() -> (Self, ModelKey) {
        let bed = Self::new().await;
        bed.writer().create_tenant("acme", "Acme").await.unwrap();
        bed.provider("openai", "openai", "").await;
        let key = bed.model("openai", "gpt").await;
        (bed, key)
    }

    /// Another replica on the same database, and how many statements it has sent since it was last asked.
    pub async fn counted(&self) -> (Catalog, impl Fn() -> usize) {
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&sent);
        let mut db = self.connection().await;
        db.set_metric_callback(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        (on(db), move || sent.swap(0, Ordering::SeqCst))
    }

    /// A connection that a catalog can be put on.
    pub async fn connection(&self) -> DatabaseConnection {
        Database::connect(sqlite_url(self.dir.path())).await.unwrap()
    }

    /// The database behind the catalog.
    pub async fn sql(&self) -> Sql {
        Sql::at(&sqlite_url(self.dir.path())).await
    }

    /// The fields that a row of a table holds.
    pub async fn stored_fields(&self, table: &str, id: Uuid) -> String {
        let ask = format!("SELECT fields FROM {table} WHERE id = x'{}'", id.simple());
        self.sql().await.rows(&ask).await.remove(0)
    }

    /// Replaces them behind the catalog's back.
    pub async fn store_fields(&self, table: &str, id: Uuid, fields: &str) {
        let update = format!("UPDATE {table} SET fields = '{fields}' WHERE id = x'{}'", id.simple());
        assert_eq!(self.sql().await.run(&update).await, 1);
    }

    /// Damages what a config has sealed. Returns what it held.
    pub async fn damage(&self, config: &Config) -> String {
        let id = config.id.parse().unwrap();
        let fields = self.stored_fields("lb_configs", id).await;
        let damaged = fields.replace("\"sealed\":\"", "\"sealed\":\"AAAA");
        assert_ne!(damaged, fields);
        self.store_fields("lb_configs", id, &damaged).await;
        fields
    }

    /// Another replica on the same database.
    pub async fn replica(&self) -> Catalog {
        let catalog = open(&self.dir, MASTER).await.unwrap();
        catalog.load().await.unwrap();
        catalog
    }

    /// The same with other bounds.
    pub async fn within(&self, bounds: Bounds) -> Catalog {
        let catalog = open_within(&self.dir, MASTER, bounds).await.unwrap();
        catalog.load().await.unwrap();
        catalog
    }

    /// Changes what the catalog holds.
    pub fn writer(&self) -> Writer {
        self.catalog.by_command_line()
    }

    pub async fn provider(&self, name: &str, kind: &str, base_url: &str) {
        let new = NewProvider {
            name: name.to_owned(),
            kind: kind.to_owned(),
            base_url: base_url.to_owned(),
            ..NewProvider::default()
        };
        self.writer().create_provider("acme", new).await.unwrap();
    }

    pub async fn model(&self, provider: &str, model: &str) -> ModelKey {
        let key = key(provider, model);
        self.writer().put_model(new_model(&key)).await.unwrap();
        key
    }

    pub async fn credential(&self, provider: &str, name: &str, value: &str) -> Credential {
        self.writer().create_credential("acme", new_credential(provider, None, name, value)).await.unwrap()
    }

    pub async fn save(&self, key: &ModelKey, configs: Vec<NewConfig>) -> Result<ConfigSet, Error> {
        self.writer().update_configs(key, ConfigFrom::Any, 0, configs).await
    }

    pub async fn listed(&self, key: &ModelKey) -> Vec<Config> {
        self.catalog.configs(key, ConfigFrom::Any).await.unwrap().configs
    }

    /// The secrets that serve, in ring order.
    pub fn serving(&self, key: &ModelKey) -> Vec<String> {
        serving(&self.catalog, key)
    }
}

pub async fn open(dir: &TempDir, master: &str) -> Result<Catalog, OpenError> {
    open_within(dir, master, Bounds::default()).await
}

async fn open_within(dir: &TempDir, master: &str, bounds: Bounds) -> Result<Catalog, OpenError> {
    Catalog::open(OpenOptions {
        database_url: sqlite_url(dir.path()),
        master_key: MasterKeySource::Value(SecretString::from(master)),
        networks: Networks::Private,
        database: DatabaseOptions { max_connections: 4, ..DatabaseOptions::default() },
        bounds,
    })
    .await
}

/// A catalog on that connection, which sees what becomes of it.
pub fn on(db: DatabaseConnection) -> Catalog {
    Catalog::new(db, KeyRing::parse(MASTER).unwrap(), Networks::Private)
}

/// Whether no migration is left to run.
pub async fn migrated(dir: &TempDir) -> bool {
    let facts = DatabaseFacts::of(&sqlite_url(dir.path()), DatabaseOptions::default()).await;
    facts.unwrap().expect("the file is there").pending().await.unwrap().is_empty()
}

pub fn serving(catalog: &Catalog, key: &ModelKey) -> Vec<String> {
    let pool = catalog.pool(key).expect("the pool is in memory");
    assert_eq!(pool.members.len(), pool.roster.members.len());
    let secret = |member: &PoolMember| {
        member.target.fields.get("api_key").map(|value| value.expose_secret().to_owned())
    };
    pool.members.iter().map(|member| secret(member).unwrap_or_default()).collect()
}

pub fn key(provider: &str, model: &str) -> ModelKey {
    ModelKey {
        tenant: "acme".to_owned(),
        provider: provider.to_owned(),
        model_type: ModelType::Llm,
        model: model.to_owned(),
    }
}

pub fn alias(name: &str, target: &ModelKey) -> ModelAlias {
    ModelAlias { name: name.to_owned(), target: target.clone(), revision: 0 }
}

pub fn new_model(key: &ModelKey) -> NewModel {
    NewModel {
        key: key.clone(),
        upstream_model: String::new(),
        enabled: None,
        fallbacks: Vec::new(),
        context_window: None,
        revision: 0,
    }
}

pub fn api_key(value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("api_key".to_owned(), value.to_owned())])
}

pub fn new_credential(provider: &str, model: Option<&str>, name: &str, value: &str) -> NewCredential {
    NewCredential {
        owner: CredentialOwner {
            provider: provider.to_owned(),
            model: model.map(|model| (ModelType::Llm, model.to_owned())),
        },
        name: name.to_owned(),
        fields: api_key(value),
        activate: false,
    }
}

pub fn inline(name: &str, value: &str) -> NewConfig {
    NewConfig {
        name: name.to_owned(),
        credentials: api_key(value),
        enabled: Some(true),
        ..NewConfig::default()
    }
}

pub fn link(credential: &Credential) -> NewConfig {
    NewConfig { credential_id: credential.id.to_string(), enabled: Some(true), ..NewConfig::default() }
}

pub fn inherit(enabled: bool) -> NewConfig {
    NewConfig { id: INHERIT.to_owned(), enabled: Some(enabled), ..NewConfig::default() }
}

/// A listed config, to be saved again as it is.
pub fn again(config: &Config) -> NewConfig {
    NewConfig {
        id: config.id.clone(),
        name: config.name.clone(),
        credential_id: config.credential_id.clone(),
        credentials: config.credentials.clone(),
        enabled: Some(config.enabled),
        weight: Some(config.weight),
        priority: config.priority,
        base_url: config.base_url.clone(),
        upstream_model: config.upstream_model.clone(),
        limits: config.member.limits,
    }
}

/// The fields that a refusal names.
pub fn violated<T>(result: Result<T, Error>) -> Vec<String> {
    match result {
        Err(Error::Invalid(violations)) => violations.into_iter().map(|v| v.field).collect(),
        Err(other) => panic!("expected violations, got {other:?}"),
        Ok(_) => panic!("expected violations, it was accepted"),
    }
}
