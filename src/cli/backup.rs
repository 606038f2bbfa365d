//! `turnstile backup NAME`: has the running server make a backup, and shows how far it is.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

use super::client::{Client, ServerArgs, not_understood};
use super::failure::{Exit, Failure};
use super::render;
use super::screen::Screen;
use crate::model::json;
use crate::model::value::{Map, Value};

const BAR: &str = "{msg:8} {bar:30} {percent:>3}%  {bytes}  {bytes_per_sec}";
/// The deepest line of the answer.
const LINE_DEPTH_MAX: usize = 4;

/// Make a backup of the running server into a folder on its machine
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    /// Its folder, which the server makes in `[server] backups`
    name: String,
    /// At most so many bytes a second [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    rate: Option<String>,
    /// Who asks for it
    #[arg(long, env = "USER", default_value = "", hide_env_values = true)]
    by: String,
    /// Why
    #[arg(long, default_value = "")]
    why: String,
    /// Print what was made as JSON
    #[arg(long)]
    json: bool,
}

/// Has a backup made.
///
/// # Errors
/// The server makes none, or is making one (1), the request is wrong (2), it failed or the server cannot be asked (3).
pub fn backup(args: &BackupArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let text = |text: &str| Value::string(text);
    let rate = args.rate.as_deref().map(|rate| (Box::from("rate"), text(rate)));
    let members = [("folder", &args.name), ("by", &args.by), ("why", &args.why)];
    let members = members.into_iter().map(|(name, it)| (Box::from(name), text(it)));
    let body: Map = members.chain(rate).collect();
    let bar = bar(BAR);
    let (mut waiting, mut last) = (Vec::new(), None);
    Client::new(server)?.post_streamed(&["backup"], &json::to_string(&Value::Map(body)), |part| {
        waiting.extend_from_slice(part);
        while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = waiting.drain(..=end).collect();
            last = Some(read(&line, &bar)?);
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    let made = last.filter(|made| made.get("backup").is_some());
    let made = made.ok_or_else(|| Failure::message(Exit::Io, "the server ended before the backup was made".into()))?;
    if args.json {
        writeln!(screen.out, "{}", json::to_string(&Value::Map(made)))?;
        return Ok(Exit::Ok);
    }
    let shown = |name| made.get(name).map(render::line).unwrap_or_default();
    writeln!(
        screen.out,
        "backup {}: {} bytes in {} files, LSN {} to {}",
        shown("backup"),
        shown("bytes"),
        shown("files"),
        shown("first_lsn"),
        shown("last_lsn")
    )?;
    Ok(Exit::Ok)
}

/// A bar, on a terminal.
pub(super) fn bar(template: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Shows a line of progress; the others are given back.
fn read(line: &[u8], bar: &ProgressBar) -> Result<Map, Failure> {
    let document = json::parse(line, LINE_DEPTH_MAX).map_err(|refusal| not_understood(&refusal.message))?;
    let Value::Map(members) = document else { return Err(not_understood("no document")) };
    if let Some(Value::Map(error)) = members.get("error") {
        let detail = error.get("detail").map(render::line).unwrap_or_default();
        return Err(Failure::message(Exit::Io, format!("no backup was made: {detail}")));
    }
    let number = |name| match members.get(name) {
        Some(Value::Int(number)) => u64::try_from(*number).unwrap_or(0),
        _ => 0,
    };
    if let Some(phase) = members.get("phase").and_then(Value::as_str) {
        bar.set_message(phase.to_owned());
        bar.set_length(number("of"));
        bar.set_position(number("bytes"));
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{HttpServer, told};

    fn args() -> BackupArgs {
        BackupArgs {
            name: "monday".into(),
            rate: Some("1MiB".into()),
            by: "ann".into(),
            why: String::new(),
            json: false,
        }
    }

    /// If this failed, a script would take a backup for made that was not.
    #[test]
    fn only_a_backup_that_was_made_is_one() {
        let making = r#"{"phase":"store","bytes":1,"of":2}"#;
        let made = r#"{"backup":"monday","bytes":1234,"files":2,"first_lsn":1,"last_lsn":99}"#;
        let failed = r#"{"error":{"code":"internal","detail":"no space"}}"#;
        for (answer, expected, said) in [
            (format!("{making}\n{made}\n"), Exit::Ok, "backup monday: 1234 bytes in 2 files, LSN 1 to 99"),
            (format!("{making}\n{failed}\n"), Exit::Io, "no backup was made: no space"),
            (format!("{making}\n"), Exit::Io, "the server ended"),
        ] {
            let server = HttpServer::answering(vec![(200, answer)]);
            let (exit, out, err) = told(|screen| backup(&args(), &server.args(None), screen));
            assert_eq!(exit, expected);
            assert!(format!("{out}{err}").contains(said), "{out}{err}");
            let request = server.requests().remove(0);
            assert!(request.starts_with("POST /v1/backup "), "{request}");
            let body = request.rsplit("\r\n").next().unwrap();
            for member in [r#""folder":"monday""#, r#""rate":"1MiB""#, r#""by":"ann""#] {
                assert!(body.contains(member), "{body}");
            }
        }
    }
}
