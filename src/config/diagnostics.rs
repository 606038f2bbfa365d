//! What is wrong with a configuration, and where: the loaded files, places in them, and the list of problems.
//!
//! Everything that can be said about a configuration goes through [`Diagnostics`], so that all problems come at once and
//! in one form. Later layers add theirs (errors inside expressions) with the locations that [`Located`] values carry.

use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// The texts of all loaded files, in the order in which they were read; the first is the main file.
#[derive(Clone, Default)]
pub struct Files {
    files: Vec<(PathBuf, String)>,
}

/// One of the [`Files`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId(u32);

/// A byte range in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    pub file: FileId,
    pub start: u32,
    pub end: u32,
}

/// A value and the place it was read from.
#[derive(Clone, Debug)]
pub struct Located<T> {
    pub value: T,
    pub at: Location,
}

/// CEL source text. Known to be not empty; whether it is CEL is for the rules to say.
pub type Expr = Located<String>;

/// Whether a configuration with this problem can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// One problem: what is wrong, where, and what would be right.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    pub severity: Severity,
    pub at: Option<Location>,
    pub message: String,
    pub help: Option<String>,
    /// The other place that has to do with it, for example the first of two definitions.
    pub also: Option<Location>,
}

/// All problems found so far.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    /// What lines are shown without.
    hidden: Vec<Location>,
}

impl Files {
    /// Adds a file; `path` is what messages call it, and its folder is what relative paths in it are relative to.
    pub fn add(&mut self, path: impl Into<PathBuf>, text: impl Into<String>) -> FileId {
        self.files.push((path.into(), text.into()));
        FileId(self.files.len() as u32 - 1)
    }

    /// The file's path as it was given; empty for an id of other files.
    pub fn path(&self, file: FileId) -> &Path {
        self.files.get(file.0 as usize).map_or(Path::new(""), |(path, _)| path)
    }

    /// The file's text; empty for an id of other files.
    pub fn text(&self, file: FileId) -> &str {
        self.files.get(file.0 as usize).map_or("", |(_, text)| text)
    }

    /// `path` seen from the folder of the file that names it.
    pub fn resolve(&self, file: FileId, path: &str) -> PathBuf {
        self.path(file).parent().unwrap_or(Path::new("")).join(path)
    }

    /// Line and column of the location's start, 1-based, the column in characters.
    pub fn position(&self, at: Location) -> (usize, usize) {
        let before = prefix(self.text(at.file), at.start as usize);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The line of the location's start, and the byte at which it begins.
    pub(super) fn line(&self, at: Location) -> (usize, &str) {
        let text = self.text(at.file);
        let start = prefix(text, at.start as usize).rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[start..].split('\n').next().unwrap_or("");
        (start, line.trim_end_matches('\r'))
    }

    /// `path:line:column` of the location's start.
    pub fn place(&self, at: Location) -> String {
        let (line, column) = self.position(at);
        format!("{}:{line}:{column}", self.path(at.file).display())
    }

    pub(super) fn slice(&self, at: Location) -> &str {
        self.text(at.file).get(at.start as usize..at.end as usize).unwrap_or("")
    }
}

impl fmt::Debug for Files {
    /// Paths only: the texts may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.files.iter().map(|(path, _)| path)).finish()
    }
}

