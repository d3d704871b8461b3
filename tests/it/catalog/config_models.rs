//! Models, default models and what they are called with, through the API, on both databases.

use rota::{
    api::pb::{
        ActivateCredentialRequest, DeleteModelRequest, DisableModelRequest, EnableModelRequest,
        GetDefaultModelRequest, GetDefaultModelResponse, GetModelRequest, InvokeLlmRequest,
        ListModelsRequest, Model, ModelKey, ModelType, Provider, PutModelRequest, SetDefaultModelRequest,
    },
    scripted::Upstream,
};
use tonic::Code;

use crate::{
    catalog::config::{create, openai, update},
    support::{
        refusal::{invalid_fields, refused},
        rota::{Rota, on_both_databases},
        world::{Scene, config, hi},
    },
};

on_both_databases!(
    models_are_put_listed_and_deleted,
    models_and_providers_are_switched_off_and_on,
    the_default_model_is_computed_until_it_is_set,
    without_a_credential_nothing_can_be_called,
    the_active_credential_serves_at_once,
);

async fn models_are_put_listed_and_deleted(rota: &'static Rota) {
    let mut scene = Scene::tenant(rota).await;
    scene.add_model("http://127.0.0.1:9/v1").await;
    let mut client = scene.clients.config.clone();
    let put = async |model: Model| {
        let answer = scene.clients.config.clone().put_model(PutModelRequest { model: Some(model) }).await;
        answer.map(|answer| answer.into_inner().model.unwrap())
    };
    let key = |name: &str| ModelKey { model: name.to_owned(), ..scene.key.clone() };
    let sent = Model { upstream_model: "their-name".to_owned(), ..Model::default() };
    let created = put(Model { key: Some(key("Ünusual/name:1 (x)")), ..sent.clone() }).await.unwrap();
    let expected = Model {
        key: Some(key("Ünusual/name:1 (x)")),
        enabled: Some(true),
        load_balancing_enabled: false,
        // Nothing is set: everything has its default.
        policy: created.policy,
        revision: 1,
        ..sent
    };
    assert_eq!(created, expected);
    assert_eq!(created.policy.unwrap().attempt_timeout, None);
    let get = GetModelRequest { key: created.key.clone() };
    assert_eq!(client.get_model(get.clone()).await.unwrap().into_inner().model.unwrap(), created);
    let replaced = Model { upstream_model: "other".to_owned(), enabled: Some(false), ..created.clone() };
    let replaced_answer = put(replaced.clone()).await.unwrap();
    assert_eq!(replaced_answer, Model { revision: 2, ..replaced.clone() });
    refused(put(replaced).await, Code::Aborted, "STALE_REVISION");
    // `enabled` left out stays as it was.
    let third = put(Model { key: created.key.clone(), ..Model::default() }).await.unwrap();
    assert_eq!((third.enabled, third.upstream_model.as_str(), third.revision), (Some(false), "", 3));

    create(&scene, openai(&scene, "aaa")).await.unwrap();
    let other = ModelKey { provider: "aaa".to_owned(), ..key("z") };
    scene.put_model(&other).await;
    let embedding = ModelKey { model_type: ModelType::TextEmbedding.into(), ..key("a") };
    scene.put_model(&embedding).await;
    let list = async |request: ListModelsRequest| {
        let page = scene.clients.config.clone().list_models(request).await.unwrap().into_inner();
        let keys = page.models.into_iter().map(|model| model.key.unwrap().model).collect::<Vec<_>>();
        (keys, page.next_page_token)
    };
    let by_provider = ListModelsRequest { provider: scene.provider.clone(), ..Default::default() };
    assert_eq!(list(by_provider.clone()).await.0.len(), 3);
    let embeddings = ListModelsRequest { model_type: ModelType::TextEmbedding.into(), ..by_provider };
    assert_eq!(list(embeddings).await.0, ["a"]);
    let (all, next) = list(ListModelsRequest::default()).await;
    assert!(next.is_empty());
    assert_eq!((all.len(), all[0].as_str()), (4, "z"), "by provider first");
    let (mut paged, mut page_token) = (Vec::new(), String::new());
    loop {
        let (page, next) = list(ListModelsRequest { page_size: 1, page_token, ..Default::default() }).await;
        paged.extend(page);
        page_token = next;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, all);

    // Its configs and its own credentials go with it; the provider's stay.
    scene.create_credential("provider's", "k").await;
    scene.create_model_credential("model's", "k").await;
    scene.save(vec![config("one", "k1"), config("two", "k2")]).await.unwrap();
    client.delete_model(DeleteModelRequest { key: Some(scene.key.clone()) }).await.unwrap();
    let missing = client.get_model(GetModelRequest { key: Some(scene.key.clone()) }).await;
    let missing = refused(missing, Code::NotFound, "MODEL_NOT_FOUND");
    assert_eq!(missing.resource, Some(("model".to_owned(), "chat".to_owned())));
    refused(scene.ask().await, Code::NotFound, "MODEL_NOT_FOUND");
    let left = scene.listing().await;
    assert_eq!(left.credentials.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["provider's"]);
    scene.put_model(&scene.key).await;
    let left = scene.set_of("").await;
    assert!(!left.configs.iter().any(|config| config.id != "__inherit__"), "{left:?}");
}

