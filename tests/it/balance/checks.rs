//! Active health checks of many pools at once.

use std::time::Duration;

use rota::{
    api::pb::{ActiveHealthCheck, BalancingPolicy, ErrorClass, SetCooldownRequest},
    scripted::{Script, Upstream},
};

use super::policy::set_policy;
use crate::support::{eventually, rota::Rota, world::Scene};

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

async fn check(scene: &Scene, interval: i64, timeout: i64) {
    let check = ActiveHealthCheck { interval: seconds(interval), timeout: seconds(timeout) };
    let policy = BalancingPolicy { active_health_check: Some(check), ..BalancingPolicy::default() };
    set_policy(scene, policy, &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_hangs_holds_up_no_other_member_or_pool() {
    let rota = Rota::builder().start().await;
    let (silent, well) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    // More than are asked at once.
    let dead = Scene::set(&rota, &silent, 40).await;
    for key in &dead.keys {
        silent.script(key, Script::Hang);
    }
    let alive = Scene::set(&rota, &well, 2).await;
    check(&dead, 60, 30).await;
    eventually(Duration::from_secs(10), async || match silent.in_flight() {
        count @ ..16 => Err(format!("{count} members of the silent provider are asked at once")),
        _ => Ok(()),
    })
    .await;
    assert_eq!(silent.in_flight(), 16, "a tenant has its share and no more");

    check(&alive, 1, 1).await;
    let request = SetCooldownRequest {
        key: Some(alive.key.clone()),
        config_id: alive.configs[0].id.clone(),
        duration: seconds(600),
        reason: ErrorClass::Authentication.into(),
    };
    alive.clients.config.clone().set_cooldown(request).await.unwrap();
    eventually(Duration::from_secs(5), async || {
        if alive.configs_now().await[0].in_cooldown {
            Err("the check of another tenant is held up".to_owned())
        } else {
            Ok(())
        }
    })
    .await;
    assert_eq!(silent.in_flight(), 16);
}
