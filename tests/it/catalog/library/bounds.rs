//! Quotas, and how much changes leave behind.

use rota::catalog::{
    AuditFilter, Bounds, Caller, ConfigFrom, Error, ModelKey, NewConfig, NewProvider, NewToken, PageRequest,
    Role,
};
use uuid::Uuid;

use super::{Bed, KEY, OTHER_KEY, again, alias, inline, new_credential, new_model};

fn quota<T>(result: Result<T, Error>) -> &'static str {
    match result {
        Err(Error::Quota { of, .. }) => of,
        Err(other) => panic!("not a quota: {other:?}"),
        Ok(_) => panic!("accepted"),
    }
}

fn provider(name: &str) -> NewProvider {
    NewProvider { name: name.to_owned(), kind: "openai".to_owned(), ..NewProvider::default() }
}

fn token(tenant: &str) -> NewToken {
    NewToken { tenant: tenant.to_owned(), role: Some(Role::Invoker), ..NewToken::default() }
}

fn rows(count: usize) -> Vec<NewConfig> {
    (0..count).map(|row| inline(&format!("row {row}"), KEY)).collect()
}

#[tokio::test]
async fn a_tenant_has_what_its_quotas_allow_and_others_have_theirs() {
    let (bed, key) = Bed::with_model().await;
    let bounds = Bounds {
        providers: 2,
        credentials: 1,
        models: 2,
        aliases: 1,
        configs: 5,
        configs_per_model: 3,
        tokens: 1,
        ..Bounds::default()
    };
    let catalog = bed.within(bounds).await;
    let writer = catalog.by_command_line();
    writer.create_provider("acme", provider("second")).await.unwrap();
    assert_eq!(quota(writer.create_provider("acme", provider("third")).await), "providers");
    writer.create_credential("acme", new_credential("openai", None, "one", KEY)).await.unwrap();
    let another = writer.create_credential("acme", new_credential("openai", None, "two", KEY)).await;
    assert_eq!(quota(another), "credentials");
    let other = ModelKey { model: "other".to_owned(), ..key.clone() };
    writer.put_model(new_model(&other)).await.unwrap();
    let third = ModelKey { model: "third".to_owned(), ..key.clone() };
    assert_eq!(quota(writer.put_model(new_model(&third)).await), "models");
    writer.put_model(new_model(&other)).await.expect("one that is there can be changed");
    writer.put_alias(alias("one", &key)).await.unwrap();
    assert_eq!(quota(writer.put_alias(alias("two", &key)).await), "aliases");
    writer.put_alias(alias("one", &other)).await.expect("one that is there can be changed");
    writer.create_token(token("acme")).await.unwrap();
    assert_eq!(quota(writer.create_token(token("acme")).await), "tokens");
    writer.create_token(NewToken { role: Some(Role::Operator), ..NewToken::default() }).await.unwrap();

    let save = async |key: &ModelKey, rows| writer.update_configs(key, ConfigFrom::Any, 0, rows).await;
    assert_eq!(quota(save(&key, rows(4)).await), "configs of a model");
    save(&key, rows(3)).await.unwrap();
    assert_eq!(quota(save(&other, rows(3)).await), "configs of a tenant");
    assert!(bed.listed(&other).await.iter().all(|config| config.id == "__inherit__"), "nothing was written");
    save(&other, rows(2)).await.unwrap();
    // A set is replaced as a whole: what it drops makes room for what it adds.
    save(&key, rows(3)).await.unwrap();

    writer.create_tenant("beta", "").await.unwrap();
    writer.create_provider("beta", provider("openai")).await.unwrap();
    writer.create_token(token("beta")).await.unwrap();
}

