//! The shipped rules at work on what their pages tell of, through the real binary and in numbers: a CRM that asks again and
//! again while the bureau takes its time, a server that is killed in mid-call, an ERP feed after an outage.

mod common;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::around::Around;
use common::{Http, Server, Setup, deliver, wait_for};
use serde_json::{Value, json};

const CONNECTIONS: usize = 4;
const REPEATS: usize = 10;
const APPLICANTS: usize = 20;

fn rules(example: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example).join("rules.toml");
    std::fs::read_to_string(path).expect("the shipped rules")
}

/// `scoring_server.py`, ended by its process id.
struct Bureau {
    child: Child,
    address: SocketAddr,
}

impl Bureau {
    /// None where there is no Python, which is said.
    fn start(delay: &str) -> Option<Bureau> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/credit/scoring_server.py");
        let mut command = Command::new("python3");
        command.arg(script).args(["--port", "0", "--delay", delay]).stdin(Stdio::null()).stdout(Stdio::piped());
        let Ok(child) = command.spawn() else {
            eprintln!("SKIPPED: there is no python3");
            return None;
        };
        let mut bureau = Bureau { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let mut line = String::new();
        let stdout = bureau.child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
        let address = line.trim().strip_prefix("scoring on http://").and_then(|rest| rest.strip_suffix("/score"));
        bureau.address = address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("it said {line:?}"));
        Some(bureau)
    }

    /// How often it was asked, by `Idempotency-Key`.
    fn calls(&self) -> Value {
        Http::connect(self.address).request("GET", "/calls", &[], b"").expect(200).json()
    }
}

