//! What a verification found, for people and as JSON.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::cli::client::not_understood;
use crate::cli::failure::Failure;
use crate::cli::render::{grouped, safe};
use crate::cli::screen::Paint;
use crate::rehearsal::verify::Kind;

/// All findings of a kind.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Group {
    kind: String,
    title: String,
    count: u64,
    advice: String,
    examples: Vec<Example>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Example {
    subject: String,
    detail: String,
}

/// A report as it was given, and what was added to it since.
#[derive(Debug, Deserialize, Serialize)]
pub struct Report {
    clean: bool,
    findings: Vec<Group>,
    #[serde(skip)]
    examples_max: usize,
    entities: u64,
    records: u64,
    lsn: u64,
    not_comparable: u64,
    seconds: f64,
    notes: Vec<String>,
    /// What else is told of it.
    #[serde(flatten)]
    others: serde_json::Map<String, Json>,
}

impl Report {
    /// Reads the report.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(document: Json, examples_max: usize) -> Result<Self, Failure> {
        let report = serde_json::from_value(document).map_err(|error| not_understood(&error.to_string()))?;
        Ok(Report { examples_max, ..report })
    }

    /// Adds findings, given as documents.
    ///
    /// # Errors
    /// When they are none.
    pub fn add(&mut self, findings: Json) -> Result<(), Failure> {
        let groups: Vec<Group> =
            serde_json::from_value(findings).map_err(|error| not_understood(&error.to_string()))?;
        for mut group in groups {
            let Some(known) = self.findings.iter_mut().find(|known| known.kind == group.kind) else {
                group.examples.truncate(self.examples_max);
                self.findings.push(group);
                continue;
            };
            known.count = known.count.saturating_add(group.count);
            let room = self.examples_max.saturating_sub(known.examples.len());
            known.examples.extend(group.examples.into_iter().take(room));
        }
        self.clean = self.findings.is_empty();
        Ok(())
    }

    /// Adds one of a kind.
    ///
    /// # Errors
    /// Never: it is one.
    pub fn add_one(&mut self, kind: Kind, subject: &str, detail: &str) -> Result<(), Failure> {
        let (word, title, advice) = (kind.word(), kind.title(), kind.advice());
        let example = serde_json::json!({ "subject": subject, "detail": detail });
        self.add(serde_json::json!([
            { "kind": word, "title": title, "count": 1, "advice": advice, "examples": [example] }
        ]))
    }

    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// As a document.
    pub fn to_json(&self) -> Json {
        serde_json::to_value(self).unwrap_or(Json::Null)
    }

    /// As text.
    pub fn print(&self, out: &mut dyn Write, paint: Paint) -> io::Result<()> {
        let count = |count: u64| grouped(i64::try_from(count).unwrap_or(i64::MAX));
        let found = self.findings.iter().fold(0_u64, |sum, group| sum.saturating_add(group.count));
        let verdict = match found {
            0 => paint.green("clean"),
            found => paint.red(&format!("found {}", count(found))),
        };
        let (entities, records, lsn) = (count(self.entities), count(self.records), count(self.lsn));
        writeln!(out, "{verdict}: {entities} entities, {records} records up to LSN {lsn}, {:.1} s", self.seconds)?;
        if self.not_comparable > 0 {
            let cut = count(self.not_comparable);
            writeln!(
                out,
                "  fields of {cut} entities are not compared: their first records are trimmed away, or they kept values of other rules"
            )?;
        }
        for note in &self.notes {
            writeln!(out, "  {}", safe(note))?;
        }
        for group in &self.findings {
            let heading = format!("{} {}", count(group.count), group.title);
            writeln!(out, "\n{}  ({})", paint.bold(&safe(&heading)), safe(&group.kind))?;
            for example in &group.examples {
                writeln!(out, "  {}  {}", safe(&example.subject), safe(&example.detail))?;
            }
            let shown = group.examples.len() as u64;
            if shown > 0 && group.count > shown {
                writeln!(out, "  … --examples shows more")?;
            }
            writeln!(out, "  {} {}", paint.yellow("do:"), safe(&group.advice))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(findings: &Json) -> Report {
        let document = json!({
            "clean": false, "first_lsn": 1, "lsn": 5000, "records": 4000, "entities": 1000, "not_comparable": 2,
            "rows": 9, "seconds": 0.26, "notes": ["numbers are judged from 7 on"], "findings": findings,
        });
        Report::new(document, 2).unwrap()
    }

    fn text(report: &Report) -> String {
        let mut out = Vec::new();
        report.print(&mut out, Paint::Plain).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// If this failed, whoever is on call would not see what is wrong, or a terminal would obey what stands in data.
    #[test]
    fn a_report_tells_what_was_found_and_what_to_do() {
        let mut found = report(&json!([
            { "kind": "field", "title": "fields that are wrong", "count": 1, "advice": "mend it",
              "examples": [{ "subject": "order/\u{1b}", "detail": "a: is 1" }] },
        ]));
        for key in ["b", "c", "d"] {
            found.add_one(Kind::AgainstMissing, &format!("order/{key}"), "nothing was heard of it").unwrap();
        }
        let shown = text(&found);
        for line in [
            "found 4: 1,000 entities, 4,000 records up to LSN 5,000, 0.3 s",
            "  fields of 2 entities are not compared: their first records are trimmed away, or they kept values of other rules",
            "  numbers are judged from 7 on",
            "1 fields that are wrong  (field)",
            "  do: mend it",
            "3 keys of the list that are not here  (against_missing)",
            "  order/c  nothing was heard of it",
            "  … --examples shows more",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line:?} is not in\n{shown}");
        }
        assert!(!shown.contains("order/d") && !shown.contains('\u{1b}'), "{shown}");
        let json = found.to_json();
        assert_eq!(
            (&json["clean"], &json["rows"], &json["findings"][1]["count"]),
            (&false.into(), &9.into(), &3.into())
        );
    }

    #[test]
    fn a_clean_report_is_one_line() {
        let mut clean = report(&json!([]));
        clean.not_comparable = 0;
        clean.notes.clear();
        assert!(clean.is_clean());
        assert_eq!(text(&clean), "clean: 1,000 entities, 4,000 records up to LSN 5,000, 0.3 s\n");
    }
}
