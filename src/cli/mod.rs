//! The commands, one file each.

mod demo;
mod doctor;
mod keys;
mod migrate;
mod serve;
mod token;

use crate::{
    settings::{self, Gathered, RawSettings, Settings},
    telemetry,
};
use anyhow::{Result, bail};
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::{path::Path, process::ExitCode};

/// Balances calls to model providers over a tenant's credentials and endpoints.
#[derive(Parser)]
#[command(name = "rota", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: RawSettings,
}

/// What is logged by default. fred reports every lost connection, with a path of the build machine in it. Our own lines
/// report each change once.
const DEFAULT_LOG: &str = "info,fred=off";

#[derive(Subcommand)]
enum Command {
    /// Serve gRPC (also what plain `rota` does)
    Serve,
    /// See Rota work: three credentials, one of them failing, and some hundred real calls
    Demo(demo::Options),
    /// Bring the database's schema up to date, then exit
    Migrate,
    /// Check everything that serving needs, and say what to do about each problem
    Doctor(doctor::Options),
    /// Create tokens
    #[command(subcommand)]
    Token(token::Command),
    /// Rotate the master key
    #[command(subcommand)]
    Keys(keys::Command),
}

/// Runs the command that the command line names, to its end.
#[must_use]
pub fn run() -> ExitCode {
    let given = settings::without_empty_variables(Cli::command()).get_matches();
    match Cli::from_arg_matches(&given) {
        Ok(cli) => cli.run(&given),
        Err(error) => error.exit(),
    }
}

impl Cli {
    fn run(self, given: &ArgMatches) -> ExitCode {
        // The one crypto library, before anything makes a connection. A second start finds it in place.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let outcome = match runtime {
            Ok(runtime) => runtime.block_on(self.dispatch(given)),
            Err(error) => Err(error.into()),
        };
        match outcome {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                complain(&error);
                ExitCode::FAILURE
            }
        }
    }

    /// Whether all is well. A command that has reported its problems itself returns false.
    async fn dispatch(self, given: &ArgMatches) -> Result<bool> {
        let file = Path::new(settings::FILE);
        if let Some(Command::Doctor(options)) = &self.command {
            return Box::pin(doctor::run(options, file, given, self.settings)).await;
        }
        let gathered = Gathered::read(file, given);
        let Gathered { settings: raw, warnings } = gathered?;
        let format = raw.log_format()?;
        let command = self.command.unwrap_or(Command::Serve);
        // Log lines would stand in the middle of the demo's picture.
        let usual = if matches!(command, Command::Demo(_)) { "warn,fred=off" } else { DEFAULT_LOG };
        let log = raw.log.clone().filter(|log| !log.is_empty()).unwrap_or_else(|| usual.into());
        if telemetry::init(&log, format).is_err() {
            bail!("--log: is a filter such as `info` or `rota=debug,info`");
        }
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        match command {
            Command::Serve => serve::run(&Settings::resolve(raw)?).await?,
            Command::Demo(options) => Box::pin(demo::run(&options, raw)).await?,
            Command::Migrate => migrate::run(&Settings::resolve(raw)?).await?,
            Command::Token(command) => token::run(command, &Settings::resolve(raw)?).await?,
            Command::Keys(command) => keys::run(command, &Settings::resolve(raw)?).await?,
            // It has run above: it goes on where settings are wrong.
            Command::Doctor(_) => {}
        }
        Ok(true)
    }
}

#[expect(clippy::print_stderr, reason = "the last word of a command that failed")]
fn complain(error: &anyhow::Error) {
    eprintln!("rota: {error:#}");
}
