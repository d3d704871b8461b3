//! `rota serve`: migrates the database and serves until a signal.

use crate::{app::App, settings::Settings, telemetry};
use anyhow::{Result, bail};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Serves until SIGTERM or Ctrl-C, then drains. A second signal ends at once. A task without which the replica must not
/// serve, and which goes on failing, ends it in the same way, as an error.
pub(super) async fn run(settings: &Settings) -> Result<()> {
    telemetry::log_panics();
    without_core_dumps();
    let mut signals = Signals::new()?;
    // A start may wait for the database.
    let app = tokio::select! {
        app = App::start(settings) => app?,
        () = signals.next() => return Ok(()),
    };
    let given_up = tokio::select! {
        task = app.given_up() => Some(task),
        () = signals.next() => None,
    };
    if let Some(task) = given_up {
        tracing::error!(%task, "a task goes on failing: this replica stops");
    }
    tokio::select! {
        () = app.shut_down() => {}
        () = signals.next() => tracing::warn!("a second signal: ending at once"),
    }
    match given_up {
        Some(task) => bail!("the task {task} failed five times within a minute"),
        None => Ok(()),
    }
}

/// A core dump would hold the secrets of all tenants.
fn without_core_dumps() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let limited = setrlimit(Resource::Core, none);
    // The system may hand a dump to a program in spite of the limit.
    #[cfg(target_os = "linux")]
    let limited =
        limited.and(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable));
    if let Err(error) = limited {
        tracing::warn!(%error, "core dumps cannot be switched off");
    }
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
