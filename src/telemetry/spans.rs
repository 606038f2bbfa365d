//! The steps of an event, each a span that is sent when it ends: received, decided, committed, and each way out.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::tracer::{Root, Tracing, decided_in, now, random};
use crate::model::ids::{EntityKey, Lsn, Version};
use crate::model::trace::TraceContext;

/// A span that has begun.
pub(super) struct Span {
    tracing: Arc<Tracing>,
    context: TraceContext,
    parent: Option<[u8; 8]>,
    is_remote: bool,
    kind: SpanKind,
    name: Cow<'static, str>,
    begun: SystemTime,
    attributes: Vec<KeyValue>,
}

impl Span {
    /// Begins now.
    pub fn begin(
        tracing: &Arc<Tracing>,
        root: &Root,
        id: [u8; 8],
        kind: SpanKind,
        name: Cow<'static, str>,
        attributes: Vec<KeyValue>,
    ) -> Self {
        let context = root.context.at(id);
        let (parent, is_remote) = (root.parent, root.is_remote);
        Span { tracing: tracing.clone(), context, parent, is_remote, kind, name, begun: now(), attributes }
    }

    fn note(&mut self, key: &'static str, value: impl Into<Value>) {
        self.attributes.push(KeyValue::new(key, value));
    }

    /// Ends now.
    fn end(self, status: Status) {
        let context = &self.context;
        let state = context.state.as_deref().map(TraceState::from_str).and_then(Result::ok).unwrap_or_default();
        let (trace, span) = (TraceId::from_bytes(context.trace), SpanId::from_bytes(context.span));
        let data = SpanData {
            span_context: SpanContext::new(trace, span, TraceFlags::SAMPLED, false, state),
            parent_span_id: self.parent.map_or(SpanId::INVALID, SpanId::from_bytes),
            parent_span_is_remote: self.is_remote,
            span_kind: self.kind,
            name: self.name,
            start_time: self.begun,
            end_time: now(),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: self.tracing.scope.clone(),
        };
        self.tracing.put(data);
    }
}

/// An event on its way in: from its admission until all its takers are done with it, which is when the last one lets go of
/// this.
pub struct Reception {
    span: Option<Span>,
    refused: Status,
}

impl Reception {
    pub(super) fn new(span: Span) -> Self {
        Reception { span: Some(span), refused: Status::Unset }
    }

    /// Nobody takes it.
    pub fn refused(mut self, code: &'static str) {
        self.refused = Status::error(code);
    }

    /// One of its takers begins to decide.
    pub fn decide(self: Arc<Self>, entity: &EntityKey) -> Option<Deciding> {
        let span = self.span.as_ref()?;
        let root = Root { context: span.context.clone(), parent: Some(span.context.span), is_remote: false };
        Some(Deciding::new(&span.tracing, &root, Some(self.clone()), entity))
    }
}

impl Drop for Reception {
    fn drop(&mut self) {
        if let Some(span) = self.span.take() {
            span.end(std::mem::take(&mut self.refused));
        }
    }
}

/// An entity that decides.
pub struct Deciding {
    span: Span,
    entity: EntityKey,
    /// Held until the record is durable.
    receiving: Option<Arc<Reception>>,
}

impl Deciding {
    pub(super) fn new(
        tracing: &Arc<Tracing>,
        root: &Root,
        receiving: Option<Arc<Reception>>,
        entity: &EntityKey,
    ) -> Self {
        let attributes = vec![
            KeyValue::new("turnstile.type", entity.kind().to_owned()),
            KeyValue::new("turnstile.key", entity.key().to_owned()),
        ];
        let name = format!("decide {}", entity.kind());
        let span = Span::begin(tracing, root, random(), SpanKind::Internal, name.into(), attributes);
        Deciding { span, entity: entity.clone(), receiving }
    }

    /// There is a record, which goes to the journal now.
    pub fn recorded(mut self, version: Version, outcome: &'static str) -> Committing {
        self.span.note("turnstile.outcome", outcome);
        self.span.note("turnstile.version", i64::try_from(version.0).unwrap_or(i64::MAX));
        // What follows from the record is found below this one, by whoever reads it.
        self.span.context.span = decided_in(&self.span.context.trace, &self.entity, version);
        let tracing = self.span.tracing.clone();
        let parent = Some(self.span.context.span);
        let root = Root { context: self.span.context.clone(), parent, is_remote: false };
        self.span.end(Status::Unset);
        let commit = Span::begin(&tracing, &root, random(), SpanKind::Internal, "commit".into(), Vec::new());
        Committing { commit, _receiving: self.receiving }
    }

    /// Nothing is recorded.
    pub fn ended(mut self, outcome: &'static str) {
        self.span.note("turnstile.outcome", outcome);
        let status = if outcome == "duplicate" { Status::Unset } else { Status::error(outcome) };
        self.span.end(status);
    }
}

/// A record on its way through the journal.
pub struct Committing {
    commit: Span,
    _receiving: Option<Arc<Reception>>,
}

impl Committing {
    /// It is durable.
    pub fn committed(mut self, lsn: Lsn) {
        self.commit.note("turnstile.lsn", i64::try_from(lsn.0).unwrap_or(i64::MAX));
        self.commit.end(Status::Unset);
    }
}

/// Something that leaves: a delivery to a sink, the call of an effect.
pub struct Leg {
    span: Option<Span>,
    carried: TraceContext,
}

impl Leg {
    pub(super) fn new(span: Span) -> Self {
        Leg { carried: span.context.clone(), span: Some(span) }
    }

    pub(super) fn untraced(carried: &TraceContext) -> Self {
        Leg { span: None, carried: carried.clone() }
    }

    /// What the receiver is told of the trace.
    pub fn carried(&self) -> &TraceContext {
        &self.carried
    }

    /// Whether there is anything to be said of it.
    pub fn is_recorded(&self) -> bool {
        self.span.is_some()
    }

    /// Says more of it.
    pub fn note(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.span {
            span.note(key, value);
        }
    }

    /// It has arrived.
    pub fn arrived(self) {
        if let Some(span) = self.span {
            span.end(Status::Unset);
        }
    }

    /// It has not, for this reason.
    pub fn failed(self, why: &str) {
        if let Some(span) = self.span {
            span.end(Status::error(why.to_owned()));
        }
    }
}
