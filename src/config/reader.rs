//! Reads one table of the configuration key by key, and reports what is left: unknown keys.
//!
//! A key that is wrong is reported and then treated as absent; since one error means that there is no configuration, what
//! stands in for it is never used.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::diagnostics::{Diagnostics, Expr, Files, Located, Location};
use super::document::{Entry, Node, Table, Value};
use super::names::{list, suggest};
use super::units::{DURATION_HELP, SIZE_HELP, format_duration, format_size, parse_duration, parse_size};

/// What all readers share: the files, for relative paths, and the list of problems.
pub(super) struct Context {
    pub files: Files,
    pub out: Diagnostics,
    /// A file could not be read: what is not there may be in it, so that nothing is said to be missing altogether.
    pub partial: bool,
}

/// A table that is being read.
pub(super) struct Section<'c> {
    pub cx: &'c mut Context,
    /// Where the table is named; what is missing in it is reported there.
    pub at: Location,
    title: String,
    entries: Table,
    known: Vec<&'static str>,
    present: bool,
}

impl<'c> Section<'c> {
    /// Starts reading the table of `entry`; without one, or with another value (which is reported), an empty table.
    pub fn open(cx: &'c mut Context, title: &str, entry: Option<Entry>) -> Self {
        let at = entry.as_ref().map_or(Location::START, |entry| entry.name.at);
        let (entries, present) = match entry {
            None => (Vec::new(), false),
            Some(Entry { node: Node { value: Value::Table(entries), .. }, .. }) => (entries, true),
            Some(Entry { node, .. }) => {
                cx.out.error(node.at, format!("[{title}] must be a table, not {}", node.value.describe()));
                (Vec::new(), false)
            }
        };
        Section { cx, at, title: title.into(), entries, known: Vec::new(), present }
    }

    /// Starts reading the top of a document.
    pub fn top(cx: &'c mut Context, entries: Table) -> Self {
        Section { cx, at: Location::START, title: String::new(), entries, known: Vec::new(), present: true }
    }

    /// Whether there is such a table.
    pub fn is_present(&self) -> bool {
        self.present
    }

    /// How messages name this table.
    fn place(&self) -> String {
        if self.title.is_empty() { "at the top level".into() } else { format!("in [{}]", self.title) }
    }

    /// Takes a key's entry out, if it is there.
    pub fn entry(&mut self, key: &'static str) -> Option<Entry> {
        self.known.push(key);
        let index = self.entries.iter().position(|entry| entry.name.value == key)?;
        Some(self.entries.remove(index))
    }

    /// All entries that are not taken yet: for tables whose keys are names.
    pub fn rest(self) -> Table {
        self.entries
    }

    /// As [`Section::rest`], with what is needed to read each entry as a section of its own.
    pub fn into_parts(self) -> (&'c mut Context, String, Table) {
        (self.cx, self.title, self.entries)
    }

    /// Where a key is, if it is there; it still has to be taken.
    pub fn peek(&self, key: &str) -> Option<Location> {
        self.entries.iter().find(|entry| entry.name.value == key).map(|entry| entry.name.at)
    }

    /// Takes a table out.
    pub fn section(&mut self, key: &'static str) -> Section<'_> {
        let entry = self.entry(key);
        let title = format!("{}.{key}", self.title);
        Section::open(self.cx, &title, entry)
    }

    pub fn string(&mut self, key: &'static str) -> Option<Located<String>> {
        let node = self.entry(key)?.node;
        self.cx.string(node, key)
    }

    pub fn expr(&mut self, key: &'static str) -> Option<Expr> {
        let node = self.entry(key)?.node;
        self.cx.expr(node, key)
    }

    /// A list of strings; a single string stands for a list of one. Empty if it is wrong.
    pub fn strings(&mut self, key: &'static str) -> Option<Vec<Located<String>>> {
        let node = self.entry(key)?.node;
        Some(match node.value {
            Value::List(items) => items.into_iter().filter_map(|item| self.cx.string(item, key)).collect(),
            _ => self.cx.string(node, key).into_iter().collect(),
        })
    }

    pub fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        match self.entry(key).map(|entry| entry.node) {
            None => default,
            Some(Node { value: Value::Boolean(value), .. }) => value,
            Some(node) => {
                let message = format!("`{key}` must be true or false, not {}", node.value.describe());
                self.cx.out.error(node.at, message);
                default
            }
        }
    }

    /// A string that must be there.
    pub fn required_string(&mut self, key: &'static str, help: &str) -> Option<Located<String>> {
        self.require(key, help);
        self.string(key)
    }

    /// A path as it is written, which is not empty.
    pub fn path(&mut self, key: &'static str) -> Option<Located<String>> {
        let path = self.string(key)?;
        if path.is_empty() {
            self.cx.out.error(path.at, format!("`{key}` is an empty path"));
            return None;
        }
        Some(path)
    }

    /// A path that must be there.
    pub fn required_path(&mut self, key: &'static str, help: &str) -> Option<Located<String>> {
        self.require(key, help);
        self.path(key)
    }

