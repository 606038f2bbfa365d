//! Live streams over a WebSocket: several on one connection, begun and ended by messages.

mod common;

use std::net::TcpStream;

use common::orders::{RULES, event, feed, paid, reserved};
use common::{PATIENCE, Server, Setup, wait_for};
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::{Message, WebSocket};

/// A client.
struct Socket(WebSocket<TcpStream>);

impl Socket {
    fn open(server: &Server) -> Socket {
        Self::try_open(server, &[]).expect("the server takes the socket")
    }

    fn try_open(server: &Server, headers: &[(&'static str, &str)]) -> Result<Socket, String> {
        let stream = TcpStream::connect(server.http()).expect("HTTP accepts the connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut request = format!("ws://{}/v1/stream", server.http()).into_client_request().expect("an address");
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).expect("a header"));
        }
        tungstenite::client(request, stream).map(|(socket, _)| Socket(socket)).map_err(|error| error.to_string())
    }

    fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).expect("the server takes messages");
    }

    /// The next message, or the close frame's code and reason.
    fn next(&mut self) -> Result<Value, (CloseCode, String)> {
        loop {
            match self.0.read().expect("a message") {
                Message::Text(text) => return Ok(serde_json::from_str(&text).expect("messages are JSON")),
                Message::Close(frame) => {
                    let frame = frame.expect("a reason for the end");
                    return Err((frame.code, frame.reason.to_string()));
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn expect(&mut self) -> Value {
        self.next().unwrap_or_else(|closed| panic!("closed: {closed:?}"))
    }

    /// Asks, and gives the answer.
    fn ask(&mut self, message: &Value) -> Value {
        self.send(message);
        self.expect()
    }
}

/// If this failed, who follows several things at once would be told of others, or twice, or not at all.
#[test]
fn several_subscriptions_on_one_connection() {
    let server = Setup::new(RULES).start();
    feed(&server, &[paid("o", "successful")]);
    let mut socket = Socket::open(&server);
    let begun = socket.ask(&json!({"subscribe": "mine", "to": {"type": "order", "key": "o"}}));
    assert_eq!(begun["subscribed"], "mine", "{begun}");
    let first = socket.expect();
    assert_eq!((&first["event"], &first["data"]["version"]), (&json!("entity"), &json!(1)), "{first}");
    let filter = json!({"decision": "OrderConfirmed"});
    let begun = socket.ask(&json!({"subscribe": "confirmed", "to": "decisions", "filter": filter, "after": "0"}));
    assert_eq!(begun["subscribed"], "confirmed", "{begun}");
    feed(&server, &[reserved("o"), paid("other", "failed"), reserved("other")]);
    let mut told: Vec<_> = (0..2).map(|_| socket.expect()).collect();
    told.sort_by_key(|message| message["subscription"].to_string());
    assert_eq!(told[0]["data"]["id"], "order/o/OrderConfirmed/1", "{told:?}");
    assert_eq!((&told[1]["event"], &told[1]["data"]["version"]), (&json!("change"), &json!(2)), "{told:?}");
    let confirmed = told[0]["id"].as_str().expect("a position").to_owned();

    let gone = socket.ask(&json!({"unsubscribe": "confirmed"}));
    assert_eq!(gone["unsubscribed"], "confirmed", "{gone}");
    feed(&server, &[paid("p", "successful"), reserved("p"), event("last", "OrderCreated", "o", &json!({}))]);
    let next = socket.expect();
    assert_eq!((&next["subscription"], &next["data"]["version"]), (&json!("mine"), &json!(3)), "nothing else: {next}");
    // Who comes back goes on where it was.
    let mut again = Socket::open(&server);
    again.ask(&json!({"subscribe": "x", "to": "decisions", "filter": filter, "after": confirmed}));
    assert_eq!(again.expect()["data"]["id"], "order/p/OrderConfirmed/1");
}

/// If this failed, a slip would end the connection, or go unnoticed.
#[test]
fn mistakes_are_told_and_end_nothing() {
    let server = Setup::new(RULES).tables("[limits]\nsocket_subscriptions_max = 2").start();
    let mut socket = Socket::open(&server);
    for (message, code) in [
        (json!({"subscribe": "a", "to": "nonsense"}), "invalid_value"),
        (json!({"subscribe": "a", "to": {"type": "ordre"}}), "not_found"),
        (json!({"subscribe": "a", "to": "decisions", "after": "x"}), "invalid_value"),
        (json!({"subscribe": "a", "to": "decisions", "after": "99"}), "invalid_value"),
        (json!({"subscribe": "a", "to": "decisions", "filter": {"type": "ordre"}}), "invalid_value"),
        (json!({"subscribe": "a", "to": {"type": "order"}, "filter": {"type": "order"}}), "invalid_value"),
        (json!({"subscribe": "", "to": "decisions"}), "invalid_value"),
        (json!({"subscribe": "a"}), "invalid_value"),
        (json!({"unsubscribe": "a"}), "not_found"),
        (json!({"hello": "a"}), "invalid_value"),
        (json!(["a"]), "invalid_value"),
    ] {
        let answer = socket.ask(&message);
        assert_eq!(answer["error"]["code"], code, "{message}: {answer}");
        assert!(answer["error"]["detail"].is_string(), "{answer}");
        let name = message.get("subscribe").or(message.get("unsubscribe"));
        assert_eq!(answer.get("subscription"), name, "{message}: {answer}");
    }
    for name in ["a", "b"] {
        assert_eq!(socket.ask(&json!({"subscribe": name, "to": "decisions"}))["subscribed"], name);
    }
    let again = socket.ask(&json!({"subscribe": "a", "to": "decisions"}));
    assert_eq!((&again["error"]["code"], &again["subscription"]), (&json!("invalid_value"), &json!("a")), "{again}");
    assert_eq!(socket.ask(&json!({"subscribe": "c", "to": "decisions"}))["error"]["code"], "busy");
    feed(&server, &[paid("o", "successful"), reserved("o")]);
    let mut told = [socket.expect(), socket.expect()].map(|message| message["subscription"].to_string());
    told.sort();
    assert_eq!(told, [r#""a""#, r#""b""#], "both go on");
}

/// If this failed, whoever sends what is not understood would not learn why the connection is over.
#[test]
fn mistakes_in_the_protocol_close_with_their_code() {
    let server = Setup::new(RULES).start();
    let large = Message::text(format!("{{\"subscribe\":\"{}\"}}", "x".repeat(17_000)));
    let broken = |bytes: &'static [u8], code| Message::Frame(Frame::message(bytes, OpCode::Data(code), true));
    let part = |code, is_last| Message::Frame(Frame::message(vec![b'x'; 9_000], OpCode::Data(code), is_last));
    for (messages, expected, why) in [
        (vec![large], CloseCode::Size, "16 KiB"),
        (vec![part(Data::Text, false), part(Data::Continue, true)], CloseCode::Size, "16 KiB"),
        (vec![broken(b"\xff", Data::Text)], CloseCode::Invalid, "UTF-8"),
        (vec![broken(b"x", Data::Continue)], CloseCode::Protocol, "ontinuation"),
    ] {
        let mut socket = Socket::open(&server);
        socket.ask(&json!({"subscribe": "a", "to": "decisions"}));
        for message in messages {
            socket.0.send(message).expect("the server takes it");
        }
        let (code, reason) = socket.next().expect_err("it is closed");
        assert!(code == expected && reason.contains(why), "{code:?} {reason}");
    }
}

/// If this failed, a client that hangs would hold memory, or would not know why it was sent away.
#[test]
fn who_does_not_read_is_closed_with_a_reason() {
    let rules = RULES.replace("days =", "note = \"order.payment.note\", days =");
    let server = Setup::new(&rules).tables("[limits]\nunread_timeout = \"8s\"").start();
    let mut socket = Socket::open(&server);
    socket.ask(&json!({"subscribe": "all", "to": "decisions"}));
    let data = json!({"status": "successful", "note": "x".repeat(100_000)});
    for n in 0..100 {
        let order = format!("o-{n}");
        feed(&server, &[event(&format!("{order}-p"), "PaymentProcessed", &order, &data), reserved(&order)]);
    }
    wait_for("it is given up", || {
        (server.metric(r#"turnstile_streams_cut_total{reason="slow"}"#) == Some(1.0)).then_some(())
    });
    let mut last = json!(null);
    let (code, reason) = loop {
        match socket.next() {
            Ok(message) => last = message,
            Err(closed) => break closed,
        }
    };
    assert_eq!(last["end"]["code"], "slow", "the last message tells why: {last}");
    assert_eq!(code, CloseCode::Policy, "{reason}");
    assert!(reason.contains("unread_timeout"), "{reason}");
}

/// If this failed, sockets would keep a server from ending.
#[test]
fn draining_closes_sockets_with_a_reason() {
    let mut server = Setup::new(RULES).start();
    let mut socket = Socket::open(&server);
    socket.ask(&json!({"subscribe": "all", "to": "decisions"}));
    server.signal_term();
    assert_eq!(socket.expect()["end"]["code"], "draining");
    let (code, _) = socket.next().expect_err("then it is closed");
    assert_eq!(code, CloseCode::Away);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

/// If this failed, a socket would be a way around the token, or pages of others would read what is here.
#[test]
fn sockets_pass_the_same_door() {
    let server = Setup::new(RULES).http_token("secret").start();
    for (headers, opens) in [
        (&[][..], false),
        (&[("authorization", "Bearer wrong")], false),
        (&[("authorization", "Bearer secret")], true),
        (&[("authorization", "Bearer secret"), ("origin", "http://elsewhere.example")], false),
    ] {
        assert_eq!(Socket::try_open(&server, headers).is_ok(), opens, "{headers:?}");
    }
}
