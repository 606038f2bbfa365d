//! What `turnstile verify` finds, of a server and of its folder.

use serde_json::Value;

use super::Server;

/// One of the two below.
pub type Verify = fn(&Server, &[&str]) -> (Option<i32>, Value);

/// Runs `verify`; its exit code and its report.
pub fn verify(server: &Server, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = server.cli(&[&["verify", "--json"], arguments].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout);
    (output.status.code(), report.unwrap_or_else(|error| panic!("{error}: {said}")))
}

/// The same, of the server's folder.
pub fn verify_stopped(server: &Server, arguments: &[&str]) -> (Option<i32>, Value) {
    let data = server.path("data");
    verify(server, &[&["--data-dir", data.to_str().expect("UTF-8")], arguments].concat())
}

/// What was found: counts by kind.
pub fn kinds(report: &Value) -> Vec<(String, u64)> {
    let groups = report["findings"].as_array().expect("a list").iter();
    groups.map(|it| (it["kind"].as_str().expect("a word").to_owned(), it["count"].as_u64().expect("a count"))).collect()
}

/// What is expected to be found.
pub fn found(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect()
}

/// What is told of a kind.
pub fn details(report: &Value, kind: &str) -> Vec<String> {
    let groups = report["findings"].as_array().expect("a list").iter();
    let examples = groups.filter(|it| it["kind"] == kind).flat_map(|it| it["examples"].as_array().expect("a list"));
    let text = |it: &Value, name: &str| it[name].as_str().expect("text").to_owned();
    examples.map(|it| format!("{}: {}", text(it, "subject"), text(it, "detail"))).collect()
}
