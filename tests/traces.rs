//! Traces over OTLP, through the real binary: one trace from an event to whoever hears of its decision, with the right
//! parents; only of events that ask for it, and of a share of the others.

mod common;

use common::collector::{Collector, attribute};
use common::hook::{Answer, Hook};
use common::orders::{created, feed, paid, reserved};
use common::{Setup, orders, wait_for};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SENDER: &str = "00f067aa0ba902b7";

const RULES: &str = r#"
[entity.order.effect.notify]
when = "order.decidable"
[entity.order.effect.notify.request]
url = "URL"
json = { order = "key" }
"#;

fn setup(hook: &Hook, telemetry: &str) -> Setup {
    let rules = [orders::RULES, &RULES.replace("URL", &hook.url())].concat();
    Setup::new(&rules).tables(&format!(
        "[sink.hook]\nkind = \"webhook\"\nurl = {:?}\nallow_private = true\n\
         secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n{telemetry}",
        hook.url()
    ))
}

fn with_trace(mut event: Value, flags: &str) -> Value {
    event["traceparent"] = json!(format!("00-{TRACE}-{SENDER}-{flags}"));
    event["tracestate"] = json!("vendor=1");
    event
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// The one span with this name.
fn one<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "`{name}` among {:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>());
    found[0]
}

/// If this failed, somebody who looks for a slow event would find pieces, or find them below the wrong ones.
#[test]
fn an_event_and_all_that_follows_is_one_trace() {
    let (collector, hook) = (Collector::start(), Hook::start(|_, _| Answer::Status(200)));
    let server = setup(&hook, &format!("[telemetry]\notlp = {:?}\nheaders_file = \"otlp\"", collector.url())).write();
    std::fs::write(server.path("otlp"), "X-Api-Key: s3cret\n").expect("a file");
    let mut server = server;
    server.start();
    feed(&server, &[created("o"), paid("o", "successful")]);
    let mut client = server.client();
    client.send(orders::lines(&[with_trace(reserved("o"), "01")]));
    // received, decided, committed; two sinks and an effect.
    let spans = collector.wait_for_spans(6);
    assert_eq!(spans.len(), 6, "the others carry no trace: {spans:?}");
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE && span.trace_state == "vendor=1"), "{spans:?}");

    let received = one(&spans, "receive InventoryReserved");
    let decided = one(&spans, "decide order");
    let committed = one(&spans, "commit");
    assert_eq!(hex(&received.parent_span_id), SENDER);
    assert_eq!(decided.parent_span_id, received.span_id);
    assert_eq!(committed.parent_span_id, decided.span_id);
    assert!(received.start_time_unix_nano <= decided.start_time_unix_nano, "in this order");
    assert!(committed.end_time_unix_nano <= received.end_time_unix_nano, "acknowledged when it is durable");
    let text = |span: &Span, key: &str| attribute(&span.attributes, key).unwrap_or_else(|| panic!("{key}: {span:?}"));
    assert_eq!(text(received, "turnstile.source"), "tcp");
    assert_eq!(text(received, "cloudevents.event_id"), "o-reserved");
    assert_eq!((text(decided, "turnstile.type"), text(decided, "turnstile.key")), ("order".into(), "o".into()));
    assert_eq!(
        text(committed, "turnstile.lsn"),
        server.entity("order", "o")["decisions"]["OrderConfirmed"]["lsn"].to_string()
    );

    let calls = wait_for("both have been called", || Some(hook.calls()).filter(|calls| calls.len() == 2));
    for (name, header) in [("deliver hook", "webhook-id"), ("call order.notify", "idempotency-key")] {
        let span = one(&spans, name);
        assert_eq!(span.parent_span_id, decided.span_id, "{name}");
        let call = calls.iter().find(|call| call.headers.contains_key(header)).expect("it has come");
        assert_eq!(call.headers["traceparent"], format!("00-{TRACE}-{}-01", hex(&span.span_id)), "{name}");
        assert_eq!(call.headers["tracestate"], "vendor=1", "{name}");
    }
    assert_eq!(one(&spans, "deliver decisions").parent_span_id, decided.span_id);
    let decision = server.decisions_file().remove(0);
    assert_eq!(
        decision["traceparent"],
        with_trace(json!({}), "01")["traceparent"],
        "its cause's, whatever is recorded"
    );

    let (resource, head) = collector.sender();
    assert_eq!(attribute(&resource, "service.name").as_deref(), Some("turnstile"));
    assert!(head[0].starts_with("post /v1/traces "), "{head:?}");
    assert!(head.contains(&"x-api-key: s3cret".to_owned()), "{head:?}");
    assert!(!server.stderr().contains("s3cret"), "no secret in the log");
}

