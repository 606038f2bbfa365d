//! The source `http`: what a request to post events holds, and their way through admission.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::admission::{Admission, Patience, SourceMetrics};
use super::credits::Need;
use super::decode::{Decoder, cloud_event};
use crate::model::event::Event;
use crate::model::ids::EntityKey;
use crate::model::json;
use crate::model::refusal::{Code, Refusal};
use crate::model::settle::{Acknowledge, EventOutcome, Outcomes};
use crate::model::time::Timestamp;
use crate::model::trace::TraceContext;
use crate::model::value::{Map, Value};

/// How long a request waits for other events to be settled before it is told to come back.
pub const BUSY_PATIENCE: Duration = Duration::from_secs(2);
const HEADER_PREFIX: &str = "ce-";

/// The events of a request, each with the line (or place in the batch) it has, counted from 1.
pub struct Request {
    pub events: Vec<(u64, Result<Event, Refusal>)>,
    /// Whether the request could hold several events.
    pub is_batch: bool,
}

/// What a request says besides its body.
pub struct Head<'a> {
    pub content_type: &'a str,
    /// Header names in lower case, with their values.
    pub headers: Vec<(&'a str, &'a str)>,
}

/// Reads the events of a request.
///
/// # Errors
/// When the body as a whole cannot be read.
pub fn read(
    decoder: &Decoder,
    head: &Head<'_>,
    body: &[u8],
    events_max: usize,
    now: Timestamp,
) -> Result<Request, Refusal> {
    let mut request = read_events(decoder, head, body, events_max, now)?;
    // Of several events, which of them the sender was at work on is not known.
    if let [(_, Ok(event))] = &mut request.events[..] {
        event.belongs(TraceContext::of_headers(head.headers.iter().copied()).as_ref());
    }
    Ok(request)
}

fn read_events(
    decoder: &Decoder,
    head: &Head<'_>,
    body: &[u8],
    events_max: usize,
    now: Timestamp,
) -> Result<Request, Refusal> {
    let content_type = head.content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if head.headers.iter().any(|(name, _)| matches!(*name, "ce-id" | "ce-type")) {
        let event = binary(decoder, head, &content_type, body).and_then(|members| cloud_event(members, now));
        return Ok(Request { events: vec![(1, event)], is_batch: false });
    }
    match content_type.as_str() {
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/json-lines" => {
            lines(decoder, body, events_max, now)
        }
        "application/cloudevents-batch+json" => batch(decoder, body, events_max, now),
        "application/json" | "application/cloudevents+json" => document(decoder, body, events_max, now),
        // Senders that do not say: lines if the first line is a document of its own and others follow.
        _ if is_lines(decoder, body) => lines(decoder, body, events_max, now),
        _ => document(decoder, body, events_max, now),
    }
}

fn is_lines(decoder: &Decoder, body: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b'\n', body) else { return false };
    body[end..].iter().any(|byte| !byte.is_ascii_whitespace()) && decoder.parse(&body[..end]).is_ok()
}

fn is_list(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'[')
}

fn document(decoder: &Decoder, body: &[u8], events_max: usize, now: Timestamp) -> Result<Request, Refusal> {
    if is_list(body) {
        return batch(decoder, body, events_max, now);
    }
    Ok(Request { events: vec![(1, decoder.decode(body, now))], is_batch: false })
}

/// The elements are cut out unread and decoded one by one: a large list parsed as a whole takes many times its bytes.
fn batch(decoder: &Decoder, body: &[u8], events_max: usize, now: Timestamp) -> Result<Request, Refusal> {
    if !is_list(body) {
        return Err(Refusal::new(Code::InvalidJson, "a batch of CloudEvents is a JSON array"));
    }
    let items = json::elements(body, events_max)?.ok_or_else(|| too_many(events_max))?;
    Ok(several(decoder, items, now))
}

fn lines(decoder: &Decoder, body: &[u8], events_max: usize, now: Timestamp) -> Result<Request, Refusal> {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace));
    let lines: Vec<&[u8]> = lines.take(events_max.saturating_add(1)).collect();
    if lines.len() > events_max { Err(too_many(events_max)) } else { Ok(several(decoder, lines, now)) }
}

fn several(decoder: &Decoder, texts: Vec<&[u8]>, now: Timestamp) -> Request {
    let events = (1..).zip(texts).map(|(line, text)| (line, decoder.decode(text, now))).collect();
    Request { events, is_batch: true }
}

fn too_many(events_max: usize) -> Refusal {
    let why = format!("the request has more than limits.http_events_max = {events_max} events; send it in parts");
    Refusal::new(Code::TooLarge, why)
}

