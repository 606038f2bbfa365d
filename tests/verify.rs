//! `turnstile verify`: nothing is found where nothing is wrong, also while events keep coming; what is wrong or missing is
//! found, by a running server and in the folder of a stopped one alike.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::orders::{RULES, created, event, feed, lines, order, reserved};
use common::verified::{details, found, kinds, verify, verify_stopped};
use common::{Http, Server, percent, wait_for};
use serde_json::{Value, json};
use turnstile::model::ids::{EntityKey, Version};
use turnstile::rehearsal::verify::{Effects, HELD_MAX, Options, Setup, Stopped};
use turnstile::store::{CheckpointWriter, EntityWrite, Store, StoreOptions};

/// Ends what goes on meanwhile, also where a test fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// If this failed, a sound server would be called damaged whenever it is busy, or what was found would depend on whether
/// it runs.
#[test]
fn a_sound_server_is_clean_while_events_keep_coming_and_after_a_crash() {
    let mut server = common::Setup::new(RULES).tables("[checkpoint]\njournal_bytes = \"1MiB\"").start();
    feed(&server, &(0..200).flat_map(|n| order(&n.to_string())).collect::<Vec<_>>());
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // All to few keys, so that each has moved on whenever it is looked at.
        let feeding = scope.spawn(|| {
            let mut http = Http::connect(server.http());
            for n in 0.. {
                if is_done.load(Ordering::Acquire) {
                    return n;
                }
                let status = if n % 3 == 0 { "failed" } else { "successful" };
                let mut events: Vec<Value> = (0..20)
                    .map(|of| {
                        let data = json!({ "status": status });
                        event(&format!("{n}-{of}"), "PaymentProcessed", &format!("hot-{}", of % 5), &data)
                    })
                    .collect();
                events.push(created(&format!("new-{n}")));
                let body = lines(&events);
                let answer =
                    http.request("POST", "/v1/events", &[("content-type", common::orders::NDJSON)], body.as_bytes());
                // While the store has to catch up, nothing is admitted.
                assert!([202, 429].contains(&answer.status), "{}", answer.text());
            }
            0
        });
        let _done = Done(&is_done);
        for _ in 0..5 {
            let (code, report) = verify(&server, &[]);
            assert_eq!((code, kinds(&report)), (Some(0), found(&[])), "{report}");
            assert!(report["entities"].as_u64() >= Some(200) && report["not_comparable"] == 0, "{report}");
        }
        is_done.store(true, Ordering::Release);
        assert!(feeding.join().expect("it feeds") > 0, "no event came while it was verified");
    });
    assert!(server.metric("turnstile_verify_last_success_timestamp_seconds") > Some(0.0));
    assert_eq!(server.metric("turnstile_verify_findings{kind=\"field\"}"), Some(0.0));
    let (_, running) = verify(&server, &["--incomplete-longer", "0s"]);
    server.kill();
    let (code, stopped) = verify_stopped(&server, &["--incomplete-longer", "0s"]);
    assert_eq!((code, kinds(&stopped)), (Some(1), kinds(&running)), "{stopped}\n{running}");
    // The sink notes how far it has come by itself.
    let orders = |report: &Value| report["entities"].as_u64();
    assert_eq!(orders(&stopped), orders(&running));
    server.start();
    let (code, said) = (verify_in_use(&server), "a server runs there");
    assert_eq!(code, Some(3), "{said}");
}

fn verify_in_use(server: &Server) -> Option<i32> {
    server.cli(&["verify", "--data-dir", server.path("data").to_str().expect("UTF-8")]).status.code()
}

