//! The sink `nats`: each decision is one message, a CloudEvent in binary mode, to JetStream or to whoever listens.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use async_nats::header::{HeaderMap, NATS_MESSAGE_ID};
use async_nats::jetstream::context::{Context, ContextBuilder, PublishErrorKind};
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;

use super::cloud_event::CONTENT_TYPE;
use super::routing::Delivery;
use super::sends::{Outcome, Sent, Transport};
use crate::config::{NatsDelivery, NatsSink, SubjectPart};
use crate::connect::nats_options;
use crate::model::outgoing::encode;
use crate::model::trace::TraceContext;

/// How long a message or its acknowledgement may be under way.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest subject, in bytes: the server closes connections over longer lines.
const SUBJECT_BYTES_MAX: usize = 3 * 1024;
/// JetStream's code for a message that the stream does not take for its size.
const MESSAGE_TOO_LARGE: u64 = 10_054;

/// The sink.
pub struct Nats(Arc<Shared>);

struct Shared {
    client: Client,
    jetstream: Option<Context>,
    subject: Vec<SubjectPart>,
}

impl Nats {
    /// A sink that connects in the background, now and whenever it has to.
    ///
    /// # Errors
    /// When a file of `declared` cannot be read, or an address is none.
    pub async fn connect(name: &str, declared: &NatsSink, in_flight_max: usize) -> io::Result<Self> {
        let options = nats_options(&format!("sink {name}"), &declared.connection, |_| {})?;
        let client = options.connect(&declared.connection.servers[..]).await.map_err(io::Error::other)?;
        let jetstream = (declared.delivery == NatsDelivery::JetStream).then(|| {
            ContextBuilder::new().timeout(ACK_TIMEOUT).max_ack_inflight(in_flight_max * 2).build(client.clone())
        });
        Ok(Nats(Arc::new(Shared { client, jetstream, subject: declared.subject.clone() })))
    }
}

impl Transport for Nats {
    fn send(&self, delivery: Arc<Delivery>, trace: Option<TraceContext>) -> Sent {
        let shared = self.0.clone();
        Box::pin(async move { shared.send(&delivery, trace.as_ref()).await })
    }
}

impl Shared {
    async fn send(&self, delivery: &Delivery, trace: Option<&TraceContext>) -> Outcome {
        // While there is no connection the client would keep every attempt and send them all later.
        if self.client.connection_state() != State::Connected {
            return failed(&"not connected");
        }
        let subject = subject(&self.subject, delivery);
        if subject.len() > SUBJECT_BYTES_MAX {
            let why = format!("its subject has {} bytes, at most {SUBJECT_BYTES_MAX} are possible", subject.len());
            return Outcome::Never { reason: "too_large", why };
        }
        let headers = headers(delivery, trace);
        let payload = Bytes::copy_from_slice(delivery.event.data().unwrap_or_default());
        match &self.jetstream {
            Some(jetstream) => publish_acknowledged(jetstream, subject, headers, payload).await,
            None => self.publish(subject, headers, payload).await,
        }
    }

    /// Publishes to whoever listens now; done when it has left this machine.
    async fn publish(&self, subject: String, headers: HeaderMap, payload: Bytes) -> Outcome {
        let published = async {
            match self.client.publish_with_headers(subject, headers, payload).await {
                Ok(()) => self.client.flush().await.map_or_else(|error| failed(&error), |()| Outcome::Delivered),
                Err(error) if error.kind() == async_nats::PublishErrorKind::MaxPayloadExceeded => too_large(&error),
                Err(error) => failed(&error),
            }
        };
        tokio::time::timeout(ACK_TIMEOUT, published).await.unwrap_or_else(|_| failed(&"timed out"))
    }
}

async fn publish_acknowledged(jetstream: &Context, subject: String, headers: HeaderMap, payload: Bytes) -> Outcome {
    let acknowledged = async { jetstream.publish_with_headers(subject.clone(), headers, payload).await?.await };
    let Err(error) = acknowledged.await else { return Outcome::Delivered };
    let refused = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<jetstream::Error>());
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => too_large(&error),
        PublishErrorKind::StreamNotFound => failed(&format!("no stream takes {subject}")),
        PublishErrorKind::Other if refused.is_some_and(|error| error.error_code() == ErrorCode(MESSAGE_TOO_LARGE)) => {
            too_large(&error)
        }
        _ => failed(&error),
    }
}

fn failed(why: &dyn std::fmt::Display) -> Outcome {
    Outcome::Failed { why: why.to_string(), pause: None }
}

fn too_large(why: &dyn std::fmt::Display) -> Outcome {
    Outcome::Never { reason: "too_large", why: why.to_string() }
}

/// The subject of a decision: what is put into the template is percent-encoded, so that it stays one token.
fn subject(template: &[SubjectPart], delivery: &Delivery) -> String {
    let mut subject = String::new();
    for part in template {
        match part {
            SubjectPart::Text(text) => subject.push_str(text),
            SubjectPart::Entity => encode(&mut subject, delivery.entity.kind()),
            SubjectPart::Key => encode(&mut subject, delivery.entity.key()),
            SubjectPart::Decision => encode(&mut subject, &delivery.decision),
        }
    }
    subject
}

/// CloudEvents attributes as headers, with those of NATS: the id under which JetStream drops repeats.
fn headers(delivery: &Delivery, trace: Option<&TraceContext>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, delivery.id());
    for (name, value) in delivery.event.attributes() {
        if name == CONTENT_TYPE {
            headers.insert("content-type", &*value);
        } else {
            headers.insert(format!("ce-{name}"), header_value(&value));
        }
    }
    for (name, value) in trace.into_iter().flat_map(TraceContext::headers) {
        headers.insert(name, value);
    }
    headers
}

/// As CloudEvents have it for HTTP and NATS alike: space, `"`, `%` and all that is not printable ASCII percent-encoded.
fn header_value(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'%' => value.push_str(if byte == b'"' { "%22" } else { "%25" }),
            b'!'..=b'~' => value.push(char::from(byte)),
            _ => {
                let digit = |nibble: u8| char::from(b"0123456789ABCDEF"[usize::from(nibble)]);
                value.extend(['%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
    value
}