/// Binary mode: attributes in `ce-` headers, the data in the body. `content_type` is without parameters, in lower case.
pub(super) fn binary(decoder: &Decoder, head: &Head<'_>, content_type: &str, body: &[u8]) -> Result<Map, Refusal> {
    let mut members = Map::default();
    for (name, value) in &head.headers {
        let Some(attribute) = name.strip_prefix(HEADER_PREFIX) else { continue };
        let text = percent_encoding::percent_decode_str(value).decode_utf8();
        let text = text.map_err(|_| Refusal::new(Code::InvalidValue, format!("header {name} is not UTF-8")))?;
        members.insert(attribute, Value::string(&*text));
    }
    if !body.is_empty() {
        members.insert("datacontenttype", Value::string(content_type));
        let data = if content_type.is_empty() || content_type == "application/json" || content_type.ends_with("+json") {
            decoder.parse(body)?
        } else if body.len() > decoder.event_bytes_max() {
            return Err(decoder.too_large());
        } else if let Ok(text) = std::str::from_utf8(body) {
            Value::string(text)
        } else {
            use base64::Engine as _;
            Value::string(base64::engine::general_purpose::STANDARD.encode(body))
        };
        members.insert("data", data);
    }
    Ok(members)
}

/// What became of a request's events.
pub struct Posted {
    /// By line.
    pub outcomes: Vec<(u64, EventOutcome)>,
    /// The entities that took any of them, in order, each once.
    pub entities: Vec<EntityKey>,
}

/// Brings events to their entities and waits until all are settled.
pub async fn post(
    admission: &Arc<Admission>,
    source: &SourceMetrics,
    request: Request,
    bytes: usize,
    patience: Patience,
) -> Posted {
    let count = request.events.len();
    let collector =
        Arc::new(Collector { admission: admission.clone(), events: Mutex::default(), settled: Notify::new() });
    let sender: Arc<dyn Acknowledge> = collector.clone();
    let mut entities = Vec::new();
    let now = Timestamp::now();
    let started = Instant::now();
    let bytes_each = bytes.div_ceil(count.max(1)) as u64;
    let mut deliveries = Vec::new();
    for (line, event) in request.events {
        let takers = event.and_then(|event| admission.admit(event, now, source));
        let admitted = match takers {
            Ok(takers) => {
                let need = admission.credits.need(takers.len() as u64, bytes_each);
                if admission.gate.is_open() && admission.credits.try_take(need) {
                    Ok((takers, need))
                } else {
                    // What was admitted before must be on its way, or its credits would never come back.
                    admission.deliver(&mut deliveries);
                    admission.wait(need, patience).await.map(|()| (takers, need))
                }
            }
            Err(refusal) => Err(refusal),
        };
        match admitted {
            Ok((takers, need)) => {
                entities.extend(takers.iter().map(|taken| taken.entity.clone()));
                collector.events().needs.insert(line, need);
                admission.send(&sender, line, takers, &mut deliveries);
            }
            Err(refusal) => sender.settled(vec![(line, EventOutcome::Refused(refusal))]),
        }
    }
    admission.deliver(&mut deliveries);
    while collector.events().outcomes.len() < count {
        collector.settled.notified().await;
    }
    entities.sort();
    entities.dedup();
    let mut outcomes = std::mem::take(&mut collector.events().outcomes);
    outcomes.sort_by_key(|(line, _)| *line);
    for (_, outcome) in &outcomes {
        match outcome {
            EventOutcome::Refused(refusal) => source.refused(&admission.metrics, refusal.code),
            _ => source.accepted.inc(),
        }
        admission.metrics.ack_duration.observe(started.elapsed().as_secs_f64());
    }
    Posted { outcomes, entities }
}

/// Collects what becomes of a request's events; gives back their credits even if the request itself was given up.
struct Collector {
    admission: Arc<Admission>,
    events: Mutex<Events>,
    settled: Notify,
}

#[derive(Default)]
struct Events {
    needs: HashMap<u64, Need>,
    outcomes: Vec<(u64, EventOutcome)>,
}

impl Collector {
    fn events(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Acknowledge for Collector {
    fn settled(&self, outcomes: Outcomes) {
        let mut events = self.events();
        for (line, outcome) in outcomes {
            events.outcomes.push((line, outcome));
            if let Some(need) = events.needs.remove(&line) {
                self.admission.credits.give_back(need);
            }
        }
        drop(events);
        self.settled.notify_one();
    }
}
