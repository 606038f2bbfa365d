//! Tests of loading as a whole: what a right configuration becomes. What wrong ones say is in `tests/config`.

use std::path::Path;
use std::time::Duration;

use super::reaction_tests::REACTIONS;
use super::*;

const ORDERS: &str = r#"
[entity.order]
key = "event.data.orderId"                 # CEL -> string or int: which order this is about
[entity.order.fields]
customer = { on = "OrderCreated", take = "latest" }                       # value defaults to event.data
created  = { on = "OrderCreated", take = "min", value = "event.time" }
payment  = { on = "PaymentProcessed", take = "latest" }
stock    = { on = "InventoryReserved", take = "latest" }
shipping = { on = "ShippingCalculated", take = "latest" }
loyalty  = { on = "LoyaltyPointsUpdated", take = "latest" }
[entity.order.derived]
decidable = "has(order.payment) && has(order.stock)"
failed    = "order.?payment.?status.orValue('') == 'failed'"
status    = "order.failed ? 'payment_failed' : has(order.customer) ? 'processing' : 'pending'"
[entity.order.complete]                    # completeness = share of these that are present
fields = ["customer", "payment", "stock", "shipping", "loyalty"]
[entity.order.decision.OrderConfirmed]
when = "order.decidable && order.payment.status == 'successful' && size(order.stock.reservedItems) > 0"
data = { warehouse = "order.stock.warehouseId", days = "order.?shipping.?estimatedDays.orValue(5)" }
[entity.order.decision.OrderRejected]
when = "order.decidable && order.failed"
data = { reason = "'Payment failed'" }
"#;

const NODE: &str = r#"
include = ["examples/orders/rules.toml"]
[server]
name = "turnstile"               # part of every decision's source
data_dir = "data"
http = "127.0.0.1:7480"          # events in, queries, metrics, console
[source.tcp]
kind = "tcp"                     # tcp | http | nats | sql; server.http is always the source `http`
listen = "127.0.0.1:7400"
[sink.decisions]
kind = "file"                    # stdout | file | nats | webhook
path = "out/decisions.ndjson"
"#;

/// Every kind of setting, none of them at its default.
const EVERYTHING: &str = r#"
[telemetry]
otlp = "https://otel:4318/"
sample = 0.25
tls_ca = "/etc/ca.pem"
[server]
name = "n-1"
data_dir = "/var/lib/turnstile"
http = "[::1]:8080"
token = "sesame"
ignore = ["Noise*", "Ping"]
[source.http]
kind = "http"
event = { id = "hash(body)", type = "body.type", data = "body" }
[source.tcp]
kind = "tcp"
listen = "127.0.0.1:0"
token = "open"
event = { source = "'erp'", time = "body.at", subject = "body.id" }
[sink.a]
kind = "stdout"
from = "all"
[sink.b]
kind = "file"
path = "/tmp/b.ndjson"
[entity.shipment]
key = { "*" = "event.subject", "A*" = "event.data.b", AB = "event.data['a\"$${x}\\d']" }
id = "event.data.id"
time = "event.data.time"
if = "event.data.live"
dedupe = "1h30m"
expire = { after = "30d", decision = "Dispatch" }
duplicates = "lenient"
require_time = true
[entity.shipment.fields]
legs = { on = ["A*", "AB"], take = "list", value = "event.data.leg", order_by = "event.data.n", if = "true", by = "event.data.x", keep = 7 }
n = { on = "*", take = "count" }
[entity.shipment.derived]
total = "sum(shipment.legs)"
[entity.shipment.complete]
fields = ["total"]
[entity.shipment.decision.Dispatch]
policy = "once"
data = "shipment.legs"
to = ["b", "a"]
[entity.shipment.decision.Plain]
[journal]
retention = "0s"
retention_bytes = "3GiB"
segment_bytes = "64MiB"
commit_bytes_max = "2MiB"
[actors]
shards = 3
max_live = 10
idle = "250ms"
[checkpoint]
journal_bytes = "1MiB"
dirty_bytes_max = "2MiB"
[limits]
event_bytes_max = "1KiB"
key_bytes_max = "16B"
entity_bytes_max = "2KiB"
json_depth_max = 5
connections_max = 6
keepalive = "7s"
connection_lines_max = 256
refusal_bytes_max = "8KiB"
receiving_bytes_max = "9MiB"
receiving_timeout = "10s"
in_flight_records_max = 70
in_flight_bytes_max = "1MiB"
disk_free_min = "0B"
http_body_bytes_max = "1025B"
http_events_max = 11
effect_response_bytes_max = "4KiB"
streams_max = 12
socket_subscriptions_max = 13
unread_timeout = "14s"
drain = "1s"
[log]
level = "trace"
format = "json"
"#;

