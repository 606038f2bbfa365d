//! The service around the resources: token, states of the node, status, metrics, wrong paths and methods, the server.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use actix_web::http::Method;
use actix_web::test::TestRequest;
use serde_json::json;

use super::super::{NodeState, Routes, Stop, configure, serve};
use super::node::{Node, Options, noted};
use crate::ingress::Door;
use crate::trust::Scope;

const READ: &[&str] = &["/v1/status", "/metrics", "/v1/entities", "/v1/entities/order/a", "/v1/decisions", "/nowhere"];
const READ_ADMIN: &[&str] = &["/v1/dead-letters", "/v1/dead-letters/sink.a.1.0"];

/// If this failed, whoever reaches the port could read and write everything.
#[actix_web::test]
async fn with_a_token_only_health_is_open() {
    let node = Node::start_with(Options { tokens: &[("s3cret", &ALL)], ..Options::default() });
    for uri in READ.iter().chain(READ_ADMIN) {
        for wrong in ["", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3crets", "Basic s3cret", "s3cret"] {
            let answer = node.answer(with(Method::GET, uri, wrong)).await;
            answer.problem(401, "unauthorized");
            assert_eq!(answer.authenticate.as_deref(), Some("Bearer"));
        }
        let right = node.answer(with(Method::GET, uri, "bearer s3cret")).await;
        assert_ne!(right.status, 401, "{uri}");
    }
    node.post("", noted("1", "a", "x")).await.problem(401, "unauthorized");
    for uri in ["/healthz", "/readyz"] {
        node.get(uri).await.expect(200);
    }
}

const ALL: [Scope; 3] = [Scope::Send, Scope::Read, Scope::Admin];

fn with(method: Method, uri: &str, authorization: &str) -> TestRequest {
    let header = ("authorization", authorization.to_owned());
    TestRequest::default().method(method).uri(uri).insert_header(header)
}

/// If this failed, a token made for one thing could be used for another, or not for its own.
#[actix_web::test]
async fn a_token_opens_what_its_scopes_say() {
    let tokens: &[(&str, &[Scope])] = &[
        ("s", &[Scope::Send]),
        ("r", &[Scope::Read]),
        ("a", &[Scope::Admin]),
        ("sr", &[Scope::Send, Scope::Read]),
        ("all", &ALL),
    ];
    let node = Node::start_with(Options { tokens, ..Options::default() });
    let reads = READ.iter().chain(READ_ADMIN).flat_map(|uri| [(Method::GET, *uri), (Method::HEAD, *uri)]);
    let changes = [
        (Method::DELETE, "/v1/dead-letters/sink.a.1.0"),
        (Method::POST, "/v1/dead-letters"),
        (Method::PUT, "/v1/events"),
        (Method::POST, "/nowhere"),
    ];
    let requests = reads.map(|(method, uri)| (method, uri, "r sr all"));
    let requests = requests.chain(changes.map(|(method, uri)| (method, uri, "a all")));
    let requests = requests.chain([(Method::POST, "/v1/events", "s sr all")]);
    for (method, uri, allowed) in requests {
        for (token, _) in tokens {
            let what = format!("{method} {uri} with {token}");
            let answer = node.answer(with(method.clone(), uri, &format!("Bearer {token}"))).await;
            if allowed.split(' ').any(|name| name == *token) {
                assert!(![401, 403].contains(&answer.status), "{what}: {}", answer.status);
            } else if method == Method::HEAD {
                assert_eq!(answer.status, 403, "{what}");
            } else {
                answer.problem(403, "forbidden");
                assert!(answer.text().contains("the scope"), "{what}: {}", answer.text());
            }
        }
        assert_eq!(node.answer(with(method.clone(), uri, "Bearer x")).await.status, 401, "{method} {uri}");
    }
}

/// If this failed, what is for operators would be served where everybody sends, or not at all.
#[actix_web::test]
async fn a_listener_serves_its_routes_and_no_others() {
    for (routes, public, admin) in
        [(Routes::All, true, true), (Routes::Public, true, false), (Routes::Admin, false, true)]
    {
        let node = Node::start_with(Options { routes, ..Options::default() });
        for (uri, served) in [
            ("/healthz", true),
            ("/readyz", true),
            ("/v1/entities", public),
            ("/v1/decisions", public),
            ("/v1/events", public),
            ("/v1/status", admin),
            ("/metrics", admin),
            ("/v1/dead-letters", admin),
            ("/v1/paused", admin),
            ("/v1/effects", admin),
            ("/v1/sinks", admin),
        ] {
            assert_eq!(node.get(uri).await.status != 404, served, "{uri} of {routes:?}");
        }
    }
}

