//! Compiles the protos with protox, so that nobody installs protoc.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files([
        "rota/v1/types.proto",
        "rota/v1/config.proto",
        "rota/v1/invoke.proto",
        "rota/v1/admin.proto",
    ])?;
    // For reflection. Encoded by protox: going through prost-types would drop custom options.
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("rota.binpb"), compiler.encode_file_descriptor_set())?;
    // The generated comments hold proto markup that rustdoc would take for links.
    let mut config = tonic_prost_build::Config::new();
    config.disable_comments(["."]);
    tonic_prost_build::configure()
        // Ours, since many receive the same one: it is encoded once.
        .extern_path(".rota.v1.WatchPoolResponse", "crate::api::pb::shared::WatchPoolResponse")
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}
