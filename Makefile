# A thin menu. The work is done by cargo, scripts/ and ci/check.sh.

CONFIG ?= config/demo.toml
CUDA = $(if $(filter-out 0 no false,$(GPU)),--features cuda)

.DEFAULT_GOAL := menu
.PHONY: menu run test lint bench fmt clean

menu:  ## Print this menu
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  (CONFIG=file for another configuration of make run, GPU=1 for the CUDA build)"

run:  ## Build and start a gate with the embedded engine on the CPU (config/demo.toml)
	@scripts/fetch-onnxruntime.sh >/dev/null
	cargo run --locked --release $(CUDA) -- serve --config $(CONFIG)

test:  ## Run every test, real fal clients included
	@scripts/fetch-onnxruntime.sh >/dev/null
	cargo test --locked
	tests/clients/run.sh

lint:  ## Check format and lints
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

bench:  ## Measure the pure parts, briefly; scripts/bench-*.sh measure the gate
	cargo bench --locked --bench '*' -- --quick
	@echo "the gate beside nginx: cargo build --release --bin falgate --example socket_load,"
	@echo "then scripts/bench-proxy.sh, scripts/bench-sockets.sh and scripts/soak-sockets.sh"

fmt:  ## Format the code
	cargo fmt

clean:  ## Remove everything that was built or fetched
	cargo clean
