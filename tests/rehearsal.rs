//! `turnstile test` and `turnstile shuffle`: what users run over their rules before production does.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::orders::{RULES as ORDERS, created, feed, paid, reserved, shipped};
use common::{Server, Setup};
use tempfile::TempDir;

const RULES: &str = r#"
[entity.order]
key = "event.data.order"
[entity.order.fields]
payment = { on = "Paid", take = "latest" }
notes = { on = "Noted", take = "count" }
[entity.order.decision.Confirmed]
when = "order.payment.amount > 10"
data = { amount = "order.payment.amount" }
"#;

/// A folder with a configuration and whatever else a command reads.
struct Folder(TempDir);

impl Folder {
    fn new(config: &str) -> Self {
        let folder = Folder(tempfile::tempdir().expect("a temporary folder"));
        folder.write("config.toml", config);
        folder
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("the file can be written");
        path
    }

    /// Runs a command here; its exit code and all that it says.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        run_in(self.0.path(), arguments)
    }
}

fn run_in(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_turnstile"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("TURNSTILE_CONFIG")
        .output()
        .expect("the binary runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).expect("UTF-8"))
}

/// If this failed, nobody would know what is wrong with rules whose test fails, or that one does.
#[test]
fn a_test_says_what_is_not_as_expected() {
    let tests = r#"
[[test]]
name = "right"
events = [{ id = "1", type = "Paid", time = 2026-11-20T10:00:00Z, data = { order = "a/b", amount = 50.5 } }]
expect = [{ entity = "order/a/b", that = "order.payment.amount == 50.5", decisions = { Confirmed = "made" } }]
[[test]]
name = "wrong"
events_file = "events.ndjson"
expect = [
  { entity = "order/x", that = ["order.payment.amount > 100", "order.payment.card == 'y'"] },
  { entity = "order/x", decisions = { Confirmed = { state = "pending", revision = 2, data = { amount = 12, more = 1 } } } },
  { entity = "order/y", that = ["true"] },
]
"#;
    let folder = Folder::new(&[RULES, tests].concat());
    folder.write(
        "events.ndjson",
        "{\"id\":\"1\",\"type\":\"Paid\",\"data\":{\"order\":\"x\",\"amount\":11}}\n\n{\"id\":\"2\",\"type\":\"Paid\",\"data\":{}}\n",
    );
    let (code, said) = folder.run(&["test"]);
    assert_eq!(code, Some(1), "{said}");
    for line in [
        "ok      right",
        "failed  wrong  (./config.toml:16:8)",
        "  refused: expected nothing, is missing_key",
        "    line 3: missing_key: `key` of entity type `order`: the event has no event.data.order",
        "  order/x: order.payment.amount > 100",
        "    is false  (./config.toml:19:33)",
        "    order.payment.amount  11",
        "    is unknown: there is no order.payment.card  (./config.toml:19:63)",
        "    state      expected pending, is made",
        "    revision   expected 2, is 1",
        "    data.amount  expected 12, is 11",
        "    data.more  expected 1, is nothing",
        "  order/y: there is no such entity; there are: order/x",
        "1 of 2 tests passed",
    ] {
        let spaces = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.lines().any(|said| spaces(said) == spaces(line)), "{line:?} is not in\n{said}");
    }
    let (code, said) = folder.run(&["test", "right", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let outcome: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&outcome["passed"], &outcome["tests"][0]["name"]), (&1.into(), &"right".into()), "{said}");
}

const TOGETHER: &str = r#"
[entity.shipment]
key = "event.subject"
fields = { segment = { on = "Shipped", take = "latest", value = "event.data.segment" } }
[entity.routing]
key = "event.subject"
[entity.routing.fields]
to = { on = "Routed", take = "latest", value = "event.data.to" }
legs = { on = "Routed", take = "latest", value = "event.data.legs" }
routed = { on = "Routed", take = "min", value = "event.time" }
told = { on = "Orphan", take = "count" }
[entity.routing.ref.shipment]
entity = "shipment"
key = "routing.to"
[entity.routing.deadline.orphan]
at = "routing.routed + duration('24h')"
unless = "has(shipment.segment)"
[entity.routing.decision.Orphan]
when = "has(routing.orphan)"
to = ["self"]
[entity.routing.decision.Dispatched]
by = "routing.legs"
when = "has(shipment.segment)"
settle = "1m"
data = { segment = "shipment.segment" }
[entity.routing.effect.book]
when = "has(shipment.segment)"
request = { url = "http://carrier/{key}" }
"#;

