#!/usr/bin/env bash
# Installs what `make test` needs and the machine lacks: redis-server, PostgreSQL, and a Python environment under
# target/python with the packages of tests/clients/python/requirements.txt. Quiet where everything is there.
set -euo pipefail
cd "$(dirname "$0")/.."

# Installs Debian packages as root, Homebrew ones on macOS; where it may not, says what to run and stops.
install() { # install WHAT DEBIAN-PACKAGES HOMEBREW-PACKAGES
    local what=$1 debian=$2 homebrew=$3
    # The lists hold several names: they are to be split.
    # shellcheck disable=SC2086
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        echo "installing $what: $debian"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $debian >/dev/null
    elif command -v apt-get >/dev/null; then
        echo "$what is missing. Run: sudo apt-get install -y $debian" >&2
        exit 1
    elif command -v brew >/dev/null; then
        echo "installing $what: $homebrew"
        brew install --quiet $homebrew
    else
        echo "$what is missing. Install it with this system's package manager (Debian: apt-get install -y $debian)." >&2
        exit 1
    fi
}

# Debian keeps the server's programs off the PATH, Homebrew those of a versioned formula.
have_postgres() {
    command -v initdb >/dev/null ||
        compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ||
        compgen -G '/opt/homebrew/opt/postgresql*/bin/initdb' >/dev/null ||
        compgen -G '/usr/local/opt/postgresql*/bin/initdb' >/dev/null
}

command -v redis-server >/dev/null || install redis-server redis-server redis
have_postgres || install PostgreSQL postgresql postgresql@17

wanted=tests/clients/python/requirements.txt
venv=target/python
# The copy is written last, so a half-made environment is made again.
if ! cmp -s "$wanted" "$venv/requirements.txt" || ! "$venv/bin/python" -c '' 2>/dev/null; then
    # Debian packs ensurepip apart from python3.
    python3 -c 'import ensurepip, venv' 2>/dev/null || install "Python's venv" "python3 python3-venv" python@3
    echo "making the Python environment in $venv"
    rm -rf "$venv"
    mkdir -p target
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$wanted"
    cp "$wanted" "$venv/requirements.txt"
fi
