//! The node itself: `/v1/status`, `/healthz`, `/readyz`, `/metrics`.

use std::future::{Ready, ready};

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::api::{Api, NodeState};
use super::entities::type_counts;
use super::problem::Problem;

/// Prometheus' text format.
pub(super) const METRICS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn node(api: web::Data<Api>) -> Ready<HttpResponse> {
    let mut document = json!({
        "name": api.server_name,
        "version": env!("CARGO_PKG_VERSION"),
        "state": api.state.borrow().as_str(),
        "admission": {
            "open": api.admission.gate.is_open(),
            "closed_because": api.admission.gate.why(),
            "in_flight_records": api.admission.credits.in_flight(),
        },
        "journal": {
            "first_lsn": api.journal.first_lsn().0,
            "last_lsn": api.journal.last_lsn().0,
            "bytes": api.journal.bytes(),
        },
        "store": { "bytes": api.store.file_bytes() },
        "types": type_counts(&api),
    });
    if let (Value::Object(document), Value::Object(own)) = (&mut document, (api.status)()) {
        for (name, value) in own {
            match (document.get_mut(&name), value) {
                (Some(Value::Object(known)), Value::Object(more)) => known.extend(more),
                (_, value) => drop(document.insert(name, value)),
            }
        }
    }
    ready(HttpResponse::Ok().json(document))
}

pub(super) fn healthz() -> Ready<HttpResponse> {
    ready(HttpResponse::Ok().json(json!({ "status": "ok" })))
}

pub(super) fn readyz(api: web::Data<Api>) -> Ready<Result<HttpResponse, Problem>> {
    let state = *api.state.borrow();
    ready(match state {
        // A source without its server keeps nothing else from being done here, so it is told and no more.
        NodeState::Ready => {
            Ok(HttpResponse::Ok().json(json!({ "status": state.as_str(), "not_connected": (api.not_connected)() })))
        }
        NodeState::Draining => Err(Problem::unavailable(state.as_str(), "the node is about to end")),
    })
}

pub(super) fn metrics(api: web::Data<Api>) -> Ready<HttpResponse> {
    ready(HttpResponse::Ok().content_type(METRICS_TEXT).body(api.metrics.render()))
}