/// If this failed, what an instrumented sender does would end at our door.
#[test]
fn a_request_that_says_where_it_belongs_says_so_for_its_event() {
    let (collector, hook) = (Collector::start(), Hook::start(|_, _| Answer::Status(200)));
    let server = setup(&hook, &format!("[telemetry]\notlp = {:?}", collector.url())).start();
    let parent = format!("00-{TRACE}-{SENDER}-01");
    let headers = [("content-type", orders::STRUCTURED), ("traceparent", parent.as_str())];
    server.request("POST", "/v1/events", &headers, created("a").to_string().as_bytes()).expect(202);
    let mut own = created("b");
    own["traceparent"] = json!(parent.replace(SENDER, "00f067aa0ba902b8"));
    server.request("POST", "/v1/events", &headers, own.to_string().as_bytes()).expect(202);
    let spans = collector.wait_for_spans(6);
    let received = spans.iter().filter(|span| span.name == "receive OrderCreated");
    let parents: Vec<String> = received.map(|span| hex(&span.parent_span_id)).collect();
    assert_eq!(parents, [SENDER, "00f067aa0ba902b8"], "what the event says itself counts");
}

/// If this failed, a refusal would be missing from the trace that somebody looks at for what went wrong, or a repeated
/// event have spans that are taken for the first one's.
#[test]
fn what_is_not_recorded_is_in_the_trace_too() {
    let (collector, hook) = (Collector::start(), Hook::start(|_, _| Answer::Status(200)));
    let server = setup(&hook, &format!("[telemetry]\notlp = {:?}", collector.url())).start();
    feed(&server, &[created("o")]);
    feed(&server, &[with_trace(created("o"), "01")]);
    let spans = collector.wait_for_spans(2);
    assert_eq!(attribute(&one(&spans, "decide order").attributes, "turnstile.outcome").as_deref(), Some("duplicate"));
    let mut conflict = with_trace(created("o"), "01");
    conflict["data"]["customerId"] = json!("another");
    server.post("/v1/events", orders::STRUCTURED, conflict.to_string()).expect(409);
    let mut nobodys = with_trace(created("o"), "01");
    nobodys["type"] = json!("Unknown");
    server.post("/v1/events", orders::STRUCTURED, nobodys.to_string()).expect(400);
    let spans = collector.wait_for_spans(5);
    let said = |span: &Span| span.status.as_ref().map(|status| status.message.clone()).unwrap_or_default();
    let decided = spans.iter().filter(|span| span.name == "decide order");
    assert_eq!(decided.map(said).collect::<Vec<_>>(), ["", "conflict"]);
    assert_eq!(said(one(&spans, "receive Unknown")), "unmatched");
}

/// If this failed, a node that is told to be quiet would send spans, or one that samples would break traces that others
/// decided not to record.
#[test]
fn what_is_sampled_is_up_to_the_sender_and_then_to_a_share() {
    let (collector, hook) = (Collector::start(), Hook::start(|_, _| Answer::Status(200)));
    let telemetry = format!("[telemetry]\notlp = {:?}\nsample = 1.0", collector.url());
    let mut server = setup(&hook, &telemetry).start();
    feed(&server, &[with_trace(created("quiet"), "00"), created("loud")]);
    // SIGTERM brings out what there is.
    assert!(server.terminate().success());
    let spans = collector.spans();
    assert_eq!(spans.len(), 3, "{spans:?}");
    assert!(spans.iter().all(|span| span.trace_id == spans[0].trace_id && hex(&span.trace_id) != TRACE), "{spans:?}");
    assert!(one(&spans, "receive OrderCreated").parent_span_id.is_empty(), "it is the root");
    assert_eq!(attribute(&one(&spans, "decide order").attributes, "turnstile.key").as_deref(), Some("loud"));
}

/// If this failed, switching traces off would also cut those of others off, or a collector that is away would hold up events.
#[test]
fn without_a_collector_the_trace_is_passed_on_and_events_are_taken() {
    let hook = Hook::start(|_, _| Answer::Status(200));
    for (telemetry, is_on) in [("", false), ("[telemetry]\notlp = \"http://127.0.0.1:1\"\nsample = 1.0", true)] {
        let server = setup(&hook, telemetry).start();
        let order = if is_on { "on" } else { "off" };
        feed(&server, &[created(order), paid(order, "successful"), with_trace(reserved(order), "01")]);
        let id = format!("order/{order}/OrderConfirmed/1");
        let call = wait_for("the decision arrives", || hook.calls().into_iter().find(|call| call.id() == id));
        let parent = call.headers["traceparent"].clone();
        assert_eq!(parent == format!("00-{TRACE}-{SENDER}-01"), !is_on, "{parent}");
        assert!(parent.contains(TRACE), "{parent}");
        if is_on {
            wait_for("what is lost is counted", || {
                server.metric("turnstile_spans_dropped_total").filter(|dropped| *dropped >= 6.0)
            });
            assert_eq!(server.stderr().matches("spans cannot be exported").count(), 1, "it is told once");
        }
    }
}
