# `make` alone lists the targets.
TOOLS := $(CURDIR)/target/tools
# Tools that `make check` had to install live under target/tools; those on the machine come first.
export PATH := $(PATH):$(TOOLS)/bin:$(TOOLS)/node_modules/.bin

SOAK_SECONDS ?= 1800
FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))

.PHONY: help check test fmt demo rules sbom footprint bench scale growth streams faults soak attacks peers sdks fuzz

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

check: ## Format, clippy, docs, licences and bans, proto lint. Installs cargo-deny and buf under target/ where missing.
	@scripts/check-setup.sh
	cargo fmt --check
	cargo clippy --locked --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet
	cargo deny --log-level warn check --hide-inclusion-graph bans licenses sources
	@# The shell looks buf up: the make of macOS would use the PATH it was started with.
	PATH="$$PATH" buf lint

test: ## The whole suite on real Redis and PostgreSQL. Installs what is missing where it may.
	@scripts/test-setup.sh
	cargo test --locked

RULE := deploy/kubernetes/components/monitoring/rule.yaml
rules: ## Carry deploy/prometheus/rules.yaml over to deploy/kubernetes, and run what tests both.
	@scripts/test-setup.sh
	@sed '/^spec:/q' $(RULE) > target/rule.yaml
	@sed -n '/^groups:/,$$p' deploy/prometheus/rules.yaml | sed 's/^./  &/' >> target/rule.yaml
	@mv target/rule.yaml $(RULE)
	promtool test rules deploy/prometheus/rules_test.yaml

sbom: ## Write target/rota.cdx.json, what the program consists of, as CycloneDX. Installs cargo-cyclonedx under target/.
	@scripts/sbom.sh

bench: $(if $(BENCH_PEERS),target/peers/node_modules) ## Put load on Rota, a bare relay and nginx in turn; BENCH_PEERS=1: on LiteLLM and Portkey too; BENCH_BEFORE=PROGRAM: on an earlier version. Builds a release.
	@scripts/test-setup.sh
	cargo bench --locked --bench whole

target/peers/node_modules: target/peers/requirements.txt
	npm install --silent --no-audit --no-fund --prefix target/peers @portkey-ai/gateway@1.15.2

footprint: ## Print the figures of docs/measurements/footprint.md. Builds a release.
	@scripts/test-setup.sh
	cargo test --locked --release --test it -- --ignored --nocapture footprint

scale: ## Fill a fleet with 10,000 tenants and print the figures of docs/measurements/scale.md. Takes minutes.
	@scripts/test-setup.sh
	cargo test --locked --release --test it -- --ignored --nocapture many_tenants

growth: ## Print the figures of docs/measurements/performance.md for a million configs, idle streams, changes. Takes a quarter of an hour.
	@scripts/test-setup.sh
	cargo test --locked --release --test it -- --ignored --nocapture --test-threads 1 growth::

streams: ## Put 1,000 slow readers beside 1,000 fast ones and print the figures of docs/measurements/streams.md.
	@scripts/test-setup.sh
	cargo test --locked --release --test it -- --ignored --nocapture a_thousand_slow_readers

faults: ## Run the fault matrix at length and write its table into docs/measurements/reliability.md. Takes minutes.
	@scripts/test-setup.sh
	cargo test --locked --test it -- --ignored --nocapture the_whole_matrix

soak: ## Steady load with edits and failures for SOAK_SECONDS (1800); writes docs/measurements/reliability.md.
	@scripts/test-setup.sh
	SOAK_SECONDS=$(SOAK_SECONDS) cargo test --locked --test it -- --ignored --nocapture nothing_grows_over_a_long_time

attacks: ## Attack what tenants share in full size, one attack after the other. Builds a release; takes a quarter of an hour.
	@scripts/test-setup.sh
	cargo test --locked --release --test it -- --ignored --nocapture --test-threads 1 attacks::

peers: target/peers/requirements.txt ## Call LiteLLM's proxy through Rota. Installs 750 MB under target/.
	cargo test --locked --test it -- --ignored peers

target/peers/requirements.txt: tests/clients/python/peers.txt
	rm -rf target/peers
	python3 -m venv target/peers
	target/peers/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	cp $< $@

# Those in Python that `make test` has no need of, and those in Node.
sdks: target/sdks/requirements.txt target/sdks/node_modules ## Call Rota over HTTP through every SDK. Installs 500 MB under target/.
	@scripts/test-setup.sh
	cargo test --locked --test it -- --ignored sdks

target/sdks/requirements.txt: tests/clients/python/sdks.txt
	rm -rf target/sdks
	python3 -m venv target/sdks/python
	target/sdks/python/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	cp $< $@

target/sdks/node_modules: target/sdks/requirements.txt
	npm install --silent --no-audit --no-fund --prefix target/sdks openai@6.49.0 @anthropic-ai/sdk@1.14.0 @google/genai@2.32.0

fuzz: ## Fuzz each target for FUZZ_SECONDS (600), one after the other. Needs a nightly Rust and a C++ compiler.
	@scripts/fuzz-setup.sh
	@# What is new goes under target/; what stands in fuzz/corpus is only read.
	@set -e; for target in $(FUZZ_TARGETS); do \
		mkdir -p target/fuzz/corpus/$$target; \
		cargo +nightly fuzz run --target-dir target/fuzz $$target target/fuzz/corpus/$$target fuzz/corpus/$$target \
			-- -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1; \
	done

fmt: ## Format the code.
	cargo fmt

demo: ## Show Rota at work in this terminal; Ctrl-C ends it.
	cargo run --locked --release -- demo
