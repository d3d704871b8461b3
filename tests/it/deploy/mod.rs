//! How Rota is deployed: replicas, restarts, clients, backups, and the files of `deploy/`.

mod backups;
mod clients;
mod files;
mod fleet;
mod manifests;
mod redis_user;
mod rolling;
