# What a developer and CI run. Plain `make` prints this list.
# Everything that is fetched or built goes outside the tree, into $ROLLCALL_SERVERS (default ~/.cache/rollcall/servers).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Cargo reads standard input of build scripts: never a terminal, never a closed descriptor.
CARGO := cargo
SERVERS := $(or $(ROLLCALL_SERVERS),$(HOME)/.cache/rollcall/servers)
TARGET := $(or $(CARGO_TARGET_DIR),target)
CASES ?= 2000000
# How long each target of `make fuzz` runs. (SECONDS is a variable of bash itself.)
SECONDS ?= 60
SQL_CASES ?= 200000
# Of the demo: embedded or kafka.
LOG ?= embedded
# Where its identities live: postgres, dynamodb or both.
SOURCE ?= both

.PHONY: help servers tools build fmt check test demo demo-stop bench differential fuzz

help: ## This list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

servers: ## Fetch the real servers that tests and demo run on (once; offline afterwards)
	@tests/servers/install

tools: ## Fetch the servers and what `make check` needs beside them
	@tests/servers/install --tools

build: ## Build everything
	$(CARGO) build --workspace --locked </dev/null

fmt: ## Format the code
	$(CARGO) fmt --all

check: tools ## Formatting, lints, schemas, licences, spelling, documentation; no test is run
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings </dev/null
	$(CARGO) run --quiet --package rollcall-schema-check --locked </dev/null
	"$(SERVERS)/bin/cargo-deny" --workspace --all-features check --hide-inclusion-graph bans licenses sources </dev/null
	"$(SERVERS)/bin/typos"
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --workspace --no-deps --document-private-items --locked </dev/null

test: servers ## Every test, on real servers
	$(CARGO) build --workspace --bins --locked </dev/null
	$(CARGO) test --workspace --locked </dev/null

demo: servers ## A complete Rollcall on a real Postgres, an emulated DynamoDB and ClickHouse, with a lake and load; SOURCE=postgres or dynamodb alone; LOG=kafka: three workers; KEEP=1 leaves it up
	$(CARGO) build --workspace --bins --locked
	$(TARGET)/debug/rollcall-demo --log $(LOG) --source $(SOURCE) $(if $(KEEP),--keep)

demo-stop: ## End a demo that KEEP=1 left running
	$(CARGO) build --bin rollcall-demo --locked
	$(TARGET)/debug/rollcall-demo --stop

bench: servers ## The figures of this machine, each beside its rival in the same run; JSON lines
	$(CARGO) build --release --workspace --bins --locked </dev/null
	folder=$$(mktemp -d); trap 'rm -r "$$folder"' EXIT; \
	for run in "log_store fjall 1500 100 $$folder" "log_store redb 1500 100 $$folder" "log_commit 500 10" \
		"roster 100000 1000 100000" "postgres_drain 1000000 20 2" "latency 1000 30" "latency 5000 30 kafka" "logs 5" "restore 1000000" \
		"large_transaction 1000000 100000" "dynamodb 200000" clickhouse_insert rules \
		"lake memory 2000000" "lake files 200000" "lake inserts 200000" "lake forms 200000"; do \
		echo "== $$run" >&2; $(TARGET)/release/$$run </dev/null; \
	done

differential: servers ## Our rules beside both references (CASES=2000000 generated cases) and ClickHouse (SQL_CASES=200000)
	$(CARGO) build --package rollcall-clickhouse-embedded --package rollcall --bins --locked </dev/null
	DIFFERENTIAL_CASES=$(CASES) SQL_CASES=$(SQL_CASES) $(CARGO) test --package rollcall-differential --locked </dev/null -- --nocapture

fuzz: ## Rules and expressions that nobody thought of, SECONDS=60 for each target; found inputs stay in the cache
	@tests/servers/install --fuzz
	tests/fuzz/run $(SECONDS)
