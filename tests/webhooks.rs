//! The sink `webhook` against an endpoint that behaves badly in every way one does: each decision revision arrives at
//! least once, with one id and one content, in order per key, and what holds up one key holds up no other.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::hook::{Answer, Call, Gate, Hook};
use common::orders::{NDJSON, feed, lines};
use common::tools::{make_certificates, tools};
use common::totals::{RULES, check_received, feed_revisions, priced};
use common::{Server, Setup, wait_for};
use serde_json::{Value, json};

const SECRETS: [&str; 2] = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"];

fn setup(url: &str, more: &str) -> Setup {
    let sink = format!(
        "[sink.hook]\nkind = \"webhook\"\nurl = \"{url}\"\nsecret = {SECRETS:?}\nallow_private = true\n\
         types = [\"Total\"]\nretry = {{ attempts = 1000, backoff = \"10ms..100ms\" }}\n{more}"
    );
    Setup::new(RULES).tables(&sink)
}

fn orders(names: impl IntoIterator<Item = usize>) -> Vec<String> {
    names.into_iter().map(|n| format!("o-{n}")).collect()
}

fn wait_for_taken(hook: &Hook, count: usize) -> Vec<String> {
    wait_for(&format!("{count} requests are taken"), || Some(hook.taken()).filter(|taken| taken.len() >= count))
}

/// What was taken: ids with the bodies they came with.
fn received(hook: &Hook) -> Vec<(String, String)> {
    let calls = hook.calls();
    let taken = calls.iter().filter(|call| call.was_taken());
    taken.map(|call| (call.id().to_owned(), call.body.clone())).collect()
}

fn in_log(server: &Server, what: &str) -> usize {
    server.stderr().lines().filter(|line| line.contains(what)).count()
}

/// If this failed, receivers that use the published library would take our requests for forged ones.
#[test]
fn the_published_library_verifies_every_request() {
    let hook = Hook::start(|_, _| Answer::Status(204));
    let server = setup(&hook.url(), "").start();
    feed_revisions(&server, &["ä/b \"c\"".to_owned()], 1..4);
    wait_for_taken(&hook, 3);
    let calls = hook.calls();
    assert_eq!(calls[1].id(), "order/%C3%A4%2Fb%20%22c%22/Total/2");
    assert_eq!(calls[1].headers["content-type"], "application/cloudevents+json");
    let event = calls[1].event();
    assert_eq!((&event["id"], &event["data"]), (&json!(calls[1].id()), &json!({"total": 2})));
    let Some(tools) = tools() else { return };
    let script = "import json, sys\nfrom standardwebhooks import Webhook\n\
                  for call in json.load(sys.stdin):\n    for secret in sys.argv[1:]:\n        \
                  Webhook(secret).verify(call['body'], call['headers'])\nprint('verified')";
    let mut python = Command::new(tools.join("python"))
        .args(["-c", script])
        .args(SECRETS)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let calls: Vec<Value> = calls.iter().map(|call| json!({"body": call.body, "headers": call.headers})).collect();
    let mut input = python.stdin.take().expect("a pipe");
    input.write_all(json!(calls).to_string().as_bytes()).expect("it reads");
    drop(input);
    let output = python.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "verified\n");
}

