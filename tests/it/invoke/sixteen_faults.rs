//! The faults of failoverbench (<https://github.com/failoverbench/failoverbench>, methodology 0.1), told over gRPC and, from
//! `tests/it/http/sixteen_faults.rs`, over HTTP. Its seconds are tenths of a second here, but for those in `Retry-After`.
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
use crate::{
    http::sixteen_faults::ask as ask_over_http,
    support::{
        http::Http,
        kinds, read,
        rota::Rota,
        sdk::named,
        world::{Scene, hi},
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Partial,
    Safe,
    Fail,
}
use Verdict::{Fail, Partial, Pass, Safe};

/// How the model is set up.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Whether the model and its fallback have two keys each, or one.
    pub two_keys: bool,
    /// Whether it has the policy that docs/reference/balancing.md recommends.
    pub recommended: bool,
    /// How it is called.
    pub door: Door,
}

/// How a model is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Grpc,
    /// As OpenAI's clients call it. What was sent cannot be taken back: the policy is to go on from there, and the fallback
    /// is a model that can, but for the fault that is about one that cannot.
    Http,
}

/// A model with a fallback at another provider.
pub struct Stage {
    upstream: Upstream,
    pub scene: Scene,
    spare: Vec<String>,
    door: Door,
    http: Option<Http>,
}

/// What became of a call.
pub struct Told {
    pub end: Result<String, Refused>,
    /// Whether it reports its usage.
    pub usage: bool,
    /// The model that the route names.
    pub model: String,
}

/// How a call has failed.
#[derive(Debug)]
pub struct Refused {
    /// Whether the error says why.
    pub clear: bool,
    /// Whether it says that the request is wrong.
    pub invalid: bool,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        let clear = status.code() != Code::Unknown && status.code() != Code::Internal;
        Self { clear, invalid: status.code() == Code::InvalidArgument }
    }
}

fn tenths(count: u64) -> Duration {
    Duration::from_millis(100 * count)
}

fn policy(setting: Setting) -> BalancingPolicy {
    let time = |time| Some(prost_types::Duration::try_from(time).unwrap());
    let (limit, wait, on_break) = if setting.recommended {
        let on_break = if setting.door == Door::Http { OnBreak::Continue } else { OnBreak::Restart };
        (tenths(10), time(Duration::from_secs(5)), on_break)
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
    async fn set(rota: &Rota, setting: Setting, number: usize, fault: Script) -> Self {
        let upstream = Upstream::discreet().await.unwrap();
        let mut scene = Scene::tenant(rota).await;
        scene.add_model(&upstream.base_url()).await;
        let mut spare = scene.clone();
        spare.key.provider = "spare".to_owned();
        spare.provider = "spare".to_owned();
        spare.key.model = "spare".to_owned();
        let goes_on = setting.door == Door::Http && number != 14;
        let kind = if goes_on { kinds::ANTHROPIC } else { kinds::OPENAI_COMPATIBLE };
        let provider = Provider {
            tenant_id: scene.tenant.clone(),
            name: "spare".to_owned(),
            kind: kind.name.to_owned(),
            base_url: kind.base_url(&upstream),
            ..Provider::default()
        };
        let create = CreateProviderRequest { provider: Some(provider) };
        scene.clients.config.create_provider(create).await.unwrap();
        let upstream_model = if goes_on { "claude-sonnet-4-5" } else { "" };
        put(&scene, &spare.key, upstream_model, Vec::new()).await;
        put(&scene, &scene.key, "", vec![spare.key.clone()]).await;
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
        let http = if setting.door == Door::Http { Some(Http::of(rota).await) } else { None };
        Self { upstream, scene, spare: spare.keys, door: setting.door, http }
    }

    async fn ask(&self) -> Told {
        match &self.http {
            Some(http) => ask_over_http(http, &self.scene).await,
            None => self.ask_over_grpc().await,
        }
    }

    async fn ask_over_grpc(&self) -> Told {
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
            end: end.map(|()| valid(&messages)).map_err(Into::into),
            usage: messages.iter().any(|message| message.usage.is_some()),
            model: route.model,
        }
    }

    /// How often the model was asked, and its fallback.
    fn attempts(&self) -> (u64, u64) {
        let sum = |keys: &[String]| keys.iter().map(|key| self.upstream.hits(key)).sum();
        (sum(&self.scene.keys), sum(&self.spare))
    }

    /// Whether it is the whole answer of any key; where an answer goes on, behind what another has begun.
    fn is_whole(&self, text: &str) -> bool {
        let mut keys = self.scene.keys.iter().chain(&self.spare);
        keys.any(|key| {
            let begun = text.strip_suffix(&format!("served by {}", named(key)));
            begun.is_some_and(|begun| {
                begun.is_empty() || self.door == Door::Http && "served by ".starts_with(begun)
            })
        })
    }

    /// The verdict on one call that ought to be served.
    fn verdict(&self, told: &Told, required: bool, advised: bool) -> Verdict {
        match &told.end {
            Ok(text) if !self.is_whole(text) => Fail,
            _ if !required => Fail,
            Ok(_) if advised => Pass,
            Ok(_) => Partial,
            Err(refused) if !refused.clear => Fail,
            Err(_) => Safe,
        }
    }
}

