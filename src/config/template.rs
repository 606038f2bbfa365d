//! Text with expressions in braces: `https://bureau/{application.id}`. Braces that are meant are doubled; inside an
//! expression, braces that nest and braces in string literals are CEL's own.

use std::ops::Range;

use super::diagnostics::{Diagnostics, Files, Located, Location};
use super::document::Node;
use super::entities::{Template, TemplatePart};
use super::reader::Context;

const HELP: &str = "write {expression}; braces that are meant are doubled: {{ and }}";

impl Template {
    /// Reads a template; messages call it `key` and never repeat its text, which may hold a secret.
    pub(super) fn read(cx: &mut Context, node: Node, key: &str) -> Option<Template> {
        let text = cx.string(node, key)?;
        let part = |part| match part {
            Part::Text(text) => TemplatePart::Text(text),
            Part::Expr(range) => {
                let expr = text[range.start + 1..range.end - 1].to_owned();
                // With its braces, which stand where a string has its quotes: errors are located within them.
                TemplatePart::Expr(Located::new(expr, text.at.within(&cx.files, range.start, range.end)))
            }
        };
        match split(&text) {
            Ok(parts) => Some(Template { at: text.at, parts: parts.into_iter().map(part).collect() }),
            Err(Problem { range, message }) => {
                let has_variables = cx.files.slice(text.at).contains("${");
                let hint = if has_variables { "; variables are put in before braces are looked for" } else { "" };
                let at = text.at.within(&cx.files, range.start, range.end);
                cx.out.error(at, format!("{message} in `{key}`")).help(format!("{HELP}{hint}"));
                None
            }
        }
    }

    /// The template as it is written.
    pub(super) fn text(&self) -> String {
        self.parts.iter().map(TemplatePart::text).collect()
    }

    /// As it is shown to people: its text as asterisks, all of it or what comes after the first `after`, and its expressions
    /// as they are.
    pub(super) fn masked(&self, after: Option<char>) -> String {
        let mut is_hidden = after.is_none();
        let part = |part: &TemplatePart| {
            let TemplatePart::Text(text) = part else { return part.text() };
            let open = match after {
                Some(after) if !is_hidden => text.find(after).map_or(text.len(), |at| at + after.len_utf8()),
                _ => 0,
            };
            is_hidden = is_hidden || after.is_some_and(|after| text.contains(after));
            let mask = if open < text.len() { "***" } else { "" };
            TemplatePart::Text(text[..open].to_owned()).text() + mask
        };
        self.parts.iter().map(part).collect()
    }
}

impl TemplatePart {
    fn text(&self) -> String {
        match self {
            TemplatePart::Text(text) => text.replace('{', "{{").replace('}', "}}"),
            TemplatePart::Expr(expr) => format!("{{{}}}", expr.value),
        }
    }
}

/// Keeps the text of a template from being shown with a problem: all that is written at `at` but its expressions and
/// variables.
pub(super) fn hide_text(at: Location, files: &Files, out: &mut Diagnostics) {
    let inner = at.within_quotes(files);
    let written = files.slice(inner);
    let mut hide = |range: Range<usize>| {
        let [start, end] = [range.start, range.end].map(|offset| inner.start + offset as u32);
        out.hide(Location { file: inner.file, start, end });
    };
    let (mut begun, mut position) = (0, 0);
    while let Some(brace) = written[position..].find('{').map(|found| position + found) {
        let after = &written[brace + 1..];
        let length = if after.starts_with('{') { None } else { expression_length(after) };
        let Some(length) = length else {
            // It is text, as the second of two is.
            position = brace + 1 + usize::from(after.starts_with('{'));
            continue;
        };
        hide(begun..brace - usize::from(written[..brace].ends_with('$')));
        position = brace + length + 2;
        begun = position;
    }
    hide(begun..written.len());
}

#[derive(Debug, PartialEq)]
enum Part {
    Text(String),
    /// Where the expression is, with its braces.
    Expr(Range<usize>),
}

#[derive(Debug)]
struct Problem {
    range: Range<usize>,
    message: &'static str,
}

