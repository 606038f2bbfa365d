//! An outside list: CSV with a header, or one JSON object a line. Read bit by bit; of its keys only hashes are kept, and
//! only if the list is complete. Rows without a key are about events alone, which are looked for wherever they went.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value as Json, json};

use super::report::Report;
use super::target::Target;
use crate::cli::failure::{Exit, Failure};
use crate::model::ids::IdentityHash;
use crate::rehearsal::verify::{IDS_MAX, Kind, ROWS_MAX};

/// The most bytes of rows that are sent at once.
const BATCH_BYTES_MAX: usize = 128 * 1024;
/// The most keys of a complete list: their hashes are held.
const KEYS_MAX: usize = 20_000_000;
/// What a column is called that says which entity a row is about, and which event it should have counted.
const ABOUT: [&str; 4] = ["type", "key", "id", "source"];

/// What a row says, by name, as it is written: numbers keep all their digits.
type Members = BTreeMap<String, Box<RawValue>>;

/// A row, as the interface takes it.
#[derive(Debug, Serialize)]
pub struct Row {
    r#type: Option<String>,
    key: Option<String>,
    id: Option<String>,
    source: Option<String>,
    values: Members,
    text: bool,
}

/// A list that is open.
pub struct List {
    rows: Rows,
    entity: Option<String>,
}

enum Rows {
    Csv { reader: Box<csv::Reader<File>>, header: Vec<String> },
    Lines { reader: BufReader<File>, line: u64 },
}

