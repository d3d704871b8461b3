//! Explain: the reasons of the next pick, which change nothing.

use std::time::Duration;

use rota::{
    api::pb::{Candidate, ErrorClass, ExplainRequest, ExplainResponse, SetCooldownRequest},
    scripted::{Script, Upstream},
};
use tonic::Code;

use crate::support::{
    eventually,
    failure::{error, told},
    on_both_states,
    rota::Rota,
    world::Scene,
};

on_both_states!(every_config_has_its_reason_and_the_one_named_serves_next);

async fn explained(scene: &Scene) -> ExplainResponse {
    let request = ExplainRequest { key: Some(scene.key.clone()), ..ExplainRequest::default() };
    scene.clients.invoke.clone().explain(request).await.unwrap().into_inner()
}

async fn every_config_has_its_reason_and_the_one_named_serves_next(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(rota, &upstream, 6).await;
    scene
        .change_configs(|configs| {
            configs[0].enabled = Some(false);
            configs[1].weight = Some(0);
            configs[2].priority = 1;
        })
        .await;
    let request = SetCooldownRequest {
        key: Some(scene.key.clone()),
        config_id: scene.configs[3].id.clone(),
        duration: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        reason: ErrorClass::Connection.into(),
    };
    scene.clients.config.clone().set_cooldown(request).await.unwrap();
    for _ in 0..4 {
        let before = explained(&scene).await;
        for _ in 0..5 {
            assert_eq!(explained(&scene).await.picked, before.picked, "asking changes nothing");
        }
        let reason = |index: usize| before.candidates[index].reason.clone();
        assert_eq!(reason(0), "disabled");
        assert!(reason(1).starts_with("draining"));
        assert_eq!(reason(2), "a config of a better priority can serve");
        let left: f64 = reason(3)["cooling for ".len()..].split(' ').next().unwrap().parse().unwrap();
        assert!(left > 50.0 && left <= 60.0 && reason(3).ends_with("CONNECTION"), "{}", reason(3));
        assert_eq!([reason(4), reason(5)], ["available", "available"]);
        let eligible: Vec<_> = before.candidates.iter().map(|Candidate { eligible, .. }| *eligible).collect();
        assert_eq!(eligible, [false, false, false, false, true, true]);
        assert_eq!(scene.ask().await.unwrap().route.unwrap().config_id, before.picked);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_type_must_be_said() {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    scene.key.model_type = 0;
    let request = ExplainRequest { key: Some(scene.key.clone()), ..ExplainRequest::default() };
    let status = scene.clients.invoke.clone().explain(request).await.unwrap_err();
    assert_eq!(told(&status), error(Code::InvalidArgument, "INVALID_FIELD"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_pick_tells_the_same_reasons_at_debug_level() {
    let rota = Rota::builder().arg("--log").arg("rota=debug").start().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(&rota, &upstream, 3).await;
    upstream.script(&scene.keys[0], Script::fail_for(429, "60"));
    scene.ask().await.unwrap();
    let told = eventually(Duration::from_secs(5), async || {
        let logs = rota.logs();
        let picks: Vec<_> =
            logs.lines().filter(|line| line.contains("asked who serves")).map(ToOwned::to_owned).collect();
        if picks.len() == 2 { Ok(picks) } else { Err(logs) }
    })
    .await;
    for said in ["config-0: available", "config-1: available", "picked=\"config-0\""] {
        assert!(told[0].contains(said), "{said}: {}", told[0]);
    }
    for said in ["config-0: this call has tried it", "config-2: available", "picked=\"config-1\""] {
        assert!(told[1].contains(said), "{said}: {}", told[1]);
    }
}
