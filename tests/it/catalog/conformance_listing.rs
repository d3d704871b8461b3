//! Dify's cases of reading and trying what is configured, by number: what is shown of it, and by which names.

use std::collections::HashMap;

use rota::{
    api::pb::{
        AcquireRequest, Credential, DeleteCredentialRequest, DisableModelRequest, ErrorClass, ExplainRequest,
        GetDefaultModelRequest, GetDefaultModelResponse, GetLoadBalancingConfigRequest, InvokeLlmRequest,
        InvokeTextEmbeddingRequest, ListProviderKindsRequest, LoadBalancingConfig, ModelKey, ModelType,
        Provider, SetDefaultModelRequest, StreamLlmRequest, UpdateCredentialRequest,
        ValidateCredentialRequest, ValidateLoadBalancingCredentialsRequest,
    },
    scripted::{Script, Upstream},
};
use serde_json::json;
use tonic::{Code, Status};

use crate::{
    catalog::config::{create, openai, update},
    support::{
        failure::span,
        listing::{api_key_field, inherit, link, names},
        refusal::{invalid_fields, refused},
        rota::{Rota, on_both_databases},
        sql::Sql,
        world::{Scene, config, hi},
    },
};

on_both_databases!(
    case_67_secrets_are_masked_by_their_length,
    case_68_a_linked_credential_is_followed,
    case_69_a_deleted_credential_takes_its_entries_along,
    case_70_a_missing_field_is_refused_when_trying_and_when_saving,
    case_71_what_the_vendor_refuses_is_told_and_not_stored,
    case_75_one_entry_is_shown_by_the_mask_of_its_plain_text,
    case_76_of_two_admins_one_is_told_that_the_set_has_changed,
    case_81_a_call_that_names_no_provider_gets_the_default_model_of_its_type,
);

/// A model of `upstream`, without configs.
async fn scene(rota: &Rota, upstream: &Upstream) -> Scene {
    let mut scene = Scene::tenant(rota).await;
    scene.add_model(&upstream.base_url()).await;
    scene
}

