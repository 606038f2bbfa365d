//! Orders, as the HTTP tests feed them.

use serde_json::{Value, json};

use super::{Server, wait_for};

/// An order as five services see it, and a note without rules worth the name.
pub const RULES: &str = r#"
[entity.order]
key = "event.data.orderId"
[entity.order.fields]
customer = { on = "OrderCreated", take = "latest" }
created = { on = "OrderCreated", take = "min", value = "event.time" }
payment = { on = "PaymentProcessed", take = "latest" }
stock = { on = "InventoryReserved", take = "latest" }
shipping = { on = "ShippingCalculated", take = "latest" }
loyalty = { on = "LoyaltyPointsUpdated", take = "latest" }
[entity.order.derived]
decidable = "has(order.payment) && has(order.stock)"
failed = "order.?payment.?status.orValue('') == 'failed'"
status = "order.failed ? 'payment_failed' : has(order.customer) ? 'processing' : 'pending'"
[entity.order.complete]
fields = ["customer", "payment", "stock", "shipping", "loyalty"]
[entity.order.decision.OrderConfirmed]
when = "order.decidable && order.payment.status == 'successful' && size(order.stock.reservedItems) > 0"
data = { warehouse = "order.stock.warehouseId", days = "order.?shipping.?estimatedDays.orValue(5)" }
[entity.order.decision.OrderRejected]
when = "order.decidable && order.failed"
data = { reason = "'Payment failed'" }
[entity.note]
key = "event.subject"
[entity.note.fields]
text = { on = "Noted", take = "latest" }
by = { on = "Noted", take = "latest", value = "event.author" }
"#;

/// As little as counts something: for tests of what events come through.
pub const PAYMENTS: &str = r#"
[entity.order]
key = "event.subject"
[entity.order.fields]
payments = { on = "Paid", take = "count" }
"#;

pub const STRUCTURED: &str = "application/cloudevents+json";
pub const BATCH: &str = "application/cloudevents-batch+json";
pub const NDJSON: &str = "application/x-ndjson";

pub fn event(id: &str, kind: &str, order: &str, data: &Value) -> Value {
    let mut data = data.clone();
    data["orderId"] = order.into();
    json!({"specversion": "1.0", "id": id, "source": "/test", "type": kind, "time": "2026-11-20T10:00:00Z", "data": data})
}

/// An event of whatever kind.
pub fn happened(id: &str, kind: &str, data: &Value) -> Value {
    json!({"id": id, "type": kind, "time": "2026-11-20T10:00:00Z", "data": data})
}

pub fn created(order: &str) -> Value {
    event(&format!("{order}-created"), "OrderCreated", order, &json!({"customerId": "c-7"}))
}

pub fn paid(order: &str, status: &str) -> Value {
    event(&format!("{order}-paid"), "PaymentProcessed", order, &json!({"status": status}))
}

pub fn reserved(order: &str) -> Value {
    let data = json!({"reservedItems": ["SKU-1"], "warehouseId": "west"});
    event(&format!("{order}-reserved"), "InventoryReserved", order, &data)
}

pub fn shipped(order: &str) -> Value {
    event(&format!("{order}-shipping"), "ShippingCalculated", order, &json!({"estimatedDays": 2}))
}

pub fn lines(events: &[Value]) -> String {
    events.iter().flat_map(|event| [event.to_string(), "\n".to_owned()]).collect()
}

/// An order that lacks nothing but its loyalty points, one event of it twice.
pub fn order(name: &str) -> [Value; 5] {
    [created(name), paid(name, "successful"), reserved(name), shipped(name), created(name)]
}

/// Posts NDJSON that must be taken whole.
pub fn feed(server: &Server, events: &[Value]) -> Value {
    server.post("/v1/events", NDJSON, lines(events)).expect(202).json()
}

/// The same to a server that may have too much to do; whoever is told so sends again.
pub fn feed_patiently(server: &Server, events: &[Value]) -> Value {
    let answer = wait_for("the events are admitted", || {
        Some(server.post("/v1/events", NDJSON, lines(events))).filter(|answer| answer.status != 429)
    });
    answer.expect(202).json()
}
