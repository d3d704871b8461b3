//! The `rota` command: parses the command line and hands over.

use clap::Parser;
use rota::cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    Cli::parse().run()
}
