//! Logs, metrics and traces. Logs go to standard error; standard output belongs to what a command prints.

mod metrics;
mod otlp;
mod traces;

pub use metrics::*;
pub use otlp::TraceOptions;
pub use traces::{AttemptFacts, AttemptSpan, CallSpan, PickSpan, TraceError, Traces};

use std::{
    io::{IsTerminal, stderr},
    panic,
};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    filter::ParseError,
    fmt::{
        self,
        format::{FormatEvent, FormatFields, Writer},
    },
    registry::LookupSpan,
};

/// How a log line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Logs each panic as one line: where it was, but not its text, which may hold a secret or what a caller sent. If errors are
/// not logged, the hook from before is called.
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

/// Starts to log what `filter` lets through. It has no effect if logging has started already.
///
/// # Errors
/// If `filter` is malformed.
pub fn init(filter: &str, format: LogFormat) -> Result<(), ParseError> {
    let builder = fmt::fmt().with_env_filter(EnvFilter::try_new(filter)?).with_writer(stderr);
    let done = match format {
        LogFormat::Pretty => {
            let colours = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(colours).with_target(false).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).map_event_format(WithTrace).try_init(),
    };
    // A second start in one process, such as a demo's, keeps the first one's logs.
    drop(done);
    Ok(())
}

/// JSON lines, with `trace_id` and `span_id` where a span is being worked on.
struct WithTrace<F>(F);

impl<S, N, F> FormatEvent<S, N> for WithTrace<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &fmt::FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let Some((trace, span)) = traces::current() else {
            return self.0.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        match line.trim_end().strip_suffix('}') {
            Some(open) => writeln!(writer, "{open},\"trace_id\":\"{trace}\",\"span_id\":\"{span}\"}}"),
            None => writer.write_str(&line),
        }
    }
}
