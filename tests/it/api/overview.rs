//! Reads over many things: what this build can talk to, a tenant's whole configuration, a provider with its models; and
//! trials of credentials.

use std::time::Duration;

use rota::{
    api::pb::{
        CreateProviderRequest, ErrorClass, GetConfigurationsRequest, GetConfigurationsResponse,
        GetProviderModelBundleRequest, ListProviderKindsRequest, Model, ModelKey, ModelType, Provider,
        PutModelRequest, SetDefaultModelRequest, ValidateCredentialRequest, ValidateCredentialResponse,
    },
    scripted::{Script, Upstream},
};
use tonic::{Code, Status};

use crate::support::{
    listing::api_key_field,
    refusal::{invalid_fields, refused},
    rota::Rota,
    world::Scene,
};

#[tokio::test(flavor = "multi_thread")]
async fn kinds_tell_what_a_credential_needs() {
    let mut scene = Scene::tenant(Rota::shared().await).await;
    let kinds = scene.clients.config.list_provider_kinds(ListProviderKindsRequest {}).await.unwrap();
    let kinds = kinds.into_inner().kinds;
    let kind = |name: &str| kinds.iter().find(|kind| kind.kind == name).unwrap();
    for (name, required) in [("openai", true), ("openai_compatible", false)] {
        let kind = kind(name);
        let key = kind.credential_fields.iter().find(|field| field.name == "api_key").unwrap();
        assert!(key.secret && key.required == required && key.max_length > 0, "{key:?}");
        assert!(!kind.display_name.is_empty() && !key.label.is_empty());
        assert!(kind.model_types.contains(&ModelType::Llm.into()));
        assert!(kind.rpcs.contains(&"StreamLlm".to_owned()));
    }
    assert!(kind("openai").model_types.contains(&ModelType::Tts.into()));
    // Whatever type of model a kind has, an RPC calls it.
    for kind in &kinds {
        for model_type in kind.model_types() {
            let rpc = match model_type {
                ModelType::Unspecified => panic!("{} lists no type", kind.kind),
                ModelType::Llm => "InvokeLlm",
                ModelType::TextEmbedding => "InvokeTextEmbedding",
                ModelType::Rerank => "InvokeRerank",
                ModelType::Moderation => "InvokeModeration",
                ModelType::SpeechToText => "InvokeSpeechToText",
                ModelType::Tts => "InvokeTts",
            };
            assert!(kind.rpcs.contains(&rpc.to_owned()), "{}: {rpc} is not in {:?}", kind.kind, kind.rpcs);
        }
    }
    assert_eq!(kind("openai").default_base_url, "https://api.openai.com/v1");
    assert!(kind("openai_compatible").default_base_url.is_empty());
}

async fn page(scene: &Scene, size: i32, token: &str) -> GetConfigurationsResponse {
    let request =
        GetConfigurationsRequest { page_size: size, page_token: token.to_owned(), ..Default::default() };
    scene.clients.config.clone().get_configurations(request).await.unwrap().into_inner()
}

