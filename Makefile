# What people do with this repository. .ci/run does `lint` and `test` on a bare machine.

ROUNDS ?= 20

.PHONY: run test lint bench soak

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

# A round is 100 kills, a quarter of them during recovery, 5 stops under load and 10 disks that fill up.
soak: ## faults, over and over: 2,000 kills, 100 stops, 200 full disks, a minute of flood; or make soak ROUNDS=100
	@for round in $$(seq $(ROUNDS)); do echo "round $$round of $(ROUNDS)"; \
	CRASH_SEED=$$round CRASH_KILLS=50 CRASH_STOPS=5 DISK_SEED=$$round DISK_ROUNDS=10 \
	cargo test --locked --test crash --test disk || exit 1; done
	FLOOD_SECONDS=60 cargo test --locked --test floods