#[tokio::test]
async fn what_is_over_a_quota_serves_can_be_changed_and_can_shrink() {
    let (bed, key) = Bed::with_model().await;
    let saved = bed.save(&key, rows(6)).await.unwrap();
    bed.writer().set_balancing(&key, true).await.unwrap();
    let low = Bounds { configs: 2, configs_per_model: 3, models: 1, providers: 1, ..Bounds::default() };
    let catalog = bed.within(low).await;
    let writer = catalog.by_command_line();
    assert_eq!(catalog.pool(&key).unwrap().members.len(), 6);
    let save = async |rows| writer.update_configs(&key, ConfigFrom::Any, 0, rows).await;
    let kept: Vec<_> = saved.configs.iter().map(again).collect();
    let weighed = kept.iter().cloned().map(|config| NewConfig { weight: Some(3), ..config });
    save(weighed.collect()).await.expect("as many as there are");
    let mut grown = kept.clone();
    grown.push(inline("one more", OTHER_KEY));
    assert_eq!(quota(save(grown).await), "configs of a model");
    save(kept[..5].to_vec()).await.expect("fewer");
    let mut swapped = kept[..4].to_vec();
    swapped.push(inline("instead", OTHER_KEY));
    save(swapped).await.expect("one for another");
    save(kept[..1].to_vec()).await.unwrap();
    assert_eq!(quota(save(rows(4)).await), "configs of a model");
}

#[tokio::test]
async fn a_provider_moves_where_no_config_of_it_holds_a_secret() {
    let bed = Bed::new().await;
    bed.writer().create_tenant("acme", "").await.unwrap();
    bed.provider("local", "openai_compatible", "http://127.0.0.1:1/v1").await;
    let key = bed.model("local", "m").await;
    let move_to = async |port: u16| {
        let base_url = Some(format!("http://127.0.0.1:{port}/v1"));
        let change = rota::catalog::ProviderChange { base_url, ..Default::default() };
        bed.writer().update_provider("acme", "local", change).await
    };
    let named = NewConfig {
        name: r#"has "sealed": in its name"#.to_owned(),
        base_url: "http://127.0.0.1:1/v2".to_owned(),
        enabled: Some(true),
        ..NewConfig::default()
    };
    bed.save(&key, vec![named]).await.unwrap();
    move_to(2).await.expect("nothing is sealed");
    bed.save(&key, vec![inline("secret", KEY)]).await.unwrap();
    assert_eq!(super::violated(move_to(3).await), ["base_url"]);
}

#[tokio::test]
async fn audit_events_and_the_outbox_are_held_within_their_bounds() {
    let (bed, _) = Bed::with_model().await;
    let bounds = Bounds { audit_events: 5, outbox_rows: 4, ..Bounds::default() };
    let catalog = bed.within(bounds).await;
    let writer = catalog.by_command_line();
    writer.create_tenant("beta", "").await.unwrap();
    for index in 0..1200 {
        let name = format!("provider-{}", index % 2);
        if index % 4 < 2 {
            writer.create_provider("acme", provider(&name)).await.unwrap();
        } else {
            writer.delete_provider("acme", &name).await.unwrap();
        }
    }
    let count = async |table: &str| {
        let sql = format!("SELECT COUNT(*) FROM {table}");
        bed.sql().await.rows::<i64>(&sql).await[0]
    };
    let newest: i64 = bed.sql().await.rows("SELECT MAX(number) FROM outbox").await[0];
    catalog.prune(0).await.unwrap();
    assert_eq!(count("outbox").await, 4);
    assert_eq!(bed.sql().await.rows::<i64>("SELECT MAX(number) FROM outbox").await, [newest]);
    // A replica that knew an older one loads everything, and is up to date.
    bed.catalog.catch_up().await.unwrap();

    let told = async |tenant: &str| {
        let filter = AuditFilter { tenant: tenant.to_owned(), ..AuditFilter::default() };
        catalog.list_audit_events(filter, PageRequest::default()).await.unwrap().items
    };
    let last = told("acme").await[0].id;
    catalog.prune_audit(0).await.unwrap();
    assert_eq!(told("acme").await.len(), 5);
    assert_eq!(told("acme").await[0].id, last, "the newest stay");
    assert_eq!(told("beta").await.len(), 1, "another tenant's are another number");
    catalog.prune_audit(i64::MAX >> 16).await.unwrap();
    assert_eq!(count("audit_events").await, 0);
}

