#!/usr/bin/env bash
# Writes target/rota.cdx.json: what the built program consists of, as CycloneDX. Installs cargo-cyclonedx under
# target/tools where it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=target/tools

if ! command -v cargo-cyclonedx >/dev/null; then
    echo "installing cargo-cyclonedx into $tools (some minutes, once)"
    cargo install --quiet --locked --debug --root "$tools" cargo-cyclonedx@0.5.9
fi

# It writes beside Cargo.toml.
trap 'rm -f rota-all.json' EXIT
cargo cyclonedx --quiet --format json --spec-version 1.5 --override-filename rota-all
cargo tree --locked --edges normal --prefix none --no-dedupe --format '{p}' |
    python3 scripts/sbom.py rota-all.json target/rota.cdx.json