/// Changes what is stored of an entity, as a bug or a person might: its checksum fits.
fn tamper(data: &Path, entity: &EntityKey, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let store = Store::open(data, StoreOptions { cache_bytes: 1 << 20 }).expect("the store opens");
    let mut row = store.get(entity).expect("it can be read").expect("it is stored");
    let at: Vec<usize> =
        row.state.windows(from.len()).enumerate().filter(|(_, it)| *it == from.as_bytes()).map(|(at, _)| at).collect();
    assert!(!at.is_empty(), "{from} is not in the row");
    // The first is the field's; the decision's follows.
    row.state[at[0]..at[0] + to.len()].copy_from_slice(to.as_bytes());
    let highest = store.highest_lsn().expect("a mark");
    let write =
        EntityWrite { entity: entity.clone(), row, identities: Vec::new(), ended: Version(0), history: Vec::new() };
    CheckpointWriter::new(store).write(vec![write], highest).expect("it is written");
}

/// If this failed, a state that is not what its events make it would go unseen for ever.
#[test]
fn a_field_that_was_tampered_with_is_found() {
    let mut server = common::Setup::new(RULES).start();
    feed(&server, &["a", "b", "c"].iter().flat_map(|name| order(name)).collect::<Vec<_>>());
    assert!(server.terminate().success());
    assert_eq!(verify_stopped(&server, &[]).0, Some(0));
    let before = std::fs::read(server.path("data/state.redb")).expect("the store");
    tamper(&server.path("data"), &EntityKey::new("order", "b"), "west", "eest");
    let check = |(code, report): (Option<i32>, Value)| {
        assert_eq!((code, kinds(&report)), (Some(1), found(&[("field", 1)])), "{report}");
        let detail = details(&report, "field").remove(0);
        assert!(
            detail.starts_with("order/b: stock: is {") && detail.contains("eest") && detail.contains("west"),
            "{detail}"
        );
    };
    check(verify_stopped(&server, &[]));
    server.start();
    check(verify(&server, &[]));
    assert_eq!(server.metric("turnstile_verify_findings{kind=\"field\"}"), Some(1.0));
    let text = server.cli(&["verify"]);
    let said = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(said.contains("found 1: ") && said.contains("do: keep a copy of the data folder"), "{said}");
    server.kill();
    std::fs::write(server.path("data/state.redb"), before).expect("it can be put back");
    assert_eq!(verify_stopped(&server, &[]).0, Some(0), "what is put back is right");
}