pub(super) fn load_ok(text: &str) -> Config {
    let loaded = load_str(text, &|_| None);
    loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(&loaded.files)))
}

/// Writes files into a new folder and loads the first.
fn load_files(files: &[(&str, &str)], env: Env) -> (tempfile::TempDir, Loaded) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (path, text) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("it is in the folder")).expect("the folder can be made");
        std::fs::write(path, text).expect("the file can be written");
    }
    let loaded = load_with(&folder.path().join(files[0].0), env);
    (folder, loaded)
}

/// If this failed, the first configuration that anyone tries would not work.
#[test]
fn the_documented_example_loads() {
    let (folder, loaded) = load_files(&[("config.toml", NODE), ("examples/orders/rules.toml", ORDERS)], &|_| None);
    assert_eq!(loaded.diagnostics.render(&loaded.files), "");
    let config = loaded.config.expect("there is no error");
    assert_eq!(config.server.data_dir, folder.path().join("data"));
    let names: Vec<&str> = config.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["http", "tcp"]);
    let order = &config.entities[0];
    assert_eq!((order.fields.len(), order.derived.len(), order.complete.len(), order.decisions.len()), (6, 3, 5, 2));
    assert_eq!(order.fields[1].value_text(), Some("event.time"));
    assert!(matches!(&order.decisions[0].data, Data::Table(entries) if entries.len() == 2));
}

/// If this failed, files could not be moved together, or secrets not be kept apart.
#[test]
fn paths_are_relative_to_the_file_that_names_them() {
    let main = "include = \"sub/${PART}.toml\"\n[sink.a]\nkind = \"file\"\npath = \"a.out\"\n";
    let part = "include = [\"../rules.toml\"]\n[server]\ntoken_file = \"token\"\n\
                [sink.b]\nkind = \"file\"\npath = \"b.out\"\n";
    let files = [("c.toml", main), ("sub/part.toml", part), ("sub/token", "sesame\n"), ("rules.toml", ORDERS)];
    let (folder, loaded) = load_files(&files, &|name| (name == "PART").then(|| "part".into()));
    let config = loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(&loaded.files)));
    let paths: Vec<_> = config.sinks.iter().map(|sink| &sink.kind).collect();
    assert!(matches!(paths[0], SinkKind::File { path } if *path == folder.path().join("a.out")), "{paths:?}");
    assert!(matches!(paths[1], SinkKind::File { path } if *path == folder.path().join("sub/b.out")), "{paths:?}");
    assert_eq!(config.server.door.token.as_ref().map(Secret::expose), Some("sesame"));
    assert_eq!(config.entities.len(), 1);
}

/// If this failed, a file that two others include would be refused as given twice.
#[test]
fn a_file_that_is_included_twice_is_read_once() {
    let main = "include = [\"a.toml\", \"b.toml\"]";
    let part = "include = [\"rules.toml\"]";
    let (_folder, loaded) =
        load_files(&[("c.toml", main), ("a.toml", part), ("b.toml", part), ("rules.toml", ORDERS)], &|_| None);
    assert!(loaded.config.is_some(), "{}", loaded.diagnostics.render(&loaded.files));
}

/// If this failed, a wrong path on the command line would not be explained.
#[test]
fn a_main_file_that_is_missing_is_reported() {
    let loaded = load(Path::new("no/such/config.toml"));
    let expected =
        "error: cannot read no/such/config.toml: there is no such file\n  = help: name another file with -c\n";
    assert_eq!(loaded.diagnostics.render(&loaded.files), expected);
    assert!(loaded.config.is_none());
}

