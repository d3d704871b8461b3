//! Compiles stored rows into what serves: the members of a pool, with their addresses and their opened credentials.
//!
//! A pool and a listing are compiled from the same [`Row`]s. A row whose secret does not open is left out of the pool, and
//! the listing says so.

use crate::{
    balance::{self, Limits},
    catalog::{
        addresses::{config_address, provider_address},
        compiled::load::Parts,
        secrets::{
            fields::{self, Holder, UNREADABLE},
            key_ring::{hex, sha256_of},
        },
        stored::{
            Inherit,
            entity::{credentials, lb_configs},
            fallbacks, in_listing, switches,
        },
        types::{Config, ConfigFrom, ConfigSet, INHERIT, PolicySettings, Pool, PoolMember},
    },
    provider::{KindSpec, Target},
};
use secrecy::SecretString;
use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
    sync::Arc,
};
use url::Url;

/// The warning of a config that is the only usable one of a balanced model.
const ALONE: &str = "the only usable config: nothing to fail over to";

/// Builds with debug assertions panic where a model with this `upstream_model` is compiled, so that tests can see that
/// such a panic stays with its own model.
#[cfg(debug_assertions)]
pub const POISON: &str = "__panic_when_compiled__";

/// One config, compiled.
pub struct Row {
    /// As listed.
    pub config: Config,
    /// As stored: which listing it belongs to.
    pub source: String,
    /// Where it goes. `None` where its secret or its address cannot be read.
    pub target: Option<Target>,
}

impl Row {
    /// Whether it may be picked.
    pub fn usable(&self) -> bool {
        self.config.enabled && self.config.weight > 0 && self.target.is_some()
    }
}

/// What differs between the virtual config and a stored one.
struct Draft<'a> {
    id: String,
    ordinal: u32,
    name: &'a str,
    linked: Option<&'a credentials::Model>,
    inline: Option<&'a lb_configs::Model>,
    enabled: bool,
    weight: i32,
    priority: i32,
    base_url: &'a str,
    upstream_model: &'a str,
    limits: Limits,
}

/// The rows of a model's set in ring order, [`INHERIT`] first where it is one of them.
pub fn rows(parts: &Parts) -> Vec<Row> {
    let state = Inherit::from_name(&parts.model.inherit);
    let inherit =
        (state != Inherit::LeftOut).then(|| inherit_row(parts, state != Inherit::Disabled)).flatten();
    let stored = parts.configs.iter().map(|row| stored_row(parts, row));
    inherit.into_iter().chain(stored).collect()
}

fn inherit_row(parts: &Parts, enabled: bool) -> Option<Row> {
    let credential = parts.inherit.as_deref()?;
    let draft = Draft { linked: Some(credential), ..bare_inherit(enabled) };
    Some(compile(parts, &draft, ""))
}

fn bare_inherit(enabled: bool) -> Draft<'static> {
    Draft {
        id: INHERIT.to_owned(),
        ordinal: 0,
        name: INHERIT,
        linked: None,
        inline: None,
        enabled,
        weight: 1,
        priority: 0,
        base_url: "",
        upstream_model: "",
        limits: Limits::default(),
    }
}

/// The one that serves without balancing. Without a credential only a kind that needs none can be called.
pub fn single(parts: &Parts) -> Option<Row> {
    inherit_row(parts, true).or_else(|| {
        let callable = !needs_credential(parts.kind)
            && !provider_address(parts.kind, &parts.provider.base_url).is_empty();
        callable.then(|| compile(parts, &bare_inherit(true), ""))
    })
}

/// Whether a kind cannot be called without a credential.
fn needs_credential(kind: &KindSpec) -> bool {
    kind.credential_fields.iter().any(|field| field.required)
}

fn stored_row(parts: &Parts, row: &lb_configs::Model) -> Row {
    let linked = row.credential_id.and_then(|id| parts.credentials.get(&id)).map(AsRef::as_ref);
    let draft = Draft {
        id: row.id.to_string(),
        ordinal: u32::try_from(row.ordinal).unwrap_or_default(),
        name: linked.map_or(row.name.as_str(), |credential| &credential.name),
        linked,
        inline: linked.is_none().then_some(row),
        enabled: row.enabled,
        weight: row.weight,
        priority: row.priority,
        base_url: &row.base_url,
        upstream_model: &row.upstream_model,
        limits: Limits {
            requests_per_minute: limit(row.requests_per_minute),
            tokens_per_minute: limit(row.tokens_per_minute),
            max_concurrency: limit(row.max_concurrency),
        },
    };
    compile(parts, &draft, &row.source)
}

fn limit(stored: i32) -> u32 {
    u32::try_from(stored).unwrap_or_default()
}