/// If this failed, rules about several entities, time or calls could not be tested before they run.
#[test]
fn a_test_is_a_whole_node() {
    let tests = r#"
[[test]]
name = "the routing comes first"
events = [
  { id = "1", type = "Routed", subject = "r", time = 2026-11-20T10:00:00Z, data = { to = "s", legs = ["a", "b/c"] } },
  { id = "2", type = "Routed", subject = "lost", time = 2026-11-20T10:00:00Z, data = { to = "nowhere", legs = ["a"] } },
  { advance = "23h" },
  { id = "3", type = "Shipped", subject = "s", data = { segment = "north" } },
]
advance = "2h"
effects = [
  { effect = "routing.book", key = "other", status = 500 },
  { effect = "routing.book", status = 200, response = { seat = 7 } },
]
[[test.expect]]
entity = "routing/r"
that = ["!has(routing.orphan)", "routing.book.state == 'succeeded' && routing.book.response.seat == 7"]
waiting_for = []
[test.expect.decisions]
Orphan = "pending"
"Dispatched/a" = { state = "made", data = { segment = "north" } }
"Dispatched/b/c" = { state = "made", revision = 1 }
"Dispatched/d" = "pending"
[[test.expect]]
entity = "routing/lost"
that = ["routing.orphan == routing.routed + duration('24h')", "routing.told == 1", "!has(routing.book)"]
waiting_for = ["shipment"]
decisions = { Orphan = "made" }
[[test.expect]]
entity = "shipment/s"
that = "shipment.segment == 'north'"
[[test]]
name = "what is not as expected"
events = [{ id = "1", type = "Routed", subject = "r", data = { to = "s", legs = [] } }]
expect = [
  { entity = "routing/r", waiting_for = [] },
  { entity = "shipment/s", that = "true" },
]
"#;
    let folder = Folder::new(&[TOGETHER, tests].concat());
    let (code, said) = folder.run(&["test"]);
    assert_eq!(code, Some(1), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "ok      the routing comes first",
            "failed  what is not as expected  (./config.toml:61:8)",
            "  routing/r: waiting_for: expected nothing, is shipment",
            "  shipment/s: there is no such entity; there are: routing/r",
            "1 of 2 tests passed",
        ]
    );
}

/// If this failed, time would stand still in tests: what a `dedupe` window forgets could not be tested.
#[test]
fn time_passes_where_a_test_says_so() {
    let rules = RULES.replace("[entity.order.fields]", "dedupe = \"1h\"\n[entity.order.fields]");
    let event = r#"{ id = "1", type = "Noted", data = { order = "a" } }"#;
    for (advance, notes) in [("50m", 1), ("2h", 2)] {
        let test = format!(
            "[[test]]\nname = \"t\"\nevents = [{event}, {{ advance = \"{advance}\" }}, {event}]\n\
             expect = [{{ entity = \"order/a\", that = \"order.notes == {notes}\" }}]\n"
        );
        let folder = Folder::new(&[&rules, test.as_str()].concat());
        let (code, said) = folder.run(&["test"]);
        assert_eq!(code, Some(0), "{advance}: {said}");
    }
}

/// If this failed, a mistake in a test would be found when it is too late, or would not say where it is.
#[test]
fn wrong_tests_are_configuration_errors() {
    let test = "[[test]]\nname = \"t\"\nevents_file = \"none.ndjson\"\nexpect = [{ entity = \"order/a\", that = \"order.x\" }]\n";
    let folder = Folder::new(&[RULES, test].concat());
    for command in ["check", "test"] {
        let (code, said) = folder.run(&[command]);
        assert_eq!(code, Some(2), "{command}: {said}");
        assert!(said.contains("config.toml:12:15") && said.contains("there is no such file"), "{command}: {said}");
        assert!(said.contains("config.toml:13:41") && said.contains("no field or derived value `x`"), "{said}");
    }
}