const SQL: &str = "[source.numbers]\nkind = \"sql\"\nurl = \"sqlite:/tmp/clock.db\"\ncursor = \"id\"\nstart = -5\n\
    query = \"SELECT '$$' FROM t\\nWHERE id > :cursor LIMIT :limit\"\nevent = { id = \"row.id\" }\n\
    [source.times]\nkind = \"sql\"\nurl = \"sqlite:/tmp/clock.db\"\ncursor = \"at\"\nstart = \"2026-01-01T00:00:00Z\"\n\
    query = \":cursor :limit\"\nevent = { id = \"row.id\" }\n";

/// If this failed, what `check --print` shows would not be what is in force.
#[test]
fn what_is_printed_loads_as_the_same() {
    for text in [EVERYTHING, ORDERS, &format!("{SQL}{ORDERS}")] {
        let config = load_ok(text);
        let printed = print(&config);
        let again = load_ok(&printed);
        assert_eq!(print(&again), printed);
        assert_eq!(again.entities[0].fingerprint_text(), config.entities[0].fingerprint_text());
    }
}

/// If this failed, people would run with limits they cannot see, or see secrets they should not.
#[test]
fn print_shows_defaults_and_hides_secrets() {
    let printed = print(&load_ok(ORDERS));
    for line in ["http = \"127.0.0.1:7480\"", "event_bytes_max = \"4MiB\"", "idle = \"5m\"", "policy = \"revise\""] {
        assert!(printed.lines().any(|printed| printed == line), "{line} is not in\n{printed}");
    }
    assert!(printed.contains("value = \"event.data\", order_by = \"event.time\""), "{printed}");
    let everything = load_ok(EVERYTHING);
    let printed = print(&everything);
    assert!(printed.contains("token = \"***\"") && !printed.contains("sesame"), "{printed}");
    assert!(!format!("{everything:?}").contains("sesame"));
    let sql = load_ok(&format!("{SQL}{ORDERS}").replace("sqlite:/tmp/clock.db", "postgres://me:sesame@db/x"));
    let printed = print(&sql);
    assert!(printed.contains("url = \"***\"") && !printed.contains("sesame"), "{printed}");
    assert!(!format!("{sql:?}").contains("sesame"));
}

/// If this failed, a token that was put in the wrong place would be told to everybody who reads the log.
#[test]
fn problems_show_no_secret_that_is_in_the_wrong_place() {
    for wrong in [
        "[server]\ntokens = { crm = \"sesame\" }\n",
        "[server.tokens]\ncrm = \"sesame\"\n",
        "[server]\ntokens = \"sesame\"\n",
        "[server]\ntoken = { crm = \"sesame\" }\n",
        "[source.s]\nkind = \"sql\"\nurl = \"postgres:reader:sesame@db/hr\"\n",
    ] {
        let Loaded { files, diagnostics, .. } = load_str(wrong, &|_| None);
        let shown = diagnostics.render(&files);
        assert!(diagnostics.has_errors() && !shown.contains("sesame"), "{shown}");
    }
}

