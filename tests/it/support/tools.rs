//! Finds programs that `make test` installs under `target/` where the machine lacks them.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use super::process::find_program;
use super::root;

/// Where that program is.
pub fn find(program: &str) -> PathBuf {
    let own = ["target/tools/bin", "target/python/bin"].map(|folder| root().join(folder));
    find_program(program, &own).unwrap_or_else(|| panic!("{program} is missing. Run: make test"))
}

/// Runs it to its end, in the root of the project.
pub fn run(program: &str, args: &[&str]) -> Output {
    Command::new(find(program)).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap()
}

/// The same for one that must succeed; what it wrote to its output.
pub fn run_well(program: &str, args: &[&str]) -> String {
    let output = run(program, args);
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {error}{out}");
    out.into_owned()
}

/// What a program wrote, to its output and then to its error.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}
