//! Whether calls are taken, and what that depends on.

use crate::{
    catalog::{Catalog, DatabaseState},
    state::StateStore,
};
use parking_lot::Mutex;
use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};
use tokio_util::sync::CancellationToken;

/// Whether calls are taken.
#[derive(Clone)]
pub struct Readiness {
    /// Cancelled when no new calls are taken.
    pub draining: CancellationToken,
    /// What serves. It is empty while the service starts.
    pub serving: Arc<OnceLock<Serving>>,
    /// What that needs of Redis.
    pub redis: RedisNeed,
    /// How the database was when it was last asked.
    pub database: Arc<Mutex<DatabaseState>>,
}

/// What calls are served from.
pub struct Serving {
    /// What tenants configured.
    pub catalog: Catalog,
    /// Where turns and cooldowns live.
    pub state: Arc<dyn StateStore>,
}

/// How readiness depends on Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisNeed {
    /// State is in the process.
    None,
    /// A replica may go on without it.
    Wanted,
    /// No calls are taken without it.
    Required,
}

/// One thing that calls or configuration depend on.
#[derive(Debug, PartialEq, Eq)]
pub struct Dependency {
    /// Its name.
    pub name: &'static str,
    /// Whether it is there.
    pub there: bool,
    /// What that means.
    pub means: Cow<'static, str>,
}

impl Readiness {
    /// Why no calls are taken. `None` while they are.
    #[must_use]
    pub fn why_not(&self) -> Option<&'static str> {
        match self.serving.get() {
            _ if self.draining.is_cancelled() => Some("draining"),
            None => Some("starting"),
            Some(serving) if self.redis == RedisNeed::Required && serving.state.degraded() => {
                Some("Redis is required, and away")
            }
            Some(_) => None,
        }
    }

    /// Lists everything that calls or configuration depend on.
    #[must_use]
    pub fn dependencies(&self) -> Vec<Dependency> {
        let Some(serving) = self.serving.get() else {
            return vec![Dependency {
                name: "calls",
                there: false,
                means: "starting: the log says what is waited for".into(),
            }];
        };
        let draining = self.draining.is_cancelled();
        let mut all = vec![Dependency {
            name: "calls",
            there: !draining,
            means: if draining { "draining" } else { "the first snapshot is loaded" }.into(),
        }];
        if self.redis != RedisNeed::None {
            let away = serving.state.degraded();
            let means = match (away, self.redis) {
                (false, _) => "turns and cooldowns are shared",
                (true, RedisNeed::Required) => "away, and required",
                (true, _) => "away: this replica decides alone",
            };
            let means = match serving.state.problem() {
                Some(problem) => format!("{means} ({problem})").into(),
                None => means.into(),
            };
            all.push(Dependency { name: "redis", there: !away, means });
        }
        if serving.state.is_cut_off() {
            let means = "cut off: none of the addresses that this replica has tried lately can be reached";
            all.push(Dependency { name: "providers", there: false, means: means.into() });
        }
        let database = *self.database.lock();
        let means = match database {
            DatabaseState::Writable => "configuration can be changed",
            DatabaseState::ReadOnly => "takes no writes: configuration cannot be changed",
            DatabaseState::Away => "away: configuration cannot be changed",
        };
        let there = database == DatabaseState::Writable;
        all.push(Dependency { name: "database", there, means: means.into() });
        all
    }
}
