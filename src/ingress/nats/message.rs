//! A message as NATS delivers it, and the event in it.

use std::str::FromStr;

use async_nats::header::{HeaderMap, HeaderName, HeaderValue, NATS_MESSAGE_ID};
use async_nats::{Message, Subject};
use bytes::Bytes;

use crate::ingress::decode::{Decoder, Given, attributes, given_event};
use crate::ingress::http::{Head, binary};
use crate::model::event::Event;
use crate::model::ids::EntityKey;
use crate::model::refusal::Refusal;
use crate::model::time::Timestamp;
use crate::model::trace::TraceContext;
use crate::model::value::{Map, Value};

const CONTENT_TYPE: &str = "content-type";
const STRUCTURED: &str = "application/cloudevents+json";
/// Begins the headers of a message on the wire.
const HEADERS_BEGIN: &str = "NATS/1.0\r\n";

/// The position of messages that no stream numbers begins so.
const CORE: &str = "core";

/// A message that was received.
pub struct Received {
    pub subject: Subject,
    headers: Option<HeaderMap>,
    payload: Bytes,
    pub place: Place,
    /// The id of the event in it, once that was read.
    pub event_id: Option<Box<str>>,
}

/// Where it came from, and who hears what becomes of it.
pub enum Place {
    /// A stream, which is told over `reply`.
    Stream { stream: Box<str>, sequence: u64, reply: Subject },
    /// Somebody who waits for an answer, for which the entities are kept that took it.
    Request { reply: Subject, entities: Vec<EntityKey> },
    /// Whoever published it is gone.
    Nobody,
}

impl Received {
    /// A message of a stream, and how many are behind it; none if its reply subject is not that of a stream.
    pub fn of_stream(message: Message) -> Option<(Received, u64)> {
        let reply = message.reply.clone()?;
        let (stream, sequence, pending) = parse_reply(&reply)?;
        let place = Place::Stream { stream: stream.into(), sequence, reply };
        Some((Received::new(message, place), pending))
    }

    /// A message as it was published.
    pub fn live(message: Message) -> Received {
        let place = match message.reply.clone() {
            Some(reply) => Place::Request { reply, entities: Vec::new() },
            None => Place::Nobody,
        };
        Received::new(message, place)
    }

    fn new(message: Message, place: Place) -> Received {
        let Message { subject, headers, payload, .. } = message;
        let headers = headers.filter(|headers| !headers.is_empty());
        Received { subject, headers, payload, place, event_id: None }
    }

    /// A message as a dead letter keeps it, at its position, of which nobody is told again.
    pub fn again(position: &str, subject: &str, raw: &[u8]) -> Received {
        let of_stream = position.rsplit_once(':').filter(|(stream, _)| *stream != CORE);
        let place = match of_stream.and_then(|(stream, sequence)| Some((stream, sequence.parse().ok()?))) {
            Some((stream, sequence)) => Place::Stream { stream: stream.into(), sequence, reply: Subject::from("") },
            None => Place::Nobody,
        };
        let (headers, payload) = split(raw).map_or((None, raw), |(headers, payload)| (Some(headers), payload));
        let payload = Bytes::copy_from_slice(payload);
        Received { subject: Subject::from(subject), headers, payload, place, event_id: None }
    }

    /// What it takes in memory, about.
    pub fn len(&self) -> usize {
        let of_header = |(name, values): (&async_nats::HeaderName, &Vec<async_nats::HeaderValue>)| {
            let name: &str = name.as_ref();
            values.iter().map(|value| name.len() + value.as_str().len() + 4).sum::<usize>()
        };
        self.payload.len() + self.headers.iter().flat_map(HeaderMap::iter).map(of_header).sum::<usize>()
    }

    /// The event in it: CloudEvents in binary mode by its headers, in structured mode by its content type or where there is
    /// no mapping, else by the mapping.
    pub fn event(&self, decoder: &Decoder, now: Timestamp) -> Result<Event, Refusal> {
        if self.headers.is_none() {
            return decoder.decode_given(&self.payload, self, now);
        }
        let lower: Vec<_> = self.pairs().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        let mut event = self.event_beside(&lower, decoder, now)?;
        event.belongs(TraceContext::of_headers(lower.iter().map(|(name, value)| (name.as_str(), *value))).as_ref());
        Ok(event)
    }

