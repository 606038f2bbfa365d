# What people do with this repository. .ci/run does `lint` and `test` on a bare machine.

ROUNDS ?= 20
IMAGES ?= 200000
# Another day, other power cuts; a failure says which seed to set.
SEED ?= $(shell date +%Y%m%d)000000

.PHONY: run test lint bench soak soak-power soak-kill

run: ## start the server with ./config.toml
	cargo run --release --locked

test: ## everything; a test that needs what is not there says so and is skipped
	cargo test --locked

lint: ## form, lints, dependencies (the last one where cargo-deny is installed)
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --locked check bans licenses sources; \
	else echo "cargo-deny is not installed: dependencies are not checked"; fi

bench: ## speed of what is hot
	cargo bench --locked

soak: soak-power soak-kill ## power cuts, kill -9, over and over: make soak IMAGES=200000 ROUNDS=100

soak-power: ## disks that simulated power cuts leave: make soak-power IMAGES=2000 SEED=1
	POWER_IMAGES=$(IMAGES) POWER_SEED=$(SEED) cargo test --locked --lib power_cut -- --nocapture

soak-kill: ## kill -9 and restart of the real program: make soak-kill ROUNDS=100
	@for round in $$(seq $(ROUNDS)); do echo "round $$round of $(ROUNDS)"; \
	CRASH_SEED=$$round cargo test --locked --test crash || exit 1; done