    /// One of several words, which must be there.
    pub fn required_choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
        help: &str,
    ) -> Option<Located<T>> {
        self.require(key, help);
        self.choice(key, choices)
    }

    /// One of several words.
    pub fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<Located<T>> {
        let text = self.string(key)?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text.value) {
            return Some(Located::new(*value, text.at));
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let help = suggest(&text, names.iter().copied()).unwrap_or_else(|| list(&names));
        self.cx.out.error(text.at, format!("`{}` is not a value of `{key}`", text.value)).help(help);
        None
    }

    /// A whole number in a range, if it is given.
    pub fn integer(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let node = self.entry(key)?.node;
        let Value::Integer(value) = node.value else {
            let message = format!("`{key}` must be a whole number, not {}", describe_number(&node.value));
            self.cx.out.error(node.at, message);
            return None;
        };
        let valid = u64::try_from(value).ok().filter(|value| range.contains(value));
        if valid.is_none() {
            let help = format!("it may be from {} to {}", range.start(), range.end());
            self.cx.out.error(node.at, format!("`{key}` cannot be {value}")).help(help);
        }
        valid
    }

    /// A number of bytes in a range, if it is given.
    pub fn size(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let range_help = format!("it may be from {} to {}", format_size(*range.start()), format_size(*range.end()));
        let value = self.quantity(key, "a size", SIZE_HELP, parse_size);
        self.in_range(key, value, &range, range_help)
    }

    /// A duration in a range, if it is given.
    pub fn duration(&mut self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let [from, to] = [range.start(), range.end()].map(|duration| format_duration(*duration));
        let value = self.quantity(key, "a duration", DURATION_HELP, parse_duration);
        self.in_range(key, value, &range, format!("it may be from {from} to {to}"))
    }

    fn quantity<T>(
        &mut self,
        key: &'static str,
        what: &str,
        help: &str,
        parse: fn(&str) -> Option<T>,
    ) -> Option<Located<(T, String)>> {
        let node = self.entry(key)?.node;
        let message = match node.value {
            Value::String(text) => match parse(text.trim()) {
                Some(value) => return Some(Located::new((value, text), node.at)),
                None => format!("`{text}` is not {what}"),
            },
            other => format!("`{key}` must be {what} in a string, not {}", other.describe()),
        };
        self.cx.out.error(node.at, message).help(help);
        None
    }

    fn in_range<T: PartialOrd>(
        &mut self,
        key: &str,
        value: Option<Located<(T, String)>>,
        range: &RangeInclusive<T>,
        help: String,
    ) -> Option<T> {
        let Located { value: (value, text), at } = value?;
        if range.contains(&value) {
            return Some(value);
        }
        let size = if value < *range.start() { "small" } else { "large" };
        self.cx.out.error(at, format!("`{key}` is too {size}: {text}")).help(help);
        None
    }

    /// Reports a key that is not there; not if the whole table was wrong, which is reported already.
    pub fn require(&mut self, key: &str, help: &str) {
        if self.present && self.peek(key).is_none() {
            let message = format!("`{key}` is missing {}", self.place());
            self.cx.out.error(self.at, message).help(help);
        }
    }

    /// Reports keys that other versions have.
    pub fn unsupported(&mut self, keys: &[&'static str]) {
        for key in keys {
            if let Some(entry) = self.entry(key) {
                self.cx.not_yet(entry.name.at, &format!("`{key}`"));
            }
        }
        self.known.retain(|known| !keys.contains(known));
    }

    /// Reports every key that was not asked for.
    pub fn finish(self) {
        let place = self.place();
        for entry in self.entries {
            let name = entry.name;
            let help = suggest(&name, self.known.iter().copied());
            self.cx.out.error(name.at, format!("unknown key `{}` {place}", name.value)).help = help;
        }
    }
}

impl Context {
    pub fn string(&mut self, node: Node, key: &str) -> Option<Located<String>> {
        match node.value {
            Value::String(text) => Some(Located::new(text, node.at)),
            other => {
                self.out.error(node.at, format!("`{key}` must be a string, not {}", other.describe()));
                None
            }
        }
    }

    pub fn expr(&mut self, node: Node, key: &str) -> Option<Expr> {
        let written = self.files.slice(node.at).to_owned();
        match node.value {
            Value::String(text) if text.trim().is_empty() => {
                self.out.error(node.at, format!("`{key}` is an empty expression")).help("leave the key out instead");
                None
            }
            Value::String(text) => Some(Located::new(text, node.at)),
            other => {
                let message = format!("`{key}` must be an expression, not {}", other.describe());
                let help = match other {
                    Value::Integer(_) | Value::Float | Value::Boolean(_) => {
                        format!("an expression is a string: \"{written}\"")
                    }
                    Value::Table(_) => "an expression is a string; for a map write \"{'name': expression}\"".into(),
                    Value::List(_) => "an expression is a string; for a list write \"[first, second]\"".into(),
                    _ => "an expression is a string".into(),
                };
                self.out.error(node.at, message).help(help);
                None
            }
        }
    }

    /// Reports something that the design has and this version has not.
    pub fn not_yet(&mut self, at: Location, what: &str) {
        self.out.error(at, format!("{what} is not yet supported by this version"));
    }
}

fn describe_number(value: &Value) -> &'static str {
    if matches!(value, Value::Float) { "a fraction or a number out of range" } else { value.describe() }
}