/// If this failed, a failure would lose a decision, let a later one overtake it, or be followed somewhere else.
#[test]
fn failures_are_tried_again_in_order_and_redirects_are_not_followed() {
    let elsewhere = Hook::start(|_, _| Answer::Status(200));
    let location = elsewhere.url();
    let hook = Hook::start(move |call, before| match (call.key().as_str(), before) {
        ("o-1", 0) => Answer::Reset,
        ("o-2", 0) => Answer::Status(500),
        ("o-3", 0) => Answer::Header(307, "location", location.clone()),
        ("o-4", 0) => Answer::Status(404),
        ("o-5", 0) => Answer::Header(503, "retry-after", "1".to_owned()),
        _ => Answer::Status(200),
    });
    let server = setup(&hook.url(), "").start();
    let orders = orders(0..8);
    feed_revisions(&server, &orders, 1..6);
    wait_for_taken(&hook, 40);
    check_received(&received(&hook), &orders, 5);
    assert_eq!(elsewhere.calls().len(), 0, "a redirect was followed");
    let asked: Vec<Call> = hook.calls().into_iter().filter(|call| call.id() == "order/o-5/Total/1").collect();
    assert!(asked[1].at - asked[0].at >= Duration::from_secs(1), "Retry-After was not kept");
    assert_eq!(asked[0].body, asked[1].body);
    wait_for("the counters", || {
        let count =
            |result| server.metric(&format!("turnstile_sink_deliveries_total{{result=\"{result}\",sink=\"hook\"}}"));
        (count("ok") == Some(40.0) && count("failed") == Some(25.0)).then_some(())
    });
    wait_for("no lag", || (server.metric("turnstile_sink_lag_records{sink=\"hook\"}")? < 3.0).then_some(()));
}

/// If this failed, one receiver that hangs would hold up what has nothing to do with it.
#[test]
fn a_slow_answer_holds_up_only_its_key() {
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    let hook = Hook::start(move |call, _| match call.key().as_str() {
        "o-0" => Answer::Behind(held.clone()),
        _ => Answer::Status(200),
    });
    let server = setup(&hook.url(), "timeout = \"1m\"\n").start();
    let orders = orders(0..30);
    feed_revisions(&server, &orders, 1..11);
    wait_for_taken(&hook, 290);
    assert_eq!(hook.calls().iter().filter(|call| call.key() == "o-0").count(), 1, "one at a time");
    wait_for("other sinks have everything", || (server.decisions_file().len() == 300).then_some(()));
    gate.open();
    wait_for_taken(&hook, 300);
    check_received(&received(&hook), &orders, 10);
}

/// If this failed, an endpoint that is not there would keep Turnstile from starting, or fill the log.
#[test]
fn it_starts_before_its_endpoint_and_tells_an_outage_once() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let server = setup(&format!("http://{port}/hook"), "").start();
    let orders = orders(0..20);
    feed_revisions(&server, &orders, 1..3);
    wait_for("some attempts", || {
        let failed = server.metric("turnstile_sink_deliveries_total{result=\"failed\",sink=\"hook\"}")?;
        (failed > 100.0).then_some(())
    });
    let hook = Hook::start_on(TcpListener::bind(port).expect("the port is free"), |_, _| Answer::Status(200));
    wait_for_taken(&hook, 40);
    check_received(&received(&hook), &orders, 2);
    wait_for("the end is told", || (in_log(&server, "nothing waits to be tried again") == 1).then_some(()));
    assert_eq!(in_log(&server, "could not be delivered"), 1, "{}", server.stderr());
}

