//! Entities and decisions as rows of CSV: scalars as they are, lists and maps as JSON, nothing for what is missing.

use std::borrow::Cow;

use super::problem::Problem;
use crate::model::json;
use crate::model::value::{Map, Value};
use crate::rules::{Document, EntityRules};

/// What every entity has, before its own fields and derived values.
const FIRST: [&str; 4] = ["key", "version", "updated", "completeness"];
/// What is shown of a decision.
const DECISION: [&str; 8] = ["id", "type", "subject", "element", "revision", "decisionstate", "time", "data"];
/// The deepest decision that is read back: deeper than any can be.
const DECISION_DEPTH_MAX: usize = 10_000;

/// A table of the entities of one type.
pub(super) struct Table {
    fields: Vec<String>,
    derived: Vec<String>,
    is_begun: bool,
}

impl Table {
    pub fn of_entities(rules: &EntityRules) -> Self {
        let fields: Vec<String> = rules.fields.iter().map(|field| field.name.to_string()).collect();
        let derived = rules.derived.iter().map(|derived| derived.name.to_string()).collect();
        Table { fields, derived, is_begun: false }
    }

    /// The line of headings, once. A field that is called like what every entity has gets its group's name before its own.
    pub fn heading(&mut self) -> Vec<u8> {
        if std::mem::replace(&mut self.is_begun, true) {
            return Vec::new();
        }
        let of = |group: &'static str, names: &[String]| -> Vec<String> {
            let named = |name: &String| if FIRST.contains(&&**name) { format!("{group}.{name}") } else { name.clone() };
            names.iter().map(named).collect()
        };
        let own = [of("fields", &self.fields), of("derived", &self.derived)].concat();
        line(FIRST.into_iter().map(Cow::from).chain(own.into_iter().map(Cow::from)))
    }

    /// An entity's line.
    pub fn entity(&self, document: &Document) -> Vec<u8> {
        let first = FIRST.into_iter().map(|name| cell(document.get(name)));
        let of = |group, names: &'_ [String]| -> Vec<String> {
            let members = document.get(group);
            let value = |name: &String| match members {
                Some(Value::Map(members)) => cell(members.get(name)).into_owned(),
                _ => String::new(),
            };
            names.iter().map(value).collect()
        };
        let own = [of("fields", &self.fields), of("derived", &self.derived)].concat();
        line(first.chain(own.into_iter().map(Cow::from)))
    }
}

/// The headings of decisions.
pub(super) fn decision_columns() -> Vec<u8> {
    line(DECISION.into_iter().map(Cow::from))
}

/// A decision's line, from its CloudEvent.
pub(super) fn decision_cells(event: &[u8]) -> Result<Vec<u8>, Problem> {
    let members: Map = match json::parse(event, DECISION_DEPTH_MAX)? {
        Value::Map(members) => members,
        _ => Map::default(),
    };
    Ok(line(DECISION.into_iter().map(|name| cell(members.get(name)))))
}

fn cell(value: Option<&Value>) -> Cow<'_, str> {
    match value {
        None | Some(Value::Null) => "".into(),
        Some(Value::String(text)) => (&**text).into(),
        Some(value) => {
            let text = json::to_string(value);
            // Times and durations are strings in JSON.
            match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
                Some(inner) => inner.to_owned().into(),
                None => text.into(),
            }
        }
    }
}

fn line<'a>(cells: impl Iterator<Item = Cow<'a, str>>) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    // Into memory nothing is refused: there is one line, of any length.
    let _ = writer.write_record(cells.map(|cell| cell.into_owned().into_bytes()));
    writer.into_inner().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, a cell would end early, or numbers be read as text.
    #[test]
    fn cells_are_read_back_as_they_were() {
        let value =
            json::parse(br#"{"a":"x, \"y\"\nz","b":1.5,"c":true,"d":null,"e":{"f":[1,"2"]},"g":""}"#, 9).unwrap();
        let Value::Map(members) = value else { panic!("a map") };
        let line = line(["a", "b", "c", "d", "e", "g", "h"].into_iter().map(|name| cell(members.get(name))));
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(&line[..]);
        let record = reader.records().next().unwrap().unwrap();
        let read: Vec<&str> = record.iter().collect();
        assert_eq!(read, ["x, \"y\"\nz", "1.5", "true", "", r#"{"f":[1,"2"]}"#, "", ""]);
    }
}
