//! What protects a replica and its tenants: limits, TLS, hostile and slow clients.

mod connections;
mod hostile;
mod panics;
mod protection;
mod slow_readers;
mod tenant_limits;
