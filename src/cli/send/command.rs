//! The arguments of `send`, and what is said at the end.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::connection::{Options, SendError};
use super::input::InputError;
use super::lane::Window;
use super::report::{Progress, Report, Summary};
use super::transmit::{TransmitError, transmit};
use crate::cli::client::ServerArgs;
use crate::cli::destination::Destination;
use crate::cli::failure::{Exit, Failure};
use crate::cli::screen::Screen;
use crate::model::time::Span;

/// What all connections together may have under way, in bytes.
const UNDER_WAY_BYTES_MAX: usize = 256 << 20;
const CONNECTIONS_MAX: u16 = 1_024;
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Send events, one JSON document a line, and see each of them settled
///
/// They go to a TCP source of the server; the command ends when every line has its answer.
///
/// With one connection the order of the file is kept. With more, events with the same `source` and `subject` (or,
/// without a subject, the same top-level `key`) go over one connection and keep their order; others go round. Lines that
/// are not acknowledged when a connection breaks or the server says goodbye are sent again: their identity makes that
/// harmless, and those which had arrived are counted as duplicates.
///
/// The exit code is 1 if the server refused a line.
#[derive(Debug, clap::Args)]
pub struct SendArgs {
    /// A file with one event a line, or - for standard input
    file: PathBuf,
    /// A TCP source of the server
    #[arg(long, env = "TURNSTILE_TO", value_name = "[tls://]HOST:PORT", default_value = "127.0.0.1:7400", value_parser = Destination::parse)]
    to: Destination,
    /// So many connections at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(CONNECTIONS_MAX)))]
    connections: u16,
    /// So many lines of each connection may be unacknowledged
    #[arg(long, value_name = "LINES", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    in_flight: u32,
    /// How long connecting may take, or an answer that is due, before the connection is made anew
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    timeout: Duration,
    /// How long to go on without any progress
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    retry_for: Duration,
    /// No progress, no notices, no summary: only what was refused
    #[arg(long)]
    quiet: bool,
    /// Print the summary as a JSON object
    #[arg(long)]
    json: bool,
}

/// A time such as "30s" or "1m30s".
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let nanos = Span::parse(text).and_then(|span| u64::try_from(span.as_nanos()).ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| "expected a time such as 500ms, 30s or 1m30s".to_owned())
}

/// Sends a file or standard input.
///
/// # Errors
/// The file is not there or is no list of lines, or the token is wrong (2); the server cannot be reached or makes no
/// progress (3). The summary is printed all the same.
pub fn send(args: &SendArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let (source, bytes) = open(&args.file)?;
    let progress = match args.quiet {
        true => Progress::Quiet,
        false if io::stderr().is_terminal() => Progress::Bar { bytes },
        false => Progress::Notices,
    };
    let connections = usize::from(args.connections);
    let options = Options {
        way: args.to.way(server)?,
        token: server.token().map(str::to_owned),
        window: Window { lines: args.in_flight as usize, bytes: UNDER_WAY_BYTES_MAX / connections },
        timeout: args.timeout,
        retry_for: args.retry_for,
        backoff: BACKOFF,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Io, error))?;
    let report = Arc::new(Report::new(progress));
    let outcome = runtime.block_on(transmit(source, connections, options, &report));
    let summary = report.end();
    print(args, &summary, screen)?;
    match outcome {
        Ok(()) if summary.tally.refused > 0 => Ok(Exit::No),
        Ok(()) => Ok(Exit::Ok),
        Err(error) => Err(Failure::new(exit(&error), error)),
    }
}

fn print(args: &SendArgs, summary: &Summary, screen: &mut Screen<'_>) -> Result<(), Failure> {
    if args.json {
        serde_json::to_writer(&mut screen.out, summary).map_err(io::Error::from)?;
        writeln!(screen.out)?;
    } else if args.quiet {
        summary.print_refusals(&mut *screen.out)?;
    } else {
        summary.print(&mut *screen.out, screen.paint)?;
    }
    Ok(())
}

fn exit(error: &TransmitError) -> Exit {
    match error {
        TransmitError::Send(SendError::Rejected { .. }) | TransmitError::Input(InputError::LineTooLong { .. }) => {
            Exit::Usage
        }
        TransmitError::Send(SendError::NoProgress { .. } | SendError::Protocol { .. })
        | TransmitError::Input(InputError::Read { .. }) => Exit::Io,
    }
}

/// The input, and its size if it has one.
fn open(path: &Path) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin()), None));
    }
    let failed = |error: io::Error| {
        Failure::new(Exit::Usage, anyhow::Error::new(error).context(format!("cannot open {}", path.display())))
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
}
