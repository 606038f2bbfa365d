//! `[sink.*]` of kind `nats`.

use super::diagnostics::Located;
use super::nats::NatsConnection;
use super::reader::Section;

/// How many sends of different keys may be under way, unless said otherwise.
pub const NATS_WINDOW_DEFAULT: u64 = 256;
const SUBJECT_HELP: &str = "write it like \"orders.{decision}.{key}\"; there are {entity}, {key} and {decision}";

/// Decisions as messages.
#[derive(Clone, Debug)]
pub struct NatsSink {
    pub connection: NatsConnection,
    pub subject: Vec<SubjectPart>,
    pub delivery: NatsDelivery,
    /// How many keys' decisions may be under way.
    pub window: usize,
}

/// A part of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectPart {
    Text(String),
    Entity,
    Key,
    Decision,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatsDelivery {
    /// A stream's acknowledgement.
    JetStream,
    /// Nothing: whoever listens gets it, at most once.
    Core,
}

pub(super) const DELIVERIES: [(&str, NatsDelivery); 2] =
    [("jetstream", NatsDelivery::JetStream), ("core", NatsDelivery::Core)];

const PLACES: [(&str, SubjectPart); 3] =
    [("{entity}", SubjectPart::Entity), ("{key}", SubjectPart::Key), ("{decision}", SubjectPart::Decision)];

impl NatsSink {
    pub(super) fn read(section: &mut Section) -> Option<NatsSink> {
        let connection = NatsConnection::read(section);
        let subject = section.required_string("subject", SUBJECT_HELP);
        let subject = subject.and_then(|subject| read_subject(section, &subject));
        let delivery = section.choice("delivery", &DELIVERIES).map_or(NatsDelivery::JetStream, |found| found.value);
        let window = section.integer("window", 1..=4096).unwrap_or(NATS_WINDOW_DEFAULT) as usize;
        Some(NatsSink { connection, subject: subject?, delivery, window })
    }
}

/// Splits a template into its parts.
fn read_subject(section: &mut Section, template: &Located<String>) -> Option<Vec<SubjectPart>> {
    let mut parts = Vec::new();
    let mut rest = template.as_str();
    while !rest.is_empty() {
        let found = PLACES.iter().find(|(name, _)| rest.starts_with(name));
        if let Some((name, part)) = found {
            parts.push(part.clone());
            rest = &rest[name.len()..];
            continue;
        }
        let end = rest[1..].find('{').map_or(rest.len(), |at| at + 1);
        let text = rest.get(..end).unwrap_or(rest);
        parts.push(SubjectPart::Text(text.to_owned()));
        rest = rest.get(end..).unwrap_or_default();
    }
    let is_text =
        |part: &SubjectPart, wrong: fn(char) -> bool| matches!(part, SubjectPart::Text(text) if text.contains(wrong));
    let wrong = |c: char| !c.is_ascii_graphic() || "*>{}".contains(c);
    let message = if template.split('.').any(str::is_empty) {
        "a part of the subject is empty"
    } else if parts.iter().any(|part| is_text(part, wrong)) {
        "the subject has characters or names that cannot be in it"
    } else if template.starts_with('$') {
        "subjects that begin with `$` belong to the server"
    } else {
        return Some(parts);
    };
    section.cx.out.error(template.at, message).help(SUBJECT_HELP);
    None
}
