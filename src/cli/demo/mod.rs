//! `rota demo`: the whole service, a scripted upstream in place of a provider, and real calls between them.
//!
//! It decides nothing of its own: what it shows comes back in the answers of the API. It runs embedded, in a temporary
//! directory that goes with it, whatever database or Redis is set. The upstream lives in this process: it is gone when
//! the demo is.

mod load;
mod report;
mod screen;
mod stage;
mod tally;

use super::serve::Signals;
use crate::settings::{RawSettings, Settings};
use anyhow::{Context, Result, bail};
use clap::Args;
use screen::Screen;
use stage::Stage;
use std::{fs::Permissions, net::TcpListener, os::unix::fs::PermissionsExt, path::Path};

/// Where it listens if nothing else is said and nobody else does.
const USUAL: &str = "127.0.0.1:50051";

#[derive(Args)]
pub(super) struct Options {
    /// How many calls to make
    #[arg(long, value_name = "COUNT", default_value_t = 300, value_parser = clap::value_parser!(u64).range(20..=20_000))]
    calls: u64,
    /// End when the calls are made, instead of serving until Ctrl-C
    #[arg(long)]
    exit: bool,
}

/// Shows the calls, says what happened, then serves until a signal. Fails where a call failed.
pub(super) async fn run(options: &Options, raw: RawSettings) -> Result<()> {
    let mut signals = Signals::new()?;
    // Others on this machine must not read the keys in it.
    let mode = Permissions::from_mode(0o700);
    let directory = tempfile::Builder::new().prefix("rota-demo-").permissions(mode).tempdir();
    let directory = directory.context("no temporary directory")?;
    let stage = Stage::set(&settings(raw, directory.path())?).await?;
    let shown = tokio::select! {
        shown = show(options, &stage) => shown.map(Some),
        () = signals.next() => Ok(None),
    };
    if !options.exit && matches!(shown, Ok(Some(_))) {
        signals.next().await;
    }
    tokio::select! {
        () = stage.app.shut_down() => {}
        () = signals.next() => {}
    }
    directory.close().context("the temporary directory cannot be removed")?;
    match shown? {
        Some(failed) if failed > 0 => bail!("{failed} of {} calls failed", options.calls),
        _ => Ok(()),
    }
}

/// Makes the calls, says what happened, and returns how many failed.
async fn show(options: &Options, stage: &Stage) -> Result<u64> {
    let mut screen = Screen::new(options.calls);
    screen.say(&report::opening(stage));
    let mut tally = load::run(options.calls, stage, &mut screen).await?;
    screen.finish(&mut tally);
    screen.say(&report::happened(&tally));
    screen.say(&report::go_on(stage));
    if !options.exit {
        screen.say("Serving until Ctrl-C.");
    }
    Ok(tally.failed)
}

/// Embedded, in that directory. What else the user has set stands.
fn settings(raw: RawSettings, directory: &Path) -> Result<Settings> {
    let listen = raw.listen.filter(|listen| !listen.trim().is_empty()).or_else(|| {
        let free = TcpListener::bind(USUAL).is_ok();
        Some(if free { USUAL } else { "127.0.0.1:0" }.to_owned())
    });
    let mut settings = Settings::resolve(RawSettings {
        listen,
        data_dir: Some(directory.join("data")),
        database_url: None,
        redis_url: None,
        // The scripted upstream is on loopback.
        upstream_networks: Some("private".into()),
        ..raw
    })?;
    settings.master_key = None;
    Ok(settings)
}
