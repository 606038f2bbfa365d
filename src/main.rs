//! The `turnstile` binary: everything is in the library, see [`turnstile::cli`].

fn main() -> std::process::ExitCode {
    turnstile::cli::main()
}
