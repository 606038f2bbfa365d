//! Real data with an independent truth: see `fixtures/README.md` beside the repository. A test that needs it skips with
//! a message where it is not there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::DateTime;
use serde_json::Value;

use super::Server;

/// A set of events, the rules for it, and what must come out.
pub struct Dataset {
    pub name: &'static str,
    pub entity: &'static str,
    pub rules: &'static str,
    columns: &'static [Column],
}

/// A column of the truth, the place of the same thing in the entity's document, and how the two compare.
type Column = (&'static str, &'static str, As);

#[derive(Clone, Copy)]
enum As {
    Text,
    Bool,
    Number,
    /// RFC 3339, whatever the offset.
    Instant,
    /// `2016-06-07 07:36`, in UTC.
    Minute,
}

pub const SCMS: Dataset = Dataset {
    name: "scms",
    entity: "shipment",
    rules: r#"
[entity.shipment]
key = "event.key"
[entity.shipment.fields]
lines = { on = "scheduled", take = "count" }
value_usd = { on = "scheduled", take = "sum", value = "decimal(event.data.value)" }
freight_usd = { on = "freight", take = "sum", if = "has(event.data.usd)", value = "decimal(event.data.usd)" }
priced = { on = "freight", take = "count", if = "has(event.data.usd)" }
due = { on = "scheduled", take = "min", value = "event.data.due" }
delivered = { on = "delivered", take = "max", value = "date(event.time)" }
recorded = { on = "delivered", take = "max", value = "event.data.recorded" }
orders = { on = ["po_sent", "quote_sent"], take = "set", value = "event.data.po" }
[entity.shipment.derived]
freight = "shipment.freight_usd"
freight_known = "shipment.priced > 0"
punctuality = "shipment.delivered > shipment.due ? 'LATE' : shipment.delivered < shipment.due ? 'EARLY' : 'ON_TIME'"
[entity.shipment.complete]
fields = ["due", "delivered"]
[entity.shipment.decision.Delivered]
when = "has(shipment.due) && has(shipment.delivered)"
data = { outcome = "shipment.punctuality", value = "shipment.value_usd", freight = "shipment.freight_usd" }
"#,
    columns: &[
        ("lines", "/fields/lines", As::Number),
        ("value_usd", "/fields/value_usd", As::Number),
        ("freight_usd", "/derived/freight", As::Number),
        ("freight_known", "/derived/freight_known", As::Bool),
        ("due", "/fields/due", As::Text),
        ("delivered", "/fields/delivered", As::Text),
        ("recorded", "/fields/recorded", As::Text),
        ("decision", "/decisions/Delivered/data/outcome", As::Text),
    ],
};

pub const BPIC2012: Dataset = Dataset {
    name: "bpic2012",
    entity: "application",
    rules: r#"
[entity.application]
key = "event.key"
[entity.application.fields]
amount = { on = "A_SUBMITTED", take = "latest", value = "event.data.amount" }
events = { on = ["A_*", "O_*", "W_*"], take = "count" }
offers_sent = { on = "O_SENT", take = "count" }
last_event = { on = ["A_*", "O_*", "W_*"], take = "max", value = "event.time" }
approved = { on = "A_APPROVED", take = "count" }
declined = { on = "A_DECLINED", take = "count" }
cancelled = { on = "A_CANCELLED", take = "count" }
[entity.application.derived]
offers = "application.offers_sent"
outcome = """application.approved > 0 ? 'APPROVED' : application.declined > 0 ? 'DECLINED'
  : application.cancelled > 0 ? 'CANCELLED' : 'UNDECIDED'"""
[entity.application.decision.Outcome]
data = { outcome = "application.outcome", amount = "application.amount" }
"#,
    columns: &[
        ("amount", "/fields/amount", As::Number),
        ("events", "/fields/events", As::Number),
        ("offers_sent", "/derived/offers", As::Number),
        ("last_event", "/fields/last_event", As::Instant),
        ("decision", "/derived/outcome", As::Text),
        ("decision", "/decisions/Outcome/data/outcome", As::Text),
    ],
};