    /// The same, with these headers in lower case.
    fn event_beside(&self, lower: &[(String, &str)], decoder: &Decoder, now: Timestamp) -> Result<Event, Refusal> {
        let given_type = lower.iter().find(|(name, _)| name == CONTENT_TYPE).map_or("", |(_, value)| value);
        let content_type = given_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if lower.iter().any(|(name, _)| matches!(name.as_str(), "ce-id" | "ce-type")) {
            let headers = lower.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            let members =
                binary(decoder, &Head { content_type: &content_type, headers }, &content_type, &self.payload)?;
            return given_event(members, self, now);
        }
        if content_type == STRUCTURED {
            return given_event(attributes(decoder.parse(&self.payload)?)?, self, now);
        }
        decoder.decode_given(&self.payload, self, now)
    }

    /// Headers with their first values.
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().flat_map(HeaderMap::iter).filter_map(|(name, values)| {
            let name: &str = name.as_ref();
            Some((name, values.first()?.as_str()))
        })
    }

    /// What it is called among dead letters: always the same for the same message.
    pub fn position(&self) -> String {
        match &self.place {
            Place::Stream { stream, sequence, .. } => format!("{stream}:{sequence}"),
            Place::Request { .. } | Place::Nobody => {
                let mut hasher = blake3::Hasher::new();
                hasher.update(self.subject.as_bytes()).update(b"\n").update(&self.raw());
                format!("{CORE}:{:.32}", hasher.finalize().to_hex())
            }
        }
    }

    /// Its bytes; with headers, as they were on the wire, but for the headers' order.
    pub fn raw(&self) -> Vec<u8> {
        let Some(headers) = &self.headers else { return self.payload.to_vec() };
        let mut lines: Vec<String> = Vec::new();
        for (name, values) in headers.iter() {
            let name: &str = name.as_ref();
            lines.extend(values.iter().map(|value| format!("{name}: {}\r\n", value.as_str())));
        }
        lines.sort_unstable();
        [HEADERS_BEGIN.as_bytes(), lines.concat().as_bytes(), b"\r\n", &self.payload].concat()
    }
}

impl Given for Received {
    fn id(&self) -> Option<Box<str>> {
        let given = self.headers.as_ref().and_then(|headers| headers.get(NATS_MESSAGE_ID));
        match given.map(async_nats::HeaderValue::as_str) {
            Some(id) if !id.is_empty() => Some(id.into()),
            _ => matches!(self.place, Place::Stream { .. }).then(|| self.position().into()),
        }
    }

