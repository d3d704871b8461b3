//! What tenants call their models: finds a model by less than its whole key.
//!
//! It knows the models that are in memory, and the aliases. Whoever loads changes it, under the lock of loads.

use crate::{
    catalog::{
        compiled::similar::Similar,
        names,
        types::{ModelAlias, ModelKey},
    },
    provider::ModelType,
};
use dashmap::DashMap;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};
use uuid::Uuid;

/// How many models an ambiguous name tells of.
const MOST_CANDIDATES: usize = 10;

/// What a name means.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// This model.
    Model(ModelKey),
    /// One of several, as `provider/model`.
    Several(Vec<String>),
    /// Nothing.
    Nothing,
}

/// The providers and types of a tenant's models, by the model's name.
type Models = BTreeMap<String, BTreeSet<(String, ModelType)>>;

/// The aliases of the tenant with that row id.
#[derive(Debug, Default)]
struct Aliases {
    tenant: Uuid,
    by_name: BTreeMap<String, ModelKey>,
}

/// The names of all tenants, by the tenant's id.
#[derive(Default)]
pub struct Index {
    models: DashMap<String, Arc<Models>>,
    aliases: DashMap<String, Arc<Aliases>>,
}

impl Index {
    /// A tenant's names as they are now.
    pub fn of<'t>(&self, tenant: &'t str) -> Names<'t> {
        Names {
            tenant,
            models: self.models.get(tenant).map(|models| Arc::clone(&models)).unwrap_or_default(),
            aliases: self.aliases.get(tenant).map(|aliases| Arc::clone(&aliases)).unwrap_or_default(),
        }
    }

    /// Takes in a model.
    pub fn add(&self, key: &ModelKey) {
        let mut models = self.models.entry(key.tenant.clone()).or_default();
        let called = (key.provider.clone(), key.model_type);
        if models.get(&key.model).is_none_or(|known| !known.contains(&called)) {
            Arc::make_mut(&mut models).entry(key.model.clone()).or_default().insert(called);
        }
    }

    /// Forgets a model.
    pub fn remove(&self, key: &ModelKey) {
        if let Some(mut models) = self.models.get_mut(&key.tenant) {
            let models = Arc::make_mut(&mut models);
            if let Some(known) = models.get_mut(&key.model) {
                known.remove(&(key.provider.clone(), key.model_type));
                if known.is_empty() {
                    models.remove(&key.model);
                }
            }
        }
        self.models.remove_if(&key.tenant, |_, models| models.is_empty());
    }

    /// Swaps in the aliases of tenants, each with its tenant's row id. Removes those of the tenants that `gone` names, by
    /// row id, where none was found.
    pub fn set_aliases(&self, found: Vec<(Uuid, ModelAlias)>, gone: impl Fn(Uuid) -> bool) {
        let mut tenants: HashMap<String, Aliases> = HashMap::new();
        for (tenant, ModelAlias { name, target, .. }) in found {
            let entry = tenants
                .entry(target.tenant.clone())
                .or_insert_with(|| Aliases { tenant, by_name: BTreeMap::new() });
            entry.by_name.insert(name, target);
        }
        self.aliases.retain(|name, aliases| !gone(aliases.tenant) || tenants.contains_key(name));
        for (name, aliases) in tenants {
            self.aliases.insert(name, Arc::new(aliases));
        }
    }
}

/// A snapshot of what one tenant calls its models.
#[derive(Debug)]
pub struct Names<'t> {
    tenant: &'t str,
    models: Arc<Models>,
    aliases: Arc<Aliases>,
}

