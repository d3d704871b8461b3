//! How configuration is written. `writer` makes a change when its turn comes (`turns`), `audit` records it, `upkeep` removes
//! what is too old; the other files say what each change is.

pub(super) mod aliases;
pub(super) mod audit;
pub(super) mod cascade;
pub(super) mod config_plan;
pub(super) mod configs;
pub(super) mod credentials;
pub(super) mod defaults;
pub(super) mod models;
pub(super) mod policy;
pub(super) mod providers;
pub(super) mod quota;
pub(super) mod reading;
pub(super) mod reads;
pub(super) mod tenants;
pub(super) mod tokens;
pub(super) mod turns;
pub(super) mod upkeep;
pub(super) mod writer;
