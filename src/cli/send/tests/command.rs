//! The command as a whole: exit codes and what is printed.

use std::io::{BufRead, BufReader, Write};

use clap::Parser;

use crate::cli::client::ServerArgs;
use crate::cli::failure::Exit;
use crate::cli::send::{SendArgs, send};
use crate::cli::testing::told;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: SendArgs,
}

fn args(line: &[&str]) -> SendArgs {
    Line::parse_from([&["send", "--quiet"], line].concat()).args
}

/// The server that is asked over HTTP, which sending does not.
fn unasked() -> ServerArgs {
    ServerArgs::of_test("http://127.0.0.1:1", None)
}

/// Refuses every line that says so, takes the others.
fn server() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let reader = BufReader::new(stream.try_clone().unwrap());
            for (n, line) in (1..).zip(reader.lines()) {
                if line.unwrap().contains("refuse") {
                    writeln!(stream, r#"{{"refused":{n},"code":"missing_id","message":"an event needs an id"}}"#)
                        .unwrap();
                }
                writeln!(stream, r#"{{"ack":{n},"duplicates":0,"lsn":{n}}}"#).unwrap();
            }
        }
    });
    address
}

#[test]
fn refusals_are_shown_and_make_the_answer_no() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let address = server();
    for (content, exit, out) in
        [("a\nb\n", Exit::Ok, ""), ("a\n\nrefuse\nb", Exit::No, "line 3: missing_id: an event needs an id\n")]
    {
        std::fs::write(path, content).unwrap();
        let outcome = told(|screen| send(&args(&[path, "--to", &address]), &unasked(), screen));
        assert_eq!(outcome, (exit, out.to_owned(), String::new()));
    }
    let (exit, out, _) = told(|screen| send(&args(&[path, "--to", &address, "--json"]), &unasked(), screen));
    let summary: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, out.lines().count()), (Exit::No, 1));
    assert_eq!((&summary["lines"], &summary["accepted"], &summary["lsn"]), (&3.into(), &2.into(), &3.into()));
    assert_eq!(summary["refusals"][0]["line"], 3);
}

#[test]
fn failures_have_their_exit_codes() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "a\n").unwrap();
    let path = file.path().to_str().unwrap();
    for (line, exit, part) in [
        (vec!["/nowhere/at/all"], Exit::Usage, "cannot open /nowhere/at/all: "),
        (vec!["/"], Exit::Usage, "cannot open /: "),
        (vec![path, "--to", &nobody, "--retry-for", "0s"], Exit::Io, "cannot connect"),
    ] {
        let (told_exit, out, err) = told(|screen| send(&args(&line), &unasked(), screen));
        assert_eq!((told_exit, &*out), (exit, ""), "{err}");
        assert!(err.contains(part), "{err}");
    }
}
