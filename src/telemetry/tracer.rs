//! Which events are traced, and under which ids.
//!
//! An event that carries a sampled `traceparent` is; of the others, a share. Whether it is, its trace, and the span in which an
//! entity decided are functions of what the record holds. So whoever finds the record later, a sink or a process after the
//! next start, finds the trace, and nothing of it has to be kept.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::trace::SpanKind;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::SpanData;
use prometheus::IntCounter;
use tokio::sync::mpsc;

use super::spans::{Deciding, Leg, Reception, Span};
use crate::model::event::{Event, PackedEvent};
use crate::model::ids::{EntityKey, Version};
use crate::model::record::Record;
use crate::model::trace::TraceContext;

/// Makes spans; off by default, and then costs a look at whether it is.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Tracing>>);

/// What all spans share.
pub(super) struct Tracing {
    /// Events whose hash is below are traced though they carry no trace.
    threshold: u64,
    queue: mpsc::Sender<SpanData>,
    dropped: IntCounter,
    pub scope: InstrumentationScope,
}

impl Tracing {
    /// Puts a span in the queue, if there is room.
    pub fn put(&self, span: SpanData) {
        if self.queue.try_send(span).is_err() {
            self.dropped.inc();
        }
    }
}

impl Tracer {
    /// Traces events that say so, and `share` of the others, from 0 to 1. Spans go into `queue`; those that find no room are
    /// counted.
    pub fn new(share: f64, queue: mpsc::Sender<SpanData>, dropped: IntCounter) -> Self {
        let scope = InstrumentationScope::builder("turnstile").with_version(env!("CARGO_PKG_VERSION")).build();
        let threshold = (share.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        Tracer(Some(Arc::new(Tracing { threshold, queue, dropped, scope })))
    }

    /// An event has come in through a source.
    pub fn receive(&self, event: &Event, source: &str) -> Option<Reception> {
        let tracing = self.0.as_ref()?;
        let root = tracing.root(&event.source, &event.id, || TraceContext::of(event))?;
        let attributes = vec![
            KeyValue::new("turnstile.source", source.to_owned()),
            KeyValue::new("cloudevents.event_id", event.id.to_string()),
            KeyValue::new("cloudevents.event_source", event.source.to_string()),
            KeyValue::new("cloudevents.event_type", event.kind.to_string()),
        ];
        let name = format!("receive {}", event.kind);
        Some(Reception::new(Span::begin(tracing, &root, random(), SpanKind::Consumer, name.into(), attributes)))
    }

    /// An entity is given one of its own decisions as an event.
    pub fn decide_again(&self, event: &PackedEvent, entity: &EntityKey) -> Option<Deciding> {
        let tracing = self.0.as_ref()?;
        let root = tracing.root(&event.source, &event.id, || TraceContext::of_packed(event))?;
        Some(Deciding::new(tracing, &root, None, entity))
    }

    /// Where what follows from a record belongs: below the span in which it was decided; if it is not traced here, where
    /// its event said.
    pub fn released(&self, record: &Record) -> Option<TraceContext> {
        let Some(tracing) = &self.0 else { return TraceContext::of_record(record) };
        let input = record.input.event()?;
        let carried = TraceContext::of_packed(&input.event);
        let traced = tracing.root(&input.event.source, &input.event.id, || carried.clone());
        let decided = |root: Root| root.context.at(decided_in(&root.context.trace, &record.entity, record.version));
        traced.map(decided).or(carried)
    }

    /// One way out of what follows from a record, `to` somewhere.
    pub fn leg(&self, below: &TraceContext, name: impl Into<Cow<'static, str>>, attributes: Vec<KeyValue>) -> Leg {
        let Some(tracing) = self.0.as_ref().filter(|_| below.is_sampled()) else { return Leg::untraced(below) };
        let root = Root { context: below.clone(), parent: Some(below.span), is_remote: false };
        Leg::new(Span::begin(tracing, &root, random(), SpanKind::Producer, name.into(), attributes))
    }
}

/// Where a trace is entered.
pub(super) struct Root {
    pub context: TraceContext,
    pub parent: Option<[u8; 8]>,
    /// Whether the parent is somebody else's.
    pub is_remote: bool,
}

impl Tracing {
    /// Where the event of this identity enters its trace; none if it is not traced.
    fn root(&self, source: &str, id: &str, carried: impl FnOnce() -> Option<TraceContext>) -> Option<Root> {
        if let Some(context) = carried() {
            let parent = Some(context.span);
            return context.is_sampled().then_some(Root { context, parent, is_remote: true });
        }
        if self.threshold == 0 {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(source.as_bytes()).update(&[0]).update(id.as_bytes());
        let hash = hasher.finalize();
        let (trace, rest) = split::<16>(hash.as_bytes());
        let (drawn, _) = split::<8>(rest);
        let context = TraceContext { trace, span: [0; 8], flags: 1, state: None };
        (u64::from_be_bytes(drawn) <= self.threshold).then_some(Root { context, parent: None, is_remote: false })
    }
}

/// The span in which an entity made its record of this version.
pub(super) fn decided_in(trace: &[u8; 16], entity: &EntityKey, version: Version) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(trace).update(entity.kind().as_bytes()).update(&[0]).update(entity.key().as_bytes());
    hasher.update(&[0]).update(&version.0.to_be_bytes());
    split::<8>(hasher.finalize().as_bytes()).0
}

/// An id that nobody has to find again.
pub(super) fn random() -> [u8; 8] {
    rand::random::<u64>().max(1).to_be_bytes()
}

pub(super) fn now() -> SystemTime {
    SystemTime::now()
}

fn split<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    let (first, rest) = bytes.split_first_chunk::<N>().expect("a hash has 32 bytes");
    (*first, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::TimeGiven;
    use crate::model::record::Input;
    use crate::model::time::Timestamp;
    use crate::model::trace::TRACEPARENT;
    use crate::model::value::{Map, Value};

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const NOT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    fn event(id: &str, parent: Option<&str>) -> Event {
        let mut extensions = Map::default();
        if let Some(parent) = parent {
            extensions.insert(TRACEPARENT, Value::string(parent));
        }
        let time = Timestamp::parse("2026-11-20T10:00:00Z").unwrap();
        let (subject, data) = (None, None);
        Event {
            source: "s".into(),
            id: id.into(),
            kind: "Paid".into(),
            time,
            time_given: TimeGiven::BySender,
            subject,
            data,
            extensions,
        }
    }

    fn tracer(share: f64) -> (Tracer, mpsc::Receiver<SpanData>) {
        let (queue, spans) = mpsc::channel(1);
        (Tracer::new(share, queue, IntCounter::new("dropped", "x").unwrap()), spans)
    }

    /// If this failed, traces that nobody asked for would be recorded, or some that were asked for would not.
    #[test]
    fn a_trace_is_recorded_if_it_says_so_and_else_by_its_share() {
        let is_traced = |tracer: &Tracer, event: &Event| tracer.receive(event, "tcp").is_some();
        let (none, _spans) = tracer(0.0);
        let (all, _more) = tracer(1.0);
        for (parent, of_none, of_all) in [(Some(SAMPLED), true, true), (Some(NOT), false, false), (None, false, true)] {
            let event = event("e", parent);
            assert_eq!((is_traced(&none, &event), is_traced(&all, &event)), (of_none, of_all), "{parent:?}");
            assert!(!is_traced(&Tracer::default(), &event));
        }
        let (some, _rest) = tracer(0.25);
        let traced = (0..1000).filter(|n| is_traced(&some, &event(&n.to_string(), None))).count();
        assert!((200..300).contains(&traced), "{traced} of 1,000");
    }

    /// If this failed, a collector that does not answer would hold up events.
    #[test]
    fn a_span_that_finds_no_room_is_counted_and_forgotten() {
        let (queue, mut spans) = mpsc::channel(1);
        let dropped = IntCounter::new("dropped", "x").unwrap();
        let tracer = Tracer::new(1.0, queue, dropped.clone());
        for _ in 0..3 {
            drop(tracer.receive(&event("e", None), "tcp"));
        }
        assert_eq!(dropped.get(), 2);
        assert!(spans.try_recv().is_ok() && spans.try_recv().is_err());
    }

    /// If this failed, what a sink says of a decision would hang below a span that nobody has ever sent.
    #[test]
    fn a_sink_finds_the_span_of_the_decision_from_the_record_alone() {
        let (tracer, mut spans) = tracer(0.0);
        let entity = EntityKey::new("order", "o1");
        let event = event("e", Some(SAMPLED)).packed();
        let input = crate::model::record::EventInput {
            event: event.clone(),
            payload: crate::model::ids::PayloadHash(1),
            id: None,
            time: None,
            hops: 0,
            sequence: None,
        };
        let now = Timestamp::parse("2026-11-20T10:00:00Z").unwrap();
        let record = Record::of_input(entity.clone(), Version(7), now, Input::Event(input));
        let found = tracer.released(&record).unwrap();
        drop(tracer.decide_again(&event, &entity).unwrap().recorded(Version(7), "merged"));
        let decided = spans.try_recv().unwrap();
        assert_eq!(decided.span_context.span_id().to_bytes(), found.span);
        assert_eq!(decided.parent_span_id.to_string(), "00f067aa0ba902b7");
        let other = Record { version: Version(8), ..record };
        assert_ne!(tracer.released(&other).unwrap().span, found.span);
        assert_eq!(Tracer::default().released(&other).unwrap().to_string(), SAMPLED, "off, it is passed on");
    }
}
