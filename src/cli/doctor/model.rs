//! Walks one model as a call would: says which config serves next, and why the others do not.

use super::{report::Report, shared::LIMIT};
use crate::{
    balance::{ErrorClass, Time},
    catalog::{Catalog, ConfigFrom, Error, PageRequest, Pool},
    invoke::{ExplainInput, Reason, explain},
    provider::{ModelType, Registry, UpstreamClient},
    settings::Settings,
    state::{Inspection, RedisStore},
};
use std::time::Duration;
use tokio::time::{sleep, timeout};

const NAME: &str = "model";

/// The model to walk, and how.
pub(super) struct Walk<'a> {
    pub(super) tenant: &'a str,
    /// Empty if the model's name is enough.
    pub(super) provider: &'a str,
    /// As the command line names it.
    pub(super) model_type: &'a str,
    pub(super) model: &'a str,
    /// Whether to ask the provider as well.
    pub(super) probe: bool,
    pub(super) settings: &'a Settings,
}

impl Walk<'_> {
    pub(super) async fn report(&self, catalog: Catalog, report: &mut Report) {
        match timeout(LIMIT * 2, self.walk(&catalog, report)).await {
            Ok(Ok(Some((pool, picked)))) if self.probe => self.ask_provider(&pool, &picked, report).await,
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                report.failure(NAME, error.to_string(), "correct --tenant, --provider, --type and --model");
            }
            Err(_) => report.failure(NAME, "not walked in time", "see the database and Redis"),
        }
    }

    /// The pool, and the id of the config that would serve next.
    async fn walk(
        &self,
        catalog: &Catalog,
        report: &mut Report,
    ) -> Result<Option<(std::sync::Arc<Pool>, String)>, Error> {
        let Some(model_type) = ModelType::from_name(self.model_type) else {
            return Err(Error::invalid("--type", "is none of those that `rota doctor --help` names"));
        };
        let provider = self.provider(catalog, model_type).await?;
        let pool = catalog.resolve(self.tenant, &provider, model_type, self.model).await?;
        let set = catalog.configs(&pool.key, ConfigFrom::Any).await?;
        let name = format!("{}/{}/{}", pool.key.tenant, pool.key.provider, pool.key.model);
        if !pool.enabled {
            let found = format!("{name} or its provider is disabled");
            report.failure(NAME, found, "EnableModel, or UpdateProvider with enabled");
            return Ok(None);
        }
        if pool.members.is_empty() {
            let found = format!("{name} has no credential that can be used");
            report.failure(NAME, found, "CreateCredential, or UpdateLoadBalancingConfigs with a usable one");
            return Ok(None);
        }
        if !pool.balanced {
            report.ok(NAME, format!("{name}: balancing is off, the active credential serves"));
            return Ok(pool.members.first().map(|member| member.id.to_string()).map(|id| (pool, id)));
        }
        report.ok(NAME, format!("{name}: balanced over {} configs", pool.members.len()));
        let inputs: Vec<ExplainInput> = set.configs.iter().map(ExplainInput::from).collect();
        let known = self.state(&set.roster, report).await;
        let seen = known.clone().unwrap_or_else(|| Inspection::blank(&set.roster, Time::default()));
        let (explained, picked) = explain(&set.roster, &inputs, &seen);
        for (config, one) in set.configs.iter().zip(&explained) {
            let (name, found) = (format!("config {}", config.name), one.reason.to_string());
            match one.reason {
                Reason::Cooling(ErrorClass::Authentication, _) => {
                    report.warning(name, found, "UpdateLoadBalancingConfigs with a key that works");
                }
                Reason::Cooling(..) => report.warning(name, found, "wait, or ClearCooldown"),
                Reason::Full(_) => report.warning(name, found, "wait, or raise its limits"),
                Reason::Unreadable => report.failure(name, found, "give its secret anew"),
                _ => report.ok(name, found),
            }
        }
        let Some(config) = picked.and_then(|place| set.configs.get(place)) else {
            report.failure("next config", "none can serve now", "wait, or ClearCooldown of one above");
            return Ok(None);
        };
        let unknown = if known.is_none() { ", unless it cools or another's turn comes first" } else { "" };
        report.ok("next config", format!("{}{unknown}", config.name));
        Ok(Some((pool, config.id.clone())))
    }

    /// The provider that was named, or the only one with such a model.
    async fn provider(&self, catalog: &Catalog, model_type: ModelType) -> Result<String, Error> {
        if !self.provider.is_empty() {
            return Ok(self.provider.to_owned());
        }
        let mut found = Vec::new();
        let mut page = PageRequest::default();
        loop {
            let models = catalog.list_models(self.tenant, "", Some(model_type), page).await?;
            let same = models.items.into_iter().filter(|model| model.key.model == self.model);
            found.extend(same.map(|model| model.key.provider));
            if models.next.is_empty() {
                break;
            }
            page = PageRequest { token: models.next, ..PageRequest::default() };
        }
        match found.as_slice() {
            [] => Err(Error::invalid("--model", "no provider of the tenant has it")),
            [one] => Ok(one.clone()),
            several => Err(Error::invalid("--provider", format!("must be one of {}", several.join(", ")))),
        }
    }

    /// What is known of the pool's turns and cooldowns.
    async fn state(&self, roster: &crate::balance::Roster, report: &mut Report) -> Option<Inspection> {
        const NAME: &str = "model state";
        let Some(options) = &self.settings.redis else {
            report.ok(NAME, "lies in the serving process: ask its Explain for cooldowns");
            return None;
        };
        let asked = async {
            let store = RedisStore::connect_later(options).ok()?;
            loop {
                if let Ok(seen) = store.inspect(roster).await {
                    return Some(seen);
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        let Ok(Some(seen)) = timeout(LIMIT, asked).await else {
            report.warning(NAME, "Redis is away: cooldowns are not known", "start Redis");
            return None;
        };
        report.ok(NAME, "read from Redis");
        Some(seen)
    }

    /// Asks the provider with the credentials of that config.
    async fn ask_provider(&self, pool: &Pool, picked: &str, report: &mut Report) {
        const NAME: &str = "probe";
        let Ok(client) = UpstreamClient::new(&self.settings.upstream) else {
            return report.failure(NAME, "TLS cannot be set up", "install the system's root certificates");
        };
        let drivers = Registry::new(client);
        let member = pool.members.iter().find(|member| *member.id == *picked);
        let (Some(driver), Some(member)) = (drivers.get(pool.kind.name), member) else {
            return report.failure(NAME, "the config cannot be called", "see its address and credentials");
        };
        match timeout(LIMIT, driver.validate(&member.target)).await {
            Ok(Ok(())) => report.ok(NAME, format!("{} was accepted", member.name)),
            Ok(Err(failure)) => {
                let found = format!("{}: {}: {}", member.name, failure.class.name(), failure.message);
                let next = match failure.class {
                    ErrorClass::Authentication => "UpdateLoadBalancingConfigs with a key that works",
                    ErrorClass::RateLimited | ErrorClass::QuotaExhausted => "wait, or raise the limit there",
                    _ => "see that the provider is well, and the address is right",
                };
                report.failure(NAME, found, next);
            }
            Err(_) => {
                let found = format!("{}: no answer within {LIMIT:?}", member.name);
                report.failure(NAME, found, "see that the provider is well, and the address is right");
            }
        }
    }
}