/// Three providers with a credential, two models and two configs each.
async fn a_tenant_with_much(rota: &Rota) -> Scene {
    let mut scene = Scene::tenant(rota).await;
    for name in ["one", "two", "three"] {
        scene.provider = name.to_owned();
        scene.key.provider = name.to_owned();
        scene.add_model("http://127.0.0.1:9/v1").await;
        scene.add_credential("main", &format!("sk-overview-{name}-0000000001")).await;
        scene.add_configs(2).await;
        let key = Some(ModelKey { model: "second".into(), ..scene.key.clone() });
        let model = Model { key, ..Model::default() };
        scene.clients.config.put_model(PutModelRequest { model: Some(model) }).await.unwrap();
    }
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_whole_configuration_is_read_at_once_or_page_by_page() {
    for rota in [Rota::shared().await, Rota::on_postgres().await] {
        let mut scene = a_tenant_with_much(rota).await;
        let request = SetDefaultModelRequest { key: Some(scene.key.clone()) };
        scene.clients.config.set_default_model(request).await.unwrap();
        let whole = page(&scene, 1000, "").await;
        let names: Vec<_> = whole.providers.iter().map(|provider| provider.name.as_str()).collect();
        assert_eq!(names, ["one", "two", "three"]);
        assert!(whole.providers.iter().all(|provider| !provider.active_credential_id.is_empty()));
        assert_eq!(whole.credentials[0].fields["api_key"], "sk-ove************01");
        assert_eq!(whole.models.len(), 6);
        // A saved set has what was saved; where none was, there is the provider's own.
        assert_eq!(whole.models[0].configs.len(), 2);
        assert_eq!(whole.models[1].configs.len(), 1);
        assert_eq!(whole.models[1].configs[0].id, "__inherit__");
        let defaults: Vec<_> = whole.default_models.iter().map(|default| default.computed).collect();
        assert_eq!(defaults, [false]);
        assert!(whole.next_page_token.is_empty());
        assert!(!format!("{whole:?}").contains("overview"), "no secret");

        for size in [1, 2, 3, 4, 5, 7] {
            let mut read = GetConfigurationsResponse::default();
            loop {
                let next = page(&scene, size, &read.next_page_token).await;
                let length = next.providers.len() + next.credentials.len() + next.models.len();
                assert!(length <= usize::try_from(size).unwrap(), "{length} of {size}");
                read.providers.extend(next.providers);
                read.credentials.extend(next.credentials);
                read.models.extend(next.models);
                read.default_models.extend(next.default_models);
                read.next_page_token = next.next_page_token;
                if read.next_page_token.is_empty() {
                    break;
                }
            }
            assert_eq!(read, whole, "pages of {size}");
        }
        let bad = GetConfigurationsRequest { page_token: "bm90".into(), ..Default::default() };
        assert_eq!(invalid_fields(scene.clients.config.get_configurations(bad).await), ["page_token"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_a_provider_with_what_its_calls_use() {
    let mut scene = a_tenant_with_much(Rota::shared().await).await;
    let own = scene.create_model_credential("own", "sk-model-own-00000000001").await;
    let ask = |provider: &str, model_type: ModelType, size| GetProviderModelBundleRequest {
        provider: provider.to_owned(),
        model_type: model_type.into(),
        page_size: size,
        ..Default::default()
    };
    let client = &mut scene.clients.config;
    let bundle =
        client.get_provider_model_bundle(ask("three", ModelType::Llm, 0)).await.unwrap().into_inner();
    assert_eq!(bundle.kind.unwrap().kind, "openai_compatible");
    let credential = bundle.credential.unwrap();
    assert_eq!(credential.id, bundle.provider.unwrap().active_credential_id);
    assert_eq!(credential.fields["api_key"], "sk-ove************01");
    let used: Vec<_> = bundle.models.iter().map(|model| model.credential_id.clone()).collect();
    assert_eq!(used, [own.id, credential.id]);
    let first = client.get_provider_model_bundle(ask("three", ModelType::Llm, 1)).await.unwrap().into_inner();
    assert_eq!(first.models, bundle.models[..1]);
    let rest = GetProviderModelBundleRequest {
        page_token: first.next_page_token,
        ..ask("three", ModelType::Llm, 1)
    };
    let rest = client.get_provider_model_bundle(rest).await.unwrap().into_inner();
    assert_eq!((rest.models.as_slice(), rest.next_page_token.as_str()), (&bundle.models[1..], ""));

    let none = client.get_provider_model_bundle(ask("three", ModelType::TextEmbedding, 0)).await.unwrap();
    assert!(none.into_inner().models.is_empty());
    let missing = client.get_provider_model_bundle(ask("four", ModelType::Llm, 0)).await;
    refused(missing, Code::NotFound, "PROVIDER_NOT_FOUND");
    let untyped = client.get_provider_model_bundle(ask("three", ModelType::Unspecified, 0)).await;
    assert_eq!(invalid_fields(untyped), ["model_type"]);
}

async fn validate(
    scene: &Scene,
    id: &str,
    api_key: Option<&str>,
) -> Result<ValidateCredentialResponse, Status> {
    let fields = api_key.map(api_key_field).unwrap_or_default();
    let provider = scene.provider.clone();
    let request = ValidateCredentialRequest { provider, id: id.to_owned(), fields, ..Default::default() };
    Ok(scene.clients.config.clone().validate_credential(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_tried_at_the_real_provider_and_nothing_is_stored() {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::tenant(Rota::shared().await).await;
    scene.add_model(&upstream.base_url()).await;
    let id = scene.add_credential("main", "good-key-000000000000").await;
    let before = page(&scene, 1000, "").await;
    upstream.script("bad-key", Script::fail(401));
    upstream.script("limited-key", Script::fail(429));

    let good = validate(&scene, &id, None).await.unwrap();
    assert!(good.valid && good.error_class() == ErrorClass::Unspecified && good.message.is_empty());
    assert!(good.latency.is_some());
    assert!(validate(&scene, "", Some("good-key-000000000000")).await.unwrap().valid);
    assert!(validate(&scene, &id, Some("[__HIDDEN__]")).await.unwrap().valid);
    assert_eq!(upstream.hits("good-key-000000000000"), 3);
    for (key, class) in [("bad-key", ErrorClass::Authentication), ("limited-key", ErrorClass::RateLimited)] {
        for id in ["", &id] {
            let bad = validate(&scene, id, Some(key)).await.unwrap();
            assert_eq!((bad.valid, bad.error_class()), (false, class));
            assert!(!bad.message.contains(key), "{}", bad.message);
        }
    }
    assert_eq!(page(&scene, 1000, "").await, before, "nothing is stored");

    refused(validate(&scene, "0190", None).await, Code::NotFound, "CREDENTIAL_NOT_FOUND");
    let request = ValidateCredentialRequest { provider: "nobody".into(), ..Default::default() };
    let nobody = scene.clients.config.clone().validate_credential(request).await;
    refused(nobody, Code::NotFound, "PROVIDER_NOT_FOUND");
    let openai = Provider { name: "openai".into(), kind: "openai".into(), ..Provider::default() };
    let request = CreateProviderRequest { provider: Some(openai) };
    scene.clients.config.create_provider(request).await.unwrap();
    scene.provider = "openai".into();
    assert_eq!(invalid_fields(validate(&scene, "", None).await), ["fields.api_key"]);
    assert_eq!(invalid_fields(validate(&scene, "", Some("[__HIDDEN__]")).await), ["fields.api_key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_is_bounded_in_time() {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::tenant(Rota::shared().await).await;
    scene.add_model(&upstream.base_url()).await;
    upstream.script("slow-key", Script::Answer.after(Duration::from_secs(60)));
    let began = std::time::Instant::now();
    let slow = validate(&scene, "", Some("slow-key")).await.unwrap();
    assert_eq!((slow.valid, slow.error_class()), (false, ErrorClass::Timeout));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