/// If this failed, the shipped examples would not do what their pages say.
#[test]
fn the_shipped_tests_pass() {
    let (code, said) = run_in(Path::new(env!("CARGO_MANIFEST_DIR")), &["test"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with("13 of 13 tests passed\n"), "{said}");
}

/// Rules that are wrong: the decision is made before shipping is known, and then never changes.
fn order_dependent() -> Folder {
    let rules = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/orders/rules.toml"));
    let rules = rules.expect("the example is there");
    let (rules, _) = rules.split_once("[[test]]").expect("it has tests");
    let folder = Folder::new(&rules.replacen("\ndata = {", "\npolicy = \"once\"\ndata = {", 1));
    let events = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/orders/events.ndjson");
    folder.write("events.ndjson", &std::fs::read_to_string(events).expect("the example is there"));
    folder
}

/// If this failed, rules that depend on the order would reach production.
#[test]
fn a_shuffle_finds_and_shrinks_what_depends_on_the_order() {
    let folder = order_dependent();
    let (code, said) = folder.run(&["shuffle", "events.ndjson"]);
    assert_eq!(code, Some(1), "{said}");
    for part in [
        "diverges: 1 of 3 entities",
        "decision OrderConfirmed of order/order-123 depends on the order",
        "line 9  ShippingCalculated ship-31",
        "rule     entity.order.decision.OrderConfirmed  (./config.toml:",
        "&& has(order.shipping)\"",
        "line 11: missing_key: ",
        "line 10 instead of line 8 would make",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    let (code, json) = folder.run(&["shuffle", "events.ndjson", "--json", "--key", "order-123", "--rounds", "50"]);
    assert_eq!(code, Some(1), "{json}");
    let found: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let finding = &found["findings"][0];
    let lines = |order: &str| {
        let arrivals = finding[order].as_array().expect("a list").iter();
        arrivals.map(|arrival| arrival["number"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    assert_eq!((lines("first"), lines("second")), (vec![1, 4, 9], vec![1, 9, 4]), "{json}");
    assert_eq!((&found["converges"], &finding["swaps"]), (&false.into(), &1.into()), "{json}");
    let again = folder.run(&["shuffle", "events.ndjson", "--json", "--key", "order-123", "--rounds", "50"]);
    assert_eq!(again, (code, json), "the same seed finds the same");
}

/// If this failed, what is blamed would not be what is wrong: what is proposed must help.
#[test]
fn what_a_shuffle_proposes_helps() {
    let folder = order_dependent();
    let config = folder.0.path().join("config.toml");
    let wrong = std::fs::read_to_string(&config).expect("it was written");
    folder.write("config.toml", &wrong.replace("policy = \"once\"", "policy = \"revise\""));
    let (code, said) = folder.run(&["shuffle", "events.ndjson"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("converges: 3 entities\n"), "{said}");
}

/// If this failed, the examples that people learn from would be wrong.
#[test]
fn the_shipped_examples_converge() {
    for example in ["orders", "timesheets", "shipments", "credit"] {
        let events = format!("examples/{example}/events.ndjson");
        let (code, said) = run_in(Path::new(env!("CARGO_MANIFEST_DIR")), &["shuffle", &events]);
        assert_eq!(code, Some(0), "{example}: {said}");
    }
}

/// If this failed, a slip of the hand would pass for a verdict.
#[test]
fn a_shuffle_of_nothing_is_no_verdict() {
    let folder = order_dependent();
    for (arguments, expected) in [
        (&["shuffle", "none.ndjson"][..], 2),
        (&["shuffle", "events.ndjson", "--entity", "ordr"], 2),
        (&["shuffle", "events.ndjson", "--source", "tpc"], 2),
        (&["shuffle", "events.ndjson", "--key", "nobody"], 1),
    ] {
        let (code, said) = folder.run(arguments);
        assert_eq!(code, Some(expected), "{arguments:?}: {said}");
    }
}

/// If this failed, what came in production could not be shuffled, or would be put at risk by it.
#[test]
fn the_journal_of_a_stopped_server_is_shuffled_and_not_changed() {
    let rules = ORDERS.replacen("\ndata = {", "\npolicy = \"once\"\ndata = {", 1);
    let mut server = Setup::new(&rules).start();
    feed(&server, &[created("a"), paid("b", "successful"), reserved("b"), shipped("b"), paid("b", "successful")]);
    let data = server.path("data");
    let shuffle = |server: &Server| {
        let output = server.cli(&["shuffle", "--from-data", data.to_str().expect("UTF-8")]);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).expect("UTF-8"))
    };
    let (code, said) = shuffle(&server);
    assert_eq!(code, Some(3), "a server runs: {said}");
    assert!(said.contains("the server must be stopped"), "{said}");
    server.kill();
    let files = || contents(&data);
    let before = files();
    let (code, said) = shuffle(&server);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("diverges: 1 of 2 entities\n  4 events"), "{said}");
    assert!(said.contains("    lsn ") && said.contains("  ShippingCalculated b-shipping"), "{said}");
    assert!(before == files() && before.len() > 2, "the data folder has changed: {:?}", before.keys());
    server.start();
    assert_eq!(shuffle(&server).0, Some(3), "it runs again");
}

/// Every file below a folder.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            let bytes = std::fs::read(&path).expect("the file can be read");
            found.insert(path, bytes);
        }
    }
    found
}
