//! Reads over many things at once, and saves of large sets: how many statements they take.

use rota::{
    catalog::{ConfigFrom, PageRequest},
    provider::ModelType,
};

use super::{Bed, KEY, OTHER_KEY, again, inline};

/// Gives the provider so many models with so many configs each, and so many credentials.
async fn grow(bed: &Bed, provider: &str, models: usize, configs: usize) {
    bed.provider(provider, "openai", "").await;
    for index in 0..models {
        let key = bed.model(provider, &format!("model-{index}")).await;
        bed.credential(provider, &format!("credential-{index}"), KEY).await;
        let set = (0..configs).map(|index| inline(&format!("config-{index}"), KEY)).collect();
        bed.save(&key, set).await.unwrap();
    }
}

#[tokio::test]
async fn a_tenant_is_read_with_as_many_statements_however_large_it_is() {
    let bed = Bed::new().await;
    bed.writer().create_tenant("acme", "Acme").await.unwrap();
    let (catalog, sent) = bed.counted().await;
    let whole = PageRequest { size: 1000, ..PageRequest::default() };
    let mut counts = Vec::new();
    for (provider, models, configs) in [("small", 1, 1), ("large", 30, 5)] {
        grow(&bed, provider, models, configs).await;
        sent();
        let found = catalog.configurations("acme", whole.clone()).await.unwrap();
        let of_all = sent();
        let bundle = catalog.provider_bundle("acme", provider, ModelType::Llm, whole.clone()).await.unwrap();
        counts.push((of_all, sent()));
        assert!(found.next.is_empty());
        assert_eq!(bundle.models.items.len(), models);
        assert_eq!(found.models.last().unwrap().1.configs.len(), configs);
    }
    assert_eq!(counts[0], counts[1]);
    assert!(counts[0].0 > 0 && counts[0].0 <= 16, "{counts:?}");
}

#[tokio::test]
async fn a_set_is_saved_with_as_many_statements_however_large_it_is() {
    let (bed, key) = Bed::with_model().await;
    let (catalog, sent) = bed.counted().await;
    let mut counts = Vec::new();
    for size in [3, 300] {
        let set = (0..size).map(|index| inline(&format!("{index}"), KEY)).collect();
        let saved = catalog.by_command_line().update_configs(&key, ConfigFrom::Any, 0, set).await.unwrap();
        sent();
        // A third is left out, a third is changed, the rest is as it was; some are new.
        let mut set: Vec<_> = saved.configs.iter().skip(size / 3).map(again).collect();
        for config in &mut set[..size / 3] {
            config.weight = Some(7);
        }
        set.extend((0..size / 3).map(|index| inline(&format!("new {index}"), OTHER_KEY)));
        let saved = catalog.by_command_line().update_configs(&key, ConfigFrom::Any, 0, set).await.unwrap();
        counts.push(sent());
        assert_eq!(saved.configs.len(), size);
        let weighted = saved.configs.iter().filter(|config| config.weight == 7).count();
        let new = saved.configs.iter().filter(|config| config.name.starts_with("new")).count();
        assert_eq!((weighted, new), (size / 3, size / 3));
        assert!(saved.configs.iter().all(|config| config.readable));
    }
    assert_eq!(counts[0], counts[1]);
}
