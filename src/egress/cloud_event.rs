//! How a decision leaves: as a CloudEvent with a stable id.

use std::fmt::Write as _;

use crate::model::ids::EntityKey;
use crate::model::json;
use crate::model::record::{DecisionRevision, DecisionState, Input, Record};

/// A decision's id: `type/key/name[/element]/revision`, every part percent-encoded outside `[A-Za-z0-9_~-]`.
pub fn decision_id(entity: &EntityKey, decision: &DecisionRevision) -> String {
    let mut id = String::new();
    let parts = [entity.kind(), entity.key(), &*decision.name];
    for part in parts.into_iter().chain(decision.element.as_deref()) {
        encode(&mut id, part);
        id.push('/');
    }
    let _ = write!(id, "{}", decision.revision.0);
    id
}

fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'~' | b'-' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

/// Appends one of a record's decisions as a CloudEvent in JSON, without a line end.
pub fn write_cloud_event(out: &mut Vec<u8>, server: &str, record: &Record, decision: &DecisionRevision) {
    let mut member = |name: &str, write: &dyn Fn(&mut Vec<u8>)| {
        out.push(if name == "specversion" { b'{' } else { b',' });
        json::write_string(out, name);
        out.push(b':');
        write(out);
    };
    let text = |text: String| move |out: &mut Vec<u8>| json::write_string(out, &text);
    member("specversion", &text("1.0".to_owned()));
    member("id", &text(decision_id(&record.entity, decision)));
    member("source", &text(format!("/{server}/{}", record.entity.kind())));
    member("type", &text(decision.name.to_string()));
    member("subject", &text(record.entity.key().to_owned()));
    member("time", &text(decision.time.to_string()));
    if decision.state != DecisionState::Withdrawn {
        member("datacontenttype", &text("application/json".to_owned()));
        member("data", &|out| json::write(out, &decision.data.unpack()));
    }
    member("revision", &|out| out.extend(decision.revision.0.to_string().bytes()));
    member("decisionstate", &text(decision.state.as_str().to_owned()));
    if let Some(element) = &decision.element {
        member("element", &text(element.to_string()));
    }
    if let Input::Event(input) = &record.input {
        member("causationid", &text(input.event.id.to_string()));
    }
    member("correlationid", &text(decision.correlation.to_string()));
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::{Revision, Version};
    use crate::model::packed::Packed;
    use crate::model::record::SinkProgress;
    use crate::model::time::Timestamp;
    use crate::model::value::Value;

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
        let record = Record {
            entity: EntityKey::new("order", "o1"),
            version: Version(1),
            now: Timestamp::parse("2026-11-20T10:00:00Z").unwrap(),
            input: Input::Progress(SinkProgress::default()),
            merges: vec![],
            decisions: vec![],
            messages: vec![],
            effects: vec![],
            deadlines: vec![],
            missing: 0,
            forget_before: None,
        };
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
