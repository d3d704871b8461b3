//! Rotation of data keys and of the master key.

use std::{collections::BTreeMap, fmt::Display};

use rota::catalog::{
    AuditFilter, ConfigFrom, Error, INHERIT, MasterRotation, ModelKey, NewConfig, OpenError, PageRequest,
    ResourceKind, TenantRotation,
};
use uuid::Uuid;

use super::{
    Bed, KEY, MASTER, OTHER_KEY, OTHER_MASTER, again, api_key, inherit, inline, link, migrated,
    new_credential, open,
};

impl Bed {
    async fn data_keys(&self) -> Vec<Uuid> {
        self.sql().await.rows("SELECT id FROM data_keys ORDER BY id").await
    }

    /// Whether any row of any table holds that text.
    async fn holds(&self, text: impl Display) -> bool {
        self.sql().await.naming(&text.to_string()).await > 0
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
    bed.writer()
        .create_credential("acme", new_credential("openai", Some("gpt"), "two", OTHER_KEY))
        .await
        .unwrap();
    let rows = vec![inherit(true), link(&linked), inline("a", KEY), inline("b", OTHER_KEY)];
    bed.save(&key, rows).await.unwrap();
    bed.writer().set_balancing(&key, true).await.unwrap();
    let before = bed.catalog.configs(&key, ConfigFrom::Any).await.unwrap();
    bed.writer().create_tenant("beta", "").await.unwrap();
    let old = bed.data_keys().await;
    let identities = bed.identities(&key).await;
    let serving = bed.serving(&key);
    assert!(bed.holds(old[0]).await, "the search finds it");

    assert_eq!(bed.writer().rotate_tenant_key("acme").await.unwrap(), rotated(4, 0, false));
    assert!(!bed.holds(old[0]).await);
    let new = bed.data_keys().await;
    assert_eq!(new.len(), 2);
    assert!(new.contains(&old[1]) && !new.contains(&old[0]), "beta keeps its own");
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
    assert_eq!(bed.writer().rotate_tenant_key("acme").await.unwrap(), rotated(5, 0, false));
    assert_eq!(bed.writer().rotate_tenant_key("beta").await.unwrap(), rotated(0, 0, false));
    assert_eq!(bed.data_keys().await.len(), 2);
    assert!(bed.listed(&key).await.iter().all(|config| config.warning.is_empty()));
    let nobody = bed.writer().rotate_tenant_key("nobody").await;
    assert!(matches!(nobody, Err(Error::NotFound(ResourceKind::Tenant, _))));
}

#[tokio::test]
async fn a_rotation_that_was_cut_off_is_continued() {
    let (bed, key) = Bed::with_model().await;
    let credential = bed.credential("openai", "one", KEY).await;
    let set = bed.save(&key, vec![inline("a", OTHER_KEY)]).await.unwrap();
    let [first] = <[_; 1]>::try_from(bed.data_keys().await).unwrap();
    // The new key is there, and nothing is under it yet: a row that cannot be read has kept the old one, and both rows
    // are what they were.
    let linked = bed.stored_fields("credentials", credential.id).await;
    let inline = bed.damage(&set.configs[0]).await;
    assert_eq!(bed.writer().rotate_tenant_key("acme").await.unwrap(), rotated(1, 1, false));
    bed.store_fields("credentials", credential.id, &linked).await;
    bed.store_fields("lb_configs", set.configs[0].id.parse().unwrap(), &inline).await;
    bed.catalog.load().await.unwrap();
    assert!(bed.listed(&key).await.iter().all(|config| config.readable));
    bed.credential("openai", "new", KEY).await;
    assert_eq!(bed.writer().rotate_tenant_key("acme").await.unwrap(), rotated(2, 0, true));
    let [second] = <[_; 1]>::try_from(bed.data_keys().await).unwrap();
    assert_ne!(second, first);
    assert!(bed.listed(&key).await.iter().all(|config| config.readable));
    // The next one is a new one. So is that of a tenant without secrets whose old key was left.
    assert_eq!(bed.writer().rotate_tenant_key("acme").await.unwrap(), rotated(3, 0, false));
}

#[tokio::test]
async fn what_cannot_be_read_is_kept_with_its_key() {
    let (bed, key) = Bed::with_model().await;
    let set = bed.save(&key, vec![inline("a", KEY), inline("b", OTHER_KEY)]).await.unwrap();
    let first = bed.data_keys().await.remove(0);
    bed.damage(&set.configs[0]).await;
    let row = format!("{{\"api_key\":{{\"key\":\"{first}\"");
    assert!(bed.holds(&row).await);
    assert_eq!(bed.writer().rotate_tenant_key("acme").await.unwrap(), rotated(1, 1, false));
    let keys = bed.data_keys().await;
    assert!(keys.len() == 2 && keys.contains(&first), "the old key is kept");
    assert!(bed.holds(&row).await, "as it was");
    let listed = bed.listed(&key).await;
    assert_eq!([&*listed[0].warning, &*listed[1].warning], ["secret cannot be read", ""]);
    // A damaged row does not stand in the way of the next rotation, and its key goes when it is mended.
    assert_eq!(bed.writer().rotate_tenant_key("acme").await.unwrap(), rotated(1, 1, false));
    assert_eq!(bed.data_keys().await.len(), 2);
    let mended = NewConfig { credentials: api_key(KEY), ..again(&listed[0]) };
    bed.save(&key, vec![mended, again(&listed[1])]).await.unwrap();
    assert_eq!(bed.writer().rotate_tenant_key("acme").await.unwrap(), rotated(0, 0, true));
    assert_eq!(bed.data_keys().await.len(), 1);
}

#[tokio::test]
async fn a_secret_in_the_clear_goes_nowhere() {
    let (bed, key) = Bed::with_model().await;
    let credential = bed.credential("openai", "one", KEY).await;
    let set = bed.save(&key, vec![inherit(true), inline("a", KEY)]).await.unwrap();
    let id = &set.configs[1].id;
    bed.writer().set_balancing(&key, true).await.unwrap();
    bed.store_fields("lb_configs", id.parse().unwrap(), "{\"api_key\":\"c2VhbGVk\"}").await;
    let unknown = "{\"api_key\":{\"key\":\"00000000-0000-0000-0000-000000000000\",\"sealed\":\"c2Vh\"}}";
    bed.store_fields("credentials", credential.id, unknown).await;
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
    bed.writer().create_tenant("beta", "").await.unwrap();
    bed.save(&key, vec![inline("a", KEY)]).await.unwrap();
    let ring = format!("2:{OTHER_MASTER},1:{MASTER}");
    let both = open(&bed.dir, &ring).await.unwrap();
    both.by_command_line().create_tenant("gamma", "").await.unwrap();
    let counts = |resealed, current, unreadable| MasterRotation { resealed, current, unreadable };
    let sql = bed.sql().await;
    let sealed = async || sql.rows::<String>("SELECT sealed FROM data_keys ORDER BY id").await;
    let before = sealed().await;
    assert_eq!(both.by_command_line().rotate_master_key(true).await.unwrap(), counts(2, 1, 0));
    assert_eq!(sealed().await, before, "a dry run changes nothing");
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
    let damage = "UPDATE data_keys SET sealed = 'AAAA' WHERE id = (SELECT min(id) FROM data_keys)";
    assert_eq!(sql.run(damage).await, 1);
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
    let sql = bed.sql().await;
    sql.run("DELETE FROM seaql_migrations WHERE version > 'm0001_first'").await;
    assert!(!migrated(&bed.dir).await);
    assert!(matches!(open(&bed.dir, OTHER_MASTER).await, Err(OpenError::WrongMasterKey)));
    assert_eq!(sql.rows::<String>("SELECT value FROM meta WHERE key = 'master_key_check'").await.len(), 1);
}