/// If this failed, what a receiver never takes would be gone without a trace, hold up its key for ever, or be there twice.
#[test]
fn what_failed_for_good_is_a_dead_letter_once() {
    let refuse = Arc::new(AtomicBool::new(true));
    let refuses = refuse.clone();
    let hook = Hook::start(move |call, _| match call.key().as_str() {
        "bad" if refuses.load(Ordering::SeqCst) => Answer::Status(422),
        _ => Answer::Status(200),
    });
    let more = "body_bytes_max = \"1KiB\"\n";
    let config = setup(&hook.url(), more).text().replace("attempts = 1000", "attempts = 3");
    let mut server = Setup::new(RULES).write();
    server.rewrite(&config);
    server.start();
    let long = "x".repeat(900);
    feed_revisions(&server, &["bad".to_owned(), "good".to_owned(), long.clone()], 1..2);
    let letters = wait_for("two dead letters", || {
        let letters = server.get("/v1/dead-letters").expect(200).json();
        (letters["items"].as_array().expect("items").len() == 2).then_some(letters)
    });
    assert_eq!(letters["next"], Value::Null);
    let find = |reason: &str| {
        let items = letters["items"].as_array().expect("items");
        items.iter().find(|item| item["reason"] == reason).unwrap_or_else(|| panic!("{letters}")).clone()
    };
    let exhausted = find("exhausted");
    assert_eq!((&exhausted["key"], &exhausted["attempts"]), (&json!("bad"), &json!(3)), "{exhausted}");
    assert_eq!((&exhausted["detail"], &exhausted["sink"]), (&json!("HTTP 422"), &json!("hook")));
    assert_eq!(find("too_large")["key"], json!(long));
    assert_eq!(hook.calls().iter().filter(|call| call.key() == "bad").count(), 3);
    let id = exhausted["id"].as_str().expect("an id");
    let shown = server.get(&format!("/v1/dead-letters/{id}")).expect(200).json();
    let bodies: Vec<String> = hook.calls().into_iter().filter(|call| call.key() == "bad").map(|c| c.body).collect();
    assert!(bodies.iter().all(|body| *body == shown["body"]), "the bytes that were sent: {shown}");
    server.get("/v1/dead-letters/nothing").expect(404);
    assert_eq!(server.get("/v1/dead-letters?sink=decisions").expect(200).json()["items"], json!([]));
    let listed = server.cli(&["dead-letters", "ls", "--sink", "hook", "--limit", "1"]);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(text.lines().count() == 2 && String::from_utf8_lossy(&listed.stderr).contains("--after"), "{text}");
    let told = server.cli(&["dead-letters", "show", id]);
    assert!(String::from_utf8_lossy(&told.stdout).contains("\"subject\":\"bad\""));
    // The key goes on, and a crash neither loses nor repeats what was recorded.
    refuse.store(false, Ordering::SeqCst);
    server.restart();
    feed(&server, &[priced("bad", 2)]);
    wait_for("the next revision", || hook.taken().contains(&"order/bad/Total/2".to_owned()).then_some(()));
    assert_eq!(server.get("/v1/dead-letters").expect(200).json(), letters);
    for reason in ["exhausted", "too_large"] {
        assert_eq!(server.metric(&format!("turnstile_dead_letters{{reason=\"{reason}\"}}")), Some(1.0));
    }
}

/// If this failed, an endpoint that asks for less would get more, or would cost decisions their attempts.
#[test]
fn an_endpoint_that_says_too_much_is_left_alone() {
    let hook = Hook::start(|_, before| match before {
        0 => Answer::Header(429, "retry-after", "1".to_owned()),
        _ => Answer::Status(200),
    });
    let server = setup(&hook.url(), "window = 1\n").text().replace("attempts = 1000", "attempts = 1");
    let mut running = Setup::new(RULES).write();
    running.rewrite(&server);
    running.start();
    feed_revisions(&running, &orders(0..2), 1..2);
    wait_for_taken(&hook, 2);
    let calls = hook.calls();
    assert!(calls[1].at - calls[0].at >= Duration::from_secs(1), "{calls:?}");
    assert_eq!(running.metric("turnstile_dead_letters{reason=\"exhausted\"}"), None);
}

/// If this failed, an endpoint that is gone for good would be called for ever, or its decisions would be dropped.
#[test]
fn gone_disables_the_sink_and_nothing_else() {
    let gone = Arc::new(AtomicBool::new(true));
    let is_gone = gone.clone();
    let hook = Hook::start(move |_, _| Answer::Status(if is_gone.load(Ordering::SeqCst) { 410 } else { 200 }));
    let mut server = setup(&hook.url(), "window = 1\n").start();
    let orders = orders(0..10);
    feed_revisions(&server, &orders, 1..4);
    wait_for("it is told", || (in_log(&server, "410 Gone: the sink is disabled") == 1).then_some(()));
    wait_for("other sinks have everything", || (server.decisions_file().len() == 30).then_some(()));
    assert_eq!(hook.calls().len(), 1);
    gone.store(false, Ordering::SeqCst);
    assert_eq!(server.terminate().code(), Some(0), "a sink that is disabled does not hold up the end");
    server.start();
    wait_for_taken(&hook, 30);
    check_received(&received(&hook), &orders, 3);
}

