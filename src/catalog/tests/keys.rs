//! Rotation of data keys and of the master key.

use super::*;
use sea_orm::{QueryFilter, Set, prelude::*};

impl Bed {
    async fn data_keys(&self) -> Vec<entity::data_keys::Model> {
        entity::data_keys::Entity::find().all(self.catalog.db()).await.unwrap()
    }

    /// Every text of every table.
    async fn texts(&self) -> String {
        let db = self.catalog.db();
        let ask = async |sql: String| {
            db.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await.unwrap()
        };
        let mut all = String::new();
        for table in ask("SELECT name FROM sqlite_master WHERE type = 'table'".to_owned()).await {
            let table: String = table.try_get("", "name").unwrap();
            for column in ask(format!("SELECT name FROM pragma_table_info('{table}')")).await {
                let column: String = column.try_get("", "name").unwrap();
                for row in ask(format!("SELECT CAST({column} AS TEXT) AS text FROM {table}")).await {
                    all += &row.try_get::<Option<String>>("", "text").unwrap_or_default().unwrap_or_default();
                    all.push('\n');
                }
            }
        }
        all
    }

    /// Damages what a config has sealed.
    async fn damage(&self, config: &Config) {
        let id: Uuid = config.id.parse().unwrap();
        let row = entity::lb_configs::Entity::find_by_id(id).one(self.catalog.db()).await.unwrap().unwrap();
        let damaged = row.fields.replace("\"sealed\":\"", "\"sealed\":\"AAAA");
        self.set_fields(id, damaged).await;
    }

    async fn set_fields(&self, config: Uuid, fields: String) {
        let row =
            entity::lb_configs::ActiveModel { id: Set(config), fields: Set(fields), ..Default::default() };
        row.update(self.catalog.db()).await.unwrap();
    }

    async fn identities(&self, key: &ModelKey) -> Vec<String> {
        self.listed(key).await.into_iter().map(|config| config.member.key.to_string()).collect()
    }
}

fn rotated(resealed: u64, unreadable: u64, resumed: bool) -> TenantRotation {
    TenantRotation { resealed, unreadable, resumed }
}

#[tokio::test]
async fn a_rotation_leaves_nothing_under_the_old_key() {
    let (bed, key) = Bed::with_model().await;
    let linked = bed.credential("openai", "one", KEY).await;
    bed.catalog
        .by_command_line()
        .create_credential("acme", new_credential("openai", Some("gpt"), "two", OTHER_KEY))
        .await
        .unwrap();
    let rows = vec![inherit(true), link(&linked), inline("a", KEY), inline("b", OTHER_KEY)];
    bed.save(&key, rows).await.unwrap();
    bed.catalog.by_command_line().set_balancing(&key, true).await.unwrap();
    let before = bed.catalog.configs(&key, ConfigFrom::Any).await.unwrap();
    bed.catalog.by_command_line().create_tenant("beta", "").await.unwrap();
    let old = bed.data_keys().await;
    let identities = bed.identities(&key).await;
    let serving = bed.serving(&key);
    assert!(bed.texts().await.contains(&old[0].id.to_string()), "the search finds it");

    assert_eq!(bed.catalog.by_command_line().rotate_tenant_key("acme").await.unwrap(), rotated(4, 0, false));
    assert!(!bed.texts().await.contains(&old[0].id.to_string()));
    let new = bed.data_keys().await;
    assert_eq!(new.len(), 2);
    assert!(new.contains(&old[1]) && !new.iter().any(|row| row.id == old[0].id), "beta keeps its own");
    // This replica did not have to load anything, another one reads the same.
    assert_eq!(bed.serving(&key), serving);
    let replica = bed.replica().await;
    assert_eq!(super::serving(&replica, &key), serving);
    // Cooldowns are kept under the same names, and nobody's revision is stale.
    assert_eq!(bed.identities(&key).await, identities);
    assert_eq!(bed.catalog.configs(&key, ConfigFrom::Any).await.unwrap().revision, before.revision);
    assert_eq!(
        bed.catalog.get_credential("acme", "openai", &linked.id.to_string()).await.unwrap().revision,
        1
    );
    // What is stored after it is under the new key, and once more.
    bed.credential("openai", "later", KEY).await;
    assert_eq!(bed.catalog.by_command_line().rotate_tenant_key("acme").await.unwrap(), rotated(5, 0, false));
    assert_eq!(bed.catalog.by_command_line().rotate_tenant_key("beta").await.unwrap(), rotated(0, 0, false));
    assert_eq!(bed.data_keys().await.len(), 2);
    assert!(bed.listed(&key).await.iter().all(|config| config.warning.is_empty()));
    let nobody = bed.catalog.by_command_line().rotate_tenant_key("nobody").await;
    assert!(matches!(nobody, Err(Error::NotFound(ResourceKind::Tenant, _))));
}

