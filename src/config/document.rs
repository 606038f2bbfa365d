//! A TOML file as a tree in which every key and value knows its place, with the variables in strings put in.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostics::{Diagnostics, FileId, Files, Located, Location};
use super::interpolate::{Env, interpolate};
use super::request_reader::HEADERS;
use super::template::hide_text;

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub value: Value,
    pub at: Location,
}

/// What TOML knows. Of floats and dates no setting is made: their texts are for the events that tests are made of.
#[derive(Clone, Debug)]
pub(super) enum Value {
    String(String),
    Integer(i128),
    Float(String),
    Boolean(bool),
    Datetime(String),
    List(Vec<Node>),
    Table(Table),
    /// What is wrong with it is reported already.
    Broken,
}

/// The entries of a table in the order in which they are written.
pub(super) type Table = Vec<Entry>;

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub name: Located<String>,
    pub node: Node,
}

impl Value {
    /// For messages: what there is instead of what should be.
    pub fn describe(&self) -> &'static str {
        match self {
            Value::String(_) => "a string",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Boolean(_) => "a boolean",
            Value::Datetime(_) => "a date",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Broken => "nothing",
        }
    }
}

/// The tree of a file, or none if its syntax is wrong in a way that would make up further problems.
pub(super) fn parse(file: FileId, files: &Files, env: Env, out: &mut Diagnostics) -> Option<Table> {
    let (root, errors) = DeTable::parse_recoverable(files.text(file));
    let (twice, mut broken): (Vec<_>, Vec<_>) = errors.iter().partition(|error| error.message() == "duplicate key");
    // What is not closed many times over ends at the same place.
    broken.dedup_by(|error, before| error.span() == before.span() && error.message() == before.message());
    let location = |error: &toml::de::Error| {
        let span = error.span().unwrap_or(0..0);
        Location { file, start: span.start as u32, end: span.end as u32 }
    };
    for error in &broken {
        out.error(location(error), format!("this is not TOML: {}", error.message()));
    }
    let root = Converter { file, files, env, out: &mut *out }.table(root.get_ref());
    for at in twice.into_iter().map(location) {
        out.error(at, format!("`{}` is given twice", files.slice(at)))
            .help("a table holds each key once; remove one of the two")
            .also = first_of(&root, at, files);
    }
    if broken.is_empty() {
        return Some(root);
    }
    // Nobody reads these, and their lines are shown.
    hide_headers(&root, files, out);
    None
}

/// Hides what tables called `headers` hold.
fn hide_headers(table: &Table, files: &Files, out: &mut Diagnostics) {
    for Entry { name, node } in table {
        let Value::Table(entries) = &node.value else { continue };
        if name.value == HEADERS {
            for entry in entries {
                hide_text(entry.node.at, files, out);
            }
        }
        hide_headers(entries, files, out);
    }
}

/// Where the key that is given again at `again` was given first: for a header, in the same header above; for a key in a
/// table's body, at the nearest of this name above.
fn first_of(root: &Table, again: Location, files: &Files) -> Option<Location> {
    let text = files.text(again.file);
    let line_start = text[..again.start as usize].rfind('\n').map_or(0, |newline| newline + 1);
    let header = &text[line_start..again.end as usize];
    if header.trim_start().starts_with('[') {
        // The parser gives a table that is opened again the place of the later header, so the text is asked.
        let whole = format!("\n{header}]");
        let before = format!("\n{}", &text[..line_start]);
        let start = before.find(&whole)? as u32 + (again.start - line_start as u32);
        return Some(Location { file: again.file, start, end: start + (again.end - again.start) });
    }
    let mut open: Vec<&Table> = vec![root];
    let mut nearest: Option<Location> = None;
    while let Some(table) = open.pop() {
        for Entry { name: key, node } in table {
            let is_nearer = key.at.start < again.start && nearest.is_none_or(|nearest| nearest.start < key.at.start);
            if is_nearer && files.slice(key.at) == files.slice(again) {
                nearest = Some(key.at);
            }
            if let Value::Table(inner) = &node.value {
                open.push(inner);
            }
        }
    }
    nearest
}

struct Converter<'a> {
    file: FileId,
    files: &'a Files,
    env: Env<'a>,
    out: &'a mut Diagnostics,
}

impl Converter<'_> {
    fn table(&mut self, table: &DeTable) -> Table {
        let mut entries: Table = table
            .iter()
            .map(|(key, value)| Entry {
                name: Located::new(key.get_ref().to_string(), self.location(key.span())),
                node: self.node(value),
            })
            .collect();
        entries.sort_by_key(|entry| entry.name.at.start);
        entries
    }

    fn node(&mut self, value: &Spanned<DeValue>) -> Node {
        let at = self.location(value.span());
        let value = match value.get_ref() {
            DeValue::String(text) => self.string(text, at),
            DeValue::Integer(integer) => match i128::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(integer) => Value::Integer(integer),
                Err(_) => Value::Float(integer.as_str().to_owned()),
            },
            DeValue::Float(float) => Value::Float(float.as_str().to_owned()),
            DeValue::Boolean(boolean) => Value::Boolean(*boolean),
            DeValue::Datetime(datetime) => Value::Datetime(datetime.to_string()),
            DeValue::Array(items) => Value::List(items.iter().map(|item| self.node(item)).collect()),
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node { value, at }
    }

    fn string(&mut self, text: &str, at: Location) -> Value {
        let (text, problems) = interpolate(text, self.env);
        let value = if problems.is_empty() { Value::String(text) } else { Value::Broken };
        for problem in problems {
            let at = at.within_written(self.files, problem.range.start, problem.range.end);
            self.out.error(at, problem.message).help(problem.help);
        }
        value
    }

    fn location(&self, span: std::ops::Range<usize>) -> Location {
        Location { file: self.file, start: span.start as u32, end: span.end as u32 }
    }
}