fn compile(parts: &Parts, draft: &Draft<'_>, source: &str) -> Row {
    let none = format!("m{}.{}", parts.model.id.simple(), draft.ordinal);
    let (values, credential) = match (draft.linked, draft.inline) {
        (Some(linked), _) => (
            fields::read(Some(parts.kind), &linked.fields, Holder::credential(linked.id), &parts.keys),
            format!("{}.{}", linked.id.simple(), linked.revision),
        ),
        (None, Some(row)) => {
            let values = fields::read(Some(parts.kind), &row.fields, Holder::config(row.id), &parts.keys);
            let identity = match &values {
                Ok(values) if !values.is_empty() => {
                    parts.keys.get(&parts.tenant.data_key_id).map(|key| key.identity(values))
                }
                _ => None,
            };
            (values, identity.unwrap_or(none))
        }
        (None, None) => (Ok(BTreeMap::new()), none),
    };
    let base_url = config_address(parts.kind, &parts.provider.base_url, draft.base_url);
    let upstream = [draft.upstream_model, &parts.model.upstream_model]
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or(&parts.model.name);
    let target = target(parts, values, base_url, upstream);
    let digest = hex(&sha256_of(&[&credential, base_url, upstream]), 8);
    let address = target.as_ref().map(|target| address_digest(&target.base_url)).unwrap_or_default();
    let warning = if target.is_none() { UNREADABLE } else { "" };
    Row {
        config: Config {
            id: draft.id.clone(),
            name: draft.name.to_owned(),
            // `__inherit__` is whichever credential is active, so it names none.
            credential_id: match draft.linked {
                Some(linked) if draft.id != INHERIT => linked.id.to_string(),
                _ => String::new(),
            },
            credentials: BTreeMap::new(),
            enabled: draft.enabled,
            weight: draft.weight,
            priority: draft.priority,
            base_url: draft.base_url.to_owned(),
            upstream_model: draft.upstream_model.to_owned(),
            warning: warning.to_owned(),
            readable: target.is_some(),
            member: balance::Member {
                key: balance::MemberKey::new(draft.ordinal, digest),
                credential: credential.into(),
                address,
                priority: draft.priority,
                weight: u32::try_from(draft.weight).unwrap_or_default(),
                limits: draft.limits,
            },
        },
        source: source.to_owned(),
        target,
    }
}

/// Names the scheme, host and port of a URL.
fn address_digest(url: &Url) -> Arc<str> {
    hex(&sha256_of(&[url.origin().ascii_serialization().as_str()]), 16).into()
}

fn target(
    parts: &Parts,
    values: Result<BTreeMap<String, SecretString>, fields::Unreadable>,
    base_url: &str,
    upstream: &str,
) -> Option<Target> {
    let base_url = Url::parse(base_url).ok()?;
    Some(Target {
        tenant: parts.tenant.id,
        base_url,
        model: upstream.to_owned(),
        fields: values.ok()?.into_iter().collect(),
        switches: switches(&parts.provider.switches),
        connect_timeout: None,
    })
}

/// What serves calls of this model.
pub fn pool(parts: &Parts) -> Pool {
    #[cfg(debug_assertions)]
    assert!(parts.model.upstream_model != POISON, "a test asked for this panic");
    let members = rows(parts);
    let configured = members.iter().map(|row| &row.config.member);
    let configured = configured.map(|member| (member.key.clone(), member.credential.clone())).collect();
    // A pool with everything switched off is no pool: the active credential serves, as in Dify.
    let balanced = parts.model.lb_enabled && members.iter().any(|row| row.config.enabled);
    let rows = if balanced { members } else { single(parts).into_iter().collect() };
    let policy = PolicySettings::read(&parts.model.policy).policy();
    let (mut roster, mut members) = (Vec::new(), Vec::new());
    let mut unreadable = false;
    for row in rows {
        if row.target.is_none() {
            unreadable = true;
            tracing::error!(
                tenant = parts.key.tenant,
                provider = parts.key.provider,
                config = row.config.id,
                "a config is left out of its pool: its secret cannot be read"
            );
        }
        if !row.usable() {
            continue;
        }
        let Some(target) = row.target else { continue };
        let target = Target { connect_timeout: policy.timeouts.connect, ..target };
        roster.push(row.config.member);
        members.push(PoolMember { id: row.config.id.into(), name: row.config.name.into(), target });
    }
    Pool {
        key: parts.key.clone(),
        kind: parts.kind,
        enabled: parts.model.enabled && parts.provider.enabled,
        balanced,
        policy,
        fallbacks: fallbacks::read(&parts.model.fallbacks, &parts.key),
        context_window: u32::try_from(parts.model.context_window).ok().and_then(NonZeroU32::new),
        unreadable,
        configured,
        roster: Arc::new(self::roster(parts, roster)),
        members,
    }
}

fn roster(parts: &Parts, members: Vec<balance::Member>) -> balance::Roster {
    let settings = PolicySettings::read(&parts.model.policy);
    balance::Roster {
        id: parts.model.id,
        tenant: parts.tenant.id,
        strategy: settings.strategy(),
        last_resort: settings.policy().last_resort,
        members: members.into(),
        waits: settings.wait_when_exhausted,
    }
}

/// The listing of a model's configs.
pub fn config_set(parts: &Parts, from: ConfigFrom) -> ConfigSet {
    let mut rows = rows(parts);
    // Opened once more for their masks: a pool, which is compiled far more often, needs none.
    let own: HashMap<_, _> = parts.configs.iter().map(|row| (row.id.to_string(), row)).collect();
    for config in rows.iter_mut().map(|row| &mut row.config).filter(|config| config.credential_id.is_empty())
    {
        if let Some(row) = own.get(&config.id) {
            config.credentials =
                fields::masked(Some(parts.kind), &row.fields, Holder::config(row.id), &parts.keys);
        }
    }
    if parts.model.lb_enabled && rows.iter().filter(|row| row.usable()).count() == 1 {
        for row in rows.iter_mut().filter(|row| row.usable()) {
            ALONE.clone_into(&mut row.config.warning);
        }
    }
    let (mut roster, mut configs) = (Vec::new(), Vec::new());
    for row in rows.into_iter().filter(|row| in_listing(&row.source, from)) {
        roster.push(row.config.member.clone());
        configs.push(row.config);
    }
    ConfigSet {
        enabled: parts.model.lb_enabled,
        revision: parts.model.lb_revision,
        policy: PolicySettings::read(&parts.model.policy),
        roster: self::roster(parts, roster),
        configs,
    }
}
