//! Logs and metrics. Logs go to standard error; standard output belongs to what a command prints.

mod metrics;

pub use metrics::*;

use std::{
    io::{IsTerminal, stderr},
    panic,
};
use tracing_subscriber::{EnvFilter, filter::ParseError, fmt};

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Logs each panic as one line: where, not what. Its text may hold what a caller sent or a secret. Where nothing logs
/// errors it is told as before.
pub fn log_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !tracing::enabled!(tracing::Level::ERROR) {
            return before(info);
        }
        let at = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(at, "a panic: what it was part of has ended");
    }));
}

/// Starts logging what `filter` lets through. Without effect where something logs already.
///
/// # Errors
/// Where `filter` is malformed.
pub fn init(filter: &str, format: LogFormat) -> Result<(), ParseError> {
    let builder = fmt().with_env_filter(EnvFilter::try_new(filter)?).with_writer(stderr);
    let done = match format {
        LogFormat::Pretty => {
            let colours = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(colours).with_target(false).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // A second start in one process, such as a demo's, keeps the first one's logs.
    drop(done);
    Ok(())
}
