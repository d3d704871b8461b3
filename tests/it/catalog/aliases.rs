//! Aliases through the API: set, listed, called by in every RPC, over replicas and without the database.

use std::{collections::BTreeSet, time::Duration};

use rota::{
    api::pb::{
        AcquireRequest, CountTokensRequest, DeleteModelAliasRequest, DeleteModelRequest, DisableModelRequest,
        ExplainRequest, ForwardRequest, GetConfigurationsRequest, InvokeLlmRequest, InvokeModerationRequest,
        InvokeRerankRequest, InvokeSpeechToTextRequest, InvokeTextEmbeddingRequest, InvokeTtsRequest,
        ListModelAliasesRequest, ListTtsVoicesRequest, ModelAlias, ModelKey, ModelType, PutModelAliasRequest,
        Role, StreamLlmRequest,
    },
    scripted::Upstream,
};
use tonic::{Code, Status};

use crate::support::{
    eventually,
    postgres::Postgres,
    raw::{Raw, rpcs},
    redis::Redis,
    refusal::{invalid_fields, refused},
    rota::{Rota, on_both_databases},
    stage::{Case, case},
    world::{Scene, create_token, hi},
};

on_both_databases!(
    aliases_are_put_listed_and_deleted,
    every_call_takes_an_alias,
    an_alias_is_its_tenants_alone,
    a_whole_configuration_has_its_aliases,
);

impl Scene {
    async fn put_alias(&self, alias: ModelAlias) -> Result<ModelAlias, Status> {
        let request = PutModelAliasRequest { alias: Some(alias) };
        let answer = self.clients.config.clone().put_model_alias(request).await?;
        Ok(answer.into_inner().alias.expect("an alias"))
    }

    /// Points an alias at that model.
    async fn alias(&self, name: &str, target: &ModelKey) -> ModelAlias {
        let target = Some(target.clone());
        let alias = ModelAlias { name: name.to_owned(), target, ..ModelAlias::default() };
        self.put_alias(alias).await.expect("PutModelAlias")
    }

    /// The model that answers a call by that alias.
    async fn answers(&self, alias: &str) -> Result<String, Status> {
        let request =
            InvokeLlmRequest { key: Some(named(alias)), messages: vec![hi()], ..Default::default() };
        Ok(self.send(request).await?.route.expect("a route").model)
    }
}

fn named(alias: &str) -> ModelKey {
    ModelKey { model: alias.to_owned(), ..ModelKey::default() }
}

