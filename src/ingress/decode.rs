//! From bytes to an [`Event`]: CloudEvents 1.0 in JSON, or any other JSON by a source's mapping; messages also by what is
//! known of them beside their bytes.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::{Diagnostics, EventMapping, Files};
use crate::model::event::{Event, TimeGiven};
use crate::model::json;
use crate::model::refusal::{Code, Refusal};
use crate::model::time::Timestamp;
use crate::model::value::{Map, Value};
use crate::rules::{BodyBindings, Expr, Fault, Roots, compile_text};

/// The source of events that do not name theirs.
pub const SOURCE_DEFAULT: &str = "default";

/// Decodes a source's events.
#[derive(Clone, Debug)]
pub struct Decoder {
    mapping: Option<Arc<Mapping>>,
    event_bytes_max: usize,
    depth_max: usize,
}

/// A source's compiled `event` mapping.
#[derive(Debug)]
pub struct Mapping {
    id: Option<Expr>,
    kind: Option<Expr>,
    source: Option<Expr>,
    time: Option<Expr>,
    subject: Option<Expr>,
    data: Option<Expr>,
}

/// What a source knows of what it was given, beside its bytes.
pub trait Given {
    /// The id of an event that has none of its own: the same however often it is given, and no other's.
    fn id(&self) -> Option<Box<str>>;
    /// What mappings read as `meta`.
    fn meta(&self) -> Value;
}

impl Mapping {
    /// Compiles a mapping of what `roots` names; what is wrong is added to `diagnostics`.
    pub fn compile(declared: &EventMapping, roots: &Roots<'_>, files: &Files, diagnostics: &mut Diagnostics) -> Self {
        let mut expr = |text: &Option<crate::config::Expr>| {
            text.as_ref().and_then(|text| compile_text(text, roots, files, diagnostics))
        };
        Mapping {
            id: expr(&declared.id),
            kind: expr(&declared.type_),
            source: expr(&declared.source),
            time: expr(&declared.time),
            subject: expr(&declared.subject),
            data: expr(&declared.data),
        }
    }
}

impl Mapping {
    /// The columns that the mapping of a row reads.
    fn columns(&self) -> BTreeSet<String> {
        let all = [&self.id, &self.kind, &self.source, &self.time, &self.subject, &self.data];
        let paths = all
            .into_iter()
            .flatten()
            .flat_map(|expr| expr.parts(&BodyBindings { body: &Value::Null, item: None, meta: None }));
        let column = |path: String| {
            let name = path.strip_prefix("row.")?;
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
            (end > 0).then(|| name[..end].to_owned())
        };
        paths.filter_map(|(path, _)| column(path)).collect()
    }
}

impl Decoder {
    /// A decoder under these limits.
    pub fn new(mapping: Option<Mapping>, event_bytes_max: usize, depth_max: usize) -> Self {
        Decoder { mapping: mapping.map(Arc::new), event_bytes_max, depth_max }
    }

    /// The most bytes an event may have.
    pub fn event_bytes_max(&self) -> usize {
        self.event_bytes_max
    }

    /// How deep lists and objects may nest.
    pub fn depth_max(&self) -> usize {
        self.depth_max
    }

    /// The columns that the source's mapping reads, if its events are rows.
    pub fn columns(&self) -> BTreeSet<String> {
        self.mapping.as_deref().map(Mapping::columns).unwrap_or_default()
    }

    /// Parses one JSON document under the limits.
    pub fn parse(&self, bytes: &[u8]) -> Result<Value, Refusal> {
        if bytes.len() > self.event_bytes_max {
            return Err(self.too_large());
        }
        json::parse(bytes, self.depth_max)
    }

    /// The refusal of an event with too many bytes.
    pub fn too_large(&self) -> Refusal {
        Refusal::new(
            Code::TooLarge,
            format!("the event has more than limits.event_bytes_max = {} bytes", self.event_bytes_max),
        )
    }

    /// The event in one JSON document, received at `now`.
    pub fn decode(&self, bytes: &[u8], now: Timestamp) -> Result<Event, Refusal> {
        self.event(self.parse(bytes)?, now)
    }

    /// The event in a parsed document.
    pub fn event(&self, body: Value, now: Timestamp) -> Result<Event, Refusal> {
        match &self.mapping {
            Some(mapping) => cloud_event(mapped_whole(mapping, body, None)?, now),
            None => cloud_event(attributes(body)?, now),
        }
    }