/// Every row of every table but that of the tokens, which says when each was last used.
async fn every_row(stored: &Sql) -> Vec<Option<String>> {
    let each_row = "SELECT 'SELECT group_concat(' || group_concat('quote(' || c.name || ')', ' || char(9) || ') \
         || ', char(10)) FROM ' || m.name FROM sqlite_master m, pragma_table_info(m.name) c \
         WHERE m.type = 'table' AND m.name <> 'tokens' GROUP BY m.name";
    let mut rows = Vec::new();
    for select in stored.rows::<String>(each_row).await {
        rows.extend(stored.rows::<Option<String>>(&select).await);
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn case_66_the_listing_shows_what_cools_and_writes_nothing() {
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().start().await;
    let scene = scene(&rota, &upstream).await;
    scene.create_credential("provider's", "key-provider").await;
    let set = vec![config("cools", "sk-proj-0123456789-cools"), config("idle", "short"), inherit(true)];
    let mut scene = Scene { configs: scene.save(set).await.unwrap().configs, ..scene };
    scene.enable().await;
    upstream.script("sk-proj-0123456789-cools", Script::fail_for(429, "60"));
    scene.served_by(2).await;
    // Another model, whose set nobody ever saved: reading it must not make the virtual entry a row.
    let unsaved = Scene { key: ModelKey { model: "unsaved".into(), ..scene.key.clone() }, ..scene.clone() };
    unsaved.put_model(&unsaved.key).await;

    let stored = Sql::of_sqlite(&rota).await;
    let before = every_row(&stored).await;
    let listed = scene.set_of("").await.configs;
    assert_eq!(names(&listed), ["__inherit__", "cools", "idle"]);
    let shown: Vec<_> = listed.iter().map(|config| config.credentials.get("api_key").cloned()).collect();
    assert_eq!(shown, [None, Some("sk-pro************ls".to_owned()), Some("*".repeat(20))]);
    let cooling: Vec<_> = listed.iter().map(|config| config.in_cooldown).collect();
    assert_eq!(cooling, [false, true, false]);
    let left = span(listed[1].ttl).as_secs();
    assert!((50..60).contains(&left), "{left} s left");
    assert_eq!(listed[1].cooldown_reason(), ErrorClass::RateLimited);
    for from in ["", "predefined-model", "custom-model"] {
        assert_eq!(names(&unsaved.set_of(from).await.configs), ["__inherit__"]);
    }
    unsaved.listing().await;
    assert_eq!(every_row(&stored).await, before, "a read has written");
    unsaved.save(vec![inherit(true)]).await.unwrap();
    assert_ne!(every_row(&stored).await, before, "a write would not have been seen");
}

async fn case_67_secrets_are_masked_by_their_length(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene(rota, &upstream).await;
    let stars = "*".repeat(20);
    let table = [
        ("", ""),
        ("12345678", &*stars),
        ("1234567890123456789", &*stars),
        ("12345678901234567890", "123456************90"),
        ("äöüßäöüßäöüßäöüßäöüß", "äöüßäö************üß"),
        ("äöüßäöüßäöüßäöüßäöü", &*stars),
    ];
    // An address makes an entry without a key.
    let entry = |(key, _): &(&str, &str)| LoadBalancingConfig {
        base_url: upstream.base_url(),
        ..config(&format!("of {}", key.len()), key)
    };
    let saved = scene.save(table.iter().map(entry).collect()).await.unwrap().configs;
    assert_eq!(scene.set_of("").await.configs, saved);
    for (index, (key, mask)) in table.into_iter().enumerate() {
        let shown = |fields: &HashMap<String, String>| fields.get("api_key").cloned().unwrap_or_default();
        assert_eq!(shown(&saved[index].credentials), mask, "{key}");
        let credential = scene.create_credential(&format!("credential {index}"), key).await;
        assert_eq!(shown(&credential.fields), mask, "{key}");
    }
}

async fn case_68_a_linked_credential_is_followed(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = scene(rota, &upstream).await;
    let credential = scene.create_credential("linked", "key-old").await;
    scene.put_configs(vec![link(&credential), config("own", "key-own")]).await;
    scene.enable().await;
    upstream.script("key-old", Script::fail(401));
    assert_eq!(scene.served_by(2).await, ["own", "own"]);
    assert_eq!(upstream.hits("key-old"), 1);
    let renewed = Credential {
        name: "renewed".to_owned(),
        fields: api_key_field("key-new"),
        revision: 0,
        ..credential.clone()
    };
    let request = UpdateCredentialRequest { credential: Some(renewed), update_mask: None };
    scene.clients.config.clone().update_credential(request).await.unwrap();
    let row = scene.set_of("").await.configs.remove(0);
    assert_eq!((&*row.name, &row.id), ("renewed", &scene.configs[0].id));
    // The old key's cooldown is none of the new one's.
    assert!(!row.in_cooldown);
    assert_eq!(scene.served_by(2).await, ["own", "renewed"]);
    assert_eq!((upstream.hits("key-old"), upstream.hits("key-new")), (1, 1));
}

async fn case_69_a_deleted_credential_takes_its_entries_along(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = scene(rota, &upstream).await;
    let (kept, deleted) = (
        scene.create_credential("active", "key-active").await,
        scene.create_credential("deleted", "key-deleted").await,
    );
    // Two entries of it, one that stays, and none of the active credential.
    scene.put_configs(vec![link(&deleted), config("own", "key-own"), link(&deleted)]).await;
    scene.enable().await;
    assert_eq!(scene.served_by(3).await, ["deleted", "deleted", "own"]);
    let request =
        DeleteCredentialRequest { provider: scene.provider.clone(), id: deleted.id, ..Default::default() };
    scene.clients.config.clone().delete_credential(request).await.unwrap();
    let set = scene.set_of("").await;
    assert_eq!((names(&set.configs), set.enabled), (vec!["own"], true));
    assert!(!set.configs[0].warning.is_empty(), "the listing says that it is alone");
    // As in case 37, the one that is left serves, not the active credential.
    assert_eq!(scene.served_by(2).await, ["own", "own"]);
    assert_eq!((upstream.hits("key-deleted"), upstream.hits("key-active")), (2, 0));
    assert!(kept.active);
}

/// Tries credentials of a model's config, and of its provider.
pub async fn try_both(
    scene: &Scene,
    fields: &HashMap<String, String>,
) -> [Result<(bool, ErrorClass, String), Status>; 2] {
    let mut client = scene.clients.config.clone();
    let request = ValidateLoadBalancingCredentialsRequest {
        key: Some(scene.key.clone()),
        credentials: fields.clone(),
        ..Default::default()
    };
    let of_config = client.validate_load_balancing_credentials(request).await;
    let request = ValidateCredentialRequest {
        provider: scene.provider.clone(),
        fields: fields.clone(),
        ..Default::default()
    };
    let of_provider = client.validate_credential(request).await;
    [
        of_config.map(tonic::Response::into_inner).map(|told| (told.valid, told.error_class(), told.message)),
        of_provider
            .map(tonic::Response::into_inner)
            .map(|told| (told.valid, told.error_class(), told.message)),
    ]
}

/// For every kind that this build knows, so for one that is added later, too.
async fn case_70_a_missing_field_is_refused_when_trying_and_when_saving(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::tenant(rota).await;
    let mut client = scene.clients.config.clone();
    let kinds = client.list_provider_kinds(ListProviderKindsRequest {}).await.unwrap().into_inner().kinds;
    let mut required = 0;
    for kind in kinds {
        let name = kind.kind.replace('_', "-");
        let key = ModelKey { provider: name.clone(), ..scene.key.clone() };
        let scene = Scene { provider: name.clone(), key, ..scene.clone() };
        let provider =
            Provider { kind: kind.kind.clone(), base_url: upstream.base_url(), ..openai(&scene, &name) };
        create(&scene, provider).await.unwrap();
        scene.put_model(&scene.key).await;
        let given = kind.credential_fields.iter().filter(|field| field.default_value.is_empty());
        let given = given.map(|field| {
            let value = field.options.first().cloned().unwrap_or_else(|| "value".to_owned());
            (field.name.clone(), value)
        });
        let given: HashMap<_, _> = given.collect();
        let credential = Credential {
            provider: name,
            name: "one".to_owned(),
            fields: given.clone(),
            ..Default::default()
        };
        let stored = scene.store(credential.clone()).await.unwrap();
        for field in &kind.credential_fields {
            let shown = stored.fields.get(&field.name).map(String::as_str);
            match field {
                field if field.secret => assert_eq!(shown, Some(&*"*".repeat(20))),
                field if field.default_value.is_empty() => assert_eq!(shown, Some(&*given[&field.name])),
                field => assert_eq!(shown, Some(&*field.default_value), "{}", field.name),
            }
        }

        let before = scene.listing().await;
        let needed = kind.credential_fields.iter().filter(|field| field.required);
        for field in needed.filter(|field| field.default_value.is_empty()) {
            required += 1;
            let mut fields = given.clone();
            fields.remove(&field.name);
            for answer in try_both(&scene, &fields).await.map(Result::unwrap_err) {
                let violations = invalid_fields(Err::<(), _>(answer));
                let paths = [format!("credentials.{}", field.name), format!("fields.{}", field.name)];
                assert!(paths.contains(&violations[0]), "{violations:?}");
            }
            let entry = LoadBalancingConfig { credentials: fields.clone(), ..config("new", "") };
            // Without any there is no field to name.
            let path = if fields.is_empty() { String::new() } else { format!(".{}", field.name) };
            let expected = format!("configs[0].credentials{path}");
            assert_eq!(invalid_fields(scene.save(vec![entry]).await)[0], expected);
            let path = format!("credential.fields.{}", field.name);
            let new = Credential { name: "new".to_owned(), fields: fields.clone(), ..credential.clone() };
            assert_eq!(invalid_fields(scene.store(new).await), [&*path]);
            // Emptying a stored one is leaving it out for good.
            fields.insert(field.name.clone(), String::new());
            let emptied = Credential { fields, revision: 0, ..stored.clone() };
            let request = UpdateCredentialRequest { credential: Some(emptied), update_mask: None };
            let answer = client.update_credential(request).await;
            assert_eq!(invalid_fields(answer), [&*path]);
        }
        assert_eq!(scene.listing().await, before, "{}", kind.kind);
    }
    assert!(required > 0, "no kind requires any field");
    assert_eq!(upstream.total_hits(), 0);
}

async fn case_71_what_the_vendor_refuses_is_told_and_not_stored(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = scene(rota, &upstream).await;
    let key = format!("sk-wrong-{}", scene.tenant);
    // A config with the same key stands in the pool: a trial must not cool it.
    scene.put_configs(vec![config("a", &key), config("b", "key-b")]).await;
    scene.enable().await;
    let error = json!({"message": format!("Incorrect API key provided: {key}."), "code": "invalid_api_key"});
    upstream.script(&key, Script::fail_with(401, &error));
    let before = scene.listing().await;
    for (tries, told) in try_both(&scene, &api_key_field(&key)).await.into_iter().enumerate() {
        let (valid, class, message) = told.unwrap();
        assert_eq!((valid, class), (false, ErrorClass::Authentication), "{tries}");
        assert!(message.contains("Incorrect API key provided") && !message.contains(&key), "{message}");
    }
    assert_eq!(upstream.hits(&key), 2, "the vendor was asked");
    assert_eq!(scene.listing().await, before, "something is stored, or cools");
}

async fn case_75_one_entry_is_shown_by_the_mask_of_its_plain_text(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene(rota, &upstream).await;
    let saved = scene.save(vec![config("one", "sk-first-0123456789-st"), config("two", "short")]).await;
    for (stored, mask) in saved.unwrap().configs.into_iter().zip(["sk-fir************st", &"*".repeat(20)]) {
        let request = GetLoadBalancingConfigRequest { key: Some(scene.key.clone()), id: stored.id.clone() };
        let answer = scene.clients.config.clone().get_load_balancing_config(request).await.unwrap();
        let read = answer.into_inner().config.unwrap();
        assert_eq!(read.credentials["api_key"], mask);
        assert_eq!(read, stored);
    }
}

async fn case_76_of_two_admins_one_is_told_that_the_set_has_changed(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene(rota, &upstream).await;
    let mut seen = scene.set_of("").await;
    for round in 0..10 {
        let set = |admin: &str| vec![config(admin, "key-1"), config(&format!("{admin} {round}"), "key-2")];
        let saves = [("one", seen.revision), ("two", seen.revision)];
        let [one, two] = saves.map(|(admin, revision)| scene.save_with("", revision, set(admin)));
        let (one, two) = tokio::join!(one, two);
        let (saved, lost) = if one.is_ok() { (one, two) } else { (two, one) };
        refused(lost, Code::Aborted, "STALE_REVISION");
        let saved = saved.unwrap();
        assert_eq!(saved.revision, seen.revision + 1);
        seen = scene.set_of("").await;
        assert_eq!(
            (seen.revision, &seen.configs),
            (saved.revision, &saved.configs),
            "no row is lost or mixed"
        );
        assert_eq!(seen.configs.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_80_the_default_model_is_computed_and_never_stored_by_reading() {
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().start().await;
    let scene = scene(&rota, &upstream).await;
    let key = |provider: &str, model: &str| ModelKey {
        provider: provider.to_owned(),
        model: model.to_owned(),
        ..scene.key.clone()
    };
    create(&scene, openai(&scene, "off")).await.unwrap();
    let (first, second, gpt4) = (key("upstream", "aaa"), key("upstream", "bbb"), key("upstream", "gpt-4"));
    for key in [&key("off", "a"), &first, &second, &gpt4] {
        scene.put_model(key).await;
    }
    let off = Provider { name: "off".to_owned(), enabled: Some(false), ..Provider::default() };
    update(&scene, off, None).await.unwrap();
    let stored = Sql::of_sqlite(&rota).await;
    let default = async |expected: &ModelKey| {
        let before = every_row(&stored).await;
        let request = GetDefaultModelRequest { model_type: ModelType::Llm.into(), ..Default::default() };
        for _ in 0..2 {
            let answer = scene.clients.config.clone().get_default_model(request.clone()).await.unwrap();
            let computed = GetDefaultModelResponse { key: Some(expected.clone()), computed: true };
            assert_eq!(answer.into_inner(), computed);
        }
        let call = InvokeLlmRequest { messages: vec![hi()], ..Default::default() };
        assert_eq!(scene.send(call).await.unwrap().route.unwrap().model, expected.model);
        assert_eq!(every_row(&stored).await, before, "a read has written");
    };
    default(&first).await;
    let disable = DisableModelRequest { key: Some(first.clone()) };
    scene.clients.config.clone().disable_model(disable).await.unwrap();
    default(&second).await;
    scene.put_model(&key("upstream", "abc")).await;
    default(&key("upstream", "abc")).await;
}

async fn case_81_a_call_that_names_no_provider_gets_the_default_model_of_its_type(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::tenant(rota).await;
    let mut invoke = scene.clients.invoke.clone();
    let call = || InvokeLlmRequest { messages: vec![hi()], ..Default::default() };
    let stream = || StreamLlmRequest { messages: vec![hi()], ..Default::default() };
    let embed = || InvokeTextEmbeddingRequest { texts: vec!["text".to_owned()], ..Default::default() };
    let of_type =
        |model_type: ModelType| Some(ModelKey { model_type: model_type.into(), ..ModelKey::default() });
    refused(invoke.invoke_llm(call()).await, Code::NotFound, "MODEL_NOT_FOUND");
    refused(invoke.stream_llm(stream()).await, Code::NotFound, "MODEL_NOT_FOUND");
    refused(invoke.invoke_text_embedding(embed()).await, Code::NotFound, "MODEL_NOT_FOUND");
    refused(
        invoke.explain(ExplainRequest { key: of_type(ModelType::Llm), ..Default::default() }).await,
        Code::NotFound,
        "MODEL_NOT_FOUND",
    );
    refused(
        invoke.acquire(AcquireRequest { key: of_type(ModelType::Llm), ..Default::default() }).await,
        Code::NotFound,
        "MODEL_NOT_FOUND",
    );

    let mut scene = scene;
    scene.add_model(&upstream.base_url()).await;
    scene.put_model(&ModelKey { model: "a model".to_owned(), ..scene.key.clone() }).await;
    let set = SetDefaultModelRequest { key: Some(scene.key.clone()) };
    scene.clients.config.set_default_model(set).await.unwrap();
    scene.add_configs(2).await;
    scene.enable().await;
    let embedding = ModelKey {
        model_type: ModelType::TextEmbedding.into(),
        model: "embedding".to_owned(),
        ..scene.key.clone()
    };
    scene.put_model(&embedding).await;
    for _ in 0..2 {
        assert_eq!(scene.send(call()).await.unwrap().route.unwrap().model, "chat");
    }
    assert_eq!(scene.hits(&upstream), [1, 1], "the default model is balanced like any other");
    let first = invoke.stream_llm(stream()).await.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!(first.route.unwrap().model, "chat");
    let route = invoke.invoke_text_embedding(embed()).await.unwrap().into_inner().route.unwrap();
    assert_eq!(route.model, "embedding");
    let explain = ExplainRequest { key: of_type(ModelType::Llm), ..Default::default() };
    assert_eq!(invoke.explain(explain).await.unwrap().into_inner().candidates.len(), 2);
    let acquire = AcquireRequest { key: of_type(ModelType::TextEmbedding), ..Default::default() };
    assert_eq!(invoke.acquire(acquire).await.unwrap().into_inner().upstream_model, "embedding");
}
