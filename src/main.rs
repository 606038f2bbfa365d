//! The `turnstile` binary.

use std::process::ExitCode;

/// Records are made on one thread and let go on another, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    turnstile::cli::main()
}
