//! How a decision leaves: as a CloudEvent with a stable id.

use std::borrow::Cow;

use crate::model::event::Event;
use crate::model::json;
use crate::model::outgoing::{cause_of, decision_id, source};
use crate::model::record::{DecisionRevision, DecisionState, Record};
use crate::model::trace::TraceContext;
use crate::model::value::Value;

/// The version of CloudEvents.
const SPEC_VERSION: &str = "1.0";
/// The attribute that says what `data` is; in JSON, `data` follows it.
pub(super) const CONTENT_TYPE: &str = "datacontenttype";

/// All attributes of a decision but `specversion` and `id`, in the order they are written.
const ATTRIBUTES: [&str; 10] = [
    "source",
    "type",
    "subject",
    "time",
    CONTENT_TYPE,
    "revision",
    "decisionstate",
    "element",
    "causationid",
    "correlationid",
];
/// No decision is deeper.
const DEPTH_MAX: usize = 1_000;

/// The attribute of this name.
fn known(name: &str) -> Option<&'static str> {
    ATTRIBUTES.into_iter().find(|known| *known == name)
}

/// A decision as a CloudEvent: its attributes, in the order they are written, and its `data` as JSON.
#[derive(Clone, Debug)]
pub struct CloudEvent {
    id: String,
    /// All others but `specversion`.
    attributes: Vec<(&'static str, Attribute)>,
    data: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
enum Attribute {
    Text(String),
    Number(u32),
}

impl CloudEvent {
    /// One of a record's decisions.
    pub fn of(server: &str, record: &Record, decision: &DecisionRevision) -> Self {
        let text = |text: &str| Attribute::Text(text.to_owned());
        let mut attributes = vec![
            ("source", Attribute::Text(source(server, &record.entity))),
            ("type", text(&decision.name)),
            ("subject", text(record.entity.key())),
            ("time", Attribute::Text(decision.time.to_string())),
        ];
        let mut data = None;
        if decision.state != DecisionState::Withdrawn {
            attributes.push((CONTENT_TYPE, text("application/json")));
            let mut json = Vec::new();
            json::write(&mut json, &decision.data.unpack());
            data = Some(json);
        }
        attributes.push(("revision", Attribute::Number(decision.revision.0)));
        attributes.push(("decisionstate", text(decision.state.as_str())));
        if let Some(element) = &decision.element {
            attributes.push(("element", text(element)));
        }
        if let Some(cause) = cause_of(record) {
            attributes.push(("causationid", Attribute::Text(cause.into_owned())));
        }
        attributes.push(("correlationid", text(&decision.correlation)));
        // As it came: whoever follows a decision by its content finds the same trace whatever this node records of it.
        let trace = TraceContext::of_record(record);
        attributes
            .extend(trace.iter().flat_map(TraceContext::headers).map(|(name, value)| (name, Attribute::Text(value))));
        CloudEvent { id: decision_id(&record.entity, decision), attributes, data }
    }

    /// An event without extensions.
    pub(super) fn of_event(event: &Event) -> Self {
        let text = |text: &str| Attribute::Text(text.to_owned());
        let mut attributes = vec![("source", text(&event.source)), ("type", text(&event.kind))];
        attributes.extend(event.subject.iter().map(|subject| ("subject", text(subject))));
        attributes.push(("time", Attribute::Text(event.time.to_string())));
        let data = event.data.as_ref().map(|data| {
            attributes.push((CONTENT_TYPE, text("application/json")));
            let mut json = Vec::new();
            json::write(&mut json, data);
            json
        });
        CloudEvent { id: event.id.to_string(), attributes, data }
    }

    /// The event that [`CloudEvent::write`] wrote; none if it did not.
    pub fn read(json: &[u8]) -> Option<Self> {
        let Value::Map(members) = json::parse(json, DEPTH_MAX).ok()? else { return None };
        let (mut id, mut attributes, mut data) = (None, Vec::new(), None);
        for (name, value) in members.iter() {
            match (name, value) {
                ("specversion", _) => {}
                ("id", value) => id = Some(value.as_str()?.to_owned()),
                ("data", value) => {
                    let mut written = Vec::new();
                    json::write(&mut written, value);
                    data = Some(written);
                }
                (name, Value::String(text)) => attributes.push((known(name)?, Attribute::Text(text.to_string()))),
                (name, Value::Int(number)) => {
                    attributes.push((known(name)?, Attribute::Number(u32::try_from(*number).ok()?)));
                }
                _ => return None,
            }
        }
        attributes.sort_by_key(|(name, _)| ATTRIBUTES.iter().position(|known| known == name));
        Some(CloudEvent { id: id?, attributes, data })
    }

    /// The decision's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Attributes by name, as text.
    pub fn attributes(&self) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
        let first = [("specversion", Cow::Borrowed(SPEC_VERSION)), ("id", Cow::Borrowed(self.id.as_str()))];
        first.into_iter().chain(self.attributes.iter().map(|(name, value)| match value {
            Attribute::Text(text) => (*name, Cow::Borrowed(text.as_str())),
            Attribute::Number(number) => (*name, Cow::Owned(number.to_string())),
        }))
    }

    /// The `data` as JSON; none where a decision is withdrawn.
    pub fn data(&self) -> Option<&[u8]> {
        self.data.as_deref()
    }

    /// Appends the event in structured mode, as one JSON document without a line end.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"specversion\":");
        json::write_string(out, SPEC_VERSION);
        out.extend_from_slice(b",\"id\":");
        json::write_string(out, &self.id);
        for (name, value) in &self.attributes {
            out.push(b',');
            json::write_string(out, name);
            out.push(b':');
            match value {
                Attribute::Text(text) => json::write_string(out, text),
                Attribute::Number(number) => out.extend(number.to_string().bytes()),
            }
            if let (&CONTENT_TYPE, Some(data)) = (name, &self.data) {
                out.extend_from_slice(b",\"data\":");
                out.extend_from_slice(data);
            }
        }
        out.push(b'}');
    }
}

