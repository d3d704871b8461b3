//! What callers' patience costs and tells: trials that take long, configs that hang longer than callers wait, and pools of
//! which every config has failed.

use std::time::{Duration, Instant};

use futures::future::join_all;
use rota::{
    api::pb::{BalancingPolicy, Cooldowns, ErrorClass, ExplainRequest},
    scripted::{Script, Upstream},
};
use tonic::{Code, Request};

use crate::support::{
    eventually,
    failure::{error, told},
    rota::Rota,
    world::Scene,
};

const SOON: Duration = Duration::from_secs(10);

async fn cooling(scene: &Scene) -> Vec<bool> {
    scene.configs_now().await.iter().map(|config| config.in_cooldown).collect()
}

async fn ask_within(scene: &Scene, millis: u64) -> bool {
    let mut request = Request::new(scene.request());
    request.set_timeout(Duration::from_millis(millis));
    scene.clients.invoke.clone().invoke_llm(request).await.is_ok()
}

async fn stream_within(scene: &Scene, millis: u64) -> bool {
    tokio::time::timeout(Duration::from_millis(millis), scene.ask_stream()).await.is_ok_and(|got| got.is_ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_to_a_trial_keeps_nobody_waiting() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    let second = Some(Duration::from_secs(1).try_into().unwrap());
    let cooldowns = Cooldowns { server_error: second, ..Default::default() };
    scene.set_policy(BalancingPolicy { cooldowns: Some(cooldowns), ..Default::default() }).await;
    let long = Duration::from_secs(4);
    for key in &scene.keys {
        upstream.script(key, Script::sequence([Script::fail(503), Script::Answer.after(long)]));
    }
    scene.ask().await.unwrap_err();
    assert_eq!(cooling(&scene).await, [true, true]);
    eventually(SOON, async || match cooling(&scene).await[..] {
        [false, false] => Ok(()),
        ref cool => Err(format!("{cool:?}")),
    })
    .await;
    let began = Instant::now();
    let answers = join_all((0..12).map(|_| scene.ask())).await;
    let failed: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert!(began.elapsed() < long * 2, "some have waited for the whole answer to another");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_hangs_longer_than_callers_wait_is_left_alone() {
    let upstream = Upstream::start().await.unwrap();
    for streamed in [false, true] {
        let scene = Scene::set(Rota::shared().await, &upstream, 3).await;
        upstream.script(&scene.keys[0], Script::Hang);
        for round in 0..6 {
            let calls = (0..9).map(|_| async {
                if streamed { stream_within(&scene, 800).await } else { ask_within(&scene, 800).await }
            });
            let lost = join_all(calls).await.into_iter().filter(|served| !served).count();
            // A call or two may be a trial.
            assert!(round < 3 || lost <= 1, "streamed {streamed}, round {round}: {lost} of 9 calls are lost");
        }
        assert_eq!(cooling(&scene).await, [true, false, false], "streamed {streamed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impatient_caller_cools_nobody() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    let usual = Duration::from_millis(300);
    for key in &scene.keys {
        upstream.script(key, Script::Answer.after(usual));
    }
    // Where nothing is known yet, and where an answer usually takes longer.
    for _ in 0..2 {
        for _ in 0..8 {
            assert!(!ask_within(&scene, 100).await);
        }
        assert_eq!(cooling(&scene).await, [false, false]);
        for _ in 0..4 {
            scene.ask().await.unwrap();
        }
    }
    // One that asks too much, while others are served.
    upstream.script(&scene.keys[0], Script::sequence([Script::Hang, Script::Answer]));
    upstream.script(&scene.keys[1], Script::Answer);
    let (lost, ()) = tokio::join!(join_all((0..2).map(|_| ask_within(&scene, 2_000))), async {
        let hangs = async || if upstream.in_flight() > 0 { Ok(()) } else { Err("nothing hangs".to_owned()) };
        eventually(Duration::from_secs(2), hangs).await;
        for _ in 0..20 {
            scene.ask().await.unwrap();
        }
    });
    assert!(lost.contains(&false));
    assert_eq!(cooling(&scene).await, [false, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_only_provider_is_back_its_pool_soon_is() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    // Long enough for cooldowns of ten seconds and then twenty.
    let outage = Duration::from_secs(4);
    for key in &scene.keys {
        upstream.script(key, Script::fail(503).for_duration(outage));
    }
    let began = Instant::now();
    scene.ask().await.unwrap_err();
    let status = scene.ask().await.unwrap_err();
    assert_eq!(told(&status), error(Code::Unavailable, "ALL_CONFIGS_COOLING_DOWN"));
    let asked = scene.hits(&upstream).iter().sum::<u64>();
    assert_eq!(asked, 2, "nobody goes through before a second is over");
    let mut explained = scene.clients.invoke.clone();
    let request = ExplainRequest { key: Some(scene.key.clone()), ..Default::default() };
    let why = explained.explain(request).await.unwrap().into_inner().candidates;
    assert!(why.iter().all(|one| one.reason.contains("last resort")), "{why:?}");
    // All the time somebody asks. The pace of those that go through is kept.
    let mut served = None;
    while served.is_none() && began.elapsed() < SOON {
        if scene.ask().await.is_ok() {
            served = Some(began.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let served = served.expect("the pool stays away for as long as its cooldowns");
    assert!(served < outage + Duration::from_secs(3), "{served:?}");
    let tries = scene.hits(&upstream).iter().sum::<u64>() - asked;
    assert!(tries <= served.as_secs() + 1, "{tries} calls in {served:?}");
    // A few more, and nobody is refused.
    eventually(SOON, async || scene.ask().await.map(drop).map_err(|status| status.to_string())).await;
    eventually(SOON, async || {
        let answers = join_all((0..8).map(|_| scene.ask())).await;
        if answers.iter().all(Result::is_ok) { Ok(()) } else { Err("some are refused".to_owned()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_last_resort_where_the_policy_says_so_or_the_provider_has_named_a_time() {
    let upstream = Upstream::start().await.unwrap();
    let off = Scene::set(Rota::shared().await, &upstream, 2).await;
    off.set_policy(BalancingPolicy { last_resort: Some(false), ..Default::default() }).await;
    let named = Scene::set(Rota::shared().await, &upstream, 2).await;
    let refused = Scene::set(Rota::shared().await, &upstream, 2).await;
    for key in 0..2 {
        upstream.script(&off.keys[key], Script::fail(503));
        upstream.script(&named.keys[key], Script::fail_for(503, "60"));
        upstream.script(&refused.keys[key], Script::fail(401));
    }
    for (scene, class) in [
        (&off, ErrorClass::ServerError),
        (&named, ErrorClass::ServerError),
        (&refused, ErrorClass::Authentication),
    ] {
        scene.ask().await.unwrap_err();
        let until = Instant::now() + Duration::from_millis(2_500);
        while Instant::now() < until {
            let status = scene.ask().await.unwrap_err();
            assert_eq!(told(&status).1, "ALL_CONFIGS_COOLING_DOWN", "{class:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(scene.hits(&upstream), [1, 1], "{class:?}");
    }
}
