//! Floods: whatever one kind of client does, memory stays within bounds that the configuration sets, others are served,
//! and when it is over everything is as before.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::around;
use common::orders::PAYMENTS;
use common::{Client, PATIENCE, POLL, Server, Setup, deliver, from_env, wait_for};

/// What a server may take in all, with the limits that these tests set: mostly the page caches of journal and store.
const MEMORY_MAX: u64 = 220 << 20;
const NDJSON: &str = "application/x-ndjson";

fn paid(id: impl std::fmt::Display, order: &str, note: &str) -> String {
    format!(
        r#"{{"id":"{id}","type":"Paid","subject":"{order}","time":"2026-11-20T10:00:00Z","data":{{"note":"{note}"}}}}"#
    )
}

/// Somebody else's event is acknowledged, the state is answered, and the memory has never been over its bound.
fn check_served(server: &Server, how: &str) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let id = NEXT.fetch_add(1, Ordering::SeqCst);
    let order = format!("other-{id}");
    let outcome = deliver(server.tcp(), &[paid(id, &order, "")]);
    assert_eq!((outcome.acked, outcome.refused.len()), (1, 0), "{how}: {outcome:?}");
    assert_eq!(server.get("/healthz").status, 200, "{how}");
    assert_eq!(server.entity("order", &order)["fields"]["payments"], 1, "{how}");
    check_memory(server, how);
}

fn check_memory(server: &Server, how: &str) {
    let peak = server.memory_peak();
    assert!(peak <= MEMORY_MAX, "{how}: {} MiB at the peak, {} MiB allowed", peak >> 20, MEMORY_MAX >> 20);
}

/// A client that reads no answer would have the server keep its refusals for it, and a hundred of them all the memory.
#[test]
fn a_hundred_clients_that_read_no_refusals() {
    let server = Setup::new(PAYMENTS).start();
    let wrong = "{}\n".repeat(2_000_000);
    let mut deaf: Vec<Client> = (0..100).map(|_| server.client()).collect();
    std::thread::scope(|scope| {
        for client in &mut deaf {
            scope.spawn(|| client.stuff(wrong.as_bytes(), Duration::from_millis(500)));
        }
    });
    check_served(&server, "with refusals that nobody reads");
    // Their refusals are still there for them, in the order of their lines.
    let first = deaf[0].reply().expect("an answer");
    assert_eq!((&first["refused"], &first["code"]), (&1.into(), &"missing_id".into()), "{first}");
    drop(deaf);
    check_no_connections(&server);
    check_served(&server, "after refusals that nobody read");
}

/// Acknowledgements must not be queued for one who does not read them.
#[test]
fn a_slow_reader_of_acks() {
    let server = Setup::new(PAYMENTS).start();
    let (mut stream, replies) = server.client().split();
    let over = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let lines = (0..).take_while(|_| !over.load(Ordering::SeqCst));
            lines.map(|n| stream.write_all((paid(n, "slow", "") + "\n").as_bytes()).map(|()| n + 1)).last()
        });
        wait_for("much is settled, of which nothing was read", || {
            let entity = server.get("/v1/entities/order/slow");
            (entity.status == 200 && entity.json()["events"].as_u64() >= Some(20_000)).then_some(())
        });
        check_served(&server, "beside a slow reader");
        over.store(true, Ordering::SeqCst);
        sender.join().expect("a sender").expect("some lines").expect("the server takes what is sent")
    });
    stream.shutdown(std::net::Shutdown::Write).expect("half a close");
    let last = replies.lines().last().expect("acks").expect("the end comes in good order");
    assert!(last.contains(&format!("\"ack\":{sent},")), "the last ack covers all {sent} lines: {last}");
}

