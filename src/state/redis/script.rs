//! The scripts: each file of Lua behind what all of them share.

use super::{
    codec::{RECORD_FIELDS, RECORD_FIELDS_AT_FIRST, role},
    keys::{LINE_CHANNEL, STAND_TTL},
};
use crate::{
    balance::{ErrorClass, Standing, Strategy, constants, millis},
    redis::Script,
    state::Role,
};
use std::sync::LazyLock;

/// The script of that file, behind what every script shares.
macro_rules! script {
    ($name:literal) => {{
        static SCRIPT: std::sync::LazyLock<$crate::redis::Script> = std::sync::LazyLock::new(|| {
            let own = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/state/redis/", $name, ".lua"));
            $crate::redis::Script::new($name, $crate::state::redis::script::shared_lua() + own)
        });
        &*SCRIPT
    }};
}
pub(super) use script;

pub(super) static ACQUIRE: LazyLock<Script> = LazyLock::new(|| {
    let parts = [
        include_str!("plain.lua"),
        &shared_lua(),
        include_str!("strategies.lua"),
        include_str!("stand.lua"),
        include_str!("acquire.lua"),
    ];
    Script::new("acquire", parts.concat())
});

pub(super) static COUNT: LazyLock<Script> =
    LazyLock::new(|| Script::new("count", line_lua() + include_str!("count.lua")));

/// The score of a replica all of whose callers have stepped aside: the largest whole number that a double holds exactly.
const LAST: u64 = (1 << 53) - 1;

/// A run of a script looks at so many leases that are over, holders that are dead, or records that may say nothing any more:
/// its share of what has piled up.
const AT_ONCE_ENDED: u64 = 16;
/// Of so many members with a record a pick tells whether they cool, other ones each time.
const MOST_TOLD: u64 = 64;
/// A pool of more members keeps its weighted turns in a form that is read quickly.
const LARGE: u64 = 100;

/// `tell`, behind its constants.
fn line_lua() -> String {
    format!("local LAST, LINE_CHANNEL = {LAST}, '{LINE_CHANNEL}'\n") + include_str!("line.lua")
}

/// What every script shares: the numbers and names of the rules in `src/balance/`, as Lua's constants, and `common.lua`.
pub(super) fn shared_lua() -> String {
    let numbers = [
        ("EPISODE_DECAY", millis(constants::EPISODE_DECAY)),
        ("MAX_EPISODES", constants::MAX_EPISODES.into()),
        ("SHARE_WINDOW", millis(constants::SHARE_WINDOW)),
        ("SHARE", constants::SHARE.into()),
        ("SHARE_VOLUME", constants::SHARE_VOLUME.into()),
        ("TRIAL_STEP", millis(constants::TRIAL_STEP)),
        ("MAX_TRIAL_STEPS", constants::MAX_TRIAL_STEPS.into()),
        ("PACE", millis(constants::PACE)),
        ("PROOF", constants::PROOF.into()),
        ("KEPT", millis(constants::KEPT)),
        ("BUCKET", millis(constants::BUCKET)),
        ("BUCKETS", constants::BUCKETS),
        ("CONCURRENCY_PAUSE", millis(constants::CONCURRENCY_PAUSE)),
        ("SCALE", constants::SCALE.unsigned_abs()),
        ("AVAILABLE", Standing::Available.severity().into()),
        ("HALF_OPEN", Standing::HalfOpen.severity().into()),
        ("JOINABLE", Standing::Joinable.severity().into()),
        ("TRIAL_RUNNING", Standing::TrialRunning.severity().into()),
        ("COOLING", Standing::COOLING.into()),
        ("STAND_TTL", millis(STAND_TTL)),
        ("PASSING", role(Role::Passing).into()),
        ("JOINING", role(Role::Joining).into()),
        ("FRONT", role(Role::Front).into()),
        ("ASIDE", role(Role::Aside).into()),
        ("NEAR", role(Role::Near).into()),
        ("FIELDS_AT_FIRST", RECORD_FIELDS_AT_FIRST),
        ("AT_ONCE_ENDED", AT_ONCE_ENDED),
        ("MOST_TOLD", MOST_TOLD),
        ("LARGE", LARGE),
    ];
    let strategies =
        Strategy::ALL.map(|strategy| (strategy.name().to_uppercase().replace('-', "_"), strategy.name()));
    let limited = ErrorClass::RateLimited.name();
    let mut lua = String::new();
    for (name, value) in numbers {
        lua += &format!("local {name} = {value}\n");
    }
    for (name, value) in strategies.into_iter().chain([(limited.to_owned(), limited)]) {
        lua += &format!("local {name} = '{value}'\n");
    }
    lua += &format!("local FIELDS = {{ '{}' }}\n", RECORD_FIELDS.replace(' ', "', '"));
    lua + &line_lua() + include_str!("common.lua")
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    /// The commands that a script names.
    fn commands(source: &str, before: &str) -> BTreeSet<String> {
        let named = source.split(before).skip(1).filter_map(|rest| rest.split(['\'', '"']).next());
        named.map(str::to_lowercase).collect()
    }

    #[test]
    fn the_probe_tries_every_command_and_the_documented_user_may_run_them_alone() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut used = BTreeSet::new();
        for file in fs::read_dir(root.join("src/state/redis")).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|end| end == "lua") {
                used.extend(commands(&fs::read_to_string(path).unwrap(), "call('"));
            }
        }
        let mut needed = commands(include_str!("probe.lua"), "try('");
        assert!(used.len() > 10 && needed.is_superset(&used), "{used:?} {needed:?}");
        needed.extend(["ping", "eval", "evalsha", "publish", "subscribe"].map(str::to_owned));
        let users = fs::read_to_string(root.join("deploy/redis/users.acl")).unwrap();
        let allowed = users.split_whitespace().filter_map(|word| word.strip_prefix('+'));
        let allowed: BTreeSet<_> = allowed.map(str::to_owned).collect();
        assert_eq!(allowed, needed);
    }
}
