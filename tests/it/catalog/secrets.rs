//! A key or a token's secret stands nowhere but where it belongs: looked for in the database, Redis, the whole log at
//! TRACE, and every answer.

use std::fs;

use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE};
use rota::{
    api::pb::{
        Credential, EnableModelLoadBalancingRequest, InvokeTextEmbeddingRequest, ListProvidersRequest,
        ListTokensRequest, LoadBalancingConfig, Model, ModelKey, ModelType, Provider, PutModelRequest, Role,
        RotateTenantKeyRequest, UpdateCredentialRequest, UpdateProviderRequest,
        ValidateLoadBalancingCredentialsRequest,
    },
    scripted::{Script, Upstream},
};
use serde_json::json;
use tonic::Status;
use uuid::Uuid;

use crate::support::{
    eventually,
    listing::{api_key_field, inherit, link},
    postgres::Postgres,
    redis::Redis,
    rota::Rota,
    world::{Scene, config, create_token},
};
use std::time::Duration;

/// Keys made for one run, by the random words in them.
#[derive(Default)]
struct Keys(Vec<String>);

impl Keys {
    /// A new key. Quotes and backslashes show whether it is looked for in JSON as it was sent or as it is.
    fn make(&mut self) -> String {
        let [one, two] = [(); 2].map(|()| Uuid::new_v4().simple().to_string());
        let key = format!("kx-{one}\"\\/{two}==");
        self.0.extend([one, two]);
        key
    }

    /// What to look for: each word, and each as it stands in the base64 of a text that it is in.
    fn needles(&self) -> Vec<String> {
        self.0.iter().flat_map(|word| [vec![word.clone()], in_base64(word)].concat()).collect()
    }
}

/// How a text looks in the base64 of a longer one, at each of the three places it can start.
fn in_base64(text: &str) -> Vec<String> {
    let mut forms = Vec::new();
    for before in 0..3 {
        let bytes = ["x".repeat(before).as_bytes(), text.as_bytes()].concat();
        for encoded in [BASE64_STANDARD.encode(&bytes), BASE64_URL_SAFE.encode(&bytes)] {
            // The characters at the ends are mixed with the neighbours.
            let (start, end) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
            forms.push(encoded[start..end].to_owned());
        }
    }
    forms.dedup();
    forms
}

#[test]
fn a_text_is_found_in_base64_wherever_it_starts() {
    for before in ["", "a", "bc", "def", "4321"] {
        let encoded = BASE64_STANDARD.encode(format!("{before}needle in the hay"));
        assert!(in_base64("needle").iter().any(|form| encoded.contains(form)), "{before}");
    }
    assert!(!in_base64("needle").iter().any(|form| BASE64_STANDARD.encode("nothing here").contains(form)));
}

/// What was said by answers and refusals.
#[derive(Default)]
struct Said(String);

impl Said {
    fn note(&mut self, text: impl std::fmt::Debug) {
        self.0 += &format!("{text:?}\n");
    }

    /// Notes an answer, or every byte of a refusal.
    fn answer<T: std::fmt::Debug>(&mut self, answer: Result<T, Status>) {
        match answer {
            Ok(answer) => self.note(answer),
            Err(status) => {
                self.note(&status);
                self.0 += &String::from_utf8_lossy(status.details());
            }
        }
    }

    fn refusal<T: std::fmt::Debug>(&mut self, answer: Result<T, Status>) {
        assert!(answer.is_err(), "{answer:?}");
        self.answer(answer);
    }
}

/// Configures, calls well and badly, lists; with keys in every place that takes one.
async fn live(rota: &Rota, upstream: &Upstream, keys: &mut Keys, said: &mut Said) -> Scene {
    let mut scene = Scene::tenant(rota).await;
    scene.add_model(&upstream.base_url()).await;
    let mut client = scene.clients.config.clone();
    let (of_provider, of_model, linked, own) = (keys.make(), keys.make(), keys.make(), keys.make());
    let inherited = scene.create_credential("marked-credential", &of_provider).await;
    said.note(&inherited);
    scene.ask().await.unwrap();
    said.note(scene.create_model_credential("model's", &of_model).await);
    let second = scene.create_credential("second", &linked).await;
    let set = vec![inherit(true), link(&second), config("marked-config", &own)];
    said.answer(scene.save(set).await);
    let enable = EnableModelLoadBalancingRequest { key: Some(scene.key.clone()) };
    said.answer(client.enable_model_load_balancing(enable).await);
    for _ in 0..3 {
        said.answer(
            scene.ask().await.inspect(|answer| assert!(answer.route.is_some())).map(|answer| answer.route),
        );
        said.answer(
            scene
                .ask_stream()
                .await
                .map(|pieces| pieces.into_iter().filter_map(|piece| piece.route).collect::<Vec<_>>()),
        );
    }
    let update = Credential { name: "renamed".to_owned(), ..second.clone() };
    let update = UpdateCredentialRequest { credential: Some(update), update_mask: None };
    said.answer(client.update_credential(update).await);

    refused(&scene, keys, said).await;
    failing(&scene, upstream, keys, said).await;
    // What is stored when the database is searched.
    let set = vec![inherit(true), link(&second), config("marked-config", &keys.make())];
    said.answer(scene.save(set).await);
    said.note(scene.listing().await);
    scene
}