    /// The event in a part of a document, or in all of it if no part is bound.
    pub fn event_of(&self, bindings: &BodyBindings<'_>, now: Timestamp) -> Result<Event, Refusal> {
        let whole = || bindings.item.unwrap_or(bindings.body).clone();
        let members = match &self.mapping {
            None => attributes(whole())?,
            Some(mapping) => {
                let mut members = mapped(mapping, bindings)?;
                if mapping.data.is_none() {
                    members.insert("data", whole());
                }
                members
            }
        };
        cloud_event(members, now)
    }

    /// The event in one JSON document of which more is known.
    pub fn decode_given(&self, bytes: &[u8], given: &dyn Given, now: Timestamp) -> Result<Event, Refusal> {
        let body = self.parse(bytes)?;
        let members = match &self.mapping {
            Some(mapping) => mapped_whole(mapping, body, Some(&given.meta()))?,
            None => attributes(body)?,
        };
        given_event(members, given, now)
    }
}

/// The attributes of a CloudEvent in structured mode.
pub fn attributes(body: Value) -> Result<Map, Refusal> {
    match body {
        Value::Map(members) => Ok(members),
        other => Err(Refusal::new(
            Code::MissingId,
            format!("an event is a JSON object with `id` and `type`, this is {}", other.described()),
        )),
    }
}

/// As [`cloud_event`]; without an id of its own, the event has the one it was given.
pub fn given_event(mut members: Map, given: &dyn Given, now: Timestamp) -> Result<Event, Refusal> {
    if members.get("id").is_none_or(|id| matches!(id, Value::Null) || id.as_str() == Some(""))
        && let Some(id) = given.id()
    {
        members.insert("id", Value::String(id));
    }
    cloud_event(members, now)
}

/// An event from CloudEvents attributes; members that are none are extensions.
pub fn cloud_event(mut members: Map, now: Timestamp) -> Result<Event, Refusal> {
    let missing_id = || Refusal::new(Code::MissingId, "the event has no `id`; with `source` it tells repeats apart");
    let id = text("id", members.remove("id"))?.ok_or_else(missing_id)?;
    let kind = text("type", members.remove("type"))?
        .ok_or_else(|| Refusal::new(Code::MissingType, "the event has no `type`, such as \"OrderCreated\""))?;
    match members.remove("specversion") {
        None | Some(Value::Null) => {}
        Some(Value::String(version)) if &*version == "1.0" => {}
        Some(other) => {
            let why = format!("specversion is {}; CloudEvents \"1.0\" is understood", json::to_string(&other));
            return Err(Refusal::new(Code::InvalidValue, why));
        }
    }
    let source = text("source", members.remove("source"))?;
    let (time, time_given) = time(members.remove("time"), now)?;
    let subject = text("subject", members.remove("subject"))?;
    let data = match (members.remove("data"), members.remove("data_base64")) {
        (None, Some(base64)) => Some(base64),
        (data, _) => data,
    };
    Ok(Event {
        source: source.map_or_else(|| SOURCE_DEFAULT.into(), |source| Arc::from(&*source)),
        id,
        kind: Arc::from(&*kind),
        time,
        time_given,
        subject,
        data,
        extensions: members,
    })
}

/// A text attribute; integers are written out, null and the empty text count as absent.
fn text(name: &str, value: Option<Value>) -> Result<Option<Box<str>>, Refusal> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok((!text.is_empty()).then_some(text)),
        Some(other) => other.whole_text().map(Some).ok_or_else(|| {
            Refusal::new(Code::InvalidValue, format!("`{name}` must be a string, this is {}", other.described()))
        }),
    }
}

fn time(value: Option<Value>, now: Timestamp) -> Result<(Timestamp, TimeGiven), Refusal> {
    let invalid = |shown: String| {
        Refusal::new(
            Code::InvalidTime,
            format!("{shown} is no time; write it like \"2026-11-20T10:00:00Z\" (RFC 3339)"),
        )
    };
    match value {
        None | Some(Value::Null) => Ok((now, TimeGiven::AtReceipt)),
        Some(Value::Timestamp(time)) => Ok((time, TimeGiven::BySender)),
        Some(Value::String(text)) => match Timestamp::parse(&text) {
            Some(time) => Ok((time, TimeGiven::BySender)),
            None => Err(invalid(format!("{:.60?}", &*text))),
        },
        Some(other) => Err(invalid(other.described())),
    }
}

