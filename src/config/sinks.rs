//! `[sink.*]`: where decisions go.

use std::path::PathBuf;

use super::diagnostics::Located;
use super::document::Entry;
use super::names::{NameOf, check_name};
use super::reader::{Context, Section};

/// A place to which decisions are delivered.
#[derive(Clone, Debug)]
pub struct Sink {
    pub name: Located<String>,
    pub kind: SinkKind,
    pub from: From,
}

#[derive(Clone, Debug)]
pub enum SinkKind {
    /// A line of JSON on standard output.
    Stdout,
    /// A line of JSON appended to a file.
    File { path: PathBuf },
}

/// Where a sink starts that has no progress yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// After what is there already.
    New,
    /// At the oldest decision in the journal.
    All,
}

#[derive(Clone, Copy)]
enum Kind {
    Stdout,
    File,
    NotYet,
}

const KINDS: [(&str, Kind); 4] =
    [("stdout", Kind::Stdout), ("file", Kind::File), ("nats", Kind::NotYet), ("webhook", Kind::NotYet)];
pub(super) const FROM: [(&str, From); 2] = [("new", From::New), ("all", From::All)];

impl Sink {
    /// Reads all sinks. The names are those of all that are written down, also of those that are wrong.
    pub(super) fn read_all(cx: &mut Context, entry: Option<Entry>) -> (Vec<Sink>, Vec<String>) {
        let entries = Section::open(cx, "sink", entry).rest();
        let names = entries.iter().map(|entry| entry.name.value.clone()).collect();
        let mut paths = Vec::new();
        let mut sinks = Vec::new();
        for entry in entries {
            check_name(&entry.name, NameOf::Sink, &mut cx.out);
            sinks.extend(Sink::read(cx, entry, &mut paths));
        }
        (sinks, names)
    }

    fn read(cx: &mut Context, entry: Entry, paths: &mut Vec<Located<PathBuf>>) -> Option<Sink> {
        let name = entry.name.clone();
        if name.value == "self" {
            cx.out.error(name.at, "`self` cannot be the name of a sink").help("in `to` it means the entity itself");
        }
        let mut section = Section::open(cx, &format!("sink.{}", name.value), Some(entry));
        let kind = section.required_choice("kind", &KINDS, "add kind = \"file\" or kind = \"stdout\"")?;
        let kind = match *kind {
            Kind::NotYet => {
                section.cx.not_yet(kind.at, "a sink of this kind");
                return None;
            }
            Kind::Stdout => Some(SinkKind::Stdout),
            Kind::File => read_path(&mut section, paths),
        };
        let from = section.choice("from", &FROM).map_or(From::New, |from| from.value);
        section.unsupported(&["types", "if"]);
        section.finish();
        Some(Sink { name, kind: kind?, from })
    }
}

/// The file's path, which no other sink may have: each counts on being the only one that writes.
fn read_path(section: &mut Section, paths: &mut Vec<Located<PathBuf>>) -> Option<SinkKind> {
    let written = section.required_path("path", "add path = \"out/decisions.ndjson\"")?;
    let path = section.cx.files.resolve(written.at.file, &written);
    let plain: PathBuf = path.components().collect();
    if let Some(other) = paths.iter().find(|other| other.value == plain) {
        let message = format!("another sink already writes to {}", plain.display());
        section.cx.out.error(written.at, message).help("give each sink its own file").also(other.at);
    }
    paths.push(Located::new(plain, written.at));
    Some(SinkKind::File { path })
}
