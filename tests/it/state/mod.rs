//! Where turns and cooldowns are kept: memory, Redis, and Redis that fails.

mod addresses;
mod batch;
mod ends;
mod histories;
mod previous;
mod redis_lost;
mod redis_topologies;
mod replicas;
mod stores;
mod waiting;
