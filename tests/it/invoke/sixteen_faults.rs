//! The faults of failoverbench (<https://github.com/failoverbench/failoverbench>, methodology 0.1), told over gRPC. Its
//! seconds are tenths of a second here, but for those in `Retry-After`.
//!
//! A fault passes if the caller gets the whole answer and the call behaves; partial: an advised behaviour is missing; safe:
//! the caller gets a clear error in time.

use std::time::Duration;

use futures::future::join_all;
use rota::{
    api::pb::{
        BalancingPolicy, Cooldowns, CreateCredentialRequest, CreateProviderRequest, Credential, Model,
        ModelKey, OnBreak, Provider, PutModelRequest, StreamLlmRequest, StreamLlmResponse,
        UpdateBalancingPolicyRequest,
    },
    scripted::{Raw, Script, Upstream},
};
use serde_json::{Value, json};
use tokio::time::{Instant, interval, timeout};
use tonic::{Code, Status};

use super::streaming::content;
use crate::support::{
    read,
    rota::Rota,
    world::{Scene, hi},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pass,
    Partial,
    Safe,
    Fail,
}
use Verdict::{Fail, Partial, Pass, Safe};

/// How the model is set up.
#[derive(Debug, Clone, Copy)]
struct Setting {
    /// Whether the model and its fallback have two keys each, or one.
    two_keys: bool,
    /// Whether it has the policy that docs/reference/balancing.md recommends.
    recommended: bool,
}

/// A model with a fallback at another provider.
struct Stage {
    upstream: Upstream,
    scene: Scene,
    spare: Vec<String>,
}

/// What became of a call.
struct Told {
    end: Result<String, Status>,
    /// Whether it reports its usage.
    usage: bool,
    /// The model that the route names.
    model: String,
    took: Duration,
}

fn tenths(count: u64) -> Duration {
    Duration::from_millis(100 * count)
}

fn policy(setting: Setting) -> BalancingPolicy {
    let time = |time| Some(prost_types::Duration::try_from(time).unwrap());
    let (limit, wait, on_break) = if setting.recommended {
        (tenths(10), time(Duration::from_secs(5)), OnBreak::Restart)
    } else {
        (tenths(60), None, OnBreak::Unspecified)
    };
    BalancingPolicy {
        first_token_timeout: time(limit),
        stream_idle_timeout: time(limit),
        cooldowns: Some(Cooldowns { server_error: time(tenths(10)), ..Cooldowns::default() }),
        wait_for_retry_after: wait,
        on_break: on_break.into(),
        ..BalancingPolicy::default()
    }
}

impl Stage {
    async fn set(rota: &Rota, setting: Setting, fault: Script) -> Self {
        let upstream = Upstream::start().await.unwrap();
        let mut scene = Scene::tenant(rota).await;
        scene.add_model(&upstream.base_url()).await;
        let mut spare = scene.clone();
        spare.key.provider = "spare".to_owned();
        spare.provider = "spare".to_owned();
        spare.key.model = "spare".to_owned();
        let provider = Provider {
            tenant_id: scene.tenant.clone(),
            name: "spare".to_owned(),
            kind: "openai_compatible".to_owned(),
            base_url: upstream.base_url(),
            ..Provider::default()
        };
        let create = CreateProviderRequest { provider: Some(provider) };
        scene.clients.config.create_provider(create).await.unwrap();
        put(&scene, &spare.key, Vec::new()).await;
        put(&scene, &scene.key, vec![spare.key.clone()]).await;
        for side in [&mut scene, &mut spare] {
            if setting.two_keys {
                side.add_configs(2).await;
                side.enable().await;
            } else {
                side.keys = vec![format!("key-{}-{}", side.provider, side.tenant)];
                let fields = [("api_key".to_owned(), side.keys[0].clone())].into();
                let (provider, name) = (side.provider.clone(), "only".to_owned());
                let credential = Credential { provider, name, fields, ..Credential::default() };
                let create = CreateCredentialRequest { credential: Some(credential), ..Default::default() };
                side.clients.config.create_credential(create).await.unwrap();
            }
        }
        let key = Some(scene.key.clone());
        let update =
            UpdateBalancingPolicyRequest { key, policy: Some(policy(setting)), ..Default::default() };
        scene.clients.config.update_balancing_policy(update).await.unwrap();
        for key in &scene.keys {
            upstream.script(key, fault.clone());
        }
        Self { upstream, scene, spare: spare.keys }
    }

    async fn ask(&self) -> Told {
        let began = Instant::now();
        let request = StreamLlmRequest {
            key: Some(self.scene.key.clone()),
            messages: vec![hi()],
            ..StreamLlmRequest::default()
        };
        let (messages, end) = match self.scene.clients.invoke.clone().stream_llm(request).await {
            Ok(stream) => read(stream.into_inner()).await,
            Err(status) => (Vec::new(), Err(status)),
        };
        let route = messages.iter().rev().find_map(|message| message.route.clone()).unwrap_or_default();
        Told {
            end: end.map(|()| valid(&messages)),
            usage: messages.iter().any(|message| message.usage.is_some()),
            model: route.model,
            took: began.elapsed(),
        }
    }

    /// How often the model was asked, and its fallback.
    fn attempts(&self) -> (u64, u64) {
        let sum = |keys: &[String]| keys.iter().map(|key| self.upstream.hits(key)).sum();
        (sum(&self.scene.keys), sum(&self.spare))
    }

    /// Whether it is the whole answer of any key.
    fn is_whole(&self, text: &str) -> bool {
        let mut keys = self.scene.keys.iter().chain(&self.spare);
        keys.any(|key| text == format!("served by {key}"))
    }