/// If this failed, a load balancer would send requests to a node that cannot answer them.
#[actix_web::test]
async fn readiness_follows_the_node() {
    let node = Node::start();
    for (state, ready, events, entities) in [(NodeState::Ready, 200, 202, 200), (NodeState::Draining, 503, 503, 200)] {
        node.state.send_replace(state);
        assert_eq!(node.get("/healthz").await.status, 200);
        assert_eq!(node.get("/readyz").await.status, ready, "{state:?}");
        assert_eq!(node.post("", noted("1", "a", "x")).await.status, events, "{state:?}");
        assert_eq!(node.get("/v1/entities").await.status, entities, "{state:?}");
        assert_eq!(node.get("/metrics").await.status, 200);
        if ready == 503 {
            node.get("/readyz").await.problem(503, state.as_str());
        }
    }
}

/// If this failed, sources could not be seen, or a wrong rewind would not be explained.
#[actix_web::test]
async fn sources_are_listed_and_only_those_with_a_cursor_go_back() {
    let node = Node::start();
    assert_eq!(node.get("/v1/sources").await.expect(200)["items"], json!([{ "name": "http", "kind": "http" }]));
    let rewind = |name: &str| TestRequest::post().uri(&format!("/v1/sources/{name}/rewind")).set_payload(r#"{"to":1}"#);
    for name in ["http", "nobody"] {
        assert!(node.answer(rewind(name)).await.problem(404, "not_found").contains("those of kind `sql` have one"));
    }
    node.get("/v1/sources/http/rewind").await.problem(405, "method_not_allowed");
}

/// If this failed, wrong requests would be answered in another form than all other errors.
#[actix_web::test]
async fn wrong_paths_and_methods_are_problems() {
    let node = Node::start();
    for uri in ["/", "/v1", "/v1/event", "/v1/entities/order/a/b", "/v1/entities/order/a/b/pause"] {
        node.get(uri).await.problem(404, "not_found");
    }
    for (method, uri, allow) in [
        (Method::GET, "/v1/events", "POST"),
        (Method::PUT, "/v1/entities/order/a", "GET, HEAD, DELETE"),
        (Method::POST, "/healthz", "GET, HEAD"),
        (Method::GET, "/v1/entities/order/a/pause", "POST"),
        // A key may be called `pause`, and a dead letter `retry`.
        (Method::PUT, "/v1/entities/order/pause", "GET, HEAD, DELETE, POST"),
        (Method::PUT, "/v1/dead-letters/retry", "GET, HEAD, DELETE, POST"),
        (Method::PUT, "/v1/dead-letters/sink.a.1.0", "GET, HEAD, DELETE"),
    ] {
        let answer = node.answer(TestRequest::default().method(method).uri(uri)).await;
        answer.problem(405, "method_not_allowed");
        assert_eq!(answer.allow.as_deref(), Some(allow));
    }
    let head = node.answer(TestRequest::default().method(Method::HEAD).uri("/healthz")).await;
    assert_eq!(head.status, 200);
}

/// If this failed, an operator would look at wrong numbers, or a key would become a label.
#[actix_web::test]
async fn status_and_metrics_tell_of_the_node() {
    let node = Node::start();
    node.post("", noted("1", "secret-key", "x")).await.expect(202);
    node.get("/v1/entities/order/secret-key").await.expect(200);
    node.get("/nowhere/secret-key").await.problem(404, "not_found");
    let status = node.get("/v1/status").await.expect(200);
    assert_eq!(status["name"], "test");
    assert_eq!(status["state"], "ready");
    assert_eq!(status["journal"]["last_lsn"], 1);
    assert_eq!(status["admission"]["open"], true);
    assert_eq!(status["types"][0], json!({ "type": "order", "entities": 1, "live": 1 }));
    assert_eq!(status["sources"], json!(["http"]));
    let metrics = node.get("/metrics").await;
    assert_eq!(metrics.kind.as_deref(), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        r#"turnstile_http_requests_total{code="200",route="/v1/entities/{type}/{key}"} 1"#,
        r#"turnstile_http_requests_total{code="202",route="/v1/events"} 1"#,
        r#"turnstile_http_requests_total{code="404",route="other"} 1"#,
    ] {
        assert!(metrics.text().contains(line), "{line} is not in {}", metrics.text());
    }
    assert!(!metrics.text().contains("secret-key"));
}

/// If this failed, the node would have routes and no server.
#[actix_web::test]
async fn the_server_answers_on_its_listener() {
    let node = Node::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let (api, limits, open) = (node.api.clone(), &node.api.limits, &node.api.source.connections);
    let door = Door::new(None, limits, open.clone());
    let routes = move |config: &mut _| configure(api.clone(), Routes::All)(config);
    let server = serve(listener, door, limits, routes).unwrap();
    let ask = move || {
        let mut connection = TcpStream::connect(address).unwrap();
        let request = b"GET /v1/entities/order/a%2Fb%00 HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n";
        connection.write_all(request).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    };
    node.post("", noted("1", "a/b\0", "x")).await.expect(202);
    let answer = tokio::task::spawn_blocking(ask).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(r#""key":"a/b\u0000""#), "{answer}");
    server.stop(Stop::Gracefully).await;
    assert_eq!(node.api.source.connections.get(), 0);
}
