//! The window and the outlet over it, driven with simulated deliveries and time.

mod sends;
mod window;

use std::sync::Arc;

use super::cloud_event::CloudEvent;
use super::routing::Delivery;
use crate::model::ids::{EntityKey, Lsn, Revision, Version};
use crate::model::packed::Packed;
use crate::model::record::{DecisionRevision, DecisionState, Input, Record};
use crate::model::system::SinkProgress;
use crate::model::time::Timestamp;
use crate::model::value::Value;

/// The decision at `place` of the record at `lsn`, which is about `key`.
fn delivery(lsn: u64, place: u32, key: &str) -> Delivery {
    let entity = EntityKey::new("order", key);
    let time = Timestamp::parse("2026-11-20T10:00:00Z").unwrap();
    let decision = DecisionRevision {
        name: "Made".into(),
        element: None,
        revision: Revision(lsn as u32 * 10 + place),
        state: DecisionState::Made,
        data: Packed::new(&Value::Int(5)),
        time,
        correlation: "c".into(),
    };
    let record = Record::of_input(entity.clone(), Version(1), time, Input::Progress(SinkProgress::default()));
    Delivery {
        lsn: Lsn(lsn),
        place,
        entity,
        decision: "Made".into(),
        event: CloudEvent::of("turnstile", &record, &decision),
        event_id: None,
        correlation: "c".into(),
        trace: None,
    }
}

/// Which deliveries these are: LSN and place.
fn places<'d>(deliveries: impl IntoIterator<Item = &'d Arc<Delivery>>) -> Vec<(u64, u32)> {
    deliveries.into_iter().map(|delivery| (delivery.lsn.0, delivery.place)).collect()
}
