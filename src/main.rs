//! The `rota` command: parses the command line and hands over.

use clap::Parser;
use rota::cli::Cli;
use std::process::ExitCode;

/// A call allocates some hundred times, mostly little.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::parse().run()
}
