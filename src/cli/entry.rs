//! The arguments, and which subcommand they mean.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::client::{GLOBAL, ServerArgs};
use super::failure::{Exit, Failure};
use super::screen::Screen;
use super::{
    backup, bench, check, completions, dead_letters, effects, explain, export, forget, get, ls, pause, replay, restore,
    run, schema, send, shuffle, sinks, sources, status, test, verify, watch,
};

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 the answer is no, 2 wrong usage or configuration, 3 I/O (the server \
                          cannot be reached, a file cannot be read).";

/// Ends race conditions in event-driven services: one actor per key, a durable journal, declared merges.
///
/// Without a subcommand the server is started, as by `turnstile run`.
#[derive(Debug, Parser)]
#[command(name = "turnstile", version, after_help = EXIT_CODES)]
pub(super) struct Cli {
    /// The configuration of the server
    #[arg(short, long, global = true, help_heading = GLOBAL, env = "TURNSTILE_CONFIG", default_value = "./config.toml", value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server (also without any subcommand)
    Run(run::RunArgs),
    /// Check the configuration and all the rules it includes
    Check(check::CheckArgs),
    Test(test::TestArgs),
    Shuffle(shuffle::ShuffleArgs),
    Send(send::SendArgs),
    /// Show one entity
    Get(get::GetArgs),
    Explain(explain::ExplainArgs),
    /// List the entities of a type, or the types
    Ls(ls::LsArgs),
    /// List what could not be taken or delivered; show, retry or drop one of it
    DeadLetters(dead_letters::DeadLettersArgs),
    /// List the calls that rules asked for and that have not succeeded; resolve or retry one
    Effects(effects::EffectsArgs),
    /// List the sinks and what they are stuck on, or have one skip that
    Sinks(sinks::SinksArgs),
    /// List the sources, or set one back
    Sources(sources::SourcesArgs),
    Replay(replay::ReplayArgs),
    /// Hold the events of an entity, or of all entities of a type: acknowledged, and not applied
    Pause(pause::PauseArgs),
    /// Apply what is held, in the order it came
    Resume(pause::PauseArgs),
    Forget(forget::ForgetArgs),
    Watch(watch::WatchArgs),
    /// Show the state of the server
    Status(status::StatusArgs),
    Export(export::ExportArgs),
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    Verify(verify::VerifyArgs),
    Bench(bench::BenchArgs),
    /// Print the OpenAPI document of the HTTP interface
    Schema,
    /// Print the completions for a shell
    Completions(completions::CompletionsArgs),
}

/// Does what the command line asks for. 0 ok, 1 the answer is no, 2 usage or configuration, 3 I/O.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let mut screen = Screen::of_process();
    let done = dispatch(&cli, &mut screen).and_then(|exit| screen.flush().map(|()| exit));
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            let exit = failure.exit();
            screen.complain(&failure);
            exit.into()
        }
    }
}

/// Help and version are answers and go to standard output; anything else is wrong usage.
fn usage(error: &clap::Error) -> ExitCode {
    // Where nobody reads the message the exit code still tells.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() }
}