impl Drop for Bureau {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn crm_and(bureau: SocketAddr) -> Server {
    let mut server = Setup::new(&rules("credit")).write();
    let url = format!("http://{bureau}/score");
    server.set_around(Around { program: Vec::new(), env: vec![("SCORING_URL", url)] });
    server.start();
    server
}

fn request(n: usize) -> String {
    let data = json!({"application": format!("A-{n}"), "applicant": {"id": format!("C-{n}")}, "amount": 1000 + n});
    let time = "2026-11-20T10:00:00Z";
    json!({"id": format!("req-{n}"), "source": "crm", "type": "CreditRequested", "time": time, "data": data})
        .to_string()
}

/// Every request, repeated, in a different order on each of several connections at once. Comes back when all are
/// acknowledged.
fn ask_again_and_again(server: &Server) -> u64 {
    std::thread::scope(|scope| {
        let connections: Vec<_> = (0..CONNECTIONS)
            .map(|connection| {
                let order = (0..APPLICANTS * REPEATS).map(move |n| request((n * 7 + connection * 3) % APPLICANTS));
                let lines: Vec<String> = order.collect();
                scope.spawn(move || deliver(server.tcp(), &lines))
            })
            .collect();
        let outcomes = connections.into_iter().map(|connection| connection.join().expect("it ends well"));
        outcomes
            .map(|outcome| {
                assert_eq!(outcome.acked, (APPLICANTS * REPEATS) as u64, "{outcome:?}");
                outcome.duplicates
            })
            .sum()
    })
}

fn one_call_each() -> Value {
    (0..APPLICANTS)
        .map(|n| (format!("application/A-{n}/pull/1"), Value::from(1)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// If this failed, a CRM that asks again would cost a credit pull each time, or would have to wait for the bureau to be
/// acknowledged.
#[test]
fn a_crm_that_asks_again_gets_one_pull_per_applicant() {
    let Some(bureau) = Bureau::start("2") else { return };
    let server = crm_and(bureau.address);
    let duplicates = ask_again_and_again(&server);
    assert_eq!(duplicates as usize, APPLICANTS * (REPEATS * CONNECTIONS - 1), "each counts once");
    // A caller that wants the outcome waits for it, with the very same request.
    let headers = [("content-type", "application/json")];
    let path = "/v1/events?wait=any&timeout=60s";
    let answer = server.request("POST", path, &headers, request(0).as_bytes()).json();
    assert_eq!(answer["duplicates"], 1, "{answer}");
    for n in 0..APPLICANTS {
        let outcome = server.get(&format!("/v1/entities/application/A-{n}?wait=any&timeout=60s")).expect(200).json();
        let pull = &outcome["effects"]["pull"];
        assert_eq!((&pull["state"], &pull["attempts"]), (&json!("succeeded"), &json!(1)), "{outcome}");
        let decision =
            if pull["response"]["score"].as_u64() >= Some(600) { "CreditApproved" } else { "CreditDeclined" };
        assert_eq!(outcome["decisions"][decision]["state"], "made", "{outcome}");
    }
    ask_again_and_again(&server);
    assert_eq!(bureau.calls(), one_call_each());
}

/// If this failed, a server that was killed in mid-call would call again, or nobody would hear of a call that may have
/// been made.
#[test]
fn a_pull_that_was_cut_off_goes_to_the_desk() {
    // Nobody waits for it: it answers when all is over.
    let Some(bureau) = Bureau::start("600") else { return };
    let mut server = crm_and(bureau.address);
    ask_again_and_again(&server);
    // As many calls at a time as `concurrency` allows; the others wait for theirs.
    let started = wait_for("calls are under way", || {
        let calls = bureau.calls();
        (calls.as_object().map(serde_json::Map::len) >= Some(4)).then_some(calls)
    });
    server.restart();
    ask_again_and_again(&server);
    for key in started.as_object().expect("calls").keys() {
        let application = key.strip_suffix("/pull/1").expect("the pull's key");
        let path = format!("/v1/entities/{application}?wait=CreditReview&timeout=60s");
        let outcome = server.get(&path).expect(200).json();
        assert_eq!(outcome["effects"]["pull"]["state"], "unknown", "{outcome}");
        assert_eq!(outcome["decisions"]["CreditReview"]["data"]["pull"], "unknown", "{outcome}");
    }
    let calls = bureau.calls();
    for key in started.as_object().expect("calls").keys() {
        assert_eq!(calls[key], 1, "called again: {calls}");
    }
}

/// If this failed, the shipped configuration would need a service that is not there, or would swallow its absence.
#[test]
fn without_a_bureau_the_desk_decides() {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let server = crm_and(nobody);
    assert_eq!(deliver(server.tcp(), &[request(1)]).acked, 1);
    let outcome = server.get("/v1/entities/application/A-1?wait=CreditReview&timeout=60s").expect(200).json();
    assert_eq!(outcome["decisions"]["CreditReview"]["data"]["pull"], "failed", "{outcome}");
}

const SHIPMENTS: usize = 300;
const SEGMENTS: [&str; 2] = ["sea", "air"];
const SEGMENT_SINKS: &str = r#"
[sink.sea]
kind = "file"
path = "out/sea.ndjson"
types = ["Dispatch"]
if = "event.element == 'sea'"
[sink.air]
kind = "file"
path = "out/air.ndjson"
types = ["Dispatch"]
if = "event.element == 'air'"
"#;

/// Subjects of what a segment's sink got, in order.
fn dispatched(server: &Server, segment: &str) -> Vec<String> {
    let text = std::fs::read_to_string(server.path(&format!("out/{segment}.ndjson"))).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut subjects: Vec<String> = lines
        .map(|decision| {
            assert_eq!((&decision["element"], &decision["revision"]), (&json!(segment), &json!(1)), "{decision}");
            decision["subject"].as_str().expect("a subject").to_owned()
        })
        .collect();
    subjects.sort();
    subjects
}

/// If this failed, a routing would be dispatched before its segment is known, to the wrong desk, twice or not at all, or a
/// backlog would be taken for a feed of orphans.
#[test]
fn after_an_outage_every_routing_goes_to_its_own_segment_once() {
    // Longer than the test may take on any machine.
    let rules = rules("shipments").replace("grace = \"5s\"", "grace = \"1h\"");
    let mut server = Setup::new(&rules).tables(SEGMENT_SINKS).start();
    let event = |id: String, kind: &str, time: &str, data: Value| {
        json!({"id": id, "source": "erp", "type": kind, "time": time, "data": data}).to_string()
    };
    // What came in three days: all that depends on something is there before it.
    let dependents: Vec<String> = (0..SHIPMENTS)
        .flat_map(|n| {
            let invoice = json!({"invoice": format!("I-{n}"), "routing": format!("R-{n}"), "amount": n});
            let routing = json!({"routing": format!("R-{n}"), "shipment": format!("S-{n}"), "carrier": "c"});
            [
                event(format!("i{n}"), "InvoiceReceived", "2026-11-16T10:00:00Z", invoice),
                event(format!("r{n}"), "RoutingReceived", "2026-11-16T09:00:00Z", routing),
            ]
        })
        .collect();
    let shipments: Vec<String> = (0..SHIPMENTS)
        .flat_map(|n| {
            let created = json!({"shipment": format!("S-{n}"), "consignee": "k"});
            let segment = json!({"shipment": format!("S-{n}"), "segment": SEGMENTS[n % 2]});
            [
                event(format!("s{n}"), "ShipmentCreated", "2026-11-16T08:00:00Z", created),
                event(format!("g{n}"), "SegmentRegistered", "2026-11-18T08:00:00Z", segment),
            ]
        })
        .collect();
    assert_eq!(deliver(server.tcp(), &dependents).refused, Vec::<Value>::new());
    assert!(SEGMENTS.iter().all(|segment| dispatched(&server, segment).is_empty()), "dispatched without a segment");
    server.restart();
    let (first, rest) = shipments.split_at(SHIPMENTS);
    deliver(server.tcp(), first);
    server.restart();
    // The feed begins again where it thinks it was.
    deliver(server.tcp(), &dependents);
    deliver(server.tcp(), first);
    deliver(server.tcp(), rest);
    for (offset, segment) in SEGMENTS.iter().enumerate() {
        let mut expected: Vec<String> = (0..SHIPMENTS).filter(|n| n % 2 == offset).map(|n| format!("R-{n}")).collect();
        expected.sort();
        wait_for(&format!("{segment} has its routings"), || {
            (dispatched(&server, segment).len() >= expected.len()).then_some(())
        });
        assert_eq!(dispatched(&server, segment), expected, "{segment}");
    }
    wait_for("all invoices are booked", || {
        let booked = server.decisions_file().iter().filter(|it| it["type"] == "InvoiceBooked").count();
        (booked == SHIPMENTS).then_some(())
    });
    for invoice in server.entities("invoice", 100) {
        let n: usize = invoice["key"].as_str().and_then(|key| key.strip_prefix("I-")?.parse().ok()).expect("a number");
        let account = format!("freight-{}", SEGMENTS[n % 2]);
        assert_eq!(invoice["decisions"]["InvoiceBooked"]["data"]["account"], *account, "{invoice}");
    }
    let orphans = server.decisions_file().iter().filter(|it| it["type"] == "OrphanedRouting").count();
    assert_eq!(orphans, 0, "nothing of the backlog was missing");
}
