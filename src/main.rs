//! The `rota` command.

use std::process::ExitCode;

/// A call allocates some hundred times, mostly little.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rota::cli::run()
}
