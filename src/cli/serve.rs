//! `rota serve`.

use crate::{app::App, settings::Settings, telemetry};
use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Serves until SIGTERM or Ctrl-C, then drains. A second signal ends at once.
pub(super) async fn run(settings: &Settings) -> Result<()> {
    telemetry::log_panics();
    let mut signals = Signals::new()?;
    // A start may wait for the database.
    let app = tokio::select! {
        app = App::start(settings) => app?,
        () = signals.next() => return Ok(()),
    };
    signals.next().await;
    tokio::select! {
        () = app.shut_down() => {}
        () = signals.next() => tracing::warn!("a second signal: ending at once"),
    }
    Ok(())
}

/// The signals that end a service.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
