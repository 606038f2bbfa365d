//! A TOML file as a tree in which every key and value knows its place, with the variables in strings put in.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostics::{Diagnostics, FileId, Files, Located, Location};
use super::interpolate::{Env, interpolate};

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub value: Value,
    pub at: Location,
}

/// What TOML knows. Of floats and dates no setting is made; they are only told apart to say so.
#[derive(Clone, Debug)]
pub(super) enum Value {
    String(String),
    Integer(i128),
    Float,
    Boolean(bool),
    Datetime,
    List(Vec<Node>),
    Table(Table),
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
            Value::Integer(_) | Value::Float => "a number",
            Value::Boolean(_) => "a boolean",
            Value::Datetime => "a date",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

/// The tree of a file, or none if its syntax is wrong in a way that would make up further problems.
pub(super) fn parse(file: FileId, files: &Files, env: Env, out: &mut Diagnostics) -> Option<Table> {
    let (root, errors) = DeTable::parse_recoverable(files.text(file));
    let mut usable = true;
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        let at = Location { file, start: span.start as u32, end: span.end as u32 };
        if error.message() == "duplicate key" {
            out.error(at, format!("`{}` is given twice", files.slice(at)))
                .help("a table holds each key once; remove one of the two");
        } else {
            usable = false;
            out.error(at, format!("this is not TOML: {}", error.message()));
        }
    }
    usable.then(|| Converter { file, files, env, out }.table(root.get_ref()))
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
            DeValue::String(text) => Value::String(self.string(text, at)),
            DeValue::Integer(integer) => match i128::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(integer) => Value::Integer(integer),
                Err(_) => Value::Float,
            },
            DeValue::Float(_) => Value::Float,
            DeValue::Boolean(boolean) => Value::Boolean(*boolean),
            DeValue::Datetime(_) => Value::Datetime,
            DeValue::Array(items) => Value::List(items.iter().map(|item| self.node(item)).collect()),
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node { value, at }
    }

    fn string(&mut self, text: &str, at: Location) -> String {
        let (text, problems) = interpolate(text, self.env);
        for problem in problems {
            let at = at.within_written(self.files, problem.range.start, problem.range.end);
            self.out.error(at, problem.message).help(problem.help);
        }
        text
    }

    fn location(&self, span: std::ops::Range<usize>) -> Location {
        Location { file: self.file, start: span.start as u32, end: span.end as u32 }
    }
}
