//! `turnstile bench` against a running server: what it says is what the server counted.

mod common;

use common::Setup;
use common::orders::RULES;
use serde_json::Value;

/// Events that are sent; few, since this is about what is told and not about speed.
const EVENTS: u64 = 3_000;

/// Figures are quoted from it; they would be worth nothing if it counted something else than what the server took.
#[test]
fn it_tells_what_the_server_counted() {
    let server = Setup::new(RULES).start();
    let tcp = server.tcp().to_string();
    let run = |more: &[&str]| {
        let events = EVENTS.to_string();
        let fixed = ["bench", "--json", "--events", &events, "--keys", "100", "--connections", "3", "--to", &tcp];
        let output = server.cli(&[&fixed, more].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{more:?}: {error}");
        let told: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
        assert_eq!((told["events"].as_u64(), told["refused"].as_u64()), (Some(EVENTS), Some(0)), "{told}");
        assert!(told["events_per_second"].as_f64().expect("a number") > 0.0, "{told}");
        let [p50, p99, p999, max] = ["p50", "p99", "p99.9", "max"].map(|name| {
            told["ack_milliseconds"][name].as_f64().unwrap_or_else(|| panic!("{name} is no number: {told}"))
        });
        assert!(0.0 < p50 && p50 <= p99 && p99 <= p999 && p999 <= max, "{told}");
        let change = |sample: &str| {
            let change = &told["server"][sample];
            change["after"].as_f64().unwrap_or_default() - change["before"].as_f64().unwrap_or_default()
        };
        assert!((change(r#"turnstile_events_accepted_total{source="tcp"}"#) - EVENTS as f64).abs() < 0.5, "{told}");
        let repeated = change(r#"turnstile_events_applied_total{entity="order",outcome="duplicate"}"#);
        let duplicates = told["duplicates"].as_u64().expect("a number");
        assert!((repeated - duplicates as f64).abs() < 0.5, "{told}");
        duplicates
    };
    // One event in ten is a duplicate by default: 300, with a deviation of 16.
    let duplicates = run(&["--pipeline", "50"]);
    assert!((200..400).contains(&duplicates), "{duplicates} duplicates");
    for more in [
        ["--duplicates", "0"].as_slice(),
        ["--duplicates", "0", "--skew", "1", "--hot", "0.5"].as_slice(),
        ["--duplicates", "0", "--pipeline", "10"].as_slice(),
        ["--duplicates", "0", "--rate", "20000"].as_slice(),
    ] {
        assert_eq!(run(more), 0, "{more:?}: runs do not meet each other's identities");
    }
}

#[test]
fn what_is_refused_is_told() {
    let server = Setup::new(RULES).start();
    let tcp = server.tcp().to_string();
    let output = server.cli(&["bench", "--events", "10", "--entity", "timesheet", "--to", &tcp]);
    assert_eq!(output.status.code(), Some(1), "a refusal is an answer of no");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("refused     10") && said.contains("unmatched"), "{said}");
}
