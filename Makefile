# The verbs a person types; `make` alone lists them. A fresh Debian machine with Rust is enough for all of them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help up demo events test verify pictures fuzz bench bench-relay check check-rust check-deny check-proto check-alerts reset clean

TARGET := $(or $(CARGO_TARGET_DIR),target)
SETTLE := $(TARGET)/debug/settle
TOOLS := $(abspath $(TARGET))/tools
DENY := $(TOOLS)/bin/cargo-deny
BUF := $(TOOLS)/node_modules/.bin/buf
PROMTOOL := $(or $(shell command -v promtool),$(TOOLS)/promtool)

DENY_VERSION := 0.20.2
BUF_VERSION := 1.75.0

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## Install what is missing, build, start everything; Ctrl-C ends it, the data stays
	@deploy/setup cc postgres java mvn
	@echo "Building the services (the first time takes some minutes)"
	cargo build --locked --workspace --bins
	@exec $(SETTLE) up

demo: ## Against a running `make up`: place, cancel, run out of stock, and show the events
	@test -x $(SETTLE) || { echo "start the shop first: make up" >&2; exit 1; }
	@exec $(SETTLE) demo

events: ## Against a running `make up`: print every event as it happens
	@test -x $(SETTLE) || { echo "start the shop first: make up" >&2; exit 1; }
	@exec $(SETTLE) events

reset: ## Forget all data of `make up`
	@test -x $(SETTLE) || { echo "there is nothing to forget: nothing was built" >&2; exit 1; }
	@exec $(SETTLE) reset

# With the Jaeger at JAEGER_URL, or else one of its own where Go can build it; without either, its tests are left out.
test: ## Install what is missing, build, run every test on a real Postgres, a real Kafka and a real browser
	@deploy/setup cc postgres java mvn chromedriver
	cargo build --locked --workspace --bins --tests
	cargo test --locked --workspace --doc
	jaeger=$$(test -n "$${JAEGER_URL:-}" || deploy/jaeger/build); \
	$(SETTLE) infra $${jaeger:+--jaeger} -- cargo test --locked --workspace --tests --no-fail-fast

verify: ## Every state that the saga can get into, and the shop under load and faults, checked afterwards: minutes, gigabytes
	@deploy/setup cc postgres java mvn
	cargo build --locked --release --workspace --bins
	$(TARGET)/release/model --full
	$(TARGET)/release/chaos --duration 2m

pictures: ## Draw the pictures of the storefront's documentation anew
	@deploy/setup cc postgres java mvn chromedriver
	cargo build --locked --workspace --bins
	SETTLE_PICTURES=$(CURDIR)/services/storefront/docs $(SETTLE) infra -- cargo test --locked -p e2e --test e2e -- a_browser_draws

fuzz: ## Feed every decoder what nobody sends, a minute each or FUZZ_SECONDS; what breaks one is kept
	@deploy/setup cc
	@services/fuzz/run

bench: ## Orders settled per second on this machine, without tracing and with all of it, from a release build
	@deploy/setup cc postgres java mvn
	cargo build --locked --release --workspace --bins
	cargo bench --locked -p e2e

bench-relay: ## The relay against Debezium Server and the limits of this machine; kept in outbox-relay/BENCHMARKS.md
	@deploy/setup cc postgres java mvn
	cargo build --locked -p local --bins
	cargo bench --locked -p outbox-relay --bench relay --no-run
	$(SETTLE) infra --postgres-setting wal_level=logical -- cargo bench --locked -p outbox-relay --bench relay

check: check-rust check-deny check-proto check-alerts ## Formatting, lints, documentation, dependencies, protocol files, alarms

check-rust:
	@deploy/setup cc
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

# The database of advisories lives outside the package registry: a machine that cannot have it says so and goes on.
check-deny: $(DENY)-$(DENY_VERSION)
	$(DENY) check licenses bans sources
	@if timeout 60 $(DENY) fetch db > /dev/null 2>&1; then \
		echo "$(DENY) check advisories"; $(DENY) check advisories; \
	else \
		echo "advisories: SKIPPED, their database cannot be fetched from here"; \
	fi

check-proto: $(BUF)-$(BUF_VERSION)
	cd proto && $(BUF) lint
	cd proto && $(BUF) build

check-alerts: $(PROMTOOL)
	$(PROMTOOL) check config deploy/prometheus/prometheus.yml deploy/prometheus/containers.yml
	$(PROMTOOL) test rules deploy/prometheus/alerts_test.yml

# Out of Debian's package, 19 MB; installed, that would start a server.
$(TOOLS)/promtool:
	@mkdir -p $(TOOLS)/prometheus
	cd $(TOOLS)/prometheus && apt-get download prometheus \
		|| { echo "promtool is missing: apt-get update, or install Prometheus" >&2; exit 1; }
	dpkg-deb --fsys-tarfile $(TOOLS)/prometheus/prometheus_*.deb | tar --extract --to-stdout ./usr/bin/promtool > $@.new
	@rm -r $(TOOLS)/prometheus
	@chmod +x $@.new && mv $@.new $@

$(DENY)-$(DENY_VERSION):
	@deploy/setup cc
	cargo install --locked --version $(DENY_VERSION) --root $(TOOLS) --target-dir $(TOOLS)/build cargo-deny
	@rm -rf $(TOOLS)/build
	@touch $@

$(BUF)-$(BUF_VERSION):
	@deploy/setup npm
	npm install --prefix $(TOOLS) --no-save --no-fund --no-audit @bufbuild/buf@$(BUF_VERSION)
	@touch $@

clean: ## Remove everything that was built
	cargo clean