/// Appends one of a record's decisions as a CloudEvent in JSON, without a line end.
pub fn write_cloud_event(out: &mut Vec<u8>, server: &str, record: &Record, decision: &DecisionRevision) {
    CloudEvent::of(server, record, decision).write(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::{EntityKey, Revision, Version};
    use crate::model::packed::Packed;
    use crate::model::record::Input;
    use crate::model::system::SinkProgress;
    use crate::model::time::Timestamp;

    fn decision(state: DecisionState, element: Option<&str>) -> DecisionRevision {
        DecisionRevision {
            name: "OrderConfirmed".into(),
            element: element.map(Box::from),
            revision: Revision(2),
            state,
            data: Packed::new(&Value::Int(5)),
            time: Timestamp::parse("2026-11-20T10:00:00Z").unwrap(),
            correlation: "e1".into(),
        }
    }

    /// Receivers keep these ids for ever.
    #[test]
    fn ids_and_documents_are_frozen() {
        let entity = EntityKey::new("order", "a/b.c é\0-_~");
        let made = decision(DecisionState::Made, Some("x/y"));
        assert_eq!(decision_id(&entity, &made), "order/a%2Fb%2Ec%20%C3%A9%00-_~/OrderConfirmed/x%2Fy/2");
        let now = Timestamp::parse("2026-11-20T10:00:00Z").unwrap();
        let input = Input::Progress(SinkProgress::default());
        let record = Record::of_input(EntityKey::new("order", "o1"), Version(1), now, input);
        let json = |decision: &DecisionRevision| {
            let mut out = Vec::new();
            write_cloud_event(&mut out, "turnstile", &record, decision);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            json(&decision(DecisionState::Revised, None)),
            concat!(
                r#"{"specversion":"1.0","id":"order/o1/OrderConfirmed/2","source":"/turnstile/order","#,
                r#""type":"OrderConfirmed","subject":"o1","time":"2026-11-20T10:00:00Z","#,
                r#""datacontenttype":"application/json","data":5,"revision":2,"decisionstate":"revised","correlationid":"e1"}"#
            )
        );
        assert!(!json(&decision(DecisionState::Withdrawn, None)).contains("data\""));
    }
}
