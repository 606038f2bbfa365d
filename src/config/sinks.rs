//! `[sink.*]`: where decisions go.

use std::path::PathBuf;

use super::diagnostics::{Expr, Located};
use super::document::Entry;
use super::entities::EntityType;
use super::names::{NameOf, check_glob, check_name, glob_matches, suggest};
use super::reader::{Context, Section};
use super::sink_nats::NatsSink;
use super::sink_webhook::WebhookSink;

/// A place to which decisions are delivered.
#[derive(Clone, Debug)]
pub struct Sink {
    pub name: Located<String>,
    pub kind: SinkKind,
    pub from: From,
    /// Globs of the decisions that go there; none: all.
    pub types: Vec<Located<String>>,
    /// It takes dead letters, and no decisions.
    pub dead_letters: bool,
    /// What must be true of what goes there.
    pub condition: Option<Expr>,
}

#[derive(Clone, Debug)]
pub enum SinkKind {
    /// A line of JSON on standard output.
    Stdout,
    /// A line of JSON appended to a file.
    File {
        path: PathBuf,
    },
    Nats(Box<NatsSink>),
    Webhook(Box<WebhookSink>),
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
    Nats,
    Webhook,
}

const KINDS: [(&str, Kind); 4] =
    [("stdout", Kind::Stdout), ("file", Kind::File), ("nats", Kind::Nats), ("webhook", Kind::Webhook)];
const KIND_HELP: &str = "add kind = \"file\" (or stdout, nats, webhook)";
pub(super) const FROM: [(&str, From); 2] = [("new", From::New), ("all", From::All)];

impl Sink {
    /// Reads all sinks. The names are those of all that decisions may be sent to, also of those that are wrong.
    pub(super) fn read_all(cx: &mut Context, entry: Option<Entry>) -> (Vec<Sink>, Vec<String>) {
        let entries = Section::open(cx, "sink", entry).rest();
        let mut names: Vec<String> = entries.iter().map(|entry| entry.name.value.clone()).collect();
        let mut paths = Vec::new();
        let mut sinks = Vec::new();
        for entry in entries {
            check_name(&entry.name, NameOf::Sink, &mut cx.out);
            sinks.extend(Sink::read(cx, entry, &mut paths));
        }
        names.retain(|name| !sinks.iter().any(|sink: &Sink| sink.dead_letters && sink.name.value == *name));
        (sinks, names)
    }

    fn read(cx: &mut Context, entry: Entry, paths: &mut Vec<Located<PathBuf>>) -> Option<Sink> {
        let name = entry.name.clone();
        if name.value == "self" {
            cx.out.error(name.at, "`self` cannot be the name of a sink").help("in `to` it means the entity itself");
        }
        let mut section = Section::open(cx, &format!("sink.{}", name.value), Some(entry));
        let kind = section.required_choice("kind", &KINDS, KIND_HELP)?;
        let kind = match *kind {
            Kind::Stdout => Some(SinkKind::Stdout),
            Kind::File => read_path(&mut section, paths),
            Kind::Nats => NatsSink::read(&mut section).map(|nats| SinkKind::Nats(Box::new(nats))),
            Kind::Webhook => WebhookSink::read(&mut section).map(|webhook| SinkKind::Webhook(Box::new(webhook))),
        };
        let from = section.choice("from", &FROM).map_or(From::New, |from| from.value);
        let mut types =
            section.some_strings("types", "name at least one decision, or leave `types` out").unwrap_or_default();
        for glob in &types {
            check_glob(glob, &mut section.cx.out);
        }
        let dead_letters = section.boolean("dead_letters", false);
        if dead_letters && let Some(glob) = types.first() {
            let message = "a sink takes decisions or dead letters: `types` names decisions";
            section.cx.out.error(glob.at, message).help("leave `types` out; `if` can tell dead letters apart");
            types.clear();
        }
        let condition = section.expr("if");
        section.finish();
        Some(Sink { name, kind: kind?, from, types, dead_letters, condition })
    }
}

impl Sink {
    /// Reports `types` that no decision has.
    pub(super) fn check_types(cx: &mut Context, sinks: &[Sink], entities: &[EntityType]) {
        let decisions = || entities.iter().flat_map(|entity| &entity.decisions).map(|decision| decision.name.as_str());
        for glob in sinks.iter().flat_map(|sink| &sink.types).filter(|glob| !glob.is_empty()) {
            if !cx.partial && !decisions().any(|decision| glob_matches(glob, decision)) {
                let message = format!("no decision is called `{}`", glob.value);
                cx.out.error(glob.at, message).help = suggest(glob, decisions());
            }
        }
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
