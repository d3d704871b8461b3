//! `rota demo`: the whole service with a scripted upstream in place of a provider, and real calls between them.
//!
//! The demo decides nothing itself: everything that it shows comes from the answers of the API. It runs embedded in a
//! temporary directory, whatever database or Redis is set. The upstream runs in the same process and ends with it.

mod load;
mod report;
mod screen;
mod stage;
mod tally;

use super::serve::Signals;
use crate::{
    app::App,
    settings::{MasterKey, RawSettings, Settings},
};
use anyhow::{Context, Error, Result, bail};
use clap::Args;
use screen::Screen;
use stage::Stage;
use std::{
    fs::Permissions,
    io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::Path,
};

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
    let named = raw.listen.as_ref().is_some_and(|listen| !listen.trim().is_empty());
    let settings = settings(raw, directory.path())?;
    let token_file = settings.operator_token_file();
    let stage = Stage::set(start(settings, named).await?, &token_file).await?;
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
    if !options.exit {
        screen::say("\nStopped, and the temporary directory removed.");
    }
    match shown? {
        Some(failed) if failed > 0 => bail!("{failed} of {} calls failed", options.calls),
        _ => Ok(()),
    }
}

/// Makes the calls, says what happened, and returns how many failed.
async fn show(options: &Options, stage: &Stage) -> Result<u64> {
    screen::say(&report::opening(stage));
    let mut screen = Screen::new(options.calls);
    let mut tally = load::run(options.calls, stage, &mut screen).await?;
    screen.finish(&mut tally);
    screen::say(&report::happened(&tally));
    screen::say(&report::go_on(stage));
    if !options.exit {
        screen::say("Serving until Ctrl-C.");
    }
    Ok(tally.failed)
}

/// Embedded, in that directory. What else the user has set stands.
fn settings(raw: RawSettings, directory: &Path) -> Result<Settings> {
    let mut settings = Settings::resolve(RawSettings {
        data_dir: Some(directory.join("data")),
        admin_listen: Some("127.0.0.1:0".into()),
        http_listen: Some(String::new()),
        database_url: None,
        redis_url: None,
        redis_ca: None,
        // The scripted upstream is on loopback.
        upstream_networks: Some("private".into()),
        ..raw
    })?;
    settings.master_key = MasterKey::Own(settings.data_dir.join("master-key"));
    Ok(settings)
}

/// Starts the service; on a free port where the usual one is taken and the user has named none.
async fn start(settings: Settings, named: bool) -> Result<App> {
    match App::start(&settings).await {
        Err(error) if !named && in_use(&error) => {
            let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            App::start(&Settings { listen, ..settings }).await
        }
        started => started,
    }
}

fn in_use(error: &Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::AddrInUse)
}
