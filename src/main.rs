//! The `rota` command.

use std::process::ExitCode;

/// A call makes some hundred small allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rota::cli::run()
}
