#!/usr/bin/env bash
# Installs what `make check` needs and the machine lacks: cargo-deny and buf, both under target/tools.
# Quiet where everything is there.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=target/tools

if ! command -v cargo-deny >/dev/null; then
    echo "installing cargo-deny into $tools (some minutes, once)"
    # An unoptimised build is ready in half the time and checks in a second all the same.
    cargo install --quiet --locked --debug --root "$tools" cargo-deny@0.20.2
fi

if ! command -v buf >/dev/null; then
    if ! command -v npm >/dev/null; then
        echo "buf is missing, and so is npm to install it with. Run: apt-get install -y npm   (macOS: brew install buf)" >&2
        exit 1
    fi
    echo "installing buf into $tools"
    npm install --silent --no-audit --no-fund --no-save --prefix "$tools" @bufbuild/buf@1.75.0
fi