/// If this failed, whoever may name a webhook could have this machine call its own network.
#[test]
fn private_addresses_are_not_called_unless_allowed() {
    let hook = Hook::start(|_, _| Answer::Status(200));
    for url in [hook.url(), hook.url().replace("127.0.0.1", "localhost")] {
        let config = setup(&url, "").text().replace("allow_private = true\n", "");
        let mut server = Setup::new(RULES).write();
        server.rewrite(&config);
        server.start();
        feed_revisions(&server, &orders(0..1), 1..2);
        wait_for("it is told", || (in_log(&server, "is no public address") == 1).then_some(()));
        assert_eq!(hook.calls().len(), 0, "{url}");
    }
}

/// Answers every request over TLS, on a port that it prints.
const TLS_ENDPOINT: &str = r#"
import http.server, ssl, sys
class Endpoint(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.headers["webhook-id"], flush=True)
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_): pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.pem", "server.key")
server = http.server.HTTPServer(("127.0.0.1", 0), Endpoint)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
"#;

/// If this failed, decisions would go to whoever claims to be the receiver.
#[test]
fn tls_goes_only_to_whom_the_authority_knows() {
    let certificates = tempfile::tempdir().expect("a temporary directory");
    if !make_certificates(certificates.path()) {
        return;
    }
    let mut python = Command::new("python3");
    python.args(["-c", TLS_ENDPOINT]).current_dir(certificates.path()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut endpoint) = python.spawn() else { return eprintln!("SKIPPED: there is no python3") };
    let mut said = BufReader::new(endpoint.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let port = said.next().expect("its port");
    let url = format!("https://localhost:{port}/hook");
    let mut server = setup(&url, "").start();
    feed_revisions(&server, &orders(0..1), 1..2);
    wait_for("it is told", || (in_log(&server, "could not be delivered") == 1).then_some(()));
    assert!(server.stderr().contains("UnknownIssuer"), "{}", server.stderr());
    assert_eq!(server.terminate().code(), Some(0));
    let authority = format!("tls_ca = \"{}\"\n", certificates.path().join("ca.pem").display());
    server.rewrite(&setup(&url, &authority).text());
    server.start();
    assert_eq!(said.next().as_deref(), Some("order/o-0/Total/1"));
    endpoint.kill().expect("it can be killed");
    endpoint.wait().expect("it can be waited for");
}

/// If this failed, a sink would get what is not for it, or miss what is.
#[test]
fn types_and_if_say_what_goes_where() {
    let hook = Hook::start(|_, _| Answer::Status(200));
    let condition = "if = \"event.type == 'Large' || event.data.total == 150 || event.revision == 1\"\n";
    let config = setup(&hook.url(), condition).text().replace("types = [\"Total\"]", "types = [\"T*l\", \"Large\"]");
    let server = Setup::new(RULES).write();
    server.rewrite(&config.replace("event.revision", "event.revison +"));
    let checked = server.cli(&["check"]);
    assert_eq!(checked.status.code(), Some(2), "an `if` that is no CEL");
    server.rewrite(&config);
    let mut server = server;
    server.start();
    for n in [7, 50, 120, 150, 160] {
        feed(&server, &[priced("o", n)]);
    }
    feed(&server, &[priced("p", 3)]);
    let taken = wait_for_taken(&hook, 4);
    assert_eq!(taken, ["order/o/Total/1", "order/o/Large/1", "order/o/Total/4", "order/p/Total/1"]);
    let printed = server.cli(&["check", "--print"]);
    let text = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(text.contains("types = [\"T*l\", \"Large\"]") && text.contains("secret = [\"***\", \"***\"]"), "{text}");
    let told = text + &String::from_utf8_lossy(&printed.stderr) + &server.stderr();
    assert!(!told.contains(&SECRETS[0][6..]) && !told.contains(&SECRETS[1][6..]), "{told}");
}

/// If this failed, ending in peace would repeat what was delivered.
#[test]
fn what_is_under_way_at_the_end_is_finished_and_noted() {
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    let hook = Hook::start(move |call, _| match call.key().as_str() {
        "o-3" => Answer::Behind(held.clone()),
        _ => Answer::Status(200),
    });
    let mut server = setup(&hook.url(), "").start();
    let orders = orders(0..10);
    feed_revisions(&server, &orders, 1..2);
    wait_for("all are under way", || (hook.calls().len() == 10).then_some(()));
    server.signal_term();
    gate.open();
    assert_eq!(server.wait_for_exit().code(), Some(0));
    server.start();
    feed_revisions(&server, &orders, 2..3);
    wait_for_taken(&hook, 20);
    assert_eq!(hook.calls().len(), 20, "each came once");
    check_received(&received(&hook), &orders, 2);
}

/// If this failed, a sink that is down for long would miss what the journal no longer has.
#[test]
fn the_journal_is_kept_for_a_sink_that_is_behind() {
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    let hook = Hook::start(move |_, _| Answer::Behind(held.clone()));
    let small = "[journal]\nsegment_bytes = \"1MiB\"\ncommit_bytes_max = \"64KiB\"\nretention = \"0s\"\n\
                 [checkpoint]\njournal_bytes = \"64KiB\"\n";
    let mut server = setup(&hook.url(), &format!("timeout = \"1m\"\nwindow = 4\n{small}")).start();
    let orders = orders(0..20);
    let journal = |server: &Server, name: &str| server.get("/v1/status").expect(200).json()["journal"][name].clone();
    // The store may fall behind; what was taken before is a duplicate then.
    let feed_padded = |server: &Server, n| {
        let events: Vec<Value> = orders.iter().map(|order| with_padding(priced(order, n))).collect();
        wait_for("all are taken", || (server.post("/v1/events", NDJSON, lines(&events)).status == 202).then_some(()));
    };
    for n in 1..51 {
        feed_padded(&server, n);
    }
    wait_for("all is in the store", || (server.metric("turnstile_watermark_lsn")? > 900.0).then_some(()));
    server.restart();
    feed_padded(&server, 51);
    assert_eq!(journal(&server, "first_lsn"), 1, "what the sink needs is there");
    gate.open();
    wait_for("every order's last revision", || {
        let taken = hook.taken();
        orders.iter().all(|order| taken.contains(&format!("order/{order}/Total/51"))).then_some(())
    });
    check_received(&received(&hook), &orders, 51);
    let n = std::cell::Cell::new(52);
    wait_for("what nobody needs any more goes", || {
        feed_padded(&server, n.replace(n.get() + 1));
        (journal(&server, "first_lsn").as_u64()? > 1).then_some(())
    });
}

fn with_padding(mut event: Value) -> Value {
    event["data"]["padding"] = "x".repeat(3000).into();
    event
}

/// If this failed, a crash would lose a decision, or deliver another content under its id.
#[test]
fn crashes_lose_nothing_and_change_nothing() {
    let hook = Hook::start(|call, before| match (call.body.len() + before) % 5 {
        0 => Answer::Status(500),
        1 if before == 0 => Answer::Reset,
        _ => Answer::Status(200),
    });
    let mut server = setup(&hook.url(), "window = 8\n").start();
    let orders = orders(0..40);
    for round in 0..6 {
        feed_revisions(&server, &orders, round * 5 + 1..round * 5 + 6);
        let so_far = hook.taken().len();
        wait_for("some more", || (hook.taken().len() > so_far + 20).then_some(()));
        server.restart();
    }
    wait_for("every order's last revision", || {
        let taken = hook.taken();
        orders.iter().all(|order| taken.contains(&format!("order/{order}/Total/30"))).then_some(())
    });
    check_received(&received(&hook), &orders, 30);
}