/// Requests that are refused while they hold a key.
async fn refused(scene: &Scene, keys: &mut Keys, said: &mut Said) {
    let mut client = scene.clients.config.clone();
    let both =
        LoadBalancingConfig { credential_id: Uuid::new_v4().to_string(), ..config("both", &keys.make()) };
    said.refusal(scene.save(vec![both]).await);
    said.refusal(scene.save(vec![config("control", &format!("{}\n", keys.make()))]).await);
    said.refusal(scene.save(vec![config("long", &keys.make().repeat(60))]).await);
    said.refusal(scene.save(vec![config("good", &keys.make()), config("", &keys.make())]).await);
    // Keys where none belongs: a name is asked for there.
    let unknown =
        Credential { fields: [("api-key".to_owned(), keys.make())].into(), ..named(scene, "unknown") };
    said.refusal(scene.store(unknown).await);
    let masked =
        Credential { fields: api_key_field(&format!("{}************", keys.make())), ..named(scene, "x") };
    said.refusal(scene.store(masked).await);
    for base_url in [
        format!("http://user:{}@127.0.0.1/v1", keys.make()),
        format!("http://127.0.0.1/v1?key={}", keys.make()),
        format!("http://127.0.0.1/v1#{}", keys.make()),
        keys.make(),
    ] {
        let provider = Provider { name: scene.provider.clone(), base_url, ..Provider::default() };
        let request = UpdateProviderRequest { provider: Some(provider), update_mask: None };
        said.refusal(client.update_provider(request).await);
    }
    let provider = Provider { name: keys.make(), kind: keys.make(), ..Provider::default() };
    let request = UpdateProviderRequest { provider: Some(provider), update_mask: None };
    said.refusal(client.update_provider(request).await);
    let validate = ValidateLoadBalancingCredentialsRequest {
        key: Some(scene.key.clone()),
        credentials: api_key_field(&format!("{}\n", keys.make())),
        ..Default::default()
    };
    said.refusal(client.validate_load_balancing_credentials(validate).await);
}

/// Calls and validations that an upstream fails, with the key in what it says.
async fn failing(scene: &Scene, upstream: &Upstream, keys: &mut Keys, said: &mut Said) {
    let mut client = scene.clients.config.clone();
    for status in [400, 401, 403, 404, 429, 500] {
        for form in 0..3 {
            let key = keys.make();
            let error = match form {
                0 => json!({"message": format!("Incorrect API key provided: {key}."), "code": key}),
                1 => json!(format!("Bearer {key} is not good")),
                _ => json!({"detail": [{"got": key}], "message": {"text": key}, "type": key}),
            };
            upstream.script(&*key, Script::fail_with(status, &error));
            let validate = ValidateLoadBalancingCredentialsRequest {
                key: Some(scene.key.clone()),
                credentials: api_key_field(&key),
                ..Default::default()
            };
            let answer = client.validate_load_balancing_credentials(validate).await.unwrap().into_inner();
            assert!(!answer.valid);
            said.note(answer);
            said.answer(scene.save(vec![config(&format!("fails {status} {form}"), &key)]).await);
            said.refusal(scene.ask().await);
            said.answer(scene.ask_stream().await);
            said.note(scene.set_of("").await);
        }
    }
    // An upstream that fails in the middle, or breaks the protocol.
    let echo = |key: &str| json!({"message": format!("no more for {key}"), "code": key});
    let scripts: [fn(serde_json::Value) -> Script; 5] = [
        |error| Script::ErrorAfter(0, error),
        |error| Script::ErrorAfter(2, error),
        |_| Script::MalformedJson,
        |_| Script::NotTheProtocol,
        |_| Script::Close,
    ];
    for script in scripts {
        let key = keys.make();
        upstream.script(&*key, script(echo(&key)));
        said.answer(scene.save(vec![config("breaks", &key)]).await);
        said.answer(scene.ask_stream().await.map(|_| ()));
        said.answer(scene.ask().await.map(|_| ()));
    }
    // Embeddings go another way.
    let key = ModelKey { model_type: ModelType::TextEmbedding.into(), ..scene.key.clone() };
    let embedding = Scene { key: key.clone(), ..scene.clone() };
    let model = Model { key: Some(key.clone()), ..Model::default() };
    client.put_model(PutModelRequest { model: Some(model) }).await.unwrap();
    let secret = keys.make();
    upstream.script(&*secret, Script::fail_with(401, &echo(&secret)));
    said.note(embedding.create_model_credential("embedding's", &secret).await);
    let embed =
        InvokeTextEmbeddingRequest { key: Some(key), texts: vec!["text".to_owned()], ..Default::default() };
    said.refusal(scene.clients.invoke.clone().invoke_text_embedding(embed).await);
}

