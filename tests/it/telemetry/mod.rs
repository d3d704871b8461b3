//! What an operator sees: metrics, alerts, traces.

pub mod metrics;
mod monitoring;
mod series;
mod traces;