async fn aliases_are_put_listed_and_deleted(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::tenant(rota).await;
    scene.add_model(&upstream.base_url()).await;
    let mut client = scene.clients.config.clone();
    let other = ModelKey { model: "other".to_owned(), ..scene.key.clone() };
    scene.put_model(&other).await;

    // The long name of a provider, and a target without its tenant.
    let target = ModelKey {
        tenant_id: String::new(),
        provider: format!("langgenius/{0}/{0}", scene.provider),
        ..scene.key.clone()
    };
    let made = scene.alias("Ünusual/name:1 (x)", &target).await;
    let stored = ModelAlias {
        tenant_id: scene.tenant.clone(),
        name: "Ünusual/name:1 (x)".to_owned(),
        target: Some(scene.key.clone()),
        revision: 1,
    };
    assert_eq!(made, stored);
    assert_eq!(scene.answers(&made.name).await.unwrap(), "chat");
    let moved = scene.put_alias(ModelAlias { target: Some(other.clone()), ..made.clone() }).await.unwrap();
    assert_eq!(moved, ModelAlias { target: Some(other.clone()), revision: 2, ..made.clone() });
    assert_eq!(scene.answers(&made.name).await.unwrap(), "other");
    refused(scene.put_alias(made.clone()).await, Code::Aborted, "STALE_REVISION");
    let own = ModelAlias { name: format!("{}/chat", scene.provider), revision: 0, ..made.clone() };
    let taken = refused(scene.put_alias(own.clone()).await, Code::AlreadyExists, "ALREADY_EXISTS");
    assert_eq!(taken.resource, Some(("model".to_owned(), own.name)));
    let later = scene.alias(&format!("{}/later", scene.provider), &other).await;
    let model = rota::api::pb::Model {
        key: Some(ModelKey { model: "later".to_owned(), ..other.clone() }),
        ..Default::default()
    };
    let put = client.put_model(rota::api::pb::PutModelRequest { model: Some(model) }).await;
    let taken = refused(put, Code::AlreadyExists, "ALREADY_EXISTS");
    assert_eq!(taken.resource, Some(("alias".to_owned(), later.name.clone())));

    for name in ["b", "a"] {
        scene.alias(name, &other).await;
    }
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListModelAliasesRequest { page_size: 1, page_token, ..Default::default() };
        let page = client.list_model_aliases(request).await.unwrap().into_inner();
        assert!(page.aliases.len() <= 1);
        listed.extend(page.aliases.into_iter().map(|alias| alias.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let sorted: BTreeSet<_> = ["a", "b", &later.name, &made.name].map(ToOwned::to_owned).into();
    assert_eq!((listed.len(), listed.iter().cloned().collect()), (4, sorted));
    assert_eq!(listed[..2], ["a", "b"]);

    let in_use = client.delete_model(DeleteModelRequest { key: Some(other.clone()) }).await;
    refused(in_use, Code::FailedPrecondition, "IN_USE");
    client.disable_model(DisableModelRequest { key: Some(other.clone()) }).await.unwrap();
    refused(scene.answers("a").await, Code::FailedPrecondition, "MODEL_DISABLED");
    for name in listed {
        let request = DeleteModelAliasRequest { name, ..Default::default() };
        client.delete_model_alias(request.clone()).await.unwrap();
        refused(client.delete_model_alias(request).await, Code::NotFound, "ALIAS_NOT_FOUND");
    }
    assert_eq!(invalid_fields(scene.answers("a").await), ["key.provider"]);
    client.delete_model(DeleteModelRequest { key: Some(other) }).await.unwrap();
    // Only calls take aliases.
    scene.alias("chat", &scene.key).await;
    let get = rota::api::pb::GetModelRequest { key: Some(named("chat")) };
    assert_eq!(invalid_fields(client.get_model(get).await), ["key.model_type"]);
    let key = Some(ModelKey { model_type: ModelType::Llm.into(), ..named("chat") });
    let get = rota::api::pb::GetModelRequest { key };
    assert_eq!(invalid_fields(client.get_model(get).await), ["key.provider"]);
}

/// A request of every RPC of InvokeService that names a model. It names the alias of its type.
fn calls(alias: impl Fn(ModelType) -> String) -> Vec<Case> {
    let key = |of: ModelType| Some(ModelKey { model_type: of.into(), ..named(&alias(of)) });
    let text = || "text".to_owned();
    vec![
        case(
            "InvokeService/InvokeLlm",
            &InvokeLlmRequest { key: key(ModelType::Llm), messages: vec![hi()], ..Default::default() },
        ),
        case(
            "InvokeService/StreamLlm",
            &StreamLlmRequest { key: key(ModelType::Llm), messages: vec![hi()], ..Default::default() },
        ),
        case(
            "InvokeService/InvokeTextEmbedding",
            &InvokeTextEmbeddingRequest {
                key: key(ModelType::TextEmbedding),
                texts: vec![text()],
                ..Default::default()
            },
        ),
        case(
            "InvokeService/InvokeRerank",
            &InvokeRerankRequest {
                key: key(ModelType::Rerank),
                query: text(),
                documents: vec![text()],
                ..Default::default()
            },
        ),
        case(
            "InvokeService/InvokeModeration",
            &InvokeModerationRequest { key: key(ModelType::Moderation), text: text(), ..Default::default() },
        ),
        case(
            "InvokeService/InvokeSpeechToText",
            &InvokeSpeechToTextRequest {
                key: key(ModelType::SpeechToText),
                audio: b"audio".to_vec(),
                ..Default::default()
            },
        ),
        case(
            "InvokeService/InvokeTts",
            &InvokeTtsRequest { key: key(ModelType::Tts), text: text(), ..Default::default() },
        ),
        case(
            "InvokeService/ListTtsVoices",
            &ListTtsVoicesRequest { key: key(ModelType::Tts), ..Default::default() },
        ),
        case(
            "InvokeService/CountTokens",
            &CountTokensRequest { key: key(ModelType::Llm), texts: vec![text()], ..Default::default() },
        ),
        case(
            "InvokeService/Forward",
            &ForwardRequest {
                key: key(ModelType::Llm),
                method: "GET".to_owned(),
                path: "models".to_owned(),
                ..Default::default()
            },
        ),
        case("InvokeService/Acquire", &AcquireRequest { key: key(ModelType::Llm), ..Default::default() }),
        case("InvokeService/Explain", &ExplainRequest { key: key(ModelType::Llm), ..Default::default() }),
    ]
}

async fn every_call_takes_an_alias(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::tenant(rota).await;
    scene.add_model(&upstream.base_url()).await;
    scene.create_credential("one", "key-one").await;
    let types = [
        ModelType::Llm,
        ModelType::TextEmbedding,
        ModelType::Rerank,
        ModelType::Moderation,
        ModelType::SpeechToText,
        ModelType::Tts,
    ];
    let alias = |of: ModelType| format!("alias of {of:?}");
    for of in types {
        let key = ModelKey { model_type: of.into(), ..scene.key.clone() };
        scene.put_model(&key).await;
        scene.alias(&alias(of), &key).await;
    }
    let raw = Raw::new(&scene.clients);
    let serving = calls(alias);
    let covered: BTreeSet<_> = serving.iter().map(|(rpc, _)| (*rpc).to_owned()).collect();
    let by_lease = ["InvokeService/RenewLease", "InvokeService/Release"];
    let contract = rpcs().into_iter().map(|(rpc, _)| rpc).filter(|rpc| rpc.starts_with("InvokeService/"));
    let named: BTreeSet<_> = contract.filter(|rpc| !by_lease.contains(&rpc.as_str())).collect();
    assert_eq!(covered, named, "every RPC that names a model is here");
    for (rpc, request) in serving {
        let answer = raw.call(rpc, request).await;
        assert!(answer.is_ok_and(|answer| !answer.is_empty()), "{rpc}");
    }
    let asked = upstream.requests();
    assert!(asked.iter().all(|request| request.body.get("model").is_none_or(|model| model == "chat")));
    // One of another type is told by its field.
    let wrong = calls(|of| alias(if of == ModelType::Llm { ModelType::Tts } else { ModelType::Llm }));
    for (rpc, request) in wrong {
        assert_eq!(invalid_fields(raw.call(rpc, request).await), ["key.model"], "{rpc}");
    }
    for (rpc, request) in calls(|_| "nothing".to_owned()) {
        assert_eq!(invalid_fields(raw.call(rpc, request).await), ["key.provider"], "{rpc}");
    }
    assert_eq!(upstream.requests().len(), asked.len());
}

async fn an_alias_is_its_tenants_alone(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let (mine, theirs) = (Scene::set(rota, &upstream, 2).await, Scene::set(rota, &upstream, 2).await);
    theirs.alias("fast", &theirs.key).await;
    assert_eq!(invalid_fields(mine.answers("fast").await), ["key.provider"]);
    let key = ModelKey { tenant_id: theirs.tenant.clone(), ..named("fast") };
    let call = InvokeLlmRequest { key: Some(key), messages: vec![hi()], ..Default::default() };
    refused(mine.send(call).await, Code::NotFound, "TENANT_NOT_FOUND");
    let foreign =
        ModelAlias { name: "fast".to_owned(), target: Some(theirs.key.clone()), ..ModelAlias::default() };
    refused(mine.put_alias(foreign.clone()).await, Code::NotFound, "TENANT_NOT_FOUND");
    let foreign = ModelAlias { tenant_id: theirs.tenant.clone(), ..foreign };
    refused(mine.put_alias(foreign).await, Code::NotFound, "TENANT_NOT_FOUND");
    let mut client = mine.clients.config.clone();
    let list = ListModelAliasesRequest { tenant_id: theirs.tenant.clone(), ..Default::default() };
    refused(client.list_model_aliases(list).await, Code::NotFound, "TENANT_NOT_FOUND");
    let delete = DeleteModelAliasRequest { tenant_id: theirs.tenant.clone(), name: "fast".to_owned() };
    refused(client.delete_model_alias(delete).await, Code::NotFound, "TENANT_NOT_FOUND");
    // The same name means another model for another tenant.
    mine.alias("fast", &mine.key).await;
    mine.answers("fast").await.unwrap();
    assert_eq!((mine.hits(&upstream).iter().sum(), theirs.hits(&upstream).iter().sum()), (1_u64, 0_u64));

    // Viewers read them, invokers call by them, neither changes them.
    let mut operator = rota.operator().await;
    for (role, reads, calls) in [(Role::Viewer, true, false), (Role::Invoker, false, true)] {
        let token = create_token(&mut operator, &mine.tenant, role).await;
        let scene = Scene { clients: rota.clients(&token).await, ..mine.clone() };
        let list = scene.clients.config.clone().list_model_aliases(ListModelAliasesRequest::default()).await;
        assert_eq!((list.is_ok(), scene.answers("fast").await.is_ok()), (reads, calls), "{role:?}");
        let alias =
            ModelAlias { name: "new".to_owned(), target: Some(scene.key.clone()), ..ModelAlias::default() };
        refused(scene.put_alias(alias).await, Code::PermissionDenied, "ROLE_NOT_ALLOWED");
    }
}

async fn a_whole_configuration_has_its_aliases(rota: &'static Rota) {
    let mut scene = Scene::tenant(rota).await;
    scene.add_model("http://127.0.0.1:9/v1").await;
    scene.add_credential("main", "key").await;
    let mut aliases = Vec::new();
    for name in ["c", "a", "b"] {
        aliases.push(scene.alias(name, &scene.key).await);
    }
    for size in 1..8 {
        let (mut found, mut pages, mut page_token) = (Vec::new(), 0, String::new());
        loop {
            let request = GetConfigurationsRequest { page_size: size, page_token, ..Default::default() };
            let page = scene.clients.config.get_configurations(request).await.unwrap().into_inner();
            let length =
                page.providers.len() + page.credentials.len() + page.models.len() + page.aliases.len();
            assert!(length <= usize::try_from(size).unwrap(), "{length} of {size}");
            found.extend(page.aliases);
            (pages, page_token) = (pages + 1, page.next_page_token);
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(found, aliases, "pages of {size}");
        assert_eq!(pages, 6_i32.div_euclid(size) + i32::from(6 % size > 0), "no page is empty");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_set_at_one_replica_is_served_by_the_other_and_without_the_database() {
    let mut postgres = Postgres::start().await;
    let settings = Rota::builder().redis(Redis::shared().await.url()).database(postgres.fresh_database());
    let replicas = [settings.start().await, settings.start().await];
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(&replicas[0], &upstream, 2).await;
    let there = scene.through(&replicas[1]).await;
    let other = ModelKey { model: "other".to_owned(), ..scene.key.clone() };
    scene.put_model(&other).await;
    scene.create_credential("one", "key-one").await;
    for turn in 0..10 {
        let name = format!("alias-{turn}");
        scene.alias(&name, &scene.key).await;
        assert_eq!(there.answers(&name).await.unwrap(), "chat", "at once");
    }
    scene.alias("alias-0", &other).await;
    let request = DeleteModelAliasRequest { name: "alias-1".to_owned(), ..Default::default() };
    scene.clients.config.clone().delete_model_alias(request).await.unwrap();
    crate::support::until("the changes of aliases", async || {
        there.answers("alias-0").await.is_ok_and(|model| model == "other")
            && there.answers("alias-1").await.is_err()
    })
    .await;

    postgres.crash();
    assert_eq!(there.answers("alias-0").await.unwrap(), "other");
    assert_eq!(scene.answers("alias-2").await.unwrap(), "chat");
    // Another replica may have set it since.
    refused(there.answers("alias-1").await, Code::Unavailable, "DATABASE_UNAVAILABLE");
    postgres.restart().await;
    eventually(Duration::from_secs(30), async || match there.answers("alias-1").await {
        Err(status) if status.code() == Code::InvalidArgument => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}