/// Connections cost little, and the limit of the system is used as far as it goes.
#[test]
fn two_thousand_idle_connections() {
    let Some(()) = more_open_files(2_500) else { return };
    let server =
        Setup::new(PAYMENTS).tables("[limits]\nconnections_max = 3000\nconnections_per_address_max = 3000").start();
    let idle: Vec<Client> = (0..2_000).map(|_| server.client()).collect();
    check_connections(&server, 2_000);
    check_served(&server, "beside 2,000 idle connections");
    drop(idle);
    check_no_connections(&server);
}

/// Over HTTP idle connections may take every place there is, but not for long.
#[test]
fn idle_http_connections_give_way() {
    let server = Setup::new(PAYMENTS).tables("[limits]\nconnections_max = 50").start();
    let mut idle: Vec<TcpStream> =
        (0..60).map(|_| TcpStream::connect(server.http()).expect("the system accepts the connection")).collect();
    check_served(&server, "behind idle HTTP connections");
    idle[0].set_read_timeout(Some(PATIENCE)).expect("a timeout");
    idle[0].read_to_end(&mut Vec::new()).expect("the first of them was ended");
}

/// Raises this process' limit on open files; none, with a message, if it cannot be as high as that.
fn more_open_files(least: u64) -> Option<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if raised.is_err() || maximum.is_some_and(|maximum| maximum < least) {
        println!("skipped: the limit on open files is {maximum:?}, and {least} are needed");
        return None;
    }
    Some(())
}