    /// The verdict on one call that ought to be served.
    fn verdict(&self, told: &Told, required: bool, advised: bool) -> Verdict {
        match &told.end {
            Ok(text) if !self.is_whole(text) => Fail,
            _ if !required => Fail,
            Ok(_) if advised => Pass,
            Ok(_) => Partial,
            Err(status) if status.code() == Code::Unknown || status.code() == Code::Internal => Fail,
            Err(_) => Safe,
        }
    }
}

async fn put(scene: &Scene, key: &ModelKey, fallbacks: Vec<ModelKey>) {
    let model = Model { key: Some(key.clone()), fallbacks, ..Model::default() };
    scene.clients.config.clone().put_model(PutModelRequest { model: Some(model) }).await.unwrap();
}

/// What is valid of a streamed answer.
fn valid(messages: &[StreamLlmResponse]) -> String {
    let from = messages.iter().rposition(|message| message.restarted).unwrap_or_default();
    content(&messages[from..])
}

fn chunk(delta: &Value, finish: Option<&str>) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
    format!("data: {}\n\n", json!({"id": "c", "choices": [choice]}))
}

fn once(fault: Script) -> Script {
    Script::sequence([fault, Script::Answer])
}

fn refused(code: &str) -> Script {
    Script::fail_with(400, &json!({"message": code, "type": "invalid_request_error", "code": code}))
}

/// The verdict on one scenario.
async fn scenario(rota: &Rota, setting: Setting, number: usize) -> Verdict {
    let begun = chunk(&json!({"content": "served "}), None);
    let fault = match number {
        1 => once(Script::fail_for(429, "2")),
        2 => Script::fail(429),
        3 => once(Script::fail(500)),
        4 | 16 => Script::fail(503),
        5 => once(Script::Close),
        6 => Script::Hang,
        7 => Script::Answer.after(tenths(20)),
        8 | 14 => Script::BreakAfter(2),
        9 => Script::Raw(Raw::stream(begun).wait(tenths(30))),
        10 => Script::Raw(
            Raw::stream(begun)
                .then("data: {\"choices\": [\n\n")
                .then(chunk(&json!({"content": "by"}), Some("stop"))),
        ),
        11 => Script::WithoutDone,
        12 => refused("context_length_exceeded"),
        13 => refused("content_policy_violation"),
        15 => Script::fail(503).for_duration(tenths(30)),
        _ => unreachable!("there are sixteen"),
    };
    let stage = Stage::set(rota, setting, fault).await;
    if number == 15 {
        return flaps(&stage).await;
    }
    let told = timeout(tenths(130), stage.ask()).await.expect("a hang");
    let (model, spare) = stage.attempts();
    let (required, advised) = match number {
        1 => (told.took > tenths(15) || model <= 2, model >= 2 && told.took >= tenths(18)),
        2 | 4 => (model <= 6, true),
        3 => (true, model >= 2),
        6 => (told.took <= tenths(100), model <= 1),
        7 => (true, told.took <= tenths(15)),
        9 => (told.took <= tenths(45), true),
        11 => (told.took <= tenths(8), told.usage),
        12 => (model == 1, true),
        14 => (
            stage.upstream.requests().iter().all(|request| request.body["messages"][0]["role"] == "user"),
            true,
        ),
        16 => (model <= 6 && (spare == 0 || told.model == "spare"), told.usage),
        13 => {
            let is_told = told.end.as_ref().is_err_and(|status| status.code() == Code::InvalidArgument);
            return if is_told && (model, spare) == (1, 0) { Pass } else { Fail };
        }
        _ => (true, true),
    };
    stage.verdict(&told, required, advised)
}

/// The model is down for three seconds, and up again. Calls come every 400 ms.
async fn flaps(stage: &Stage) -> Verdict {
    let began = Instant::now();
    let mut turns = interval(tenths(4));
    let (mut worst, mut back) = (Pass, None);
    for _ in 0..14 {
        turns.tick().await;
        let told = timeout(tenths(30), stage.ask()).await.expect("a hang");
        if stage.verdict(&told, true, true) != Pass {
            worst = Fail;
        }
        if told.model == stage.scene.key.model {
            back.get_or_insert(began.elapsed());
        }
    }
    if back.is_some_and(|back| back <= tenths(60)) { worst } else { Fail }
}

async fn verdicts(setting: Setting) -> Vec<Verdict> {
    let rota = Rota::shared().await;
    join_all((1..=16).map(|number| scenario(rota, setting, number))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_defaults_and_one_key_none_fails() {
    let told = verdicts(Setting { two_keys: false, recommended: false }).await;
    let expected = [
        Partial, Pass, Partial, Pass, Pass, Pass, Partial, Safe, Safe, Safe, Pass, Pass, Pass, Safe, Pass,
        Pass,
    ];
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_defaults_and_two_keys_none_fails() {
    let told = verdicts(Setting { two_keys: true, recommended: false }).await;
    assert!(!told.contains(&Fail), "{told:?}");
    assert_eq!(told.iter().filter(|verdict| **verdict == Pass).count(), 10, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_recommended_policy_all_pass() {
    let told = verdicts(Setting { two_keys: false, recommended: true }).await;
    assert_eq!(told, [Pass; 16]);
    let told = verdicts(Setting { two_keys: true, recommended: true }).await;
    let partial: Vec<_> = (1..=16).filter(|number| told[number - 1] != Pass).collect();
    assert!(!told.contains(&Fail) && !told.contains(&Safe), "{told:?}");
    assert!(partial.len() <= 2, "{partial:?}");
}
