//! Who serves: turns, tiers, drains, and what one usable member or no balancing at all means.

use rota::{
    api::pb::{DisableModelLoadBalancingRequest, ErrorClass},
    scripted::{Script, Upstream},
};
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::{
    failure::{error, route, told},
    on_both_states,
    rota::Rota,
    world::{Scene, config},
};

on_both_states!(
    thirty_calls_go_to_three_configs_in_turn,
    sixteen_clients_with_3000_calls_differ_by_one_at_most,
    a_weight_of_0_drains,
    a_lower_tier_serves_only_when_no_higher_one_can,
    one_usable_member_serves_and_the_listing_warns,
    a_disabled_config_gets_no_call,
);

async fn thirty_calls_go_to_three_configs_in_turn(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 3).await;
    let mut served = Vec::new();
    for _ in 0..30 {
        let reply = scene.ask().await.unwrap();
        let route = reply.route.unwrap();
        let index = scene.configs.iter().position(|config| config.id == route.config_id).unwrap();
        // The answer names the key that came with the request.
        assert_eq!(reply.message.unwrap().content, format!("served by {}", scene.keys[index]));
        assert_eq!(route.config_name, format!("config-{index}"));
        assert_eq!(
            (route.attempts.len(), route.model, route.upstream_model),
            (1, "chat".into(), "chat".into())
        );
        served.push(index);
    }
    assert_eq!(scene.hits(&upstream), [10, 10, 10]);
    assert!(served.windows(4).all(|turns| turns[0] == turns[3]), "{served:?}");
}

async fn sixteen_clients_with_3000_calls_differ_by_one_at_most(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    // Seven do not divide 3,000.
    let scene = Scene::set(rota, &upstream, 7).await;
    let mut callers = JoinSet::new();
    for caller in 0..16 {
        // A connection each.
        let scene = scene.through(rota).await;
        let calls = 3000 / 16 + usize::from(caller < 3000 % 16);
        callers.spawn(async move {
            for _ in 0..calls {
                scene.ask().await.unwrap();
            }
        });
    }
    callers.join_all().await;
    let hits = scene.hits(&upstream);
    assert_eq!(hits.iter().sum::<u64>(), 3000);
    assert!(hits.iter().max().unwrap() - hits.iter().min().unwrap() <= 1, "{hits:?}");
}

async fn a_weight_of_0_drains(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(rota, &upstream, 3).await;
    upstream.script(&scene.keys[1], Script::StallAfter(1));
    // One is in the middle of its answer when the drain begins.
    let mut streams = Vec::new();
    while upstream.hits(&scene.keys[1]) == 0 {
        let mut stream = scene.open_stream().await.unwrap();
        stream.message().await.unwrap();
        streams.push(stream);
    }
    scene.change_configs(|configs| configs[1].weight = Some(0)).await;
    let before = scene.hits(&upstream);
    for _ in 0..6 {
        scene.ask().await.unwrap();
    }
    let after = scene.hits(&upstream);
    assert_eq!([after[0] - before[0], after[1] - before[1], after[2] - before[2]], [3, 0, 3]);
    // The call in flight was left alone.
    assert_eq!(upstream.cancelled(), 0);
    drop(streams);
}

async fn a_lower_tier_serves_only_when_no_higher_one_can(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(rota, &upstream, 4).await;
    scene
        .change_configs(|configs| {
            configs[0].priority = 5;
            configs[1].priority = 5;
        })
        .await;
    for _ in 0..6 {
        scene.ask().await.unwrap();
    }
    assert_eq!(scene.hits(&upstream), [0, 0, 3, 3]);
    for index in [2, 3] {
        upstream.script(&scene.keys[index], Script::fail_for(429, "60"));
    }
    for _ in 0..6 {
        scene.ask().await.unwrap();
    }
    assert_eq!(scene.hits(&upstream), [3, 3, 4, 4]);
}

async fn one_usable_member_serves_and_the_listing_warns(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(rota, &upstream, 2).await;
    scene.change_configs(|configs| configs[0].enabled = Some(false)).await;
    for _ in 0..3 {
        scene.ask().await.unwrap();
    }
    assert_eq!(scene.hits(&upstream), [0, 3]);
    let configs = scene.configs_now().await;
    assert!(configs.iter().any(|config| !config.warning.is_empty()), "{configs:?}");
}

async fn a_disabled_config_gets_no_call(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(rota, &upstream, 3).await;
    scene.change_configs(|configs| configs[2].enabled = Some(false)).await;
    for _ in 0..6 {
        scene.ask().await.unwrap();
    }
    assert_eq!(scene.hits(&upstream), [3, 3, 0]);
    scene.change_configs(|configs| configs[2].enabled = Some(true)).await;
    for _ in 0..3 {
        scene.ask().await.unwrap();
    }
    assert_eq!(scene.hits(&upstream), [4, 4, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_balancing_the_active_credential_gets_the_one_attempt() {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    let request = DisableModelLoadBalancingRequest { key: Some(scene.key.clone()) };
    scene.clients.config.disable_model_load_balancing(request).await.unwrap();
    let active = format!("active-{}", scene.tenant);
    scene.add_credential("active", &active).await;
    let route_taken = scene.ask().await.unwrap().route.unwrap();
    assert_eq!((route_taken.config_id.as_str(), route_taken.attempts.len()), ("__inherit__", 1));

    upstream.script(&active, Script::fail_for(429, "60"));
    for _ in 0..2 {
        let failed = scene.ask().await.unwrap_err();
        assert_eq!(told(&failed), error(Code::ResourceExhausted, "UPSTREAM_RATE_LIMITED"));
        let attempts = route(&failed).attempts;
        assert_eq!(attempts.len(), 1);
        assert_eq!((attempts[0].error_class(), attempts[0].cooldown), (ErrorClass::RateLimited, None));
    }
    // Nothing cools without balancing: the second call was tried as well.
    assert_eq!((upstream.hits(&active), upstream.total_hits()), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inherited_credential_is_a_member_until_a_saved_set_leaves_it_out() {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::tenant(Rota::shared().await).await;
    scene.add_model(&upstream.base_url()).await;
    let active = format!("active-{}", scene.tenant);
    scene.add_credential("active", &active).await;
    let inherit = scene.configs_now().await.remove(0);
    assert_eq!((inherit.id.as_str(), inherit.name.as_str()), ("__inherit__", "__inherit__"));

    let own = format!("own-{}", scene.tenant);
    scene.put_configs(vec![inherit, config("own", &own)]).await;
    scene.enable().await;
    for _ in 0..4 {
        scene.ask().await.unwrap();
    }
    assert_eq!((upstream.hits(&active), upstream.hits(&own)), (2, 2));
    let only_own = scene.configs.iter().filter(|config| config.id != "__inherit__").cloned().collect();
    scene.put_configs(only_own).await;
    for _ in 0..4 {
        scene.ask().await.unwrap();
    }
    assert_eq!((upstream.hits(&active), upstream.hits(&own)), (2, 6));
}