#[tokio::test]
async fn reads_of_a_secret_in_one_minute_are_one_event_with_their_number() {
    let (bed, key) = Bed::with_model().await;
    let caller = |token| Caller {
        token: Uuid::from_u128(token),
        role: Role::Invoker,
        tenant: Some("acme".to_owned()),
        name: format!("reader {token}"),
        may_read_credentials: true,
        hash: [0; 32],
    };
    for token in [1, 2] {
        let writer = bed.catalog.by(&caller(token));
        for resource in ["one", "two"] {
            let credential = resource.into();
            let reads = (0..50).map(|_| writer.note_read("Acquire", &key, resource, &credential));
            for read in futures::future::join_all(reads).await {
                read.unwrap();
            }
        }
    }
    let filter = || AuditFilter { action: "Acquire".to_owned(), ..AuditFilter::default() };
    let told = async || {
        let mut events = bed.catalog.list_audit_events(filter(), PageRequest::default()).await.unwrap().items;
        events.sort_by_key(|event| event.id);
        events
    };
    // It may have become another minute in between.
    let before = told().await;
    assert!((4..=8).contains(&before.len()), "{before:?}");
    bed.catalog.tell_reads(true).await.unwrap();
    let after = told().await;
    assert_eq!(after.len(), before.len());
    let reads = |event: &rota::catalog::AuditEvent| event.after["reads"].as_u64().unwrap();
    assert_eq!(after.iter().map(reads).sum::<u64>(), 200);
}

#[tokio::test]
async fn a_large_change_is_told_in_full_for_its_first_configs_and_by_name_for_the_others() {
    let (bed, key) = Bed::with_model().await;
    let saved = bed.save(&key, rows(150)).await.unwrap();
    let weighed = saved.configs.iter().map(|config| NewConfig { weight: Some(7), ..again(config) });
    bed.save(&key, weighed.collect()).await.unwrap();
    let filter = AuditFilter { action: "UpdateLoadBalancingConfigs".to_owned(), ..AuditFilter::default() };
    let event = bed.catalog.list_audit_events(filter, PageRequest::default()).await.unwrap().items.remove(0);
    let (before, after) = (&event.before["configs"], &event.after["configs"]);
    for row in 0..150 {
        assert_eq!(before[row]["id"], after[row]["id"]);
        assert_eq!(after[row]["name"], format!("row {row}"));
        let in_full = row < 100;
        assert_eq!(after[row]["weight"].as_i64(), in_full.then_some(7), "{row}");
        assert_eq!(before[row]["weight"].as_i64(), in_full.then_some(1), "{row}");
    }
}

#[tokio::test]
async fn a_change_that_waits_too_long_behind_others_of_its_tenant_is_refused() {
    let (bed, _) = Bed::with_model().await;
    let catalog = bed.within(Bounds { waiting_changes: 3, ..Bounds::default() }).await;
    let caller = |tenant: Option<&str>| Caller {
        token: Uuid::nil(),
        role: Role::TenantAdmin,
        tenant: tenant.map(str::to_owned),
        name: String::new(),
        may_read_credentials: false,
        hash: [0; 32],
    };
    let (tenant, operator) = (catalog.by(&caller(Some("acme"))), catalog.by(&caller(None)));
    let flood = (0..20).map(|index| {
        let name = format!("provider-{index}");
        let tenant = &tenant;
        async move { tenant.create_provider("acme", provider(&name)).await }
    });
    let flood = futures::future::join_all(flood);
    let (ended, beside) = tokio::join!(flood, operator.create_tenant("beta", ""));
    beside.expect("the operator stands in another line");
    let refused = ended.iter().filter(|end| matches!(end, Err(Error::TooManyChanges(3)))).count();
    assert_eq!(refused, 16);
    assert!(ended.iter().filter(|end| end.is_ok()).count() == 4);
}
