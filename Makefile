# What people do with this repository. .ci/run does `lint` and `test` on a bare machine.

ROUNDS ?= 20
SECONDS_EACH ?= 3600

.PHONY: run test lint bench soak fuzz

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

soak: ## kill -9 and restart, and damaged folders, over and over: make soak ROUNDS=100
	@for round in $$(seq $(ROUNDS)); do echo "round $$round of $(ROUNDS)"; \
	CRASH_SEED=$$round cargo test --locked --test crash || exit 1; \
	DAMAGE_SEED=$$round cargo test --locked --test damage || exit 1; done

fuzz: ## an hour of each fuzz target (needs cargo-fuzz and a C++ compiler; stable Rust will do): make fuzz SECONDS_EACH=60
	@for target in frames configuration block state; do \
	cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none $$target -- -max_total_time=$(SECONDS_EACH) || exit 1; done
