//! `turnstile verify` finds nothing where lives end, nor in what was forgotten or trimmed away, whatever goes on meanwhile.

mod common;

use common::orders::{feed, happened};
use common::verified::{found, kinds, verify, verify_stopped};
use common::{Server, Setup, wait_for};
use serde_json::json;

const SESSIONS: &str = r#"
[entity.session]
key = "event.data.session"
expire = "1s"
[entity.session.fields]
pages = { on = "Viewed", take = "count" }
page = { on = "Viewed", take = "latest", value = "event.data.page" }
[entity.session.ref.shown]
entity = "page"
key = "session.page"
[entity.page]
key = "event.data.page"
fields = { title = { on = "Titled", take = "latest", value = "event.data.title" } }
"#;

/// If this failed, a sound server would be called damaged whenever an entity expires while it is verified, and each time
/// something is waited for.
#[test]
fn lives_that_end_meanwhile_are_followed() {
    let slow = "[limits]\nverify_records_per_second = 500";
    let mut server = Setup::new(SESSIONS).tables(slow).start();
    let viewed = |n: usize| {
        let data = json!({ "session": format!("s{n}"), "page": format!("p{}", n % 7) });
        happened(&n.to_string(), "Viewed", &data)
    };
    feed(&server, &(0..600).map(viewed).collect::<Vec<_>>());
    let (code, report) = verify(&server, &[]);
    assert_eq!((code, kinds(&report)), (Some(0), found(&[])), "{report}");
    let expired = "turnstile_entities_expired_total{entity=\"session\"}";
    assert!(server.metric(expired) > Some(0.0), "none expired while it was verified");
    server.kill();
    let (code, report) = verify_stopped(&server, &[]);
    assert_eq!((code, kinds(&report)), (Some(0), found(&[])), "{report}");
    server.start();
    // All that is overdue expires now.
    let (code, report) = verify(&server, &[]);
    assert_eq!((code, kinds(&report)), (Some(0), found(&[])), "{report}");
}

const ORDERS: &str = r#"
[entity.customer]
key = "event.data.customer"
fields = { orders = { on = "Ordered", take = "count" } }
[entity.order]
key = "event.data.order"
fields = { name = { on = "Ordered", take = "latest", value = "event.data.name" } }
[entity.order.decision.Sum]
when = "has(order.name)"
data = { name = "order.name" }
"#;

fn forget(server: &Server, order: &str) {
    let body = br#"{"by":"ann","why":"she asked for it"}"#;
    server.request("DELETE", &format!("/v1/entities/order/{order}"), &[], body).expect(202);
    wait_for("it is forgotten", || {
        let all = server.get("/v1/forgotten").expect(200).json();
        all["items"].as_array().expect("a list").iter().all(|it| it["state"] == "done").then_some(())
    });
}

/// If this failed, a key that was forgotten and came back would be called damaged for good, once rules were changed.
#[test]
fn who_was_forgotten_and_came_back_is_no_damage_under_other_rules() {
    let mut server = Setup::new(ORDERS).start();
    let ordered = |id: &str| happened(id, "Ordered", &json!({ "order": "a", "customer": "c", "name": id }));
    feed(&server, &[ordered("1")]);
    forget(&server, "a");
    feed(&server, &[ordered("2")]);
    server.verify_clean();
    assert!(server.terminate().success());
    server.rewrite(&Setup::new(&ORDERS.replace("data = { name", "data = { key = \"key\", name")).text());
    server.start();
    server.verify_clean();
    assert!(server.terminate().success());
    let (code, report) = verify_stopped(&server, &[]);
    assert_eq!((code, kinds(&report)), (Some(0), found(&[])), "{report}");
}
