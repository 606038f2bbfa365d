//! `turnstile export entities|decisions`: all of them, as lines of JSON or as CSV.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use indicatif::ProgressBar;
use serde_json::json;

use super::backup::bar;
use super::client::{ANSWER_TIMEOUT, Client, ServerArgs};
use super::failure::{Exit, Failure};
use super::render;
use super::screen::Screen;
use crate::model::value::{Map, Value};

const BAR: &str = "{bar:30} {percent:>3}%  {pos} of {len}  {per_sec}  {eta} left";
const SPINNER: &str = "{spinner} {pos}  {per_sec}";
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);
/// What is written gets its name when it is whole.
const UNFINISHED_END: &str = ".tmp";

/// Write all entities of a type, or all decisions, as NDJSON or CSV
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// All entities of a type, each as it is when it is read
    Entities(EntitiesArgs),
    /// All decisions that the journal still has, in its order, or those of one entity type
    Decisions(DecisionsArgs),
}

#[derive(Debug, clap::Args)]
struct EntitiesArgs {
    /// The entity type
    #[arg(value_name = "TYPE")]
    entity: String,
    /// Only those of which this is true (CEL), such as "order.payment.amount > 100"
    #[arg(long, value_name = "CEL")]
    r#where: Option<String>,
    #[command(flatten)]
    to: To,
}

#[derive(Debug, clap::Args)]
struct DecisionsArgs {
    /// The entity type
    #[arg(value_name = "TYPE")]
    entity: Option<String>,
    /// Only those after this position, an LSN
    #[arg(long, value_name = "LSN")]
    after: Option<String>,
    #[command(flatten)]
    to: To,
}

#[derive(Debug, clap::Args)]
struct To {
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    format: Format,
    /// Write to a file, which is replaced when all is there
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print how much was written as JSON
    #[arg(long, requires = "output")]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Ndjson,
    Csv,
}

/// Writes an export.
///
/// # Errors
/// There is no such type, or the journal was trimmed further (1), the request is wrong (2), the server cannot be asked or the
/// output not be written (3).
pub fn export(args: &ExportArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let client = Client::new(server)?;
    let (what, to, named) = match &args.what {
        What::Entities(args) => {
            ("entities", &args.to, [("type", Some(&args.entity)), ("where", args.r#where.as_ref())])
        }
        What::Decisions(args) => {
            ("decisions", &args.to, [("type", args.entity.as_ref()), ("after", args.after.as_ref())])
        }
    };
    let format = if to.format == Format::Csv { "csv" } else { "ndjson" };
    let given = named.into_iter().filter_map(|(name, value)| Some((name, value?.clone())));
    let query: Vec<(&str, String)> = given.chain([("format", format.to_owned())]).collect();
    let Some(path) = &to.output else {
        client.get_streamed(&["export", what], &query, |part| Ok(screen.out.write_all(part)?))?;
        return Ok(Exit::Ok);
    };
    let total = match &args.what {
        What::Entities(args) if args.r#where.is_none() => count(&client, &args.entity)?,
        _ => None,
    };
    let bar = total.map_or_else(spinner, |total| {
        let bar = bar(BAR);
        bar.set_length(total);
        bar
    });
    let mut lines = Lines { is_quoting: to.format == Format::Csv, is_quoted: false, count: 0 };
    write_whole(path, |file| {
        client.get_streamed(&["export", what], &query, |part| {
            bar.set_position(lines.count(part));
            file.write_all(part).map_err(|error| failed(path, error))
        })
    })?;
    bar.finish_and_clear();
    let written = lines.count - u64::from(to.format == Format::Csv).min(lines.count);
    if to.json {
        writeln!(screen.out, "{}", json!({ what: written, "file": path.display().to_string() }))?;
    } else {
        writeln!(screen.out, "{} {what} in {}", render::grouped(written.cast_signed()), path.display())?;
    }
    Ok(Exit::Ok)
}

fn spinner() -> ProgressBar {
    let spinner = bar(SPINNER);
    spinner.enable_steady_tick(REDRAW_INTERVAL);
    spinner
}

/// How many entities of the type there are.
fn count(client: &Client<'_>, kind: &str) -> Result<Option<u64>, Failure> {
    let answer = client.get(&["entities"], &[], ANSWER_TIMEOUT)?.document()?;
    let Value::Map(answer) = answer else { return Ok(None) };
    let Some(Value::List(types)) = answer.get("types") else { return Ok(None) };
    let is_it = |it: &&Map| it.get("type").and_then(Value::as_str) == Some(kind);
    let found = types.iter().filter_map(|it| if let Value::Map(it) = it { Some(it) } else { None }).find(is_it);
    Ok(found.and_then(|found| match found.get("entities") {
        Some(Value::Int(count)) => u64::try_from(*count).ok(),
        _ => None,
    }))
}

/// Writes a file that appears when it is whole.
fn write_whole(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED_END);
    let unfinished = PathBuf::from(name);
    let mut file = BufWriter::new(File::create(&unfinished).map_err(|error| failed(&unfinished, error))?);
    let written = write(&mut file).and_then(|()| {
        let synced = file.flush().and_then(|()| file.get_ref().sync_all());
        synced.and_then(|()| std::fs::rename(&unfinished, path)).map_err(|error| failed(path, error))
    });
    if written.is_err() {
        // It is of no use; if it stays, its name says so.
        let _ = std::fs::remove_file(&unfinished);
    }
    written
}

fn failed(path: &Path, error: std::io::Error) -> Failure {
    Failure::new(Exit::Io, anyhow::Error::new(error).context(format!("cannot write {}", path.display())))
}

/// Counts lines as they come, in parts; a line end within quotes is none.
struct Lines {
    is_quoting: bool,
    is_quoted: bool,
    count: u64,
}

impl Lines {
    fn count(&mut self, part: &[u8]) -> u64 {
        for byte in part {
            match byte {
                b'"' if self.is_quoting => self.is_quoted = !self.is_quoted,
                b'\n' if !self.is_quoted => self.count += 1,
                _ => {}
            }
        }
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_across_parts_and_not_within_quotes() {
        for (is_quoting, parts, expected) in [
            (false, &["{\"a\":1}\n{\"a\"", ":2}\n"][..], 2),
            (false, &["{\"a\":\"\\\"\"}\n"][..], 1),
            (true, &["a,b\n\"x\n", "\"\"y\",1\n"][..], 2),
        ] {
            let mut lines = Lines { is_quoting, is_quoted: false, count: 0 };
            let counted: Vec<u64> = parts.iter().map(|part| lines.count(part.as_bytes())).collect();
            assert_eq!(counted.last(), Some(&expected), "{parts:?}");
        }
    }

    /// If this failed, half an export would pass for a whole one.
    #[test]
    fn a_file_appears_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        let failing = |file: &mut BufWriter<File>| {
            file.write_all(b"half").unwrap();
            Err(Failure::OutputClosed)
        };
        assert!(write_whole(&path, failing).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        write_whole(&path, |file| Ok(file.write_all(b"whole")?)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