/// The attributes that a mapping makes of a document.
/// As [`mapped`]; what `data` is not mapped to is the whole body.
fn mapped_whole(mapping: &Mapping, body: Value, meta: Option<&Value>) -> Result<Map, Refusal> {
    let mut members = mapped(mapping, &BodyBindings { body: &body, item: None, meta })?;
    if mapping.data.is_none() {
        members.insert("data", body);
    }
    Ok(members)
}

/// The attributes that a mapping makes of what a source received.
fn mapped(mapping: &Mapping, bindings: &BodyBindings<'_>) -> Result<Map, Refusal> {
    let value = |name: &str, expr: &Option<Expr>| match expr.as_ref().map(|expr| expr.evaluate(bindings)) {
        None | Some(Err(Fault::Missing(_))) => Ok(None),
        Some(Ok(value)) => Ok(Some(value.into_owned())),
        Some(Err(Fault::Wrong(why))) => {
            let code = if name == "time" { Code::InvalidTime } else { Code::InvalidValue };
            Err(Refusal::new(code, format!("`{name}` of the source's `event` mapping: {why}")))
        }
    };
    let mut members = Map::default();
    for (name, expr) in [
        ("id", &mapping.id),
        ("type", &mapping.kind),
        ("source", &mapping.source),
        ("time", &mapping.time),
        ("subject", &mapping.subject),
        ("data", &mapping.data),
    ] {
        if let Some(value) = value(name, expr)? {
            members.insert(name, value);
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-20T10:00:00Z";

    fn decode(text: &str) -> Result<Event, Refusal> {
        Decoder::new(None, 1000, 8).decode(text.as_bytes(), Timestamp::parse(NOW).unwrap())
    }

    #[test]
    fn attributes_have_their_defaults_and_the_rest_are_extensions() {
        let event =
            decode(r#"{"specversion":"1.0","id":7,"type":"A","data":null,"key":"k","traceparent":"00-1"}"#).unwrap();
        assert_eq!((&*event.source, &*event.id, &*event.kind), ("default", "7", "A"));
        assert_eq!((event.time.to_string().as_str(), event.time_given), (NOW, TimeGiven::AtReceipt));
        assert_eq!(event.data, Some(Value::Null));
        assert_eq!(event.extensions.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["key", "traceparent"]);
    }

    /// If this failed, a sender that counts in 64 bits without a sign would be refused once it has counted far enough.
    #[test]
    fn whole_numbers_of_any_size_name_an_event() {
        for id in ["9223372036854775807", "18446744073709551615", "-123456789012345678901234567890"] {
            let event = decode(&format!(r#"{{"id":{id},"type":"A"}}"#)).unwrap();
            assert_eq!(&*event.id, id);
        }
    }

    #[test]
    fn each_refusal_has_its_code_and_says_what_to_mend() {
        for (text, code, part) in [
            ("", Code::InvalidJson, "ends too early"),
            ("{", Code::InvalidJson, "ends too early"),
            ("[]", Code::MissingId, "this is a list"),
            (r#"{"type":"A"}"#, Code::MissingId, "no `id`"),
            (r#"{"id":"","type":"A"}"#, Code::MissingId, "no `id`"),
            (r#"{"id":"1"}"#, Code::MissingType, "no `type`"),
            (r#"{"id":1.0,"type":"A"}"#, Code::InvalidValue, "`id` must be a string, this is a double"),
            ("7", Code::MissingId, "this is an int"),
            (r#"{"id":"1","type":true}"#, Code::InvalidValue, "`type` must be a string"),
            (r#"{"id":"1","type":"A","time":"yesterday"}"#, Code::InvalidTime, "RFC 3339"),
            (r#"{"id":"1","type":"A","time":5}"#, Code::InvalidTime, "an int is no time"),
            (r#"{"id":"1","type":"A","specversion":"0.3"}"#, Code::InvalidValue, "1.0"),
            (r#"{"id":"1","type":"A","data":[[[[[[[[1]]]]]]]]}"#, Code::TooDeep, "8 levels"),
        ] {
            let refusal = decode(text).unwrap_err();
            assert_eq!(refusal.code, code, "{text}");
            assert!(refusal.message.contains(part), "{text}: {}", refusal.message);
        }
        assert_eq!(decode(&format!("{:1001}", 1)).unwrap_err().code, Code::TooLarge);
    }
}