async fn put(scene: &Scene, key: &ModelKey, upstream_model: &str, fallbacks: Vec<ModelKey>) {
    let upstream_model = upstream_model.to_owned();
    let model = Model { key: Some(key.clone()), upstream_model, fallbacks, ..Model::default() };
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
    let stage = Stage::set(rota, setting, number, fault).await;
    if number == 15 {
        return flaps(&stage).await;
    }
    let began = Instant::now();
    let told = timeout(tenths(130), stage.ask()).await.expect("a hang");
    let took = began.elapsed();
    let (model, spare) = stage.attempts();
    let (required, advised) = match number {
        1 => (took > tenths(15) || model <= 2, model >= 2 && took >= tenths(18)),
        2 | 4 => (model <= 6, true),
        3 => (true, model >= 2),
        6 => (took <= tenths(100), model <= 1),
        7 => (true, took <= tenths(15)),
        9 => (took <= tenths(45), true),
        11 => (took <= tenths(8), told.usage),
        12 => (model == 1, true),
        14 => (
            stage.upstream.requests().iter().all(|request| request.body["messages"][0]["role"] == "user"),
            true,
        ),
        16 => (model <= 6 && (spare == 0 || told.model == "spare"), told.usage),
        13 => {
            let is_told = told.end.as_ref().is_err_and(|refused| refused.invalid);
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

/// The verdicts on all sixteen.
pub async fn verdicts(setting: Setting) -> Vec<Verdict> {
    let rota = Rota::shared().await;
    join_all((1..=16).map(|number| scenario(rota, setting, number))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_defaults_and_one_key_none_fails() {
    let told = verdicts(Setting { two_keys: false, recommended: false, door: Door::Grpc }).await;
    let expected = [
        Partial, Pass, Partial, Pass, Pass, Pass, Partial, Safe, Safe, Safe, Pass, Pass, Pass, Safe, Pass,
        Pass,
    ];
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_defaults_and_two_keys_none_fails() {
    let told = verdicts(Setting { two_keys: true, recommended: false, door: Door::Grpc }).await;
    assert!(!told.contains(&Fail), "{told:?}");
    assert_eq!(told.iter().filter(|verdict| **verdict == Pass).count(), 10, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_recommended_policy_all_pass() {
    let told = verdicts(Setting { two_keys: false, recommended: true, door: Door::Grpc }).await;
    assert_eq!(told, [Pass; 16]);
    let told = verdicts(Setting { two_keys: true, recommended: true, door: Door::Grpc }).await;
    let partial: Vec<_> = (1..=16).filter(|number| told[number - 1] != Pass).collect();
    assert!(!told.contains(&Fail) && !told.contains(&Safe), "{told:?}");
    assert!(partial.len() <= 2, "{partial:?}");
}
