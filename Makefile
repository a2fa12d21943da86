# The commands of this repository. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
CARGO ?= cargo
# All features but `cuda`, which needs the CUDA toolkit.
FEATURES := --features meerkat-actors/fault-injection,meerkat-notify/testing

.DEFAULT_GOAL := help
.PHONY: help setup demo test ci fmt lint deny unit chaos bench bench-models score fuzz

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing (Debian, Ubuntu) or say what to install
	scripts/setup.sh

demo: ## a node with two drawn cameras; works offline, stops with Ctrl-C
	scripts/setup.sh --runtime
	$(CARGO) build --release --locked --bin meerkat
	target/release/meerkat demo $(ARGS)

test: setup ## everything that CI checks
	$(MAKE) --no-print-directory ci

ci: lint deny unit ## the checks alone, without setup: before every push

fmt: ## format all files
	$(CARGO) fmt --all

lint: ## format check and clippy, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets $(FEATURES) --locked -- -D warnings

deny: ## licences, bans and sources of the dependencies
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) deny --all-features check bans licenses sources; \
	else \
		echo "cargo-deny is not installed: licences and bans are not checked (cargo install --locked cargo-deny)"; \
	fi

unit: ## all tests of the workspace
	$(CARGO) test --workspace $(FEATURES) --locked

chaos: ## kill a busy node 200 times and look whether anything that was answered is lost (CHAOS=times)
	MEERKAT_CHAOS_KILLS=$(or $(CHAOS),200) $(CARGO) test $(FEATURES) --locked --test node chaos:: -- --nocapture

bench: ## measure the rooms and the whole node; see docs/benchmarks.md
	scripts/setup.sh --runtime
	$(CARGO) bench --workspace --locked
	scripts/bench.sh $(ARGS)

bench-models: ## the networks on one thread beside ONNX Runtime and OpenVINO
	scripts/setup.sh --runtime
	$(CARGO) build --release --locked --bin meerkat
	scripts/bench-models.sh

score: ## how accurate people and faces are found, where the test data are
	scripts/setup.sh --runtime
	$(CARGO) build --release --locked --bin meerkat
	scripts/score.sh

fuzz: ## fuzz the parsers; needs a nightly toolchain
	scripts/fuzz.sh $(ARGS)
