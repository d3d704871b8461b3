//! Dify's cases of providers' names and kinds, by number, over every method that takes one.

use rota::{
    api::pb::{
        DeleteModelRequest, ListAuditEventsRequest, Model, ModelKey, ModelType, Provider, PutModelRequest,
        SetDefaultModelRequest, WatchPoolRequest,
    },
    scripted::Upstream,
};
use tonic::Code;

use crate::{
    catalog::config::{create, openai},
    catalog::conformance_listing::try_both,
    support::{
        by_provider,
        listing::api_key_field,
        raw::Raw,
        refusal::{invalid_fields, refusal, refused},
        rota::{Rota, on_both_databases},
        world::Scene,
    },
};

on_both_databases!(
    case_72_without_a_kind_there_is_no_schema,
    case_73_an_unknown_provider_is_not_found_by_any_method,
    case_74_the_long_name_is_the_short_one_for_every_method,
);

async fn case_72_without_a_kind_there_is_no_schema(rota: &'static Rota) {
    let scene = Scene::tenant(rota).await;
    let before = scene.listing().await;
    for kind in ["nonsense", "OpenAI", "langgenius/openai/openai", ""] {
        let provider = Provider { kind: kind.to_owned(), ..openai(&scene, "unknown") };
        assert_eq!(invalid_fields(create(&scene, provider).await), ["provider.kind"], "{kind}");
    }
    assert_eq!(scene.listing().await, before);
    // So there is nothing to hold credentials against.
    let unknown = Scene { provider: "unknown".to_owned(), ..scene.clone() };
    for answer in try_both(&unknown, &api_key_field("key")).await {
        refused(answer, Code::NotFound, "PROVIDER_NOT_FOUND");
    }
}

async fn case_73_an_unknown_provider_is_not_found_by_any_method(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let credential = scene.create_credential("one", "key-one").await;
    let before = scene.listing().await;
    let raw = Raw::new(&scene.clients);
    // Another tenant's is as unknown.
    let other = Scene::tenant(rota).await;
    create(&other, openai(&other, "foreign")).await.unwrap();
    for (sent, named) in
        [("nobody", "nobody"), ("foreign", "foreign"), ("langgenius/nobody/nobody", "nobody")]
    {
        for (rpc, request) in by_provider::requests(&scene, sent, &credential) {
            let answer = raw.call(rpc, request).await;
            assert!(answer.is_err(), "{rpc} serves {sent}");
            let status = answer.unwrap_err();
            let refusal = refusal(&status);
            assert_eq!(
                (status.code(), &*refusal.reason),
                (Code::NotFound, "PROVIDER_NOT_FOUND"),
                "{rpc}: {status:?}"
            );
            assert_eq!(refusal.resource, Some(("provider".to_owned(), named.to_owned())), "{rpc}");
        }
    }
    assert_eq!(scene.listing().await, before);
    assert_eq!(upstream.total_hits(), 0);
}

async fn case_74_the_long_name_is_the_short_one_for_every_method(rota: &'static Rota) {
    const LONG: &str = "langgenius/upstream/upstream";
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let credential = scene.create_credential("one", "key-one").await;
    let mut client = scene.clients.config.clone();
    let other =
        create(&scene, Provider { name: "langgenius/zzz/zzz".to_owned(), ..openai(&scene, "") }).await;
    assert_eq!(other.unwrap().name, "zzz");
    let twice = create(&scene, openai(&scene, "zzz")).await;
    refused(twice, Code::AlreadyExists, "ALREADY_EXISTS");
    let elsewhere = ModelKey { provider: "zzz".to_owned(), ..scene.key.clone() };
    scene.put_model(&elsewhere).await;
    let others = [
        ModelType::TextEmbedding,
        ModelType::Moderation,
        ModelType::Rerank,
        ModelType::SpeechToText,
        ModelType::Tts,
    ]
    .map(|model_type| ModelKey { model_type: model_type.into(), ..scene.key.clone() });
    for other in &others {
        scene.put_model(other).await;
    }

    // One pool, whichever name a call has.
    let long = Scene { key: ModelKey { provider: LONG.to_owned(), ..scene.key.clone() }, ..scene.clone() };
    for names in [["config-0", "config-1"]; 2] {
        assert_eq!([scene.served_by(1).await, long.served_by(1).await].concat(), names);
    }
    let put = Model { key: Some(elsewhere.clone()), fallbacks: vec![long.key.clone()], ..Default::default() };
    let put =
        client.put_model(PutModelRequest { model: Some(put) }).await.unwrap().into_inner().model.unwrap();
    assert_eq!(put.fallbacks, std::slice::from_ref(&scene.key));
    scene.put_model(&elsewhere).await;
    let raw = Raw::new(&scene.clients);
    let short_and_long = by_provider::reads(&scene, "upstream", &credential)
        .into_iter()
        .zip(by_provider::reads(&scene, LONG, &credential));
    for ((rpc, short), (_, long)) in short_and_long {
        assert_eq!(raw.call(rpc, short).await.unwrap(), raw.call(rpc, long).await.unwrap(), "{rpc}");
    }
    for (rpc, request) in by_provider::requests(&scene, LONG, &credential) {
        match rpc {
            // It does not end.
            "ConfigService/WatchPool" => {
                let watch = client.watch_pool(WatchPoolRequest { key: long.key.clone().into() }).await;
                let state = watch.unwrap().into_inner().message().await.unwrap().unwrap().state.unwrap();
                assert_eq!(state.key.unwrap(), scene.key);
                continue;
            }
            "ConfigService/DeleteModel" => {
                let set = SetDefaultModelRequest { key: Some(elsewhere.clone()) };
                client.set_default_model(set).await.unwrap();
            }
            "ConfigService/DeleteProvider" => {
                for other in &others {
                    client.delete_model(DeleteModelRequest { key: Some(other.clone()) }).await.unwrap();
                }
            }
            _ => {}
        }
        let answer = raw.call(rpc, request).await.unwrap_or_else(|status| panic!("{rpc}: {status:?}"));
        assert!(!String::from_utf8_lossy(&answer).contains("langgenius"), "{rpc} answers with the long name");
    }
    let request =
        ListAuditEventsRequest { tenant_id: scene.tenant.clone(), page_size: 1000, ..Default::default() };
    let operator = rota.operator().await;
    let events = operator.admin.clone().list_audit_events(request).await.unwrap().into_inner().events;
    let long: Vec<_> = events.iter().filter(|event| format!("{event:?}").contains("langgenius")).collect();
    assert!(events.len() > 15 && long.is_empty(), "{long:?}");
    let left = scene.listing().await;
    assert_eq!(left.providers.iter().map(|provider| &*provider.name).collect::<Vec<_>>(), ["zzz"]);
    assert!(left.credentials.is_empty() && left.models.len() == 1, "{left:?}");
}
