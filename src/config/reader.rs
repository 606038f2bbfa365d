//! Reads one table of the configuration key by key, and reports what is left: unknown keys.
//!
//! A key that is wrong is reported and then treated as absent; since one error means that there is no configuration, what
//! stands in for it is never used.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::diagnostics::{Diagnostics, Expr, Files, Located, Location};
use super::document::{Entry, Node, Table, Value};
use super::names::suggest;
use super::render::SECRETS;
use super::units::{DURATION_HELP, SIZE_HELP, format_duration, format_size, parse_duration, parse_size};

/// What all readers share: the files, for relative paths, and the list of problems.
pub(super) struct Context {
    pub files: Files,
    pub out: Diagnostics,
    /// A file could not be read: what is not there may be in it, so that nothing is said to be missing altogether.
    pub partial: bool,
    pub whole: Whole,
}

/// What is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    Configuration,
    /// Rules that are only looked at, with or without the rest.
    Rules,
    /// Such rules as a text that somebody sent: it must not make us read files.
    Sent,
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
            None | Some(Entry { node: Node { value: Value::Broken, .. }, .. }) => (Vec::new(), false),
            Some(Entry { node: Node { value: Value::Table(entries), .. }, .. }) => (entries, true),
            Some(Entry { name, node }) => {
                let name = name.value;
                let message = format!("[{title}] must be a table, not {}", node.value.describe());
                cx.out
                    .error(node.at, message)
                    .help(format!("write {name} = {{ … }}, or [{title}] with its keys below it"));
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

    /// Has no problem show what a key is given.
    pub fn hide(&mut self, key: &str) {
        if let Some(entry) = self.entries.iter().find(|entry| entry.name.value == key) {
            self.cx.out.hide(entry.node.at.within_quotes(&self.cx.files));
        }
    }

    /// Whether a key is there and has a table.
    pub fn is_table(&self, key: &str) -> bool {
        let entry = self.entries.iter().find(|entry| entry.name.value == key);
        entry.is_some_and(|entry| matches!(entry.node.value, Value::Table(_)))
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

    /// A list of strings; a single string stands for a list of one. Empty only if it is written so.
    pub fn strings(&mut self, key: &'static str) -> Option<Vec<Located<String>>> {
        let node = self.entry(key)?.node;
        let Value::List(items) = node.value else { return Some(vec![self.cx.string(node, key)?]) };
        let count = items.len();
        let strings: Vec<_> = items.into_iter().filter_map(|item| self.cx.string(item, key)).collect();
        (count == 0 || !strings.is_empty()).then_some(strings)
    }

    /// As [`Section::strings`], with at least one.
    pub fn some_strings(&mut self, key: &'static str, help: &str) -> Option<Vec<Located<String>>> {
        let at = self.peek(key);
        let strings = self.strings(key)?;
        if strings.is_empty() {
            self.cx.out.error(at, format!("`{key}` is empty")).help(help);
            return None;
        }
        Some(strings)
    }

    pub fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        match self.entry(key).map(|entry| entry.node) {
            None | Some(Node { value: Value::Broken, .. }) => default,
            Some(Node { value: Value::Boolean(value), .. }) => value,
            Some(node) => {
                let message = format!("`{key}` must be true or false, not {}", node.value.describe());
                self.cx.out.error(node.at, message).help(format!("write {key} = true, without quotes"));
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
            self.cx
                .out
                .error(path.at, format!("`{key}` is an empty path"))
                .help("use \".\" for the folder of this file");
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
        let help = suggest(&text, choices.iter().map(|(name, _)| *name));
        self.cx.out.error(text.at, format!("`{}` is not a value of `{key}`", text.value)).help = help;
        None
    }

    /// A whole number in a range, if it is given.
    pub fn integer(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let node = self.entry(key)?.node;
        let message = match node.value {
            Value::Integer(value) => match u64::try_from(value) {
                Ok(value) if range.contains(&value) => return Some(value),
                _ => format!("`{key}` cannot be {value}"),
            },
            Value::Broken => return None,
            Value::Float(_) => format!("`{key}` must be a whole number, written with digits only"),
            other => format!("`{key}` must be a whole number, not {}", other.describe()),
        };
        let help = format!("it may be from {} to {}", range.start(), range.end());
        self.cx.out.error(node.at, message).help(help);
        None
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
            Value::Broken => return None,
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

    /// Reports every key that was not asked for.
    pub fn finish(self) {
        let place = self.place();
        let has_secrets = SECRETS.iter().any(|name| self.known.contains(name));
        for entry in self.entries {
            let name = entry.name;
            let help = suggest(&name, self.known.iter().copied());
            // It may be the misspelt name of one.
            let may_be_secret = help.as_deref().is_none_or(|help| SECRETS.iter().any(|name| help.contains(name)));
            if has_secrets && may_be_secret {
                self.cx.out.hide(entry.node.at.within_quotes(&self.cx.files));
            }
            self.cx.out.error(name.at, format!("unknown key `{}` {place}", name.value)).help = help;
        }
    }
}

impl Context {
    /// Whether files may be read; if not, that is reported of the key at `at`.
    pub fn may_read(&mut self, at: Location) -> bool {
        if self.whole == Whole::Sent {
            let help = "leave it out: rules need no listeners, tokens or certificates to be compared";
            self.out.error(at, "over HTTP rules are one text, for which no other file is read").help(help);
        }
        self.whole != Whole::Sent
    }

    pub fn string(&mut self, node: Node, key: &str) -> Option<Located<String>> {
        match node.value {
            Value::String(text) => Some(Located::new(text, node.at)),
            Value::Broken => None,
            other => {
                let message = format!("`{key}` must be a string, not {}", other.describe());
                let written = self.files.slice(node.at).to_owned();
                // What is meant to be a secret is not repeated.
                let is_hidden = SECRETS.contains(&key) || self.out.hides(node.at.file, node.at.start as usize);
                let problem = self.out.error(node.at, message);
                if matches!(other, Value::Integer(_) | Value::Float(_) | Value::Boolean(_)) {
                    let shown = if is_hidden { "…" } else { &written };
                    problem.help(format!("write it in quotes: \"{shown}\""));
                }
                None
            }
        }
    }

    pub fn expr(&mut self, node: Node, key: &str) -> Option<Expr> {
        let written = self.files.slice(node.at).to_owned();
        match node.value {
            Value::String(text) if text.trim().is_empty() => {
                self.out.error(node.at, format!("`{key}` is an empty expression")).help("write a CEL expression");
                None
            }
            Value::String(text) => Some(Located::new(text, node.at)),
            Value::Broken => None,
            other => {
                let message = format!("`{key}` must be an expression, not {}", other.describe());
                let help = match other {
                    Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => {
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
}
