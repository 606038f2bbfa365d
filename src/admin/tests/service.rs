//! The service around the resources: token, states of the node, status, metrics, wrong paths and methods, the server.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use actix_web::http::Method;
use actix_web::test::TestRequest;
use serde_json::json;

use super::super::{NodeState, serve};
use super::node::{Node, Options, SEGMENT_BYTES, noted};

/// If this failed, whoever reaches the port could read and write everything.
#[actix_web::test]
async fn with_a_token_only_health_is_open() {
    let node = Node::start_with(Options { token: Some("s3cret"), segment_bytes: SEGMENT_BYTES });
    let with =
        |uri: &str, header: &str| TestRequest::get().uri(uri).insert_header(("authorization", header.to_owned()));
    for uri in ["/v1/status", "/metrics", "/v1/entities", "/v1/entities/order/a", "/nowhere"] {
        for wrong in ["", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3crets", "Basic s3cret", "s3cret"] {
            let answer = node.answer(with(uri, wrong)).await;
            answer.problem(401, "unauthorized");
            assert_eq!(answer.authenticate.as_deref(), Some("Bearer"));
        }
        let right = node.answer(with(uri, "bearer s3cret")).await;
        assert_ne!(right.status, 401, "{uri}");
    }
    node.post("", noted("1", "a", "x")).await.problem(401, "unauthorized");
    for uri in ["/healthz", "/readyz"] {
        node.get(uri).await.expect(200);
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
    for uri in ["/", "/v1", "/v1/event", "/v1/entities/order/a/history", "/v1/entities/order/a/b"] {
        node.get(uri).await.problem(404, "not_found");
    }
    for (method, uri, allow) in [
        (Method::GET, "/v1/events", "POST"),
        (Method::DELETE, "/v1/entities/order/a", "GET, HEAD"),
        (Method::POST, "/healthz", "GET, HEAD"),
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
    let server = serve(node.api.clone().into_inner(), listener).unwrap();
    let handle = server.handle();
    let running = actix::spawn(server);
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
    handle.stop(true).await;
    running.await.unwrap().unwrap();
    assert_eq!(node.api.source.connections.get(), 0);
}