impl List {
    /// Opens the file; `entity` is what rows are about that do not say so.
    ///
    /// # Errors
    /// It is not there, or its header is wrong (2).
    pub fn open(path: &Path, entity: Option<String>) -> Result<Self, Failure> {
        let wrong = |error: std::io::Error| Failure::message(Exit::Usage, format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(wrong)?;
        let mut reader = BufReader::new(file);
        let first = reader.fill_buf().map_err(wrong)?.iter().find(|byte| !byte.is_ascii_whitespace()).copied();
        if first == Some(b'{') {
            return Ok(List { rows: Rows::Lines { reader, line: 0 }, entity });
        }
        let mut reader = csv::Reader::from_path(path).map_err(|error| Failure::new(Exit::Usage, error))?;
        let header = reader.headers().map_err(|error| Failure::new(Exit::Usage, error))?;
        let header: Vec<String> = header.iter().map(str::to_owned).collect();
        if !header.iter().any(|name| name == "key" || name == "id") {
            let known = header.join(", ");
            let message = format!("{}: the header has no column `key` or `id`; it has: {known}", path.display());
            return Err(Failure::message(Exit::Usage, message));
        }
        Ok(List { rows: Rows::Csv { reader: Box::new(reader), header }, entity })
    }

    /// The events of rows without a key: their sources, if they are named, and ids.
    ///
    /// # Errors
    /// A row is wrong, or there are more than can be looked for at a time (2).
    pub fn ids(mut self) -> Result<Vec<Json>, Failure> {
        let mut ids = Vec::new();
        while let Some(row) = self.next()? {
            if row.key.is_none() {
                ids.push(json!([row.source, row.id]));
            }
            if ids.len() > IDS_MAX {
                let message = format!("the list has more than {IDS_MAX} ids without a key; split it");
                return Err(Failure::message(Exit::Usage, message));
            }
        }
        Ok(ids)
    }

    /// Compares all of it with what is there, and adds what differs to the report.
    ///
    /// # Errors
    /// A row is wrong (2), what is there cannot be read (3).
    pub fn compare(mut self, target: &Target<'_>, is_complete: bool, report: &mut Report) -> Result<(), Failure> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let (mut types, mut known) = (BTreeSet::new(), HashSet::new());
        types.extend(self.entity.clone());
        while let Some(row) = self.next()? {
            let Some(key) = &row.key else { continue };
            if is_complete {
                let kind = row.r#type.as_deref().unwrap_or_default();
                types.insert(kind.to_owned());
                known.insert(IdentityHash::of(kind, key));
                if known.len() > KEYS_MAX {
                    let message = format!("a complete list may have {KEYS_MAX} keys; leave --complete-list out");
                    return Err(Failure::message(Exit::Usage, message));
                }
            }
            let row = to_raw_value(&row).map_err(wrong)?;
            bytes += row.get().len();
            batch.push(row);
            if batch.len() == ROWS_MAX || bytes >= BATCH_BYTES_MAX {
                report.add(target.against(&batch)?)?;
                (batch, bytes) = (Vec::new(), 0);
            }
        }
        report.add(target.against(&batch)?)?;
        if is_complete {
            for kind in &types {
                extra(target, kind, &known, report)?;
            }
        }
        Ok(())
    }

    /// The next row, as the interface takes it.
    fn next(&mut self) -> Result<Option<Row>, Failure> {
        let members = match &mut self.rows {
            Rows::Csv { reader, header } => {
                let mut record = csv::StringRecord::new();
                if !reader.read_record(&mut record).map_err(|error| Failure::new(Exit::Usage, error))? {
                    return Ok(None);
                }
                // An empty cell says nothing.
                let cells = header.iter().zip(&record).filter(|(_, cell)| !cell.is_empty());
                let cells = cells.map(|(name, cell)| Ok((name.clone(), to_raw_value(cell)?)));
                Some(cells.collect::<Result<Members, _>>().map_err(wrong)?)
            }
            Rows::Lines { reader, line } => next_line(reader, line)?,
        };
        let is_text = matches!(self.rows, Rows::Csv { .. });
        let at = self.at();
        members.map(|members| row(members, self.entity.as_deref(), is_text, &at)).transpose()
    }

    fn at(&self) -> String {
        match &self.rows {
            Rows::Csv { reader, .. } => format!("line {}", reader.position().line().saturating_sub(1)),
            Rows::Lines { line, .. } => format!("line {line}"),
        }
    }
}

fn next_line(reader: &mut BufReader<File>, number: &mut u64) -> Result<Option<Members>, Failure> {
    loop {
        let mut line = String::new();
        let read = reader.read_line(&mut line).map_err(|error| Failure::new(Exit::Io, error))?;
        *number += 1;
        match (read, line.trim()) {
            (0, _) => return Ok(None),
            (_, "") => {}
            (_, line) => {
                let wrong = |error| Failure::message(Exit::Usage, format!("line {number}: {error}"));
                return serde_json::from_str(line).map(Some).map_err(wrong);
            }
        }
    }
}

fn wrong(error: serde_json::Error) -> Failure {
    Failure::new(Exit::Usage, error)
}

fn row(mut members: Members, entity: Option<&str>, is_text: bool, at: &str) -> Result<Row, Failure> {
    // Keys and ids are text here, however the list writes them.
    let text = |value: Box<RawValue>| match serde_json::from_str(value.get()) {
        Ok(Json::String(text)) => Some(text),
        Ok(Json::Null) => None,
        _ => Some(value.get().to_owned()),
    };
    let [kind, key, id, source] = ABOUT.map(|name| members.remove(name).and_then(text));
    let lacks = |what: &str| Failure::message(Exit::Usage, format!("{at} of the list {what}"));
    if key.is_none() && (id.is_none() || !members.is_empty()) {
        return Err(lacks("has no `key`"));
    }
    let kind = kind.or(entity.map(str::to_owned));
    if kind.is_none() && key.is_some() {
        return Err(lacks("does not say its `type`; --entity says it for all"));
    }
    Ok(Row { r#type: kind, key, id, source, values: members, text: is_text })
}

/// Adds what is there and not in the list.
fn extra(target: &Target<'_>, kind: &str, known: &HashSet<IdentityHash>, report: &mut Report) -> Result<(), Failure> {
    let mut after: Option<String> = None;
    loop {
        let keys = target.keys(kind, after.as_deref())?;
        let Some(last) = keys.last() else { return Ok(()) };
        for key in keys.iter().filter(|key| !known.contains(&IdentityHash::of(kind, key))) {
            report.add_one(Kind::AgainstExtra, &format!("{kind}/{key}"), "not in the list")?;
        }
        after = Some(last.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str, entity: Option<&str>) -> Result<Vec<String>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let told = |failure| match failure {
            Failure::Told { cause, .. } => cause.to_string(),
            Failure::OutputClosed => String::new(),
        };
        let mut list = List::open(file.path(), entity.map(str::to_owned)).map_err(told)?;
        let mut rows = Vec::new();
        while let Some(row) = list.next().map_err(told)? {
            let row = serde_json::to_value(&row).unwrap();
            rows.push(format!("{}/{} {} {}", row["type"], row["key"], row["id"], row["values"]));
        }
        Ok(rows)
    }

    /// If this failed, a list would be compared with other entities than it is about, or with none.
    #[test]
    fn lists_are_read_and_mistakes_are_told() {
        let csv = "key,payment.status,id\n17,paid,e1\n\"a,b\",,\n";
        let expected = [r#""order"/"17" "e1" {"payment.status":"paid"}"#, r#""order"/"a,b" null {}"#];
        assert_eq!(rows(csv, Some("order")).unwrap(), expected);
        assert_eq!(rows("id,source\ne,/s\n", None).unwrap(), [r#"null/null "e" {}"#]);
        let lines = "\n{\"key\":17,\"type\":\"day\",\"n\":5}\n\n{\"key\":\"b\",\"id\":3}\n";
        assert_eq!(rows(lines, Some("order")).unwrap(), [r#""day"/"17" null {"n":5}"#, r#""order"/"b" "3" {}"#]);
        for (text, expected) in [
            ("a,type\n1,order\n", "the header has no column `key` or `id`; it has: a, type"),
            ("id,n\ne,5\n", "line 2 of the list has no `key`"),
            ("key\n1\n", "does not say its `type`"),
            ("{\"type\":\"order\"}\n", "line 1 of the list has no `key`"),
            ("{\"key\":1}\n{\n", "does not say its `type`"),
            ("{\"key\":1,\"type\":\"order\"}\n{\n", "line 2: "),
        ] {
            let told = rows(text, None).unwrap_err();
            assert!(told.contains(expected), "{text}: {told}");
        }
    }
}
