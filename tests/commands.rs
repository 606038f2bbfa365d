//! The commands that ask and send, against a running server.

mod common;

use common::Setup;
use common::orders::{RULES, created, lines, paid, reserved};
use serde_json::Value;

/// The commands of the CLI are what people use first; their exit codes are what scripts use.
#[test]
fn the_cli_sends_and_asks() {
    let server = Setup::new(RULES).start();
    let good = server.path("good.ndjson");
    std::fs::write(&good, lines(&[paid("a/b", "successful"), reserved("a/b"), created("c")])).expect("a file");
    let run = |arguments: &[&str], code: i32| {
        let output = server.cli(arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}\n{error}");
        said
    };
    let tcp = server.tcp().to_string();
    run(&["send", good.to_str().expect("UTF-8"), "--to", &tcp, "--connections", "2"], 0);
    let document: Value = serde_json::from_str(&run(&["get", "order", "a/b", "--json"], 0)).expect("JSON");
    assert_eq!(document["decisions"]["OrderConfirmed"]["state"], "made", "{document}");
    assert!(run(&["ls", "order"], 0).contains("a/b"));
    run(&["status"], 0);
    run(&["get", "order", "none"], 1);
    let bad = server.path("bad.ndjson");
    std::fs::write(&bad, "{\"id\":\"1\"}\n").expect("a file");
    let output = server.cli(&["send", bad.to_str().expect("UTF-8"), "--to", &tcp]);
    assert_eq!(output.status.code(), Some(1), "what was refused is an answer of no");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("missing_type"), "the refusals are shown: {said}");
}