/// The longest part of `text` that ends at or before byte `end` and is valid UTF-8.
fn prefix(text: &str, end: usize) -> &str {
    let mut end = end.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl Location {
    /// The start of the main file: where what nobody wrote down is said to be.
    pub const START: Location = Location { file: FileId(0), start: 0, end: 0 };

    /// The part `start..end` (in bytes) of the string value at this location, for errors inside expressions; also of the
    /// expression of a template, whose braces are its quotes. Exact for strings without escapes and `$` interpolation,
    /// else the whole value.
    #[must_use]
    pub fn within(&self, files: &Files, start: usize, end: usize) -> Location {
        let written = files.slice(*self);
        if written.contains("${") || written.contains("$$") {
            return *self;
        }
        self.within_written(files, start, end)
    }

    /// What stands between the quotes of the string at this location; of anything else, all of it.
    pub(super) fn within_quotes(&self, files: &Files) -> Location {
        let written = files.slice(*self);
        let quotes = if written.starts_with(['"', '\'']) { quotes(written) } else { 0 };
        Location { start: self.start + quotes, end: self.end.saturating_sub(quotes).max(self.start + quotes), ..*self }
    }

    /// As [`Location::within`], but offsets count in the text before interpolation.
    pub(super) fn within_written(&self, files: &Files, start: usize, end: usize) -> Location {
        let written = files.slice(*self);
        let quotes = quotes(written) as usize;
        let escapes = written.starts_with('"') && written.contains('\\');
        let content = written.get(quotes..written.len().saturating_sub(quotes)).unwrap_or("");
        let newline = if quotes == 1 {
            0
        } else if content.starts_with("\r\n") {
            2
        } else {
            usize::from(content.starts_with('\n'))
        };
        let content = &content[newline..];
        if escapes || content.contains('\r') || start > end || content.get(start..end).is_none() {
            return *self;
        }
        let base = self.start as usize + quotes + newline;
        Location { file: self.file, start: (base + start) as u32, end: (base + end) as u32 }
    }
}

/// How many quotes a string begins and ends with.
fn quotes(written: &str) -> u32 {
    if written.starts_with("\"\"\"") || written.starts_with("'''") { 3 } else { 1 }
}

impl<T> Located<T> {
    pub fn new(value: T, at: Location) -> Self {
        Located { value, at }
    }

    /// Another value from the same place.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Located<U> {
        Located { value: f(self.value), at: self.at }
    }
}

impl<T> Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl Diagnostic {
    /// Says what would be right.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Names the other place that has to do with it.
    pub fn also(&mut self, at: Location) -> &mut Self {
        self.also = Some(at);
        self
    }
}

impl Diagnostics {
    /// Adds an error; help can be chained: `diagnostics.error(at, "…").help("…")`.
    pub fn error(&mut self, at: impl Into<Option<Location>>, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Error, at.into(), message.into())
    }

    /// Adds a warning.
    pub fn warning(&mut self, at: impl Into<Option<Location>>, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Warning, at.into(), message.into())
    }

    fn push(&mut self, severity: Severity, at: Option<Location>, message: String) -> &mut Diagnostic {
        self.list.push(Diagnostic { severity, at, message, help: None, also: None });
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    /// Has what stands there, which may be a secret, shown as asterisks.
    pub(super) fn hide(&mut self, at: Location) {
        self.hidden.push(at);
    }

    /// Whether a byte of a file is not to be shown.
    pub(super) fn hides(&self, file: FileId, byte: usize) -> bool {
        self.hidden.iter().any(|at| at.file == file && (at.start as usize..at.end as usize).contains(&byte))
    }

    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    /// How many of the problems are errors.
    pub(super) fn errors(&self) -> usize {
        self.list.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All problems, sorted by file and position; those without a place come first.
    pub fn sorted(&self) -> Vec<&Diagnostic> {
        let mut sorted: Vec<_> = self.list.iter().collect();
        sorted.sort_by_key(|diagnostic| diagnostic.at.map(|at| (at.file, at.start, at.end)));
        sorted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, errors inside expressions would point to the wrong characters.
    #[test]
    fn a_part_of_a_string_is_located_where_its_text_is_plain() {
        let cases = [
            (r#"x = "abc + d""#, 4, 5, "+"),
            (r"x = 'abc + d'", 4, 5, "+"),
            ("x = \"\"\"\nabc\n+ d\"\"\"", 4, 5, "+"),
            (r#"x = "a\"c + d""#, 4, 5, r#""a\"c + d""#),
            (r#"x = "a${V} + d""#, 4, 5, r#""a${V} + d""#),
            (r#"x = "abc""#, 2, 9, r#""abc""#),
            (r#"x = "äbc""#, 2, 3, "b"),
            (r"x = {'abc' + d}", 6, 7, "+"),
        ];
        for (text, start, end, expected) in cases {
            let mut files = Files::default();
            let file = files.add("a.toml", text);
            let whole = Location { file, start: 4, end: text.len() as u32 };
            assert_eq!(files.slice(whole.within(&files, start, end)), expected, "{text}");
        }
    }

    /// If this failed, editors would jump to the wrong place.
    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let mut files = Files::default();
        let file = files.add("a.toml", "a = 1\nä = 2\n");
        let at = |start| files.position(Location { file, start, end: start });
        assert_eq!([at(0), at(4), at(6), at(9), at(999)], [(1, 1), (1, 5), (2, 1), (2, 3), (3, 1)]);
    }
}
