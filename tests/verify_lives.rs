//! `turnstile verify` finds nothing where lives end, nor in what was forgotten or trimmed away, whatever goes on meanwhile.

mod common;

use common::Setup;
use common::orders::{feed, happened};
use common::verified::{found, kinds, verify, verify_stopped};
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
