//! Fallbacks: what may be one, circles, and what they keep from being deleted.

use rota::{
    catalog::{Error, Model, ModelKey, NewModel, ResourceKind},
    provider::ModelType,
};

use super::{Bed, new_model, violated};

async fn link(bed: &Bed, from: &ModelKey, to: &[&ModelKey]) -> Result<Model, Error> {
    let fallbacks = to.iter().map(|&key| key.clone()).collect();
    bed.writer().put_model(NewModel { fallbacks, ..new_model(from) }).await
}

#[tokio::test]
async fn fallbacks_serve_in_order_and_are_replaced_with_the_model() {
    let (bed, a) = Bed::with_model().await;
    let (b, c) = (bed.model("openai", "b").await, bed.model("openai", "c").await);
    // Dify's long name of a provider is the short one.
    let long = ModelKey { provider: "langgenius/openai/openai".to_owned(), ..c.clone() };
    assert_eq!(link(&bed, &a, &[&long, &b]).await.unwrap().fallbacks, [c.clone(), b.clone()]);
    for catalog in [&bed.catalog, &bed.replica().await] {
        assert_eq!(catalog.pool(&a).unwrap().fallbacks, [c.clone(), b.clone()]);
        assert_eq!(catalog.get_model(&a).await.unwrap().fallbacks, [c.clone(), b.clone()]);
    }
    bed.writer().set_model_enabled(&a, false).await.unwrap();
    bed.writer().set_model_enabled(&a, true).await.unwrap();
    assert_eq!(bed.catalog.pool(&a).unwrap().fallbacks.len(), 2, "only PutModel replaces them");
    assert!(link(&bed, &a, &[]).await.unwrap().fallbacks.is_empty());
    assert!(bed.catalog.pool(&a).unwrap().fallbacks.is_empty());
}

#[tokio::test]
async fn no_circle_can_be_closed() {
    let (bed, a) = Bed::with_model().await;
    let [b, c, d] =
        [bed.model("openai", "b").await, bed.model("openai", "c").await, bed.model("openai", "d").await];
    assert_eq!(violated(link(&bed, &a, &[&a]).await), ["fallbacks[0]"]);
    link(&bed, &a, &[&b]).await.unwrap();
    link(&bed, &b, &[&d, &c]).await.unwrap();
    // Two ways to one model are no circle.
    link(&bed, &d, &[&c]).await.unwrap();
    for (from, to) in [(&b, [&a].as_slice()), (&c, &[&a]), (&c, &[&b]), (&d, &[&a])] {
        let refused = link(&bed, from, to).await;
        assert_eq!(violated(refused), ["fallbacks[0]"], "{} to {}", from.model, to[0].model);
    }
    let other = bed.model("openai", "other").await;
    assert_eq!(violated(link(&bed, &c, &[&other, &a]).await), ["fallbacks[1]"]);
    assert!(bed.catalog.get_model(&c).await.unwrap().fallbacks.is_empty(), "a refusal changes nothing");
    // Replacing its own edges opens the way.
    link(&bed, &a, &[]).await.unwrap();
    link(&bed, &c, &[&a]).await.unwrap();
}

/// Two writers at once, each closing one half of a circle: one of them is refused.
#[tokio::test(flavor = "multi_thread")]
async fn two_writers_cannot_close_a_circle_between_them() {
    let (bed, a) = Bed::with_model().await;
    let b = bed.model("openai", "b").await;
    for _ in 0..8 {
        link(&bed, &a, &[]).await.unwrap();
        link(&bed, &b, &[]).await.unwrap();
        let (to_b, to_a) = ([&b], [&a]);
        let (one, two) = tokio::join!(link(&bed, &a, &to_b), link(&bed, &b, &to_a));
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    }
}

#[tokio::test]
async fn strangers_are_refused_by_name() {
    let (bed, a) = Bed::with_model().await;
    let b = bed.model("openai", "b").await;
    let typed = ModelKey { model_type: ModelType::TextEmbedding, ..b.clone() };
    assert_eq!(violated(link(&bed, &a, &[&b, &typed]).await), ["fallbacks[1].model_type"]);
    assert_eq!(violated(link(&bed, &a, &[&b, &b]).await), ["fallbacks[1]"]);
    let nameless = ModelKey { model: String::new(), ..b.clone() };
    assert_eq!(violated(link(&bed, &a, &[&b, &nameless]).await), ["fallbacks[1].model"]);
    let malformed = ModelKey { provider: "Open AI".to_owned(), ..b.clone() };
    assert_eq!(violated(link(&bed, &a, &[&malformed]).await), ["fallbacks[0].provider"]);
    assert_eq!(violated(link(&bed, &a, &[&b; 9]).await), ["fallbacks"]);

    bed.writer().create_tenant("rival", "").await.unwrap();
    let missing = [
        (ModelKey { tenant: "rival".to_owned(), ..b.clone() }, ResourceKind::Tenant),
        (ModelKey { provider: "none".to_owned(), ..b.clone() }, ResourceKind::Provider),
        (ModelKey { model: "none".to_owned(), ..b.clone() }, ResourceKind::Model),
    ];
    for (key, expected) in missing {
        match link(&bed, &a, &[&key]).await {
            Err(Error::NotFound(thing, _)) => assert_eq!(thing, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    assert!(bed.catalog.get_model(&a).await.unwrap().fallbacks.is_empty());
}

#[tokio::test]
async fn a_fallback_stays_while_another_names_it() {
    let (bed, a) = Bed::with_model().await;
    let b = bed.model("openai", "b").await;
    link(&bed, &a, &[&b]).await.unwrap();
    assert!(matches!(bed.writer().delete_model(&b).await, Err(Error::InUse(ResourceKind::Model, _))));
    bed.catalog.get_model(&b).await.unwrap();
    // The one that names it may go, and then so may the fallback.
    bed.writer().delete_model(&a).await.unwrap();
    bed.writer().delete_model(&b).await.unwrap();
}
