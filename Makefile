# What people do with this repository. .ci/run does `lint` and `test` on a bare machine.

ROUNDS ?= 20

.PHONY: run test lint bench bench-docs bench-long bench-micro soak

run: ## start the server with ./config.toml
	cargo run --release --locked

test: ## everything; a test that needs what is not there says so and is skipped
	cargo test --locked

lint: ## form, lints, dependencies (the last one where cargo-deny is installed)
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --locked check bans licenses sources; \
	else echo "cargo-deny is not installed: dependencies are not checked"; fi

bench: ## beside Redis, PostgreSQL and the disk; everything is started here, and prints one table
	cargo bench --locked --bench compare

bench-docs: ## the same, and puts what it printed into docs/benchmarks.md
	cargo bench --locked --bench compare -- --write

bench-long: ## ten million keys, ten gigabytes of data: half an hour; into docs/benchmarks.md as well
	cargo bench --locked --bench compare -- --write --rounds 1 --only long

bench-micro: ## speed of what is hot, step by step
	cargo bench --locked --bench core

soak: ## kill -9 and restart, over and over: make soak ROUNDS=100
	@for round in $$(seq $(ROUNDS)); do echo "round $$round of $(ROUNDS)"; \
	CRASH_SEED=$$round cargo test --locked --test crash || exit 1; done