/// If this failed, verifying a stopped server would put its data at risk.
#[test]
fn a_stopped_folder_is_not_changed() {
    let mut server = common::Setup::new(RULES).start();
    feed(&server, &order("a"));
    server.kill();
    let files =
        || ["data/state.redb", "data/journal/1.redb"].map(|name| std::fs::read(server.path(name)).expect("a file"));
    let before = files();
    assert_eq!(verify_stopped(&server, &[]).0, Some(0));
    assert!(before == files(), "the folder has changed");
    let nothing = server.path("nothing");
    let output = server.cli(&["verify", "--data-dir", nothing.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(3), "there is nothing to read");
    server.rewrite(&common::Setup::new(&RULES.replace("take = \"min\"", "take = \"max\"")).text());
    let output = server.cli(&["verify", "--data-dir", server.path("data").to_str().expect("UTF-8")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "other rules: {said}");
    assert!(said.contains("the rules of order differ"), "{said}");
}

const REFERRING: &str = r#"
[entity.routing]
key = "event.subject"
[entity.routing.fields]
to = { on = "Routed", take = "latest", value = "event.data.to" }
[entity.routing.ref.shipment]
entity = "shipment"
key = "routing.to"
[entity.shipment]
key = "event.subject"
fields = { segment = { on = "Shipped", take = "latest", value = "event.data.segment" } }
"#;

fn step(number: Option<i64>, id: &str) -> String {
    let data = json!({ "seq": number, "to": "s" });
    json!({ "id": id, "source": "/clock", "type": "Routed", "subject": format!("r{id}"), "data": data }).to_string()
}

/// If this failed, what never came would be missed only when somebody asks for it.
#[test]
fn holes_are_found() {
    let mut server = common::Setup::new(&[RULES, REFERRING].concat()).tcp("sequence = \"event.data.seq\"").start();
    let mut client = server.client();
    let numbers = [Some(1), Some(2), Some(4), Some(4), Some(7), None];
    for (n, number) in numbers.into_iter().enumerate() {
        client.send(step(number, &n.to_string()));
    }
    // A duplicate has no number of its own.
    client.send(step(Some(1), "0"));
    assert_eq!(client.settle(7).refused, Vec::<Value>::new());
    feed(&server, &[created("a")]);
    let without = "turnstile_events_without_sequence_total{source=\"tcp\"}";
    assert_eq!(server.metric(without), Some(1.0));

    let (code, report) = verify(&server, &[]);
    assert_eq!(
        (code, kinds(&report)),
        (Some(1), found(&[("sequence_twice", 1)])),
        "nothing else is old enough: {report}"
    );
    let arguments =
        ["--gap-older", "0s", "--waiting-longer", "0s", "--incomplete-longer", "0s", "--silent-longer", "0s"];
    let (code, report) = verify(&server, &arguments);
    assert_eq!(code, Some(1));
    let expected = [("waiting", 6), ("incomplete", 1), ("silent", 2), ("sequence_gap", 3), ("sequence_twice", 1)];
    assert_eq!(kinds(&report), found(&expected), "{report}");
    let subject = "source tcp, /clock";
    let gaps = [format!("{subject}: 3 never came"), format!("{subject}: 5 to 6 never came")];
    assert_eq!(details(&report, "sequence_gap"), gaps);
    assert_eq!(details(&report, "sequence_twice"), [format!("{subject}: 4 again, as event \"3\"")]);
    assert!(details(&report, "waiting")[0].starts_with("routing/r0: shipment has waited for \"s\" since "), "{report}");
    assert!(details(&report, "incomplete")[0].ends_with("without payment, stock, shipping, loyalty"), "{report}");
    assert_eq!(server.metric("turnstile_verify_findings{kind=\"sequence_gap\"}"), Some(3.0));

    server.kill();
    let (code, stopped) = verify_stopped(&server, &arguments);
    let expected: Vec<_> = expected.into_iter().filter(|(kind, _)| *kind != "silent").collect();
    assert_eq!(
        (code, kinds(&stopped)),
        (Some(1), found(&expected)),
        "sources of a stopped server are silent: {stopped}"
    );
    for kind in ["waiting", "incomplete", "sequence_gap", "sequence_twice"] {
        assert_eq!(details(&stopped, kind), details(&report, kind));
    }
}

/// If this failed, decisions that nobody ever got would look delivered.
#[test]
fn decisions_that_are_not_delivered_are_found() {
    // Nobody listens there.
    let hook = "[sink.hook]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\nsecret = \"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz\"\nallow_private = true\ntypes = [\"Order*\"]";
    let mut server = common::Setup::new(RULES).tables(hook).start();
    feed(&server, &["a", "b"].iter().flat_map(|name| order(name)).collect::<Vec<_>>());
    wait_for("the other sink has them", || (server.decisions_file().len() >= 2).then_some(()));
    assert_eq!(verify(&server, &[]).0, Some(0), "they are young");
    // What the file has is noted a little later.
    let report = wait_for("the file's progress is noted", || {
        let (_, report) = verify(&server, &["--waiting-longer", "0s"]);
        (details(&report, "undelivered").len() == 1).then_some(report)
    });
    let detail = details(&report, "undelivered").remove(0);
    assert!(detail.starts_with("sink hook: not delivered: OrderConfirmed 1 of order/"), "{detail}");
    server.kill();
    let (code, stopped) = verify_stopped(&server, &["--waiting-longer", "0s"]);
    assert_eq!((code, kinds(&stopped)), (Some(1), kinds(&report)), "{stopped}");
}

/// If this failed, decisions that can never be delivered any more would pass for delivered, until the next start is refused.
#[test]
fn what_a_sink_lacks_and_the_journal_no_longer_has_is_found() {
    let tables = "[journal]\nsegment_bytes = \"1MiB\"\ncommit_bytes_max = \"64KiB\"\n[sink.hook]\nkind = \"webhook\"\n\
                  url = \"http://127.0.0.1:1/\"\nsecret = \"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz\"\nallow_private = true\n";
    let mut server = common::Setup::new(RULES).tables(tables).start();
    let large = json!({ "x": "x".repeat(8_000) });
    let mut n = 0;
    wait_for("there is a second segment", || {
        let events: Vec<Value> =
            (0..20).map(|of| event(&format!("{n}"), "OrderCreated", &format!("o{}", n + of), &large)).collect();
        feed(&server, &events);
        n += 20;
        server.path("data/journal/2.redb").exists().then_some(())
    });
    feed(&server, &order("a"));
    assert!(server.terminate().success());
    assert_eq!(kinds(&verify_stopped(&server, &[]).1), found(&[]));
    std::fs::remove_file(server.path("data/journal/1.redb")).expect("it is there");
    let (code, report) = verify_stopped(&server, &[]);
    assert_eq!((code, kinds(&report)), (Some(1), found(&[("undeliverable", 1)])), "{report}");
    let told = details(&report, "undeliverable").remove(0);
    assert!(
        told.starts_with("sink hook: LSN ") && told.ends_with(" are gone, and it has not delivered all of them"),
        "{told}"
    );
    assert_eq!(server.run_to_end().status.code(), Some(3), "no server starts there");
}

/// If this failed, a shadow would never be clean, since it calls nobody.
#[test]
fn what_a_shadow_does_not_call_is_no_finding() {
    let effect = "[entity.order.effect.call]\nwhen = \"has(order.payment)\"\n\
                  request = { url = \"http://127.0.0.1:1/\", json = { key = \"key\" } }\n";
    let mut server = common::Setup::new(&[RULES, effect].concat()).write();
    server.set_options(&["--shadow"]);
    server.start();
    feed(&server, &order("a"));
    assert_eq!(server.entity("order", "a")["effects"]["call"]["state"], "requested");
    let is_open = |report: &Value| kinds(report).iter().any(|(kind, _)| kind == "effect_open");
    let check = |report: &Value| {
        assert!(!is_open(report) && report["notes"].to_string().contains("this is a shadow"), "{report}");
    };
    check(&verify(&server, &["--waiting-longer", "0s"]).1);
    assert!(server.terminate().success());
    check(&verify(&server, &["--waiting-longer", "0s", "--data-dir", "data-shadow"]).1);
    // Elsewhere it is nobody's shadow: the effect would be called at the next start.
    std::fs::rename(server.path("data-shadow"), server.path("data")).expect("it can be moved");
    let (_, report) = verify_stopped(&server, &["--waiting-longer", "0s"]);
    assert!(is_open(&report), "{report}");
}

/// If this failed, verifications would pile up on a busy server, or one that nobody waits for would keep others out.
#[test]
fn there_is_one_at_a_time_and_it_ends_when_nobody_waits() {
    let slow = "[limits]\nverify_records_per_second = 1";
    let server = common::Setup::new(RULES).tables(slow).start();
    feed(&server, &(0..100).flat_map(|n| order(&n.to_string())).collect::<Vec<_>>());
    let first = std::net::TcpStream::connect(server.http()).expect("HTTP accepts the connection");
    std::io::Write::write_all(&mut &first, b"POST /v1/verify HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        .expect("sent");
    let post = || server.post("/v1/verify", "application/json", "{\"examples\":1001}");
    assert_eq!(post().problem(400), "invalid_value");
    let busy = || {
        // Asked with a client of its own, which goes if there is an answer to come.
        let mut stream = std::net::TcpStream::connect(server.http()).expect("HTTP accepts the connection");
        let request = b"POST /v1/verify HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        std::io::Write::write_all(&mut stream, request).expect("sent");
        let mut head = [0; 12];
        std::io::Read::read_exact(&mut stream, &mut head).expect("an answer");
        head.ends_with(b"409")
    };
    wait_for("the first one is under way", || busy().then_some(()));
    let output = server.cli(&["verify"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    drop(first);
    wait_for("it has ended", || (!busy()).then_some(()));
    assert_eq!(server.get(&format!("/v1/entities/order/{}", percent("7"))).status, 200);
}

/// If this failed, a journal that is larger than what is held at a time would be verified in part, or otherwise.
#[test]
fn many_passes_find_what_one_finds() {
    let mut server = common::Setup::new(&[RULES, REFERRING].concat()).tcp("sequence = \"event.data.seq\"").start();
    feed(&server, &(0..40).flat_map(|n| order(&n.to_string())).collect::<Vec<_>>());
    let mut client = server.client();
    (1..30).for_each(|n| client.send(step(Some(n * n), &n.to_string())));
    client.settle(29);
    assert!(server.terminate().success());
    tamper(&server.path("data"), &EntityKey::new("order", "7"), "west", "eest");
    let loaded = turnstile::config::load(&server.path("config.toml"));
    let config = loaded.config.expect("it is right");
    let mut diagnostics = loaded.diagnostics;
    let prepared = turnstile::node::prepare(&config, &loaded.files, &mut diagnostics).expect("it is right");
    let world = Stopped::open(&server.path("data"), &prepared.ruleset).expect("it is stopped");
    let run = |held_max| {
        let options = Options { gap_older: Duration::ZERO, ..Options::default() };
        let ruleset = &prepared.ruleset;
        let (effects, records_per_second) = (Effects::Called, None);
        let setup = Setup { world: &world, ruleset, config: &config, options, effects, records_per_second, held_max };
        let report = turnstile::rehearsal::verify::verify(&setup, &mut |_| true).expect("it can be read").to_json();
        let counted = ["records", "entities", "rows", "not_comparable"].map(|name| report[name].as_u64());
        (counted, report["findings"].clone())
    };
    let (counted, findings) = run(HELD_MAX);
    assert_eq!(kinds(&json!({ "findings": findings })), found(&[("field", 1), ("sequence_gap", 841 - 29)]));
    assert_eq!((counted, findings.clone()), run(1), "a pass for each partition");
    assert_eq!((counted, findings), run(100_000));
}

/// If this failed, whoever trims the journal would be told that all is damaged, or not be told of old holes.
#[test]
fn what_is_trimmed_away_is_not_missed() {
    let trimming = "[journal]\nretention = \"0s\"\nsegment_bytes = \"1MiB\"\n[checkpoint]\njournal_bytes = \"1MiB\"";
    let server = common::Setup::new(RULES).tables(trimming).start();
    let large = json!({ "x": "x".repeat(8_000) });
    let first_lsn = || server.get("/v1/status").expect(200).json()["journal"]["first_lsn"].as_u64().expect("an LSN");
    feed(&server, &[reserved("z")]);
    let mut n = 0;
    wait_for("the journal is trimmed", || {
        let keys = 0..10;
        let events: Vec<Value> =
            keys.map(|key| event(&format!("{n}"), "OrderCreated", &format!("o{}", key + n), &large)).collect();
        // A sink that nothing goes to keeps the journal.
        let status = if n % 2 == 0 { "successful" } else { "failed" };
        let paid = event(&format!("p{n}"), "PaymentProcessed", "z", &json!({ "status": status }));
        let events = [&events[..], &[paid]].concat();
        // While the store has to catch up, nothing is admitted.
        let answer = server.post("/v1/events", common::orders::NDJSON, lines(&events));
        n += i32::from(answer.status == 202);
        (first_lsn() > 1).then_some(())
    });
    let (code, report) = verify(&server, &[]);
    assert_eq!((code, kinds(&report)), (Some(0), found(&[])), "{report}");
    assert!(report["not_comparable"].as_u64() > Some(0) && report["first_lsn"].as_u64() > Some(1), "{report}");
    let (_, report) = verify(&server, &["--incomplete-longer", "0s"]);
    assert_eq!(
        kinds(&report),
        found(&[("incomplete", report["entities"].as_u64().expect("a count") - 1)]),
        "all but the sink"
    );
}
