//! The door: who comes in, who does not, and what those who come in may do. With real clients: curl, openssl, Python's
//! ssl and the command line.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};

use common::orders::PAYMENTS;
use common::tls::{Certificates, curl, named, python, shown};
use common::{Http, PATIENCE, Server, Setup, deliver, wait_for};

/// Sends its input to host:port over TLS and prints the answers until all so many lines are acknowledged.
const PYTHON: &str = "
import json, socket, ssl, sys
host, port, ca, lines = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
context = ssl.create_default_context(cafile=ca)
with socket.create_connection((host, port), timeout=60) as plain:
    with context.wrap_socket(plain, server_hostname='localhost') as secured:
        secured.sendall(sys.stdin.read().encode())
        for line in secured.makefile():
            print(line, end='')
            if json.loads(line).get('ack') == lines:
                break
";

fn paid(id: impl std::fmt::Display) -> String {
    format!(r#"{{"id":"{id}","type":"Paid","subject":"o","time":"2026-11-20T10:00:00Z"}}"#)
}

/// Starts a server whose HTTP is secured, which the harness does not speak.
fn start_secured(setup: Setup) -> Server {
    let mut server = setup.write();
    server.start_unready();
    wait_for("it says that it is ready", || {
        server.stdout().iter().any(|line| line.starts_with("recovered")).then_some(())
    });
    server
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The command line, asking this server as it is told.
fn turnstile(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnstile"));
    command.args(arguments).stdin(Stdio::null()).output().expect("the binary starts")
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

/// If this failed, what is sent could be read on the way, or clients that look at certificates could not come.
#[test]
fn http_is_secured_for_real_clients() {
    let Some(certificates) = Certificates::make() else { return };
    let server = start_secured(Setup::new(PAYMENTS).server(&certificates.listener("token = \"t\"")));
    let ca = certificates.file("ca.pem").display().to_string();
    let other = certificates.file("other-ca.pem").display().to_string();
    for (arguments, path, status) in [
        (&["--cacert", &ca][..], "/healthz", "200"),
        (&["--cacert", &ca], "/v1/status", "401"),
        (&["--cacert", &ca, "-H", "Authorization: Bearer t"], "/v1/status", "200"),
        (&["--cacert", &ca, "--tls-max", "1.2", "-H", "Authorization: Bearer t"], "/metrics", "200"),
    ] {
        let answer = curl(&server, path, arguments);
        assert!(text(&answer.stdout).ends_with(status), "{path}: {}{}", text(&answer.stdout), text(&answer.stderr));
    }
    assert_eq!(
        code(&curl(&server, "/healthz", &["--cacert", &other])),
        Some(60),
        "an authority that signed nothing here"
    );
    let mut plain = Http::connect(server.http());
    assert!(plain.try_request("GET", "/healthz", &[], b"").is_err(), "plain HTTP is not spoken on a secured listener");

    let url = format!("https://{}", named(server.http()));
    let asked = turnstile(&["--url", &url, "--ca", &ca, "--token", "t", "status", "--json"]);
    assert_eq!(code(&asked), Some(0), "{}", text(&asked.stderr));
    assert!(text(&asked.stdout).contains("\"ready\""), "{}", text(&asked.stdout));
    let asked = turnstile(&["--url", &url, "--ca", &other, "--token", "t", "status"]);
    assert_eq!(code(&asked), Some(3), "{}", text(&asked.stderr));
}

/// If this failed, senders over TCP that secure what they send could not come, or would be settled wrongly.
#[test]
fn tcp_is_secured_for_real_clients() {
    let Some(certificates) = Certificates::make() else { return };
    let server = Setup::new(PAYMENTS).tcp(&certificates.listener("token = \"t\"")).start();
    let ca = certificates.file("ca.pem").display().to_string();
    let port = server.tcp().port().to_string();
    let hello = "{\"token\":\"t\"}\n";

    let lines: String = (0..1000).map(|n| paid(n) + "\n").collect();
    let sent = python(PYTHON, &["127.0.0.1", &port, &ca, "1000"], &format!("{hello}{lines}"));
    assert!(text(&sent.stdout).contains("\"ack\":1000"), "{}{}", text(&sent.stdout), text(&sent.stderr));

    let mut openssl = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &named(server.tcp()), "-CAfile", &ca, "-verify_return_error"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl runs");
    let mut input = openssl.stdin.take().expect("stdin is a pipe");
    input.write_all(format!("{hello}{}\n{}\n", paid(0), paid("new")).as_bytes()).expect("openssl takes it");
    let mut output = std::io::BufReader::new(openssl.stdout.take().expect("stdout is a pipe"));
    let mut answers = String::new();
    while !answers.contains("\"ack\":2,\"duplicates\":1") {
        let read = std::io::BufRead::read_line(&mut output, &mut answers).expect("answers");
        assert!(read > 0, "openssl was not answered: {answers}");
    }
    drop(input);
    let _ = openssl.kill();
    openssl.wait().expect("it ends");

    let file = server.path("events.ndjson");
    std::fs::write(&file, lines).expect("a file");
    let to = format!("tls://{}", named(server.tcp()));
    let arguments = ["send", file.to_str().expect("a path"), "--to", &to, "--ca", &ca, "--token", "t", "--json"];
    let sent = turnstile(&[&arguments[..], &["--connections", "3"]].concat());
    assert_eq!(code(&sent), Some(0), "{}", text(&sent.stderr));
    let summary: serde_json::Value = serde_json::from_slice(&sent.stdout).expect("a summary");
    assert_eq!((&summary["lines"], &summary["duplicates"]), (&1000.into(), &1000.into()), "{summary}");
    assert_eq!(server.entity("order", "o")["fields"]["payments"], 1001);
    // Whoever says nothing of TLS is not let in, nor kept.
    let mut plain = connect(server.tcp());
    plain.write_all(format!("{}\n", paid("plain")).as_bytes()).expect("it is connected");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).map_err(|error| assert_ne!(error.kind(), TIMED_OUT));
    assert!(!answer.contains(&b'{'), "a plain client gets no answer: {}", text(&answer));
}

/// If this failed, whoever has no certificate, or one that somebody else signed, or an old one, would come in.
#[test]
fn clients_show_certificates() {
    let Some(certificates) = Certificates::make() else { return };
    let authority = format!("tls_client_ca = {:?}\n", certificates.file("ca.pem").display().to_string());
    let optional = format!("{authority}tls_client = \"optional\"");
    let ca = certificates.file("ca.pem").display().to_string();
    for (more, cases) in [
        (&authority, [("client", true), ("", false), ("other", false), ("expired", false)]),
        (&optional, [("client", true), ("", true), ("other", false), ("expired", false)]),
    ] {
        let setup = Setup::new(PAYMENTS).server(&certificates.listener(more)).tcp(&certificates.listener(more));
        let server = start_secured(setup);
        std::fs::write(server.path("events.ndjson"), paid(1) + "\n").expect("a file");
        for (name, allowed) in cases {
            let [certificate, key] =
                ["pem", "key"].map(|end| certificates.file(&format!("{name}.{end}")).display().to_string());
            let identity: &[&str] = if name.is_empty() { &[] } else { &["--cert", &certificate, "--key", &key] };
            let answer = curl(&server, "/healthz", &[&["--cacert", &ca], identity].concat());
            let what = format!("{name:?} with {more}: {}", text(&answer.stderr));
            assert_eq!(answer.status.success() && text(&answer.stdout).ends_with("200"), allowed, "curl as {what}");

            let identity: &[&str] =
                if name.is_empty() { &[] } else { &["--client-cert", &certificate, "--client-key", &key] };
            let to = format!("tls://{}", named(server.tcp()));
            let file = server.path("events.ndjson");
            let file = file.to_str().expect("a path");
            let sent = turnstile(&[&["send", file, "--to", &to, "--ca", &ca, "--retry-for", "1s"], identity].concat());
            assert_eq!(code(&sent) == Some(0), allowed, "send as {what}{}", text(&sent.stderr));
        }
    }
}

/// If this failed, a renewed certificate would need a restart, or a broken one would shut everybody out.
#[test]
fn certificates_are_read_again_on_hangup() {
    let Some(certificates) = Certificates::make() else { return };
    let server = start_secured(Setup::new(PAYMENTS).server(&certificates.listener("")).tcp(&certificates.listener("")));
    let both = || [shown(server.http()), shown(server.tcp())];
    let file = || {
        let text = std::fs::read_to_string(certificates.file("server.pem")).expect("it is there");
        text[..text.find("-----END").expect("its end")].to_owned()
    };
    let first = file();
    assert_eq!(both(), [first.clone(), first.clone()]);

    assert!(certificates.sign("server", "ca", 2), "a new certificate");
    let second = file();
    assert_ne!(first, second);
    server.signal("-HUP");
    wait_for("both listeners show the new one", || (both() == [second.clone(), second.clone()]).then_some(()));

    std::fs::write(certificates.file("server.pem"), "nothing of the kind").expect("it can be written");
    server.signal("-HUP");
    wait_for("the log tells", || (server.stderr().matches("the old ones stay").count() == 2).then_some(()));
    assert_eq!(both(), [second.clone(), second], "what was in use stays");
}

/// If this failed, connections that never say anything would keep others out.
#[test]
fn a_slow_beginning_is_cut() {
    let Some(certificates) = Certificates::make() else { return };
    let limits = "[limits]\nhandshake_timeout = \"300ms\"\nhello_timeout = \"300ms\"\nconnections_max = 4";
    let setup = Setup::new(PAYMENTS).server(&certificates.listener("")).tcp(&certificates.listener("")).tables(limits);
    let secured = start_secured(setup);
    for address in [secured.http(), secured.tcp()] {
        let mut silent: Vec<TcpStream> = (0..4).map(|_| connect(address)).collect();
        // The first bytes of a handshake, of which no more come.
        silent[0].write_all(&[0x16, 3, 1, 2, 0, 1]).expect("it is connected");
        for stream in &mut silent {
            // Cut, in good order or not.
            let _ = stream.read_to_end(&mut Vec::new()).map_err(|error| assert_ne!(error.kind(), TIMED_OUT));
        }
        wait_for("there are places again", || {
            let ca = certificates.file("ca.pem").display().to_string();
            let client = Command::new("openssl")
                .args(["s_client", "-connect", &named(address), "-CAfile", &ca, "-verify_return_error"])
                .stdin(Stdio::null())
                .output();
            client.expect("openssl runs").status.success().then_some(())
        });
    }

    let plain = Setup::new(PAYMENTS).tcp("token = \"t\"").tables(limits).start();
    let mut slow = plain.client();
    slow.send_bytes(b"{\"token\":");
    assert_eq!(slow.reply().expect("an answer")["code"], "unauthorized");
    assert!(slow.reply().is_none(), "and nothing else");
    let mut slow = connect(plain.http());
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n").expect("it is connected");
    let mut answer = String::new();
    slow.read_to_string(&mut answer).expect("it is ended");
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

const TIMED_OUT: std::io::ErrorKind = std::io::ErrorKind::WouldBlock;

fn connect(address: std::net::SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the system accepts the connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// If this failed, one address could take every place there is.
#[test]
fn an_address_has_so_many_connections() {
    let server = Setup::new(PAYMENTS).tables("[limits]\nconnections_per_address_max = 2").start();
    let mut inside = [server.client(), server.client()];
    for client in &mut inside {
        client.send(paid(1));
        assert_eq!(client.reply().expect("an ack")["ack"], 1);
    }
    let refused = server.client().reply().expect("an answer");
    assert_eq!(refused["code"], "busy");
    assert!(
        refused["message"].as_str().is_some_and(|why| why.contains("connections_per_address_max = 2")),
        "{refused}"
    );
    drop(inside);
    wait_for("there are places again", || {
        let mut client = server.client();
        let _ = client.try_send(&paid(2));
        (client.reply()?["ack"] == 1).then_some(())
    });
    let _inside: Vec<TcpStream> = (0..2).map(|_| connect(server.http())).collect();
    let mut third = connect(server.http());
    let closed = third.read(&mut [0; 16]);
    assert!(closed.is_err() || closed.is_ok_and(|read| read == 0), "one too many is closed without a word");
}

/// If this failed, who has a token for the server and sends to a source that asks for none would have it journaled as an event,
/// and be told of lines it never sent.
#[test]
fn a_token_that_nobody_asks_for_is_passed_over() {
    let rules = "[entity.order]\nkey = \"event.data.?subject.orValue('none')\"\n\
                 fields = { payments = { on = \"*\", take = \"count\" } }\n";
    let server = Setup::new(rules).tcp("event = { id = \"hash(body)\", type = \"'Any'\", data = \"body\" }").start();
    let token = r#"{"token":"SECRET"}"#.to_owned();
    let sent = deliver(server.tcp(), &[token.clone(), r#"{"subject":"o"}"#.to_owned(), "nonsense".to_owned()]);
    assert_eq!(
        (sent.acked, sent.refused.len(), &sent.refused[0]["refused"]),
        (2, 1, &serde_json::json!(2)),
        "{sent:?}"
    );
    assert_eq!(server.entity("order", "o")["events"], 1);
    server.get("/v1/entities/order/none").problem(404);
    // Only as the first line, and nothing else.
    assert_eq!(deliver(server.tcp(), &[r#"{"token":"a","n":1}"#.to_owned(), token]).acked, 2);
    assert_eq!(server.entity("order", "none")["events"], 2);
}

/// If this failed, a sender's token would be good for nothing, or an operator's secret would have to be shared.
#[test]
fn tokens_open_what_they_are_for() {
    let setup = Setup::new(PAYMENTS)
        .server("tokens = { crm = { token = \"c\", scopes = [\"send\"] }, board = { token_file = \"board\", scopes = \"read\" } }")
        .tcp("token = \"all\"\ntokens = { crm = { token = \"c\", scopes = \"send\" } }");
    let mut server = setup.write();
    std::fs::write(server.path("board"), "b\n").expect("a file");
    server.start();
    let ask = |method: &str, path: &str, token: &str, body: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        Http::connect(server.http()).request(method, path, &headers, body.as_bytes())
    };
    ask("POST", "/v1/events", "c", &paid(1)).expect(202);
    assert_eq!(ask("POST", "/v1/events", "b", &paid(2)).problem(403), "forbidden");
    assert_eq!(ask("GET", "/v1/entities/order/o", "c", "").problem(403), "forbidden");
    assert_eq!(ask("GET", "/v1/entities/order/o", "b", "").expect(200).json()["events"], 1);
    assert_eq!(ask("GET", "/v1/entities/order/o", "all", "").problem(401), "unauthorized");

    for (token, right) in [("c", true), ("all", true), ("b", false), ("", false)] {
        let mut client = server.client();
        client.send(format!("{{\"token\":\"{token}\"}}"));
        let _ = client.try_send(&paid(token));
        let answer = client.reply().expect("an answer");
        assert_eq!(answer["ack"] == 1, right, "{token:?}: {answer}");
        assert_eq!(answer["code"] == "unauthorized", !right, "{token:?}: {answer}");
    }
    let told = server.cli(&["check", "--print"]);
    let printed = text(&told.stdout);
    assert!(printed.contains("\"board\" = { token = \"***\", scopes = [\"read\"] }"), "{printed}");
    assert!(!printed.contains("\"c\"") && !printed.contains("\"b\""), "no token is shown: {printed}");
}

/// If this failed, whoever has no token could have the server read as much as they like.
#[test]
fn no_body_is_read_before_the_token() {
    let server = Setup::new(PAYMENTS).http_token("t").start();
    let mut stream = connect(server.http());
    let head = "POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: 60000000\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("it is connected");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer without a byte of the body");
    assert_eq!(&answer, b"HTTP/1.1 401");
    // A first line over TCP is bounded, too.
    let server = Setup::new(PAYMENTS).tcp("token = \"t\"").start();
    let mut client = server.client();
    let _ = client.stuff(&vec![b' '; 1 << 20], PATIENCE);
    assert_eq!(client.reply().expect("an answer")["code"], "unauthorized");
}

/// If this failed, any page that is open in a browser on this machine could pause, forget and feed what is here, or what
/// programs send would be turned away.
#[test]
fn pages_of_other_servers_change_nothing() {
    let inbox = "[source.crm]\nkind = \"http\"\npath = \"/in/crm\"\nformat = \"json\"\ninsecure = true\n\
                 event = { id = \"body.id\", type = \"body.type\", subject = \"body.subject\", data = \"body\" }\n";
    let server = Setup::new(PAYMENTS).tables(inbox).start();
    let posts = [
        (
            "/v1/events",
            "application/cloudevents+json",
            paid("1").replace("\"id\"", "\"specversion\":\"1.0\",\"source\":\"s\",\"id\""),
        ),
        ("/in/crm", "application/json", paid("2")),
        ("/v1/entities/order/pause", "text/plain", "{}".to_owned()),
        ("/v1/entities/order/resume", "text/plain", "{}".to_owned()),
        ("/v1/replay", "application/toml", PAYMENTS.to_owned()),
    ];
    let attacker = [("origin", "http://elsewhere.example")];
    for (path, content_type, body) in &posts {
        let post = |more: &[(&str, &str)]| {
            let headers = [&[("content-type", *content_type)], more].concat();
            server.request("POST", path, &headers, body.as_bytes())
        };
        assert_eq!(post(&attacker).problem(403), "forbidden", "{path}");
        assert_eq!(post(&[("sec-fetch-site", "cross-site")]).problem(403), "forbidden", "{path}");
        // The harness asks for the host `localhost`.
        for own in [&[][..], &[("origin", "http://localhost")], &[("ce-source", "crm"), ("webhook-id", "1")]] {
            let answer = post(own);
            assert!(answer.status < 300, "{path} {own:?}: {}", answer.text());
        }
    }
    let forget = server.request("DELETE", "/v1/entities/order/o", &attacker, b"");
    assert_eq!(forget.problem(403), "forbidden");
    assert_eq!(server.entity("order", "o")["fields"]["payments"], 2, "each came once, and nobody forgot it");
}

/// If this failed, metrics and status would be where everybody sends, although they were given a place of their own.
#[test]
fn operators_have_a_listener_of_their_own() {
    let server = Setup::new(PAYMENTS).server("admin = \"127.0.0.1:0\"").start();
    let lines = server.stdout();
    let admin = lines.iter().find_map(|line| line.strip_prefix("admin listening on http://")).expect("its address");
    let admin = admin.parse().expect("an address");
    for (path, public, own) in [
        ("/readyz", 200, 200),
        ("/v1/entities", 200, 404),
        ("/v1/status", 404, 200),
        ("/metrics", 404, 200),
        ("/v1/dead-letters", 404, 200),
    ] {
        assert_eq!(server.get(path).status, public, "{path}");
        assert_eq!(Http::connect(admin).request("GET", path, &[], b"").status, own, "{path} for operators");
    }
}

/// If this failed, a door left open by mistake would be open in earnest, or one that is locked could not be used.
#[test]
fn an_open_door_is_not_started() {
    let open = "[source.open]\nkind = \"tcp\"\nlisten = \"0.0.0.0:0\"\n";
    let ended = Setup::new(PAYMENTS).tables(open).write().run_to_end();
    assert_eq!(ended.status.code(), Some(2));
    assert!(text(&ended.stderr).contains("[source.open] listens on 0.0.0.0:0 without TLS and a token"));
    let Some(certificates) = Certificates::make() else { return };
    let authority = format!("tls_client_ca = {:?}\n", certificates.file("ca.pem").display().to_string());
    for (more, lack) in [
        (String::new(), Some("without a token")),
        ("token = \"t\"\n".to_owned(), None),
        (authority.clone(), None),
        (format!("{authority}tls_client = \"optional\"\n"), Some("without a token")),
        (format!("{authority}tls_client = \"optional\"\ntoken = \"t\"\n"), None),
    ] {
        let server = Setup::new(PAYMENTS).tables(&format!("{open}{}", certificates.listener(&more))).write();
        let checked = server.cli(&["check"]);
        let told = text(&checked.stderr);
        assert_eq!(code(&checked), Some(if lack.is_some() { 2 } else { 0 }), "{more}: {told}");
        assert!(lack.is_none_or(|lack| told.contains(lack)), "{more}: {told}");
    }
}

/// If this failed, nobody could say what securing connections costs.
#[test]
fn bench_measures_over_tls() {
    let Some(certificates) = Certificates::make() else { return };
    let rules = std::fs::read_to_string("examples/orders/rules.toml").expect("the shipped rules");
    let setup = Setup::new(&rules).server(&certificates.listener("token = \"t\""));
    let server = start_secured(setup.tcp(&certificates.listener("token = \"t\"")));
    let ca = certificates.file("ca.pem").display().to_string();
    let url = format!("https://{}", named(server.http()));
    let to = format!("tls://{}", named(server.tcp()));
    let arguments = ["--url", &url, "--ca", &ca, "--token", "t", "bench", "--to", &to, "--events", "5000", "--json"];
    let measured = turnstile(&arguments);
    assert_eq!(code(&measured), Some(0), "{}", text(&measured.stderr));
    let outcome: serde_json::Value = serde_json::from_slice(&measured.stdout).expect("an outcome");
    assert_eq!((&outcome["events"], &outcome["refused"]), (&5000.into(), &0.into()), "{outcome}");
}