async fn models_and_providers_are_switched_off_and_on(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let mut client = scene.clients.config.clone();
    scene.ask().await.unwrap();
    let key = Some(scene.key.clone());
    let off = client.disable_model(DisableModelRequest { key: key.clone() }).await.unwrap();
    assert_eq!(off.into_inner().model.unwrap().enabled, Some(false));
    refused(scene.ask().await, Code::FailedPrecondition, "MODEL_DISABLED");
    refused(scene.ask_stream().await, Code::FailedPrecondition, "MODEL_DISABLED");
    let on = client.enable_model(EnableModelRequest { key }).await.unwrap().into_inner().model.unwrap();
    assert_eq!((on.enabled, on.load_balancing_enabled), (Some(true), true));
    scene.ask().await.unwrap();
    let provider =
        |enabled| Provider { enabled: Some(enabled), name: scene.provider.clone(), ..Default::default() };
    update(&scene, provider(false), None).await.unwrap();
    refused(scene.ask().await, Code::FailedPrecondition, "MODEL_DISABLED");
    update(&scene, provider(true), None).await.unwrap();
    scene.ask().await.unwrap();
    assert_eq!(upstream.total_hits(), 3);
}

async fn the_default_model_is_computed_until_it_is_set(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::tenant(rota).await;
    let mut client = scene.clients.config.clone();
    let of_type = |model_type: ModelType| GetDefaultModelRequest {
        tenant_id: scene.tenant.clone(),
        model_type: model_type.into(),
    };
    let none = client.get_default_model(of_type(ModelType::Llm)).await;
    refused(none, Code::NotFound, "MODEL_NOT_FOUND");
    let none = client.get_default_model(of_type(ModelType::Unspecified)).await;
    assert_eq!(invalid_fields(none), ["model_type"]);
    let request = of_type(ModelType::Llm);
    scene.add_model(&upstream.base_url()).await;
    scene.create_credential("one", "key-one").await;
    let (chat, early) = (scene.key.clone(), ModelKey { model: "aaa".to_owned(), ..scene.key.clone() });
    let default =
        async || scene.clients.config.clone().get_default_model(request.clone()).await.unwrap().into_inner();
    let is = |key: &ModelKey, computed| GetDefaultModelResponse { key: Some(key.clone()), computed };
    assert_eq!(default().await, is(&chat, true));
    scene.put_model(&early).await;
    assert_eq!(default().await, is(&early, true));
    // Computed, it follows what is active.
    client.disable_model(DisableModelRequest { key: Some(early.clone()) }).await.unwrap();
    assert_eq!(default().await, is(&chat, true));
    let disabled = client.set_default_model(SetDefaultModelRequest { key: Some(early.clone()) }).await;
    assert_eq!(invalid_fields(disabled), ["key.model"]);
    client.enable_model(EnableModelRequest { key: Some(early.clone()) }).await.unwrap();
    assert_eq!(default().await, is(&early, true));

    client.set_default_model(SetDefaultModelRequest { key: Some(chat.clone()) }).await.unwrap();
    assert_eq!(default().await, is(&chat, false));
    // A call that names no model gets it.
    let call = InvokeLlmRequest { messages: vec![hi()], ..Default::default() };
    let answer = scene.clients.invoke.clone().invoke_llm(call).await.unwrap().into_inner();
    assert_eq!(answer.route.unwrap().model, "chat");
    let half = InvokeLlmRequest {
        key: Some(ModelKey { model: "chat".to_owned(), ..ModelKey::default() }),
        messages: vec![hi()],
        ..Default::default()
    };
    assert_eq!(invalid_fields(scene.clients.invoke.clone().invoke_llm(half).await), ["key.provider"]);
    let in_use = client.delete_model(DeleteModelRequest { key: Some(chat.clone()) }).await;
    let in_use = refused(in_use, Code::FailedPrecondition, "IN_USE");
    assert_eq!(in_use.resource, Some(("model".to_owned(), "chat".to_owned())));
    client.set_default_model(SetDefaultModelRequest { key: Some(early.clone()) }).await.unwrap();
    assert_eq!(default().await, is(&early, false));
    client.delete_model(DeleteModelRequest { key: Some(chat) }).await.unwrap();
}

async fn without_a_credential_nothing_can_be_called(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::tenant(rota).await;
    // A kind that needs a key.
    let provider = Provider { base_url: upstream.base_url(), ..openai(&scene, &scene.provider) };
    create(&scene, provider).await.unwrap();
    scene.put_model(&scene.key).await;
    refused(scene.ask().await, Code::FailedPrecondition, "CREDENTIALS_NOT_CONFIGURED");
    refused(scene.ask_stream().await, Code::FailedPrecondition, "CREDENTIALS_NOT_CONFIGURED");
    assert_eq!(upstream.total_hits(), 0);
    scene.create_credential("one", "key-one").await;
    scene.ask().await.unwrap();
    assert_eq!(upstream.hits("key-one"), 1);
    // One that needs none is called without.
    let mut open = Scene::tenant(rota).await;
    open.add_model(&upstream.base_url()).await;
    open.ask().await.unwrap();
    assert_eq!(upstream.hits(""), 1);
}

async fn the_active_credential_serves_at_once(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::tenant(rota).await;
    scene.add_model(&upstream.base_url()).await;
    let served_with = async || {
        scene.ask().await.unwrap();
        upstream.requests().pop().unwrap().key
    };
    let first = scene.create_credential("first", "key-first").await;
    let second = scene.create_credential("second", "key-second").await;
    assert_eq!(served_with().await, "key-first");
    let mut client = scene.clients.config.clone();
    let activate = |id: &str| ActivateCredentialRequest {
        tenant_id: String::new(),
        provider: scene.provider.clone(),
        id: id.to_owned(),
    };
    client.activate_credential(activate(&second.id)).await.unwrap();
    assert_eq!(served_with().await, "key-second");
    // The model's own goes before the provider's.
    scene.create_model_credential("own", "key-own").await;
    assert_eq!(served_with().await, "key-own");
    client.activate_credential(activate(&first.id)).await.unwrap();
    assert_eq!(served_with().await, "key-own");
}