impl Names<'_> {
    /// The model that an alias means.
    pub fn alias(&self, name: &str) -> Option<&ModelKey> {
        self.aliases.by_name.get(name)
    }

    /// Every alias with its target, by name.
    pub fn aliases(&self) -> impl Iterator<Item = (&str, &ModelKey)> {
        self.aliases.by_name.iter().map(|(name, target)| (name.as_str(), target))
    }

    /// Every model.
    pub fn models(&self) -> impl Iterator<Item = ModelKey> {
        self.models.iter().flat_map(move |(model, known)| {
            known.iter().map(move |(provider, model_type)| self.key(provider, *model_type, model))
        })
    }

    /// What a name means, of models of that type or of any: first `provider/model`, then an alias, then the name of a
    /// model that one provider alone has. Where that has it in several types, the first of them is meant.
    pub fn find(&self, name: &str, of: Option<ModelType>) -> Found {
        let wanted = |model_type: ModelType| of.is_none_or(|of| of == model_type);
        for (provider, model) in names::readings(name) {
            let known = self.models.get(model).into_iter().flatten();
            let mut types = known.filter(|(known, _)| known == provider).map(|(_, model_type)| *model_type);
            if let Some(model_type) = types.find(|model_type| wanted(*model_type)) {
                return Found::Model(self.key(provider, model_type, model));
            }
        }
        if let Some(target) = self.alias(name).filter(|target| wanted(target.model_type)) {
            return Found::Model(target.clone());
        }
        let known = self.models.get(name).into_iter().flatten();
        let mut providers: BTreeMap<&str, ModelType> = BTreeMap::new();
        for (provider, model_type) in known.filter(|(_, model_type)| wanted(*model_type)) {
            providers.entry(provider).or_insert(*model_type);
        }
        match providers.pop_first() {
            None => Found::Nothing,
            Some((provider, model_type)) if providers.is_empty() => {
                Found::Model(self.key(provider, model_type, name))
            }
            Some((first, _)) => {
                let several = [first].into_iter().chain(providers.into_keys()).take(MOST_CANDIDATES);
                Found::Several(several.map(|provider| format!("{provider}/{name}")).collect())
            }
        }
    }

    /// Names of models of that type or of any, and aliases, that are like this one: the likeliest first.
    pub fn similar(&self, name: &str, of: Option<ModelType>) -> Vec<String> {
        let wanted = |model_type: ModelType| of.is_none_or(|of| of == model_type);
        let mut similar = Similar::to(name);
        for (alias, _) in self.aliases().filter(|(_, target)| wanted(target.model_type)) {
            similar.consider(alias, || alias.to_owned());
        }
        for (model, known) in &*self.models {
            for (provider, _) in known.iter().filter(|(_, model_type)| wanted(*model_type)) {
                similar.consider(model, || format!("{provider}/{model}"));
            }
        }
        similar.best()
    }

    fn key(&self, provider: &str, model_type: ModelType, model: &str) -> ModelKey {
        let (tenant, provider, model) = (self.tenant.to_owned(), provider.to_owned(), model.to_owned());
        ModelKey { tenant, provider, model_type, model }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn key(provider: &str, model_type: ModelType, model: &str) -> ModelKey {
        let (tenant, provider, model) = ("acme".to_owned(), provider.to_owned(), model.to_owned());
        ModelKey { tenant, provider, model_type, model }
    }

    fn llm(provider: &str, model: &str) -> ModelKey {
        key(provider, ModelType::Llm, model)
    }

    fn index(models: &[ModelKey], aliases: &[(&str, ModelKey)]) -> Index {
        let index = Index::default();
        for model in models {
            index.add(model);
        }
        let aliases = aliases.iter().map(|(name, target)| {
            let alias = ModelAlias { name: (*name).to_owned(), target: target.clone(), revision: 1 };
            (Uuid::from_u128(1), alias)
        });
        index.set_aliases(aliases.collect(), |_| true);
        index
    }

    #[test]
    fn a_models_own_name_goes_before_an_alias_and_that_before_a_bare_name() {
        let (plain, spare, vendor) = (llm("openai", "gpt-4o"), llm("azure", "gpt-4o"), llm("router", "a/b"));
        let models = [plain.clone(), spare.clone(), vendor.clone(), llm("one", "only")];
        let aliases =
            [("gpt-4o", spare.clone()), ("openai/gpt-4o", spare.clone()), ("team/fast", vendor.clone())];
        let names = index(&models, &aliases).of("acme");
        let found = |name: &str| names.find(name, Some(ModelType::Llm));
        assert_eq!(found("openai/gpt-4o"), Found::Model(plain.clone()), "no alias shadows a model");
        assert_eq!(found("langgenius/openai/openai/gpt-4o"), Found::Model(plain));
        assert_eq!(found("gpt-4o"), Found::Model(spare));
        assert_eq!(found("router/a/b"), Found::Model(vendor.clone()));
        assert_eq!(found("a/b"), Found::Model(vendor.clone()), "a bare name may hold a slash");
        assert_eq!(found("team/fast"), Found::Model(vendor));
        assert_eq!(found("only"), Found::Model(llm("one", "only")));
        for nothing in ["", "other", "openai/", "/gpt-4o", "azure/only", "GPT-4O"] {
            assert_eq!(found(nothing), Found::Nothing, "{nothing}");
        }
        assert_eq!(index(&models, &aliases).of("beta").find("only", None), Found::Nothing);
    }

    #[test]
    fn a_bare_name_of_several_providers_is_ambiguous_within_the_type_alone() {
        let models = [
            llm("b", "m"),
            llm("a", "m"),
            key("c", ModelType::Rerank, "m"),
            key("d", ModelType::Tts, "n"),
            key("d", ModelType::Llm, "n"),
        ];
        let names = index(&models, &[("alias", models[2].clone())]).of("acme");
        assert_eq!(names.find("m", Some(ModelType::Llm)), Found::Several(vec!["a/m".into(), "b/m".into()]));
        assert_eq!(names.find("m", Some(ModelType::Rerank)), Found::Model(models[2].clone()));
        assert_eq!(names.find("m", Some(ModelType::Tts)), Found::Nothing);
        let any = vec!["a/m".to_owned(), "b/m".to_owned(), "c/m".to_owned()];
        assert_eq!(names.find("m", None), Found::Several(any));
        assert_eq!(names.find("n", None), Found::Model(models[4].clone()), "one model in two types");
        assert_eq!(names.find("d/n", None), Found::Model(models[4].clone()));
        assert_eq!(names.find("d/n", Some(ModelType::Tts)), Found::Model(models[3].clone()));
        assert_eq!(names.find("alias", None), Found::Model(models[2].clone()));
        assert_eq!(names.find("alias", Some(ModelType::Llm)), Found::Nothing);

        let many: Vec<_> = (0..20).map(|index| llm(&format!("p{index:02}"), "m")).collect();
        let Found::Several(candidates) = index(&many, &[]).of("acme").find("m", None) else { panic!() };
        assert_eq!((candidates.len(), candidates[9].as_str()), (10, "p09/m"));
    }

    #[test]
    fn aliases_change_with_their_tenant() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let alias = |tenant: &str, name: &str| ModelAlias {
            name: name.to_owned(),
            target: ModelKey { tenant: tenant.to_owned(), ..llm("p", "m") },
            revision: 1,
        };
        let index = Index::default();
        index.set_aliases(vec![(one, alias("acme", "a")), (two, alias("beta", "b"))], |_| true);
        let known =
            |tenant: &str| index.of(tenant).aliases().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        index.set_aliases(vec![(one, alias("acme", "c"))], |id| id == one);
        assert_eq!((known("acme"), known("beta")), (vec!["c".to_owned()], vec!["b".to_owned()]));
        index.set_aliases(Vec::new(), |id| id == one);
        assert_eq!((known("acme"), known("beta")), (Vec::new(), vec!["b".to_owned()]));
    }

    proptest! {
        /// Whatever comes and goes, the index finds what is there and nothing else.
        #[test]
        fn it_finds_what_is_there(steps in prop::collection::vec((any::<bool>(), 0..3_usize, 0..2_usize, 0..3_usize), 0..40)) {
            let index = Index::default();
            let mut there = HashSet::new();
            for (add, provider, of, model) in steps {
                let of = [ModelType::Llm, ModelType::Rerank][of];
                let key = key(["p", "q", "langgenius"][provider], of, ["m", "p/p/m", "q/m"][model]);
                if add {
                    index.add(&key);
                    there.insert(key);
                } else {
                    index.remove(&key);
                    there.remove(&key);
                }
            }
            let names = index.of("acme");
            prop_assert_eq!(names.models().collect::<HashSet<_>>(), there.clone());
            for key in &there {
                let name = format!("{}/{}", key.provider, key.model);
                prop_assert_eq!(names.find(&name, Some(key.model_type)), Found::Model(key.clone()));
            }
            prop_assert_eq!(index.models.is_empty(), there.is_empty());
        }
    }
}