fn named(scene: &Scene, name: &str) -> Credential {
    Credential { provider: scene.provider.clone(), name: name.to_owned(), ..Credential::default() }
}

/// Fails where `place` holds a needle, and where it does not hold `known`, which shows that a needle would be found.
fn nowhere_in(place: &str, hay: &str, needles: &[String], known: &str) {
    assert!(hay.contains(known), "{place}: the search finds nothing at all");
    for needle in needles {
        if let Some(at) = hay.find(needle.as_str()) {
            let start = hay.floor_char_boundary(at.saturating_sub(200));
            let end = hay.ceil_char_boundary((at + 200).min(hay.len()));
            panic!("{place} holds {needle}: …{}…", &hay[start..end]);
        }
    }
}

/// The whole story on one Rota. Returns its needles: what stands nowhere, the master key included.
async fn told(rota: &Rota, redis: &Redis, master_key: &str) -> Vec<String> {
    let upstream = Upstream::start().await.unwrap();
    let (mut keys, mut said) = (Keys::default(), Said::default());
    let scene = live(rota, &upstream, &mut keys, &mut said).await;
    let mut operator = rota.operator().await;
    let mut secrets = vec![rota.operator_token().await.to_owned(), scene.token.clone()];
    for role in [Role::TenantAdmin, Role::Invoker, Role::Viewer] {
        let secret = create_token(&mut operator, &scene.tenant, role).await;
        let list = ListProvidersRequest::default();
        said.answer(rota.clients(&secret).await.config.list_providers(list).await);
        secrets.push(secret);
    }
    said.answer(operator.admin.list_tokens(ListTokensRequest::default()).await);
    for tenant_id in [scene.tenant.clone(), "nobody".to_owned()] {
        said.answer(operator.admin.rotate_tenant_key(RotateTenantKeyRequest { tenant_id }).await);
    }
    let rotated = rota.output(&["keys", "rotate", "--log", "trace"]);
    assert!(rotated.status.success());
    said.note([rotated.stdout, rotated.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()));
    said.note(rota::api::pb::FILE_DESCRIPTOR_SET.escape_ascii().to_string());

    let mut needles = keys.needles();
    assert!(needles.len() > 200);
    // Without the ends: what is left of a secret that was cut.
    needles.extend(secrets.iter().map(|secret| secret[12..44].to_owned()));
    needles.extend(secrets.iter().flat_map(|secret| in_base64(&secret[12..44])));
    needles.push(master_key[4..40].to_owned());
    nowhere_in("an answer", &said.0, &needles, "marked-credential");
    nowhere_in("the log", &rota.logs(), &needles, "TRACE");
    let everything = eventually(Duration::from_secs(5), async || {
        let everything = redis.everything().await;
        if everything.contains("rota") { Ok(everything) } else { Err(everything) }
    })
    .await;
    nowhere_in("Redis", &everything, &needles, "rota");
    needles
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_leaves_sqlite() {
    let redis = Redis::start().await;
    let rota = Rota::builder().redis(redis.url()).arg("--log").arg("trace").start().await;
    let master_key = fs::read_to_string(rota.data_dir().join("master-key")).unwrap();
    let needles = told(&rota, &redis, &master_key).await;
    let mut all = String::new();
    for file in fs::read_dir(rota.data_dir()).unwrap().map(|file| file.unwrap().path()) {
        // Those two are where they belong.
        let kept = ["operator-token", "master-key"].map(|name| rota.data_dir().join(name));
        if !kept.contains(&file) && file.is_file() {
            all += &String::from_utf8_lossy(&fs::read(&file).unwrap());
        }
    }
    nowhere_in("the database", &all, &needles, "marked-config");
    nowhere_in("the database", &all, &needles, "marked-credential");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_leaves_postgres_nor_stands_in_a_json_log() {
    let (redis, postgres) = (Redis::start().await, Postgres::shared().await);
    let url = postgres.fresh_database();
    let master_key = BASE64_STANDARD.encode(rand::random::<[u8; 32]>());
    let rota = Rota::builder().redis(redis.url()).database(&url).env("ROTA_MASTER_KEY", &master_key);
    let rota = rota.arg("--log").arg("trace").arg("--log-format").arg("json").start().await;
    let needles = told(&rota, &redis, &master_key).await;
    assert_eq!(postgres.found(&url, &needles), [] as [String; 0]);
    assert!(postgres.holds(&url, "marked-config") && postgres.holds(&url, "marked-credential"));
    let log = rota.logs();
    let line = log.lines().find(|line| line.contains("TRACE")).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
}
