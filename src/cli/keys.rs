//! `rota keys`: rotates the master key.

use crate::{app, catalog::MasterRotation, settings::Settings};
use anyhow::{Result, bail};
use clap::Subcommand;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Re-seal every tenant's data key by the first master key of the ring. Replicas may go on serving; what was cut
    /// off continues with the next run. Afterwards the other master keys can be dropped
    Rotate {
        /// Change nothing, and print what would be
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) async fn run(command: Command, settings: &Settings) -> Result<()> {
    let Command::Rotate { dry_run } = command;
    let catalog = app::open_catalog(settings).await?;
    let rotation = catalog.by_command_line().rotate_master_key(dry_run).await?;
    print(rotation, dry_run);
    if rotation.unreadable > 0 {
        bail!("some data keys open with no master key of the ring: keep the old ones, and see the log");
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn print(rotation: MasterRotation, dry_run: bool) {
    let MasterRotation { resealed, current, unreadable } = rotation;
    let done = if dry_run { "to re-seal" } else { "re-sealed" };
    println!(
        "data keys: {resealed} {done}, {current} under the first master key already, {unreadable} unreadable"
    );
}
