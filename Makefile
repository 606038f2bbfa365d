# What people do with this repository. .ci/run does `lint` and `test` on a bare machine.

ROUNDS ?= 20
IMAGES ?= 200000
# Another day, other power cuts; a failure says which seed to set.
SEED ?= $(shell date +%Y%m%d)000000
SECONDS_EACH ?= 3600

.PHONY: run test lint bench bench-docs bench-long bench-micro soak soak-power soak-kill fuzz

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

soak: soak-power soak-kill ## faults, over and over: make soak IMAGES=200000 ROUNDS=100

soak-power: ## disks that simulated power cuts leave: make soak-power IMAGES=2000 SEED=1
	POWER_IMAGES=$(IMAGES) POWER_SEED=$(SEED) cargo test --locked --lib power_cut -- --nocapture

# A round is 100 kills, a quarter of them during recovery, 5 stops under load, 10 disks that fill up and 2,000 damaged folders.
soak-kill: ## the real program: 2,000 kills, 100 stops, 200 full disks, 40,000 damages, a minute of flood; or ROUNDS=100
	@for round in $$(seq $(ROUNDS)); do echo "round $$round of $(ROUNDS)"; \
	CRASH_SEED=$$round CRASH_KILLS=50 CRASH_STOPS=5 DISK_SEED=$$round DISK_ROUNDS=10 DAMAGE_SEED=$$round \
	cargo test --locked --test crash --test disk --test damage || exit 1; done
	FLOOD_SECONDS=60 cargo test --locked --test floods

fuzz: ## an hour of each fuzz target (needs cargo-fuzz and a C++ compiler; stable Rust will do): make fuzz SECONDS_EACH=60
	@for target in frames configuration block state; do \
	cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none $$target -- -max_total_time=$(SECONDS_EACH) || exit 1; done
