//! Orders with one number each, so that every event is a revision: for tests of what goes out.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::Server;
use super::orders::feed;

/// `Total` is revised by every event; `Large` comes with the first that is.
pub const RULES: &str = r#"
[entity.order]
key = "event.data.orderId"
[entity.order.fields]
total = { on = "Priced", take = "latest", value = "event.data.total" }
[entity.order.decision.Total]
data = { total = "order.total" }
[entity.order.decision.Large]
when = "order.total > 100"
data = "true"
"#;

/// The order's price, later with each `n`.
pub fn priced(order: &str, n: u32) -> Value {
    let time = format!("2026-11-20T10:{:02}:{:02}Z", n / 60 % 60, n % 60);
    let data = json!({"orderId": order, "total": n});
    json!({"id": format!("{order}-{n}"), "source": "/test", "type": "Priced", "time": time, "data": data})
}

/// Feeds so many revisions of every order, one revision of all after the other.
pub fn feed_revisions(server: &Server, orders: &[String], revisions: std::ops::Range<u32>) {
    for n in revisions {
        let events: Vec<Value> = orders.iter().map(|order| priced(order, n)).collect();
        feed(server, &events);
    }
}

/// Checks what a receiver got: every revision up to `revisions` of every order at least once, the first times in order,
/// and the same id always with the same content.
pub fn check_received(received: &[(String, String)], orders: &[String], revisions: u32) {
    let mut contents: HashMap<&str, &str> = HashMap::new();
    let mut highest: HashMap<&str, u32> = HashMap::new();
    for (id, content) in received {
        let first = contents.entry(id).or_insert(content);
        assert_eq!(first, content, "{id} has two contents");
        let Some((entity, revision)) = id.strip_prefix("order/").and_then(|id| id.split_once("/Total/")) else {
            continue;
        };
        let revision: u32 = revision.parse().expect("a revision");
        let highest = highest.entry(entity).or_default();
        assert!(revision <= *highest + 1, "{id} came before revision {}", *highest + 1);
        *highest = revision.max(*highest);
    }
    for order in orders {
        assert_eq!(highest.get(order.as_str()), Some(&revisions), "{order}");
    }
}