fn dispatch(cli: &Cli, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    match &cli.command {
        None => run::run(&run::RunArgs::default(), &cli.config),
        Some(Command::Run(args)) => run::run(args, &cli.config),
        Some(Command::Check(args)) => check::check(args, &cli.config, screen),
        Some(Command::Test(args)) => test::test(args, &cli.config, screen),
        Some(Command::Shuffle(args)) => shuffle::shuffle(args, &cli.config, screen),
        Some(Command::Send(args)) => send::send(args, &cli.server, screen),
        Some(Command::Get(args)) => get::get(args, &cli.server, screen),
        Some(Command::Explain(args)) => explain::explain(args, &cli.server, screen),
        Some(Command::Ls(args)) => ls::ls(args, &cli.server, screen),
        Some(Command::DeadLetters(args)) => dead_letters::dead_letters(args, &cli.server, screen),
        Some(Command::Effects(args)) => effects::effects(args, &cli.server, screen),
        Some(Command::Sinks(args)) => sinks::sinks(args, &cli.server, screen),
        Some(Command::Sources(args)) => sources::sources(args, &cli.server, screen),
        Some(Command::Replay(args)) => replay::replay(args, &cli.config, &cli.server, screen),
        Some(Command::Pause(args)) => pause::pause(args, &cli.server, screen),
        Some(Command::Resume(args)) => pause::resume(args, &cli.server, screen),
        Some(Command::Forget(args)) => forget::forget(args, &cli.server, screen),
        Some(Command::Watch(args)) => watch::watch(args, &cli.server, screen),
        Some(Command::Status(args)) => status::status(args, &cli.server, screen),
        Some(Command::Export(args)) => export::export(args, &cli.server, screen),
        Some(Command::Backup(args)) => backup::backup(args, &cli.server, screen),
        Some(Command::Restore(args)) => restore::restore(args, &cli.config, screen),
        Some(Command::Verify(args)) => verify::verify(args, &cli.config, &cli.server, screen),
        Some(Command::Bench(args)) => bench::bench(args, &cli.server, screen),
        Some(Command::Schema) => schema::schema(screen),
        Some(Command::Completions(args)) => completions::completions(args, screen),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn wrong_usage_is_told_from_a_question() {
        for (line, wrong) in [
            ("turnstile", false),
            ("turnstile run -c other.toml", false),
            ("turnstile check --print", false),
            ("turnstile test -c other.toml --json", false),
            ("turnstile test confirmed", false),
            ("turnstile shuffle - --rounds 5 --seed 7 --duplicates 0.5 --entity order --key 1 --json", false),
            ("turnstile send -", false),
            ("turnstile send - --to localhost:7400 --connections 8 --retry-for 1m --quiet --json", false),
            ("turnstile get order 1 --wait OrderConfirmed,applied --timeout 5s --json", false),
            ("turnstile explain order 1 --limit 5 --json", false),
            ("turnstile explain order 1 --all", false),
            ("turnstile explain --correlation c-1", false),
            ("turnstile explain order 1 --correlation c-1", true),
            ("turnstile explain order", true),
            ("turnstile explain", true),
            ("turnstile explain order 1 --all --limit 5", true),
            ("turnstile ls", false),
            ("turnstile ls order --prefix a --incomplete --where true --after b --limit 5", false),
            ("turnstile dead-letters ls --sink hook --limit 5", false),
            ("turnstile dead-letters show sink.hook.1.0 --json", false),
            ("turnstile dead-letters", true),
            ("turnstile sources ls --json", false),
            ("turnstile sources rewind clock --to -5", false),
            ("turnstile sources rewind clock", true),
            ("turnstile forget", false),
            ("turnstile forget order 1 --yes --by ann --why asked", false),
            ("turnstile forget order", true),
            ("turnstile forget --yes", true),
            ("turnstile watch", false),
            ("turnstile watch order o --decisions --decision Made --after 7.1 --count 5 --json", false),
            ("turnstile watch --count 0", true),
            ("turnstile status --url http://localhost:1/base/", false),
            ("turnstile dead-letters retry s.1 --by ann --why x", false),
            ("turnstile dead-letters retry --sink hook --reason exhausted", false),
            ("turnstile dead-letters retry --all", false),
            ("turnstile dead-letters retry", true),
            ("turnstile dead-letters retry s.1 --all", true),
            ("turnstile dead-letters drop s.1", false),
            ("turnstile effects ls --state unknown", false),
            ("turnstile effects resolve order 1 pay failed --status 500", false),
            ("turnstile effects retry order 1 pay", false),
            ("turnstile effects resolve order 1 pay", true),
            ("turnstile sinks ls --json", false),
            ("turnstile sinks skip hook order/1/Made/1", false),
            ("turnstile sinks skip hook", true),
            ("turnstile pause order a/1 --by ann --why odd --json", false),
            ("turnstile resume order", false),
            ("turnstile pause", true),
            ("turnstile --token t status", false),
            (
                "turnstile bench --events 5 --keys 9 --connections 2 --pipeline 7 --skew 1.1 --hot 0.5 --rate 5 --json",
                false,
            ),
            ("turnstile bench --duplicates 0.2 --entity timesheet --to localhost:7400", false),
            ("turnstile schema", false),
            ("turnstile export entities order --where true --format csv -o orders.csv --json", false),
            ("turnstile export decisions", false),
            ("turnstile export decisions order --after 5", false),
            ("turnstile export entities", true),
            ("turnstile export entities order --json", true),
            ("turnstile backup monday --rate 8MiB --by ann --why drill --json", false),
            ("turnstile backup", true),
            ("turnstile restore backups/monday --data-dir data --incarnation 3 --json", false),
            ("turnstile restore backups/monday --incarnation 0", true),
            ("turnstile restore", true),
            ("turnstile completions bash", false),
            ("turnstile replay --rules new.toml --diff --entity order/a/b --json", false),
            ("turnstile replay --rules new.toml --data-dir data", false),
            ("turnstile replay", true),
            ("turnstile replay --rules new.toml --entity order", true),
            ("turnstile run --rules-forward-only", false),
            ("turnstile run --shadow", false),
            ("turnstile verify --waiting-longer 2h --against list.csv --complete-list --entity order --json", false),
            ("turnstile verify --data-dir data --examples 5", false),
            ("turnstile verify --complete-list", true),
            ("turnstile verify --waiting-longer 5", true),
            ("turnstile nonsense", true),
            ("turnstile shuffle --from-data data", false),
            ("turnstile shuffle", true),
            ("turnstile shuffle - --from-data data", true),
            ("turnstile shuffle - --rounds 0", true),
            ("turnstile shuffle - --duplicates 2", true),
            ("turnstile send", true),
            ("turnstile send - --to nowhere", true),
            ("turnstile send - --connections 0", true),
            ("turnstile send - --in-flight 0", true),
            ("turnstile send - --retry-for 5", true),
            ("turnstile get order", true),
            ("turnstile get order 1 --timeout 5s", true),
            ("turnstile ls --prefix a", true),
            ("turnstile ls order --all --limit 5", true),
            ("turnstile dead-letters ls --sink hook --limit 5", false),
            ("turnstile dead-letters show sink.hook.1.0 --json", false),
            ("turnstile dead-letters", true),
            ("turnstile status --url https://localhost --ca ca.pem --client-cert a.pem --client-key a.key", false),
            ("turnstile status --client-cert a.pem", true),
            ("turnstile status --url ftp://localhost", true),
            ("turnstile send - --to tls://localhost:7400", false),
            ("turnstile send - --to https://localhost:7400", true),
            ("turnstile status --url localhost:7480", true),
            ("turnstile bench --duplicates 1.5", true),
            ("turnstile bench --entity nonsense", true),
            ("turnstile bench --rate 0", true),
            ("turnstile bench --keys 0", true),
            ("turnstile completions cobol", true),
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert_eq!(parsed.as_ref().is_err_and(clap::Error::use_stderr), wrong, "{line}: {parsed:?}");
        }
    }

    #[test]
    fn help_names_the_environment_and_shows_no_secret() {
        let help = Cli::command().render_long_help().to_string();
        for name in ["TURNSTILE_CONFIG", "TURNSTILE_URL", "TURNSTILE_TOKEN", "Exit codes"] {
            assert!(help.contains(name), "{name} is missing in\n{help}");
        }
        let token =
            Cli::command().get_arguments().find(|arg| arg.get_id() == "token").map(clap::Arg::is_hide_env_values_set);
        assert_eq!(token, Some(true));
    }
}
