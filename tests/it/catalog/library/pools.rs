//! What serves: `__inherit__`, members, warnings.

use rota::catalog::{ConfigFrom, Error, INHERIT, ModelKey, NewConfig};

use super::{Bed, KEY, OTHER_KEY, again, api_key, inherit, inline};

async fn ids(bed: &Bed, key: &ModelKey) -> Vec<String> {
    bed.listed(key).await.into_iter().map(|config| config.name).collect()
}

#[tokio::test]
async fn inherit_is_a_member_until_a_set_says_otherwise() {
    let (bed, key) = Bed::with_model().await;
    assert!(ids(&bed, &key).await.is_empty());
    assert!(matches!(bed.writer().set_balancing(&key, true).await, Err(Error::NotEnoughConfigs(0))));
    bed.credential("openai", "one", KEY).await;
    assert_eq!(ids(&bed, &key).await, [INHERIT]);
    assert!(matches!(bed.writer().set_balancing(&key, true).await, Err(Error::NotEnoughConfigs(1))));

    let set = bed.save(&key, vec![inherit(true), inline("a", OTHER_KEY)]).await.unwrap();
    assert_eq!(set.configs[0].member.key.ordinal, 0);
    assert_eq!(set.roster.members.len(), 2);
    assert!(bed.writer().set_balancing(&key, true).await.unwrap().load_balancing_enabled);
    assert_eq!(bed.serving(&key), [KEY, OTHER_KEY]);

    let a = again(&bed.listed(&key).await[1]);
    bed.save(&key, vec![inherit(false), a.clone()]).await.unwrap();
    let listed = bed.listed(&key).await;
    assert!(!listed[0].enabled && listed[0].id == INHERIT);
    assert!(!listed[1].warning.is_empty(), "the only one that can serve");
    assert_eq!(bed.serving(&key), [OTHER_KEY]);

    bed.save(&key, vec![a.clone()]).await.unwrap();
    assert_eq!(ids(&bed, &key).await, ["a"]);
    bed.save(&key, vec![inherit(true), a]).await.unwrap();
    assert_eq!(bed.serving(&key), [KEY, OTHER_KEY]);
    // Without balancing the set does not matter.
    bed.save(&key, vec![]).await.unwrap();
    bed.writer().set_balancing(&key, false).await.unwrap();
    let pool = bed.catalog.pool(&key).unwrap();
    assert!(!pool.balanced);
    assert_eq!((&*pool.members[0].id, &*pool.members[0].name), (INHERIT, INHERIT));
    assert_eq!(bed.serving(&key), [KEY]);
}

#[tokio::test]
async fn a_pool_holds_those_that_may_be_picked() {
    let (bed, key) = Bed::with_model().await;
    let rows = vec![
        inline("a", KEY),
        NewConfig { weight: Some(0), ..inline("drained", KEY) },
        NewConfig { enabled: Some(false), ..inline("off", KEY) },
        NewConfig {
            upstream_model: "gpt-4o-mini".to_owned(),
            base_url: "https://two.example/v1".to_owned(),
            priority: 5,
            ..inline("b", OTHER_KEY)
        },
    ];
    bed.save(&key, rows).await.unwrap();
    bed.writer().set_balancing(&key, true).await.unwrap();
    let pool = bed.catalog.pool(&key).unwrap();
    let names: Vec<&str> = pool.members.iter().map(|member| &*member.name).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(pool.members[0].target.base_url.as_str(), "https://api.openai.com/v1");
    assert_eq!(pool.members[0].target.model, "gpt");
    assert_eq!(pool.members[1].target.base_url.as_str(), "https://two.example/v1");
    assert_eq!(pool.members[1].target.model, "gpt-4o-mini");
    assert_eq!((pool.roster.members[1].key.ordinal, pool.roster.members[1].priority), (4, 5));
    let listed = bed.catalog.configs(&key, ConfigFrom::Any).await.unwrap();
    assert_eq!(listed.roster.members.len(), 4);
    assert_eq!(listed.roster.members[0], pool.roster.members[0]);
}

#[tokio::test]
async fn equal_inline_credentials_share_a_record() {
    let (bed, key) = Bed::with_model().await;
    let other = bed.model("openai", "other").await;
    bed.save(&key, vec![inline("a", KEY), inline("b", KEY), inline("c", OTHER_KEY)]).await.unwrap();
    bed.save(&other, vec![inline("a", KEY)]).await.unwrap();
    let [a, b, c] = &bed.listed(&key).await[..] else { panic!() };
    assert_eq!(a.member.credential, b.member.credential);
    assert_eq!(a.member.credential, bed.listed(&other).await[0].member.credential);
    assert_ne!(a.member.credential, c.member.credential);
    assert_eq!(a.member.credential.len(), 32);
    assert!(!format!("{a:?}").contains(KEY));
}

#[tokio::test]
async fn a_kind_without_required_fields_serves_without_a_credential() {
    let bed = Bed::new().await;
    bed.writer().create_tenant("acme", "").await.unwrap();
    bed.provider("own", "openai_compatible", "http://localhost:8000/v1").await;
    let key = bed.model("own", "m").await;
    assert_eq!(bed.serving(&key), [""]);
    assert!(bed.listed(&key).await.is_empty(), "there is no credential to inherit");
    let bare = |url: &str| NewConfig {
        name: url.to_owned(),
        base_url: url.to_owned(),
        enabled: Some(true),
        ..NewConfig::default()
    };
    let rows = vec![bare("http://localhost:8001/v1"), bare("http://localhost:8002/v1")];
    let set = bed.save(&key, rows).await.unwrap();
    bed.writer().set_balancing(&key, true).await.unwrap();
    assert_eq!(bed.serving(&key), ["", ""]);
    assert_ne!(set.configs[0].member.credential, set.configs[1].member.credential);
    // It holds no secret, so it may move.
    let moved = NewConfig { base_url: "http://localhost:9/v1".to_owned(), ..again(&set.configs[0]) };
    bed.save(&key, vec![moved]).await.unwrap();
}

#[tokio::test]
async fn an_unreadable_secret_is_left_out_and_said() {
    let (bed, key) = Bed::with_model().await;
    let set = bed.save(&key, vec![inline("a", KEY), inline("b", OTHER_KEY)]).await.unwrap();
    bed.writer().set_balancing(&key, true).await.unwrap();
    bed.damage(&set.configs[0]).await;
    bed.catalog.load().await.unwrap();

    assert!(bed.catalog.pool(&key).unwrap().unreadable);
    assert_eq!(bed.serving(&key), [OTHER_KEY]);
    let listed = bed.listed(&key).await;
    assert_eq!(listed[0].warning, "secret cannot be read");
    assert_eq!(listed[0].credentials["api_key"], "*".repeat(20));
    bed.writer().set_balancing(&key, false).await.unwrap();
    let refused = bed.writer().set_balancing(&key, true).await;
    assert!(matches!(refused, Err(Error::NotEnoughConfigs(1))));
    // A new secret mends it.
    let mended = NewConfig { credentials: api_key(KEY), ..again(&listed[0]) };
    bed.save(&key, vec![mended, again(&listed[1])]).await.unwrap();
    bed.writer().set_balancing(&key, true).await.unwrap();
    assert_eq!(bed.serving(&key), [KEY, OTHER_KEY]);
}
