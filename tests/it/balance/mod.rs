//! Who serves: turns, members, policies, and the reasons of a pick.

mod balancing;
mod checks;
pub mod conformance;
mod conformance_rotation;
mod explain;
pub mod policy;
