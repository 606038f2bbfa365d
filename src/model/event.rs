//! An event: what a source says happened, with CloudEvents 1.0 attributes.

use std::sync::Arc;

use bincode::{Decode, Encode};

use super::ids::PayloadHash;
use super::json;
use super::packed::Packed;
use super::time::Timestamp;
use super::trace::{TRACEPARENT, TraceContext};
use super::value::{Map, Value};

/// A decoded event, before any entity took it.
#[derive(Clone, Debug)]
pub struct Event {
    /// Who says it; with `id` its identity.
    pub source: Arc<str>,
    pub id: Box<str>,
    /// The event type, such as `OrderCreated`.
    pub kind: Arc<str>,
    /// When it happened; the receipt time where the sender gave none.
    pub time: Timestamp,
    pub time_given: TimeGiven,
    pub subject: Option<Box<str>>,
    /// Any JSON value; `None` where the event has no `data` at all.
    pub data: Option<Value>,
    /// All other members, CloudEvents extensions among them.
    pub extensions: Map,
}

/// Whether the sender gave the event's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum TimeGiven {
    BySender,
    AtReceipt,
}

impl Event {
    /// Hash of the payload: type, subject, canonical data, and the time if the sender gave one; never extensions.
    pub fn payload_hash(&self) -> PayloadHash {
        let mut bytes = Vec::with_capacity(256);
        json::write_string(&mut bytes, &self.kind);
        if let Some(subject) = &self.subject {
            json::write_string(&mut bytes, subject);
        }
        bytes.push(b'\n');
        if self.time_given == TimeGiven::BySender {
            bytes.extend(self.time.nanos().to_le_bytes());
        }
        bytes.push(b'\n');
        if let Some(data) = &self.data {
            json::write_canonical(&mut bytes, data);
        }
        let mut short = [0; 8];
        short.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..8]);
        PayloadHash(u64::from_le_bytes(short))
    }

    /// Puts it into the trace that came beside it, such as in a request's headers, unless it says itself where it belongs.
    pub fn belongs(&mut self, trace: Option<&TraceContext>) {
        let Some(trace) = trace.filter(|_| self.extensions.get(TRACEPARENT).is_none()) else { return };
        for (name, value) in trace.headers() {
            self.extensions.insert(name, Value::string(value));
        }
    }

    /// The event as records hold it.
    pub fn packed(&self) -> PackedEvent {
        PackedEvent {
            source: self.source.clone(),
            id: self.id.clone(),
            kind: self.kind.clone(),
            time: self.time,
            time_given: self.time_given,
            subject: self.subject.clone(),
            data: self.data.as_ref().map(Packed::new),
            extensions: (!self.extensions.is_empty()).then(|| Packed::new(&Value::Map(self.extensions.clone()))),
        }
    }

    /// The attribute `name` as rules see it in `event.<name>`.
    pub fn attribute(&self, name: &str) -> Option<Value> {
        match name {
            "id" => Some(Value::String(self.id.clone())),
            "source" => Some(Value::string(&*self.source)),
            "type" => Some(Value::string(&*self.kind)),
            "time" => Some(Value::Timestamp(self.time)),
            "subject" => self.subject.clone().map(Value::String),
            "data" => self.data.clone(),
            name => self.extensions.get(name).cloned(),
        }
    }
}

/// The number that a source gave an event, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Sequence {
    /// The source that declares the sequence.
    pub source: Box<str>,
    pub number: i64,
}

/// An event as it is journaled.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct PackedEvent {
    pub source: Arc<str>,
    pub id: Box<str>,
    pub kind: Arc<str>,
    pub time: Timestamp,
    pub time_given: TimeGiven,
    pub subject: Option<Box<str>>,
    pub data: Option<Packed>,
    /// A map; `None` where there are no other members.
    pub extensions: Option<Packed>,
}

impl PackedEvent {
    /// The event as it was before it was packed.
    pub fn unpack(&self) -> Event {
        let extensions = match self.extensions.as_ref().map(Packed::unpack) {
            Some(Value::Map(members)) => members,
            _ => Map::default(),
        };
        Event {
            source: self.source.clone(),
            id: self.id.clone(),
            kind: self.kind.clone(),
            time: self.time,
            time_given: self.time_given,
            subject: self.subject.clone(),
            data: self.data.as_ref().map(Packed::unpack),
            extensions,
        }
    }
}