#[tokio::test]
async fn a_rotation_that_was_cut_off_is_continued() {
    let (bed, key) = Bed::with_model().await;
    bed.credential("openai", "one", KEY).await;
    bed.save(&key, vec![inline("a", OTHER_KEY)]).await.unwrap();
    let [tenant] = <[_; 1]>::try_from(bed.data_keys().await).unwrap();
    // The new key is there, and nothing is under it yet.
    bed.catalog.by_command_line().new_tenant_key(tenant.tenant_id).await.unwrap();
    bed.catalog.load().await.unwrap();
    assert!(bed.listed(&key).await.iter().all(|config| config.readable));
    bed.credential("openai", "new", KEY).await;
    assert_eq!(bed.catalog.by_command_line().rotate_tenant_key("acme").await.unwrap(), rotated(2, 0, true));
    let [second] = <[_; 1]>::try_from(bed.data_keys().await).unwrap();
    assert_ne!(second.id, tenant.id);
    assert!(bed.listed(&key).await.iter().all(|config| config.readable));
    // The next one is a new one. So is that of a tenant without secrets whose old key was left.
    assert_eq!(bed.catalog.by_command_line().rotate_tenant_key("acme").await.unwrap(), rotated(3, 0, false));
}

#[tokio::test]
async fn what_cannot_be_read_is_kept_with_its_key() {
    let (bed, key) = Bed::with_model().await;
    let set = bed.save(&key, vec![inline("a", KEY), inline("b", OTHER_KEY)]).await.unwrap();
    let first = bed.data_keys().await.remove(0);
    bed.damage(&set.configs[0]).await;
    let damaged = bed.texts().await;
    assert_eq!(bed.catalog.by_command_line().rotate_tenant_key("acme").await.unwrap(), rotated(1, 1, false));
    let keys = bed.data_keys().await;
    assert!(keys.len() == 2 && keys.contains(&first), "the old key is kept");
    let row = format!("{{\"api_key\":{{\"key\":\"{}\"", first.id);
    assert!(damaged.contains(&row) && bed.texts().await.contains(&row), "as it was");
    let listed = bed.listed(&key).await;
    assert_eq!([&*listed[0].warning, &*listed[1].warning], ["secret cannot be read", ""]);
    // A damaged row does not stand in the way of the next rotation, and its key goes when it is mended.
    assert_eq!(bed.catalog.by_command_line().rotate_tenant_key("acme").await.unwrap(), rotated(1, 1, false));
    assert_eq!(bed.data_keys().await.len(), 2);
    let mended = NewConfig { credentials: api_key(KEY), ..again(&listed[0]) };
    bed.save(&key, vec![mended, again(&listed[1])]).await.unwrap();
    assert_eq!(bed.catalog.by_command_line().rotate_tenant_key("acme").await.unwrap(), rotated(0, 0, true));
    assert_eq!(bed.data_keys().await.len(), 1);
}

