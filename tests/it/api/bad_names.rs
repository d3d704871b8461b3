//! Names that are huge or strange: refused, and never repeated in the answer.

use rota::api::pb::{
    CreateTenantRequest, GetCredentialRequest, GetLoadBalancingConfigRequest, GetTenantRequest,
    ListProvidersRequest, RevokeTokenRequest, Tenant,
};
use tonic::Code;

use crate::support::{
    raw::Raw,
    refusal::refusal,
    rota::{Rota, on_both_databases},
    stage::{Stage, case, small},
};

on_both_databases!(huge_names_are_refused_and_not_repeated, strange_names_are_refused);

async fn huge_names_are_refused_and_not_repeated(rota: &'static Rota) {
    let stage = Stage::set(rota).await;
    let before = stage.scene.listing().await;
    let huge = || "X".repeat(10 << 20);
    // Four bytes a character, twelve once a header has them percent-encoded.
    let wide = || "🎈".repeat(5000);
    let tenant_admin = Raw::new(&stage.scene.clients);
    for name in [huge(), wide()] {
        let tenant = Tenant { id: name.clone(), ..Tenant::default() };
        let table = [
            case("AdminService/CreateTenant", &CreateTenantRequest { tenant: Some(tenant) }),
            case("AdminService/GetTenant", &GetTenantRequest { tenant_id: name.clone() }),
            case("AdminService/RevokeToken", &RevokeTokenRequest { id: name.clone() }),
            stage.create_provider(|provider| provider.name = name.clone()),
            stage.create_provider(|provider| provider.kind = name.clone()),
            stage.create_provider(|provider| provider.base_url = format!("http://{name}/")),
            stage.create_credential(|credential| credential.name = name.clone()),
            stage.create_credential(|credential| credential.fields = [(name.clone(), name.clone())].into()),
            stage.put_model(|model| model.key.as_mut().unwrap().model = name.clone()),
            stage.put_alias(|alias| alias.name = name.clone()),
            stage.save_one(|config| config.name = name.clone()),
            stage.save_one(|config| config.id = name.clone()),
            stage.save_one(|config| {
                config.credentials.clear();
                config.credential_id = name.clone();
            }),
            case(
                "ConfigService/GetLoadBalancingConfig",
                &GetLoadBalancingConfigRequest { key: stage.key(|_| ()), id: name.clone() },
            ),
            case(
                "ConfigService/GetCredential",
                &GetCredentialRequest {
                    tenant_id: stage.scene.tenant.clone(),
                    provider: stage.scene.provider.clone(),
                    id: name.clone(),
                },
            ),
            case(
                "ConfigService/ListProviders",
                &ListProvidersRequest { tenant_id: name.clone(), ..Default::default() },
            ),
            stage.call(|call| call.key.as_mut().unwrap().model = name.clone()),
            stage.call(|call| {
                let key = call.key.as_mut().unwrap();
                (key.provider, key.model) = (String::new(), name.clone());
            }),
            stage.call(|call| call.messages[0].role = name.clone()),
        ];
        for case in table {
            let rpc = case.0;
            for raw in [&stage.raw, &tenant_admin] {
                let Err(status) = raw.call(rpc, case.1.clone()).await else { panic!("{rpc} serves") };
                // What another tenant is called is answered as if it were not there.
                let codes = [Code::InvalidArgument, Code::NotFound, Code::PermissionDenied];
                assert!(codes.contains(&status.code()), "{rpc}: {status:?}");
                small(&status);
                refusal(&status);
            }
        }
    }
    assert_eq!(stage.scene.listing().await, before, "something has changed");
}

async fn strange_names_are_refused(rota: &'static Rota) {
    let stage = Stage::set(rota).await;
    let strange = [
        "A",
        "Acme",
        "a b",
        " a",
        "a ",
        "a/b",
        "-a",
        ".a",
        "_a",
        "a\0",
        "a\n",
        "\u{1b}[31m",
        "a\u{7f}",
        "a\u{85}",
        "ä",
        "ａ",
        "а",
        "a\u{200b}",
        "a\u{202e}b",
        "e\u{301}",
        "ſ",
        "ı",
        "①",
        "..",
        "a\\b",
        "a%00",
        "a'--",
        "__inherit__",
        "🎈",
    ];
    let long = "a".repeat(64);
    for name in strange.into_iter().chain([long.as_str()]) {
        let tenant = Tenant { id: name.to_owned(), ..Tenant::default() };
        let table = [
            (case("AdminService/CreateTenant", &CreateTenantRequest { tenant: Some(tenant) }), "tenant.id"),
            (stage.create_provider(|provider| provider.name = name.to_owned()), "provider.name"),
            (stage.create_provider(|provider| provider.tenant_id = name.to_owned()), "provider.tenant_id"),
            (
                stage.put_model(|model| model.key.as_mut().unwrap().provider = name.to_owned()),
                "model.key.provider",
            ),
            (stage.put_alias(|alias| alias.tenant_id = name.to_owned()), "alias.target.tenant_id"),
            (stage.call(|call| call.key.as_mut().unwrap().provider = name.to_owned()), "key.provider"),
        ];
        stage.refuses(table).await;
    }
    // Texts may be anything but control characters.
    for text in ["a\0b", "a\nb", "\u{1b}[31m", "a\u{85}"] {
        let table = [
            (
                stage.create_provider(|provider| provider.display_name = text.to_owned()),
                "provider.display_name",
            ),
            (stage.create_credential(|credential| credential.name = text.to_owned()), "credential.name"),
            (stage.put_model(|model| model.key.as_mut().unwrap().model = text.to_owned()), "model.key.model"),
            (stage.put_model(|model| model.upstream_model = text.to_owned()), "model.upstream_model"),
            (stage.put_alias(|alias| alias.name = text.to_owned()), "alias.name"),
            (stage.save_one(|config| config.name = text.to_owned()), "configs[1].name"),
            (stage.save_one(|config| config.upstream_model = text.to_owned()), "configs[1].upstream_model"),
            (stage.call(|call| call.key.as_mut().unwrap().model = text.to_owned()), "key.model"),
        ];
        stage.refuses(table).await;
    }
}
