//! Stored state outlives a version: what an earlier release has written is served by this one, and can be changed.
//!
//! `released/` holds the dump of a database for each release that changed what is stored. Its master key and tokens are
//! fixed, since what they open is fixed too. They open nothing else.

use std::{fs, path::Path, sync::Arc};

use rota::{
    api::pb::{
        GetConfigurationsRequest, ListAuditEventsRequest, ModelKey, ModelType, Provider, ProviderSwitches,
        RotateTenantKeyRequest, Strategy, UpdateProviderRequest,
    },
    scripted::Upstream,
};

use crate::support::{
    rota::Rota,
    sql::{Sql, sqlite_url},
    world::{Scene, config},
};

const MASTER_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OPERATOR: &str = "rota_QOKZ1RsNPhw28-QL7enNc0HqiJhtBTziQJfitS7U1Wo";
const ADMIN: &str = "rota_G94g0IpV2BbJwthZJH3NYqa3OSgGPRuF70UM6HfW5r0";
const INVOKER: &str = "rota_0h0YHuEgSw3OCKpco3qvNYd7ds3hCTNRl1R_BiqhBC8";
/// Where the dumps say that providers are. The test puts its own upstream there.
const ADDRESS: &str = "http://127.0.0.1:9/v1";
/// The keys of the balanced model with their weights, in the order of its configs.
const KEYS: [(&str, u64); 3] =
    [("sk-stored-first-0001", 1), ("sk-stored-second-0002", 3), ("sk-stored-inline-0004", 1)];

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_0_1_0_is_served_and_can_be_changed() {
    let upstream = Upstream::start().await.unwrap();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    write_database(folder.path(), include_str!("released/0.1.0.sql"), &upstream.base_url()).await;
    let mut rota = Rota::builder().data_dir(folder).env("ROTA_MASTER_KEY", MASTER_KEY).start().await;
    let mut scene = Scene {
        tenant: "acme".to_owned(),
        provider: "openai".to_owned(),
        keys: KEYS.iter().map(|(key, _)| (*key).to_owned()).collect(),
        configs: Vec::new(),
        key: ModelKey {
            tenant_id: "acme".to_owned(),
            provider: "openai".to_owned(),
            model_type: ModelType::Llm.into(),
            model: "gpt-4o-mini".to_owned(),
        },
        token: ADMIN.to_owned(),
        clients: rota.clients(ADMIN).await,
    };

    // Old tokens, secrets, weights and upstream models.
    let invoker = Scene { token: INVOKER.to_owned(), clients: rota.clients(INVOKER).await, ..scene.clone() };
    for _ in 0..5 {
        invoker.ask().await.unwrap();
    }
    assert_eq!(invoker.hits(&upstream), KEYS.map(|(_, weight)| weight));
    let asked = upstream.requests();
    let inline = asked.iter().find(|request| request.key == KEYS[2].0).unwrap();
    assert_eq!(inline.body["model"], "gpt-4o-mini-2024");
    let first = asked.iter().find(|request| request.key == KEYS[0].0).unwrap();
    assert_eq!(first.headers["openai-organization"], "org-1");
    // The default model.
    let key = ModelKey { model_type: ModelType::Llm.into(), ..ModelKey::default() };
    Scene { key, ..invoker.clone() }.ask().await.unwrap();

    // Everything is listed.
    let request = GetConfigurationsRequest { tenant_id: "acme".to_owned(), ..Default::default() };
    let all = scene.clients.config.get_configurations(request).await.unwrap().into_inner();
    assert_eq!((all.providers.len(), all.credentials.len(), all.models.len()), (2, 3, 3));
    assert!(all.credentials.iter().all(|credential| credential.warning.is_empty()));
    let balanced = all.models.iter().find_map(|model| {
        let settings = model.model.as_ref()?;
        settings.load_balancing_enabled.then_some(settings)
    });
    let balanced = balanced.unwrap();
    assert_eq!(balanced.fallbacks[0].model, "spare");
    let policy = balanced.policy.as_ref().unwrap();
    assert_eq!((policy.strategy(), policy.max_attempts), (Strategy::WeightedRoundRobin, 3));
    // What came later has its default, and can be set.
    assert!(all.providers.iter().all(|provider| provider.switches.is_none()));
    let switches = Some(ProviderSwitches { no_stream_options: true, ..ProviderSwitches::default() });
    let change = Provider { name: "openai".to_owned(), switches, ..Provider::default() };
    let request = UpdateProviderRequest { provider: Some(change), update_mask: None };
    let changed = scene.clients.config.update_provider(request).await.unwrap().into_inner();
    assert_eq!(changed.provider.unwrap().switches, switches);
    let mut operator = rota.clients(OPERATOR).await;
    let request = ListAuditEventsRequest { page_size: 1000, ..Default::default() };
    let events = operator.admin.list_audit_events(request).await.unwrap().into_inner().events;
    assert!(events.iter().any(|event| event.action == "CreateTenant"), "{events:?}");

    // It can be changed: secrets that are kept, one that is new, and a new data key for all of them.
    let kept = scene.configs_now().await;
    assert_eq!(kept.len(), 4);
    let new = "sk-new-0006";
    scene.put_configs(kept.into_iter().chain([config("new", new)]).collect()).await;
    let request = RotateTenantKeyRequest { tenant_id: "acme".to_owned() };
    let rotated = operator.admin.rotate_tenant_key(request).await.unwrap().into_inner();
    assert_eq!(rotated.unreadable, 0);
    rota.restart().await;
    let scene = scene.through(&rota).await;
    for _ in 0..6 {
        scene.ask().await.unwrap();
    }
    assert!(upstream.hits(new) >= 1);
    assert!(scene.hits(&upstream).iter().zip(KEYS).all(|(&hits, (_, weight))| hits > weight));
}

/// Makes the database of a data directory from a dump.
async fn write_database(folder: &Path, dump: &str, address: &str) {
    fs::write(folder.join("rota.db"), "").unwrap();
    let database = Sql::at(&sqlite_url(folder)).await;
    assert!(dump.contains(ADDRESS));
    database.run(&dump.replace(ADDRESS, address)).await;
    database.close().await;
}