#[tokio::test]
async fn a_secret_in_the_clear_goes_nowhere() {
    let (bed, key) = Bed::with_model().await;
    let credential = bed.credential("openai", "one", KEY).await;
    let set = bed.save(&key, vec![inherit(true), inline("a", KEY)]).await.unwrap();
    let id = &set.configs[1].id;
    bed.catalog.by_command_line().set_balancing(&key, true).await.unwrap();
    bed.set_fields(id.parse().unwrap(), "{\"api_key\":\"c2VhbGVk\"}".to_owned()).await;
    let row = entity::credentials::ActiveModel {
        id: Set(credential.id),
        fields: Set(
            "{\"api_key\":{\"key\":\"00000000-0000-0000-0000-000000000000\",\"sealed\":\"c2Vh\"}}".to_owned()
        ),
        ..Default::default()
    };
    row.update(bed.catalog.db()).await.unwrap();
    bed.catalog.load().await.unwrap();
    assert!(bed.serving(&key).is_empty());
    assert!(bed.catalog.pool(&key).unwrap().unreadable);
    let listed = bed.listed(&key).await;
    assert!(listed.iter().all(|config| config.warning == "secret cannot be read"), "{listed:?}");
    for id in [id.as_str(), INHERIT] {
        let trial = bed.catalog.config_target(&key, BTreeMap::new(), id, "").await;
        assert!(matches!(trial, Err(Error::SecretUnreadable)));
    }
    let read = bed.catalog.get_credential("acme", "openai", &credential.id.to_string()).await.unwrap();
    assert_eq!(read.warning, "secret cannot be read");
    let page = bed.catalog.list_credentials("acme", "", None, PageRequest::default()).await.unwrap();
    assert_eq!(page.items[0].warning, "secret cannot be read");
}

#[tokio::test]
async fn the_master_key_is_rotated_over_all_tenants() {
    let (bed, key) = Bed::with_model().await;
    bed.catalog.by_command_line().create_tenant("beta", "").await.unwrap();
    bed.save(&key, vec![inline("a", KEY)]).await.unwrap();
    let ring = format!("2:{OTHER_MASTER},1:{MASTER}");
    let both = open(&bed.dir, &ring).await.unwrap();
    both.by_command_line().create_tenant("gamma", "").await.unwrap();
    let counts = |resealed, current, unreadable| MasterRotation { resealed, current, unreadable };
    let before = bed.data_keys().await;
    assert_eq!(both.by_command_line().rotate_master_key(true).await.unwrap(), counts(2, 1, 0));
    assert_eq!(bed.data_keys().await, before, "a dry run changes nothing");
    assert_eq!(both.by_command_line().rotate_master_key(false).await.unwrap(), counts(2, 1, 0));
    assert_eq!(both.by_command_line().rotate_master_key(false).await.unwrap(), counts(0, 3, 0));

    // Runs are told, a dry one is not.
    let filter = AuditFilter { action: "keys rotate".to_owned(), ..AuditFilter::default() };
    let events = both.list_audit_events(filter, PageRequest::default()).await.unwrap().items;
    assert_eq!(events.len(), 2);

    assert!(matches!(open(&bed.dir, MASTER).await, Err(OpenError::WrongMasterKey)));
    let new = open(&bed.dir, &format!("2:{OTHER_MASTER}")).await.unwrap();
    new.load().await.unwrap();
    new.by_command_line().set_balancing(&key, false).await.unwrap();
    let listed = new.configs(&key, ConfigFrom::Any).await.unwrap().configs;
    assert!(listed.iter().all(|config| config.readable) && !listed.is_empty());

    // One that does not open is kept, and told.
    let row = entity::data_keys::ActiveModel {
        id: Set(before[0].id),
        sealed: Set("AAAA".to_owned()),
        ..Default::default()
    };
    row.update(bed.catalog.db()).await.unwrap();
    assert_eq!(new.by_command_line().rotate_master_key(false).await.unwrap(), counts(0, 2, 1));
    // A new data key lets its tenant store secrets again.
    let refused =
        new.by_command_line().update_configs(&key, ConfigFrom::Any, 0, vec![inline("b", OTHER_KEY)]).await;
    assert!(matches!(refused, Err(Error::Internal)));
    assert_eq!(new.by_command_line().rotate_tenant_key("acme").await.unwrap(), rotated(0, 1, false));
    new.by_command_line()
        .update_configs(&key, ConfigFrom::Any, 0, vec![inline("b", OTHER_KEY)])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_wrong_master_key_is_refused_before_migrations_run() {
    let bed = Bed::new().await;
    let db = bed.catalog.db();
    let pending = "DELETE FROM seaql_migrations WHERE version > 'm0001_first'";
    db.execute_unprepared(pending).await.unwrap();
    assert!(!migrated(&bed.catalog).await);
    assert!(matches!(open(&bed.dir, OTHER_MASTER).await, Err(OpenError::WrongMasterKey)));
    let left =
        entity::meta::Entity::find().filter(entity::meta::Column::Key.eq(entity::meta::MASTER_KEY_CHECK));
    assert_eq!(left.all(db).await.unwrap().len(), 1);
}
