//! What the configuration no longer holds leaves Redis with the edit, and late calls bring none of it back.

use std::time::Duration;

use rota::{
    api::pb::{DeleteModelRequest, DeleteTenantRequest, Limits},
    scripted::{Script, Upstream},
};
use tokio::time::sleep;

use crate::support::{
    eventually,
    listing::api_key_field,
    redis::Redis,
    rota::Rota,
    world::{Scene, config},
};

const SOON: Duration = Duration::from_secs(5);

/// The fields of all hashes whose names match.
async fn fields(redis: &Redis, pattern: &str) -> Vec<String> {
    let mut fields = Vec::new();
    for key in redis.command(&["KEYS", pattern]).await.lines().filter(|key| !key.is_empty()) {
        fields.extend(redis.command(&["HKEYS", key]).await.lines().map(str::to_owned));
    }
    fields.retain(|field| !field.is_empty());
    fields
}

#[tokio::test(flavor = "multi_thread")]
async fn state_goes_with_what_it_is_of() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().redis(redis.url()).start().await;
    let mut scene = Scene::set(&rota, &upstream, 3).await;
    let limits = Limits { requests_per_minute: 100, ..Limits::default() };
    scene.change_configs(|configs| configs.iter_mut().for_each(|one| one.limits = Some(limits))).await;
    let old = scene.keys.clone();
    upstream.script(&old[0], Script::fail(401));
    upstream.script(&old[1], Script::fail(503));
    scene.ask().await.unwrap();
    // One call is on its way, and fails after the edit. Then it has other members to go on with, all of them gone.
    upstream.script(&old[2], Script::fail(503).after(Duration::from_secs(2)));
    let late = tokio::spawn({
        let scene = scene.clone();
        async move { scene.ask().await }
    });
    eventually(SOON, async || if upstream.hits(&old[2]) == 2 { Ok(()) } else { Err("not asked".to_owned()) })
        .await;
    let windows = fields(&redis, "rota:*:used:*").await;
    assert_eq!(windows.len(), 3);
    assert_eq!(fields(&redis, "rota:*:credentials").await.len(), 1);
    assert_eq!(fields(&redis, "rota:*:pool:*").await.len(), 2, "the turn and a record");

    let new = old.iter().map(|key| format!("{key}-new")).collect::<Vec<_>>();
    scene
        .change_configs(|configs| {
            for (config, key) in configs.iter_mut().zip(&new) {
                config.credentials = api_key_field(key);
            }
        })
        .await;
    let nothing_old = async || {
        let records = fields(&redis, "rota:*:pool:*").await;
        let credentials = fields(&redis, "rota:*:credentials").await;
        let used = fields(&redis, "rota:*:used:*").await;
        let is_clean =
            records == ["last"] && credentials.is_empty() && !used.iter().any(|one| windows.contains(one));
        if is_clean { Ok(()) } else { Err(format!("{records:?} {credentials:?} {used:?}")) }
    };
    eventually(SOON, nothing_old).await;
    late.await.unwrap().unwrap_err();
    assert_eq!([upstream.hits(&old[0]), upstream.hits(&old[1])], [1, 1], "a replaced key is called again");
    nothing_old().await.unwrap();

    // A deleted model, then the tenant, each with a call on its way.
    upstream.script(&new[0], Script::fail(503));
    scene.ask().await.unwrap();
    for tenant in [false, true] {
        for key in &new {
            upstream.script(key, Script::fail(503).after(Duration::from_secs(2)));
        }
        let before = upstream.total_hits();
        let late = tokio::spawn({
            let scene = scene.clone();
            async move { scene.ask().await }
        });
        eventually(
            SOON,
            async || {
                if upstream.total_hits() > before { Ok(()) } else { Err("not asked".to_owned()) }
            },
        )
        .await;
        if tenant {
            let request = DeleteTenantRequest { tenant_id: scene.tenant.clone() };
            rota.operator().await.admin.delete_tenant(request).await.unwrap();
        } else {
            let request = DeleteModelRequest { key: Some(scene.key.clone()) };
            scene.clients.config.delete_model(request).await.unwrap();
        }
        late.await.unwrap().unwrap_err();
        // Once in a while a replica says that it lives.
        sleep(Duration::from_millis(if tenant { 5_500 } else { 0 })).await;
        let left = async || redis.command(&["KEYS", "rota:{*"]).await;
        eventually(SOON, async || {
            let left = left().await;
            let kinds = if tenant { vec!["rota:"] } else { vec![":pool:", ":used:", ":in-flight:"] };
            if kinds.iter().any(|kind| left.contains(kind)) { Err(left) } else { Ok(()) }
        })
        .await;
        if !tenant {
            let base_url = upstream.base_url();
            scene.key.model = "another".to_owned();
            scene.provider = "another".to_owned();
            scene.key.provider = "another".to_owned();
            scene.add_model(&base_url).await;
            let configs = new.iter().map(|key| config(&format!("config-of-{key}"), key)).collect();
            scene.put_configs(configs).await;
            scene.enable().await;
        }
    }
}