    fn meta(&self) -> Value {
        let text = |text: &str| Value::string(text);
        let tokens = self.subject.split('.').map(text).collect();
        let headers: Map = self.pairs().map(|(name, value)| (name.into(), text(value))).collect();
        let members =
            [("subject", text(&self.subject)), ("tokens", Value::List(tokens)), ("headers", Value::Map(headers))];
        Value::Map(members.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }
}

/// Headers and payload of what [`Received::raw`] wrote; none if it had no headers.
fn split(raw: &[u8]) -> Option<(HeaderMap, &[u8])> {
    let rest = raw.strip_prefix(HEADERS_BEGIN.as_bytes())?;
    let end = memchr::memmem::find(rest, b"\r\n\r\n")?;
    let mut headers = HeaderMap::new();
    for line in std::str::from_utf8(&rest[..end]).ok()?.split("\r\n") {
        let (name, value) = line.split_once(": ")?;
        headers.append(HeaderName::from_str(name).ok()?, HeaderValue::from_str(value).ok()?);
    }
    Some((headers, &rest[end + 4..]))
}

/// Stream, sequence, and how many messages are behind it, out of `$JS.ACK.…` in either of its forms.
fn parse_reply(reply: &str) -> Option<(&str, u64, u64)> {
    let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    // Since some version a domain and an account stand before the stream.
    let of_stream = match tokens.len() {
        7 => &tokens[..],
        9.. => &tokens[2..],
        _ => return None,
    };
    Some((of_stream[0], of_stream[3].parse().ok()?, of_stream[6].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::refusal::Code;

    fn message(reply: Option<&str>, headers: &[(&str, &str)], payload: &[u8]) -> Message {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, *value);
        }
        Message {
            subject: "orders.Priced.north".into(),
            reply: reply.map(Subject::from),
            payload: Bytes::copy_from_slice(payload),
            headers: Some(map),
            status: None,
            description: None,
            length: 0,
        }
    }

    const ACK: &str = "$JS.ACK.ORDERS.turnstile.1.7.3.1700000000.42";

    /// If this failed, messages of some servers would be passed over, or be mixed up with others.
    #[test]
    fn a_message_of_a_stream_is_known_by_its_reply_subject() {
        for (reply, expected) in [
            (ACK, Some(("ORDERS:7", 42))),
            ("$JS.ACK.hub.ACCOUNT.ORDERS.turnstile.1.7.3.1700000000.42", Some(("ORDERS:7", 42))),
            (
                "$JS.ACK._.ACCOUNT.ORDERS.turnstile.1.18446744073709551615.3.17.0.token",
                Some(("ORDERS:18446744073709551615", 0)),
            ),
            ("$JS.ACK.ORDERS.turnstile.1.7.3.1700000000", None),
            ("$JS.ACK.ORDERS.turnstile.1.seven.3.1700000000.42", None),
            ("_INBOX.a.b", None),
        ] {
            let received = Received::of_stream(message(Some(reply), &[], b""));
            let found = received.map(|(message, behind)| (message.position(), behind));
            assert_eq!(found, expected.map(|(position, behind)| (position.to_owned(), behind)), "{reply}");
        }
        assert!(Received::of_stream(message(None, &[], b"")).is_none());
    }

    /// If this failed, a message would be read as something that its sender did not say.
    #[test]
    fn the_event_is_where_the_headers_say() {
        let structured = br#"{"id":"own","type":"S","data":1}"#;
        let typed = ("Content-Type", "Application/CloudEvents+JSON; charset=utf-8");
        for (headers, payload, expected) in [
            (&[][..], &structured[..], Ok(("own", "S"))),
            (&[], br#"{"type":"S","id":null}"#, Ok(("ORDERS:7", "S"))),
            (&[("Nats-Msg-Id", "m")], br#"{"type":"S","id":""}"#, Ok(("m", "S"))),
            (&[("Nats-Msg-Id", "m"), typed], structured, Ok(("own", "S"))),
            (&[("CE-Type", "B"), ("Nats-Msg-Id", "m"), ("Content-Type", "text/plain")], b"not JSON", Ok(("m", "B"))),
            (&[("ce-type", "B"), ("ce-id", "b")], b"", Ok(("b", "B"))),
            (&[("ce-type", "B"), ("content-type", "application/json")], b"not JSON", Err(Code::InvalidJson)),
            (&[("ce-id", "b")], structured, Err(Code::MissingType)),
            (&[typed], b"[]", Err(Code::MissingId)),
            (&[], b"", Err(Code::InvalidJson)),
        ] {
            let (received, _) = Received::of_stream(message(Some(ACK), headers, payload)).unwrap();
            let event = received.event(&Decoder::new(None, 1000, 8), Timestamp::default());
            let found = event.as_ref().map(|event| (&*event.id, &*event.kind)).map_err(|refusal| refusal.code);
            assert_eq!(found, expected, "{headers:?}");
        }
    }

    /// If this failed, dead letters would not hold what came, or those that nobody numbers would be taken for one.
    #[test]
    fn bytes_and_places_are_those_of_the_message() {
        let live = |headers: &[(&str, &str)], payload| Received::live(message(None, headers, payload));
        assert_eq!(live(&[], b"{}").raw(), b"{}");
        let with_headers = live(&[("B", "2"), ("A", "1")], b"{}");
        assert_eq!(with_headers.raw(), b"NATS/1.0\r\nA: 1\r\nB: 2\r\n\r\n{}");
        for (headers, payload) in
            [(&[][..], &b"{}"[..]), (&[("B", "2: 3"), ("a", "1"), ("a", "x")], b"\r\n\r\n"), (&[("E", "")], b"")]
        {
            let (first, _) = Received::of_stream(message(Some(ACK), headers, payload)).unwrap();
            let again = Received::again(&first.position(), &first.subject, &first.raw());
            assert_eq!((again.raw(), again.id(), again.position()), (first.raw(), first.id(), first.position()));
            assert_eq!((again.meta(), &again.payload), (first.meta(), &first.payload));
        }
        assert_eq!(Received::again("core:abc", "s", b"{}").id(), None);
        let places = [with_headers.position(), live(&[], b"{}").position(), live(&[], b"{} ").position()];
        assert!(places[0] != places[1] && places[1] != places[2], "{places:?}");
        assert_eq!(places[1], live(&[], b"{}").position());
        assert!(live(&[], b"{}").id().is_none(), "what is published twice may be meant twice");
    }
}