fn check_connections(server: &Server, count: u32) {
    wait_for(&format!("{count} connections"), || {
        (server.metric(r#"turnstile_connections{source="tcp"}"#) == Some(f64::from(count))).then_some(())
    });
}

fn check_no_connections(server: &Server) {
    check_connections(server, 0);
}

/// The other end of a half-open connection is gone without a word (a cable, a firewall). Only the system can find out, if
/// it is asked to: its timer for that must run on each connection. And what is begun and not ended gets no place for ever.
#[test]
fn half_open_connections() {
    let server = Setup::new(PAYMENTS).tcp("token = \"s3cret\"").tables("[limits]\nkeepalive = \"5s\"").start();
    let mut client = server.client();
    client.send(r#"{"token":"s3cret"}"#);
    client.send(paid("1", "a", ""));
    client.settle(1);
    let port = client.local_port();
    wait_for("the system asks whether the other end is there", || {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the system's connections");
        let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        // Local and remote address, state, queues, timer: 02 is the one of keepalive.
        let peer = format!("0100007F:{port:04X}");
        let line = lines.find(|line| line.get(2) == Some(&peer.as_str()))?;
        line[5].starts_with("02:").then_some(())
    });
    // Over HTTP: a head that does not end.
    let mut head = TcpStream::connect(server.http()).expect("HTTP accepts the connection");
    head.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    head.write_all(b"POST /v1/events HTTP/1.1\r\nhost: ").expect("it is taken");
    // One that never says a word, and one in the middle of its first line.
    let mut mute = server.client();
    let mut halting = server.client();
    halting.send_bytes(b"{\"tok");
    for client in [&mut mute, &mut halting] {
        let reply = client.reply().expect("an answer");
        assert_eq!((&reply["refused"], &reply["code"]), (&0.into(), &"unauthorized".into()), "{reply}");
    }
    let mut rest = Vec::new();
    head.read_to_end(&mut rest).expect("the server ends it");
}

const NARROW: &str = "[limits]\nevent_bytes_max = \"1MiB\"\nentity_bytes_max = \"2MiB\"\nhttp_body_bytes_max = \"2MiB\"\n\
                      receiving_bytes_max = \"8MiB\"\nreceiving_timeout = \"3s\"\nin_flight_bytes_max = \"8MiB\"\n\
                      http_events_max = 1000\nconnection_lines_max = 1000\n\
                      connections_per_address_max = 1000";

/// Lines that are begun and not ended fill no more than their room; they end after their time, and others get the room.
#[test]
fn lines_without_end() {
    let server = Setup::new(PAYMENTS).tables(NARROW).start();
    // As large as a line may be, and unfinished; those that get no room wait without being read.
    let begun = "x".repeat(1_000_000);
    let mut endless: Vec<Client> = (0..400).map(|_| server.client()).collect();
    for client in &mut endless {
        client.stuff(begun.as_bytes(), Duration::from_millis(5));
    }
    check_served(&server, "beside lines that do not end");
    // A long line that is meant well gets its turn.
    let long = paid("long", "long", &begun[..900_000]);
    let mut client = server.client();
    client.send(&long);
    let reply = endless[0].reply().expect("an answer");
    assert_eq!((&reply["refused"], &reply["code"]), (&0.into(), &"busy".into()), "it did not come in time: {reply}");
    drop(endless);
    assert!(client.settle(1).refused.is_empty());
    // One line that goes on and on is refused once, and passed over.
    let mut client = server.client();
    for _ in 0..64 {
        client.send_bytes(begun.as_bytes());
    }
    client.send("");
    client.send(paid("short", "short", ""));
    let outcome = client.settle(2);
    assert_eq!((outcome.code(1), outcome.code(2)), (Some("too_large"), None), "{outcome:?}");
    check_served(&server, "after lines that did not end");
}

/// The same for bodies: those that do not come, those with too many events, and those whose parts are tiny.
#[test]
fn bodies_without_end() {
    let server = Setup::new(PAYMENTS).tables(NARROW).start();
    let connect = |_| {
        let mut stream = TcpStream::connect(server.http()).expect("HTTP accepts the connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let head = "POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: 2000000\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("it is taken");
        BufReader::new(stream)
    };
    let mut begun: Vec<_> = (0..20).map(connect).collect();
    check_served(&server, "beside bodies that do not come");
    for stream in &mut begun {
        let mut status = String::new();
        stream.read_line(&mut status).expect("an answer");
        assert!(status.contains(" 429 "), "{status}");
    }
    let bodies = [
        "1\n".repeat(1_000_000),
        format!("[{}1]", "1,".repeat(900_000)),
        format!("[{}{{}}]", "{},".repeat(600_000)),
        "[".repeat(2_000_000),
    ];
    for body in &bodies {
        for content_type in [NDJSON, "application/cloudevents-batch+json", "application/json", ""] {
            let status = server.post("/v1/events", content_type, body).status;
            assert!([400, 413].contains(&status), "{status} for {content_type} {body:.20}");
        }
    }
    let many: String = (0..1001).map(|n| paid(n, "many", "") + "\n").collect();
    assert_eq!(server.post("/v1/events", NDJSON, &many).problem(413), "too_large");
    assert_eq!(server.get("/v1/entities/order/many").status, 404, "nothing of it was taken");
    check_served(&server, "after bodies of all kinds");
}

/// A parser that calls itself for each level would run out of stack.
#[test]
fn json_of_a_hundred_thousand_levels() {
    const LEVELS: usize = 100_000;
    let server = Setup::new(PAYMENTS).start();
    let nests = [
        "[".repeat(LEVELS) + &"]".repeat(LEVELS),
        "{\"a\":".repeat(LEVELS) + "1" + &"}".repeat(LEVELS),
        "[{\"a\":".repeat(LEVELS / 2),
    ];
    for nest in &nests {
        let event = format!(r#"{{"id":"1","type":"Paid","subject":"deep","data":{nest}}}"#);
        let mut client = server.client();
        for text in [nest, &event] {
            client.send(text);
            let response = server.post("/v1/events", "application/json", text);
            assert_eq!(response.status, 400, "{}", response.text());
            let batch = server.post("/v1/events", "application/cloudevents-batch+json", format!("[{text}]"));
            assert_eq!(batch.status, 400, "{}", batch.text());
        }
        let outcome = client.settle(2);
        assert_eq!((outcome.code(1), outcome.code(2)), (Some("too_deep"), Some("too_deep")), "{outcome:?}");
    }
    check_served(&server, "after deep JSON");
}

/// Senders that are faster than the disk wait; nothing of what they send piles up here.
#[test]
fn senders_faster_than_the_disk() {
    /// What each sync takes at least, of which a commit has one or more.
    const DELAY: Duration = Duration::from_millis(10);
    let duration = Duration::from_secs(from_env("FLOOD_SECONDS", 4));
    let limits = "[limits]\nin_flight_bytes_max = \"8MiB\"\n[checkpoint]\njournal_bytes = \"16MiB\"\n\
                  dirty_bytes_max = \"16MiB\"\n[journal]\nretention = \"0s\"\nsegment_bytes = \"16MiB\"";
    let Some(slow) = around::slow_disk(DELAY) else { return };
    let mut server = Setup::new(PAYMENTS).tables(limits).write();
    server.set_around(slow);
    server.start();
    let over = AtomicBool::new(false);
    let note = "x".repeat(20_000);
    let sent: usize = std::thread::scope(|scope| {
        let flood = |sender: usize| {
            let (mut stream, replies) = server.client().split();
            let read = scope.spawn(move || replies.lines().map_while(Result::ok).last());
            let mut sent = 0;
            while !over.load(Ordering::SeqCst) {
                let line = paid(format_args!("{sender}/{sent}"), &format!("flood-{}", sent % 50), &note) + "\n";
                stream.write_all(line.as_bytes()).expect("it is taken, in time");
                sent += 1;
            }
            stream.shutdown(std::net::Shutdown::Write).expect("half a close");
            let last = read.join().expect("answers").expect("acks");
            assert!(last.contains(&format!("\"ack\":{sent},")), "all {sent} are acknowledged in the end: {last}");
            sent
        };
        let senders: Vec<_> = (0..16).map(|sender| scope.spawn(move || flood(sender))).collect();
        let begun = Instant::now();
        while begun.elapsed() < duration {
            check_served(&server, "beside senders that are faster than the disk");
            std::thread::sleep(POLL);
        }
        over.store(true, Ordering::SeqCst);
        senders.into_iter().map(|sender| sender.join().expect("a sender")).sum()
    });
    let [took, commits] = ["sum", "count"]
        .map(|what| server.metric(&format!("turnstile_commit_duration_seconds_{what}")).expect("a metric"));
    assert!(took >= commits * DELAY.as_secs_f64(), "{commits} commits took {took} s: the disk was not slow");
    let kept: u64 = server.entities("order", 1000).iter().filter_map(|order| order["events"].as_u64()).sum();
    assert!(kept >= sent as u64, "{sent} were acknowledged, {kept} are there");
    check_memory(&server, "in the end");
}

/// A journal that cannot open its next file ends the process, so connections must leave it enough of them.
#[test]
fn an_open_file_limit_of_256() {
    let tuning = "[journal]\nsegment_bytes = \"1MiB\"\nretention = \"0s\"\n[checkpoint]\njournal_bytes = \"64KiB\"";
    let Some(few) = around::open_files(256) else { return };
    let mut server = Setup::new(PAYMENTS).tables(tuning).write();
    server.set_around(few);
    server.start();
    let mut many: Vec<TcpStream> = Vec::new();
    for n in 0..400 {
        let address = if n % 2 == 0 { server.tcp() } else { server.http() };
        many.push(TcpStream::connect(address).expect("the system accepts the connection"));
    }
    // Those that were first are served, and the journal goes through several files meanwhile.
    let mut client = Client::over(many.remove(0)).expect("a client");
    let note = "x".repeat(100_000);
    for n in 1..=50 {
        client.send(paid(n, "first", &note));
        assert!(client.settle(n).refused.is_empty());
    }
    drop(many);
    wait_for("there is room for others again", || {
        let mut client = server.client();
        // A connection that is refused may be gone already.
        let _ = client.try_send(&paid("again", "again", ""));
        matches!(client.try_reply(), Ok(Some(reply)) if reply["ack"] == 1).then_some(())
    });
    check_served(&server, "after more connections than there are files");
}
