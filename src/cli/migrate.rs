//! `rota migrate`: migrates the database and exits.

use crate::{app, settings::Settings};
use anyhow::Result;

/// Brings the schema up to date. Harmless where it is.
pub(super) async fn run(settings: &Settings) -> Result<()> {
    app::open_catalog(settings).await?;
    tracing::info!("the database's schema is up to date");
    Ok(())
}