pub const VAST_BADGES: Dataset = Dataset {
    name: "vast_badges",
    entity: "person_day",
    rules: r#"
[entity.person_day]
key = "event.key"
[entity.person_day.fields]
reads = { on = "badge", take = "count" }
first = { on = "badge", take = "min", value = "event.time" }
last = { on = "badge", take = "max", value = "event.time" }
zones = { on = "badge", take = "set", value = "string(event.data.floor) + '-' + event.data.zone" }
[entity.person_day.derived]
span = "person_day.last - person_day.first"
span_min = "person_day.span.getMinutes()"
zone_count = "size(person_day.zones)"
[entity.person_day.decision.Day]
data = { outcome = """person_day.reads == 1 ? 'INCOMPLETE'
  : person_day.span > duration('600m') ? 'OVERTIME' : 'NORMAL'""", reads = "person_day.reads" }
"#,
    columns: &[
        ("reads", "/fields/reads", As::Number),
        ("first", "/fields/first", As::Minute),
        ("last", "/fields/last", As::Minute),
        ("zones", "/derived/zone_count", As::Number),
        ("span_min", "/derived/span_min", As::Number),
        ("decision", "/decisions/Day/data/outcome", As::Text),
    ],
};

pub const ALL: [&Dataset; 3] = [&SCMS, &BPIC2012, &VAST_BADGES];

/// Where the fixtures are; none, with a message, where they are not.
pub fn fixtures() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures");
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: there are no fixtures at {}", path.display());
    None
}

impl Dataset {
    /// The events, in the order of their arrival.
    pub fn lines(&self) -> Option<Vec<String>> {
        let text = std::fs::read_to_string(fixtures()?.join(format!("{}.ndjson", self.name))).expect("the events");
        Some(text.lines().map(str::to_owned).collect())
    }

    /// The truth: a row of named columns for each key.
    fn truth(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let path = fixtures().expect("asked for after the events").join(format!("{}.truth.csv", self.name));
        let text = std::fs::read_to_string(path).expect("the truth");
        let mut rows = text.lines().map(|line| line.split(',').map(str::to_owned));
        let names: Vec<String> = rows.next().expect("a header").collect();
        rows.map(|mut row| {
            let key = row.next().expect("a key");
            let row: Vec<String> = row.collect();
            assert_eq!(row.len() + 1, names.len(), "the truth of {key} has a cell for each column");
            (key, names[1..].iter().cloned().zip(row).collect())
        })
        .collect()
    }

    /// Compares every key and every column of the truth with the server's entities.
    pub fn check(&self, server: &Server, how: &str) {
        let truth = self.truth();
        let entities = server.entities(self.entity, 37);
        let keys: Vec<&str> = entities.iter().map(|entity| entity["key"].as_str().expect("a key")).collect();
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        let expected: Vec<&str> = truth.keys().map(String::as_str).collect();
        assert_eq!(sorted, expected, "{} {how}: the keys are those of the truth", self.name);
        let mut wrong = Vec::new();
        for (key, entity) in keys.into_iter().zip(&entities) {
            for (column, pointer, kind) in self.columns {
                let should = &truth[key][*column];
                let is = entity.pointer(pointer).unwrap_or(&Value::Null);
                if !kind.equal(is, should) {
                    wrong.push(format!("{key}: {column} is {is}, should be {should}"));
                }
            }
            if entity["errors"].as_object().is_none_or(|errors| !errors.is_empty()) {
                wrong.push(format!("{key}: errors are {}", entity["errors"]));
            }
        }
        let few = wrong.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
        assert!(wrong.is_empty(), "{} {how}: {} differences from the truth\n{few}", self.name, wrong.len());
    }
}

impl As {
    fn equal(self, is: &Value, should: &str) -> bool {
        match self {
            As::Text => is == should,
            As::Bool => is.as_bool().is_some_and(|is| is == should.eq_ignore_ascii_case("true")),
            As::Number => is.as_f64().is_some_and(|is| Ok(is) == should.parse()),
            As::Instant => instant(is.as_str().unwrap_or_default()) == instant(should),
            As::Minute => instant(is.as_str().unwrap_or_default()) == instant(&(should.replace(' ', "T") + ":00Z")),
        }
    }
}

/// A time for comparison. What is none equals nothing that is one.
pub fn instant(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text).ok()?.timestamp_nanos_opt()
}