/// If this failed, settings would be read and not used.
#[test]
fn every_setting_arrives() {
    let config = load_ok(EVERYTHING);
    let tuning = &config.tuning;
    assert_eq!((tuning.journal.retention, tuning.journal.retention_bytes), (Duration::ZERO, Some(3 << 30)));
    assert_eq!((tuning.journal.segment_bytes, tuning.journal.commit_bytes_max), (64 << 20, 2 << 20));
    assert_eq!((tuning.actors.shards, tuning.actors.max_live), (3, 10));
    assert_eq!((tuning.limits.json_depth_max, tuning.limits.http_body_bytes_max), (5, 1025));
    assert_eq!((tuning.log.level, tuning.log.format), (LogLevel::Trace, LogFormat::Json));
    let telemetry = config.telemetry.as_ref().expect("it is there");
    assert_eq!((telemetry.otlp.as_str(), telemetry.sample), ("https://otel:4318/v1/traces", 0.25));
    assert_eq!(config.server.ignore, ["Noise*", "Ping"]);
    let shipment = &config.entities[0];
    let KeyRule::ByType(keys) = &shipment.key else { panic!("{:?}", shipment.key) };
    let globs: Vec<&str> = keys.iter().map(|(glob, _)| glob.as_str()).collect();
    assert_eq!(globs, ["AB", "A*", "*"], "the most specific comes first");
    assert_eq!(keys[0].1.as_str(), r#"event.data['a"${x}\d']"#);
    assert_eq!(shipment.dedupe, Some(Duration::from_mins(90)));
    assert_eq!((shipment.fields[0].take, shipment.fields[0].keep), (Take::List, Some(7)));
    assert_eq!(shipment.fields[1].value_text(), None);
    assert_eq!(shipment.decisions[0].to.as_deref(), Some(&["b".to_owned(), "a".to_owned()][..]));
    assert!(matches!(&config.sources[1].kind, SourceKind::Tcp { door, .. } if door.token.is_some()));
}

/// If this failed, a start would be refused after harmless edits, or allowed after edits that change what data means.
#[test]
fn the_fingerprint_follows_the_meaning() {
    let of = |text: &str| load_ok(text).entities[0].fingerprint_text();
    let (head, fields) = ORDERS.split_once("[entity.order.fields]\n").expect("it has fields");
    let (fields, rest) = fields.split_once("[entity.order.derived]\n").expect("it has derived values");
    let mut lines: Vec<&str> = fields.lines().collect();
    lines.reverse();
    let reordered = format!("{head}[entity.order.derived]\n{rest}\n[entity.order.fields]\n{}", lines.join("\n"));
    assert_eq!(of(&reordered), of(ORDERS));
    let spelled_out = ORDERS.replace("take = \"latest\"", "take = \"latest\", value = \"event.data\"");
    assert_eq!(of(&spelled_out), of(ORDERS));
    let edits = [
        ("event.data.orderId", "event.data.id"),
        ("\"min\"", "\"max\""),
        ("\"PaymentProcessed\"", "[\"PaymentProcessed\", \"B\"]"),
        ("OrderConfirmed", "OrderApproved"),
        ("\"stock\", ", ""),
        ("'Payment failed'", "'payment failed'"),
        ("[entity.order.fields]", "dedupe = \"5m\"\n[entity.order.fields]"),
        ("[entity.order.fields]", "expire = \"5m\"\n[entity.order.fields]"),
    ];
    for (from, to) in edits {
        assert_ne!(of(&ORDERS.replace(from, to)), of(ORDERS), "{from} -> {to}");
    }
}

/// If this failed, a rule's error would not be shown at the characters that it is about.
#[test]
fn expressions_know_their_place() {
    let loaded = load_str(ORDERS, &|_| None);
    let config = loaded.config.expect("it is right");
    let KeyRule::Expr(key) = &config.entities[0].key else { panic!("it is one expression") };
    let at = key.at.within(&loaded.files, 6, 10);
    assert_eq!(loaded.files.place(at), "config.toml:3:14");
    assert_eq!(loaded.files.slice(at), "data");
}

proptest::proptest! {
    /// If this failed, a slip of the hand would end the program instead of being explained.
    #[test]
    fn no_text_makes_loading_panic(at in 0_usize..4200, length in 0_usize..40, insert in "[\\[\\]{}=\"'\\.\n$ äa1,#]{0,6}") {
        let kept = |text: &str| -> String {
            let start = text.char_indices().nth(at).map_or(text.len(), |(index, _)| index);
            let rest = text[start..].chars().skip(length);
            text[..start].chars().chain(insert.chars()).chain(rest).collect()
        };
        let loaded = load_str(&kept(&[EVERYTHING, REACTIONS].concat()), &|_| None);
        let shown = loaded.diagnostics.render(&loaded.files);
        proptest::prop_assert_eq!(loaded.config.is_none(), shown.contains("error: "));
    }
}
