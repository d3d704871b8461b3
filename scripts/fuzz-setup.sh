#!/usr/bin/env bash
# Installs what `make fuzz` needs and the machine lacks: cargo-fuzz, under target/tools. Quiet where everything is there.
set -euo pipefail
cd "$(dirname "$0")/.."

# Only a nightly compiler takes the flags that count coverage.
if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "a nightly Rust is missing. Run: rustup toolchain install nightly --profile minimal" >&2
    exit 1
fi

if ! command -v cargo-fuzz >/dev/null; then
    echo "installing cargo-fuzz into target/tools"
    cargo install --quiet --locked --debug --root target/tools cargo-fuzz@0.13.2
fi