fn split(text: &str) -> Result<Vec<Part>, Problem> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut position = 0;
    while let Some(found) = text[position..].find(['{', '}']) {
        let brace = position + found;
        plain.push_str(&text[position..brace]);
        let after = &text[brace + 1..];
        let (is_open, rest) = (text[brace..].starts_with('{'), &text[brace..=brace]);
        if after.starts_with(rest) {
            plain.push_str(rest);
            position = brace + 2;
            continue;
        }
        if !is_open {
            return Err(Problem { range: brace..brace + 1, message: "`}` closes nothing" });
        }
        let Some(length) = expression_length(after) else {
            return Err(Problem { range: brace..text.len(), message: "`{` is not closed" });
        };
        let range = brace..brace + length + 2;
        if after[..length].trim().is_empty() {
            return Err(Problem { range, message: "there is an empty expression" });
        }
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain)));
        }
        position = range.end;
        parts.push(Part::Expr(range));
    }
    plain.push_str(&text[position..]);
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

/// The number of bytes before the brace that closes an expression.
fn expression_length(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut position = 0;
    loop {
        let at = position + text[position..].find(['{', '}', '\'', '"'])?;
        position = at + 1;
        match text.as_bytes()[at] {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => position = literal_end(text, at)?,
        }
    }
}

/// Where the string literal ends whose first quote is at `start`.
fn literal_end(text: &str, start: usize) -> Option<usize> {
    let rest = &text[start..];
    let quote = ["'''", "\"\"\"", "'", "\""].into_iter().find(|quote| rest.starts_with(quote))?;
    // In r'…' a backslash stands for itself.
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let before = &text[..start];
    let prefix = &before[before.trim_end_matches(is_word).len()..];
    let is_raw = ["r", "br", "rb"].iter().any(|raw| prefix.eq_ignore_ascii_case(raw));
    let mut position = start + quote.len();
    loop {
        let rest = &text[position..];
        if rest.starts_with(quote) {
            return Some(position + quote.len());
        }
        let mut chars = rest.chars();
        let next = chars.next()?;
        let escaped = if next == '\\' && !is_raw { chars.next()?.len_utf8() } else { 0 };
        position += next.len_utf8() + escaped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts, expressions in angle brackets, or the part of the text that is wrong.
    fn shown(text: &str) -> Result<Vec<String>, &str> {
        let part = |part| match part {
            Part::Text(text) => text,
            Part::Expr(range) => format!("<{}>", &text[range.start + 1..range.end - 1]),
        };
        split(text).map(|parts| parts.into_iter().map(part).collect()).map_err(|problem| &text[problem.range])
    }

    /// If this failed, a request would go to another address than the one that is written.
    #[test]
    fn expressions_end_at_their_brace() {
        let cases: [(&str, &[&str]); 16] = [
            ("", &[]),
            ("plain ä", &["plain ä"]),
            ("{a}", &["<a>"]),
            ("https://h/{a.b}/x{c}", &["https://h/", "<a.b>", "/x", "<c>"]),
            ("{a}{b}", &["<a>", "<b>"]),
            ("{{a}}", &["{a}"]),
            ("{{{a}}}", &["{", "<a>", "}"]),
            ("a{{{{b", &["a{{b"]),
            ("{ {'k': {'l': a}}.k }", &["< {'k': {'l': a}}.k >"]),
            ("{a['}']}", &["<a['}']>"]),
            (r#"{a["'}"] + '"}'}"#, &[r#"<a["'}"] + '"}'>"#]),
            (r"{'\'}' + 'ä\\'}!", &[r"<'\'}' + 'ä\\'>", "!"]),
            (r"{r'\'}", &[r"<r'\'>"]),
            (r"{[bR'\', 1]}", &[r"<[bR'\', 1]>"]),
            ("{'''it's }'''}", &["<'''it's }'''>"]),
            ("{''}{\"\"}", &["<''>", "<\"\">"]),
        ];
        for (text, expected) in cases {
            assert_eq!(
                shown(text).as_deref(),
                Ok(expected.iter().map(ToString::to_string).collect::<Vec<_>>().as_slice())
            );
        }
    }

    /// If this failed, a slip would be sent as it is written, or be shown at another place.
    #[test]
    fn braces_without_a_partner_are_refused() {
        let cases = [
            ("ä{a", "{a"),
            ("a}b", "}"),
            ("{a}}", "}"),
            ("x{}", "{}"),
            ("{ }", "{ }"),
            ("{'a}", "{'a}"),
            ("{{'k': 1}.k}", "}"),
            (r"{color'\'}", r"{color'\'}"),
            (r"{'\", r"{'\"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), Err(expected), "{text}");
        }
    }
}
