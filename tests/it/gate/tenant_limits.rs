//! What one tenant may have of a replica: beyond it that tenant is turned away, and no other notices.

use std::time::{Duration, Instant};

use rota::{
    api::pb::{GetLoadBalancingConfigsRequest, ListTenantsRequest, WatchPoolRequest},
    scripted::{Script, Upstream},
};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tonic::{Code, Status};

use crate::support::{
    eventually,
    failure::{error, retry_after, told},
    prometheus::value,
    rota::Rota,
    world::Scene,
};

fn is_over(status: &Status) -> bool {
    told(status) == error(Code::ResourceExhausted, "TENANT_LIMIT")
}

async fn sheds(rota: &Rota, reason: &str) -> u64 {
    value(&rota.metrics().await, "rota_sheds_total", &[("reason", reason)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_so_many_calls_at_once() {
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().arg("--tenant-max-calls").arg("3").start().await;
    let scene = Scene::set(&rota, &upstream, 2).await;
    let other = Scene::set(&rota, &upstream, 2).await;
    for key in &scene.keys {
        upstream.script(key, Script::Hang);
    }
    // Of either service, and a stream until its end.
    let request = WatchPoolRequest { key: Some(scene.key.clone()) };
    let mut watch = scene.clients.config.clone().watch_pool(request).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    let hanging: Vec<_> = (0..2)
        .map(|_| {
            let scene = scene.clone();
            tokio::spawn(async move { scene.ask().await })
        })
        .collect();
    eventually(Duration::from_secs(10), async || match upstream.in_flight() {
        2 => Ok(()),
        count => Err(format!("{count} are on their way")),
    })
    .await;

    let list = || GetLoadBalancingConfigsRequest { key: Some(scene.key.clone()), ..Default::default() };
    let call = scene.ask().await.unwrap_err();
    let read = scene.clients.config.clone().get_load_balancing_configs(list()).await.unwrap_err();
    for status in [call, read] {
        assert!(is_over(&status), "{status:?}");
        assert!(!retry_after(&status).is_zero());
    }
    assert_eq!(sheds(&rota, "tenant_calls").await, 2);
    // Nobody else is held to it: neither another tenant nor the operator, for that tenant or by itself.
    for _ in 0..10 {
        other.ask().await.unwrap();
    }
    let mut operator = rota.operator().await;
    for _ in 0..5 {
        operator.config.get_load_balancing_configs(list()).await.unwrap();
        operator.admin.list_tenants(ListTenantsRequest::default()).await.unwrap();
    }

    // Its place is free when a call has ended, whatever ended it.
    for key in &scene.keys {
        upstream.script(key, Script::Answer);
    }
    drop(watch);
    for call in hanging {
        call.abort();
    }
    eventually(Duration::from_secs(10), async || {
        let calls: Vec<_> = (0..3)
            .map(|_| {
                let scene = scene.clone();
                tokio::spawn(async move { scene.ask().await })
            })
            .collect();
        for call in calls {
            call.await.unwrap().map_err(|status| status.to_string())?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_at_ten_times_its_rate_disturbs_no_other() {
    const RATE: u32 = 20;
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().arg("--tenant-calls-per-second").arg(RATE.to_string()).start().await;
    let greedy = Scene::set(&rota, &upstream, 2).await;
    let modest = Scene::set(&rota, &upstream, 2).await;

    let beside = {
        let modest = modest.clone();
        tokio::spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) / (RATE / 2));
            // On a machine that lags, it must not catch up in a burst: that would be over its own rate.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for _ in 0..3 * RATE / 2 {
                ticks.tick().await;
                modest.ask().await.unwrap();
            }
        })
    };
    let (began, mut calls) = (Instant::now(), tokio::task::JoinSet::new());
    let mut ticks = interval(Duration::from_secs(1) / (RATE * 10));
    while !beside.is_finished() {
        ticks.tick().await;
        let greedy = greedy.clone();
        calls.spawn(async move { greedy.ask().await });
    }
    beside.await.unwrap();
    let answers = calls.join_all().await;
    let took = began.elapsed();
    let served = answers.iter().filter(|answer| answer.is_ok()).count();
    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    for status in &refused {
        assert!(is_over(status), "{status:?}");
        let wait = retry_after(status);
        assert!(!wait.is_zero() && wait <= Duration::from_secs(1) / RATE, "{wait:?}");
    }
    // A second's worth at the begin, and then by the rate: no more, and not much less.
    let worth = took.as_secs_f64() * f64::from(RATE);
    assert!(served as f64 <= f64::from(RATE) + worth + 1.0, "{served} served in {took:?}");
    assert!(served as f64 >= worth / 2.0, "{served} served in {took:?}");
    assert!(refused.len() > served, "{} refused, {served} served", refused.len());
    assert_eq!(sheds(&rota, "tenant_rate").await, refused.len() as u64);

    // Who waits as long as it is told is served.
    let wait = loop {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..2 * RATE {
            let greedy = greedy.clone();
            calls.spawn(async move { greedy.ask().await });
        }
        if let Some(status) = calls.join_all().await.into_iter().find_map(Result::err) {
            break retry_after(&status);
        }
    };
    // Another call may have taken the token that came meanwhile, and then this one is told to wait once more.
    sleep(wait).await;
    if let Err(status) = greedy.ask().await {
        sleep(retry_after(&status)).await;
        greedy.ask().await.unwrap();
    }
}
