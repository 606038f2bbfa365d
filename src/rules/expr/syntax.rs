//! From CEL text to the parser's tree, on a stack of its own; syntax errors in words.

use super::compile::{self, CompileError};
use super::library;
use super::names::Roots;
use super::node::Node;

/// Longer expressions are refused, in bytes.
const EXPRESSION_BYTES_MAX: usize = 8 * 1024;

/// The parser recurses along operators and brackets, so it gets a stack that the longest expression cannot use up.
const PARSER_STACK_BYTES: usize = 128 * 1024 * 1024;

/// Parses and compiles `text`.
pub(super) fn parse_and_compile(text: &str, roots: &Roots<'_>) -> Result<Node, CompileError> {
    let whole = |message: String| CompileError { message, help: None, start: 0, end: text.len() };
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(whole(format!(
            "an expression has at most {EXPRESSION_BYTES_MAX} bytes; split it into derived values"
        )));
    }
    std::thread::scope(|scope| {
        let parser =
            std::thread::Builder::new().stack_size(PARSER_STACK_BYTES).spawn_scoped(scope, || parse(text, roots));
        match parser.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(compiled)) => compiled,
            Ok(Err(_)) | Err(_) => Err(whole("the expression cannot be parsed".to_owned())),
        }
    })
}

fn parse(text: &str, roots: &Roots<'_>) -> Result<Node, CompileError> {
    let (ast, source) = library::parser().parse_with_source_info(text).map_err(|errors| {
        let Some(error) = errors.errors.into_iter().next() else {
            return CompileError { message: NOT_CEL.to_owned(), help: None, start: 0, end: text.len() };
        };
        if error.msg.contains("Recursion limit") {
            let message = "nested too deeply; split it into derived values".to_owned();
            return CompileError { message, help: None, start: 0, end: text.len() };
        }
        let (line, column) = error.pos;
        // At its end an expression has nothing that could be pointed at but its last character.
        let start = offset(text, line, column).min(text.trim_end().len().saturating_sub(1));
        let start = prefix_end(text, start);
        let end = start + text[start..].chars().next().map_or(0, char::len_utf8);
        let (message, help) = syntax_error(error.msg.lines().next().unwrap_or_default());
        CompileError { message, help, start, end }
    })?;
    compile::compile(text, &ast, &source, roots)
}

/// How the lexer's complaint begins; the text that it means follows in quotes.
const UNREADABLE: &str = "token recognition error at: ";

const NOT_CEL: &str = "not a CEL expression";

/// What the parser says, in the words of people who do not know its grammar; and what would be right.
fn syntax_error(detail: &str) -> (String, Option<String>) {
    let detail = detail.trim_start_matches("Syntax error: ");
    let quoted = |from: &str| {
        let (_, rest) = detail.split_once(from)?;
        rest.strip_prefix('\'')?.split('\'').next().map(str::to_owned)
    };
    let unexpected = ["mismatched input ", "extraneous input ", "no viable alternative at input "];
    let why = match (unexpected.iter().find_map(|start| quoted(start)), quoted("missing ")) {
        (Some(token), _) if token == "<EOF>" => "it ends too early".to_owned(),
        (Some(token), _) => format!("`{token}` does not fit here"),
        (None, Some(token)) => format!("`{token}` is missing"),
        (None, None) if detail.starts_with(UNREADABLE) => match detail[UNREADABLE.len()..].chars().nth(1) {
            Some('\'' | '"') => "the string is not closed".to_owned(),
            Some(first) => {
                let help = (first == '=').then(|| "compare with `==`".to_owned());
                return (format!("{NOT_CEL}: `{first}` cannot be read"), help);
            }
            None => "this cannot be read".to_owned(),
        },
        (None, None) if detail == "invalid int literal" => {
            return ("an integer beyond 64 bits".to_owned(), Some("write decimal('…')".to_owned()));
        }
        (None, None) => detail.to_owned(),
    };
    let help = match unexpected.iter().find_map(|start| quoted(start)).as_deref() {
        Some("and") => Some("write `&&`"),
        Some("or") => Some("write `||`"),
        Some("not") => Some("write `!`"),
        _ => None,
    };
    (format!("{NOT_CEL}: {why}"), help.map(str::to_owned))
}

/// The start of the character at or before byte `at`.
fn prefix_end(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn offset(text: &str, line: isize, column: isize) -> usize {
    let before: usize = text.split_inclusive('\n').take(usize::try_from(line - 1).unwrap_or(0)).map(str::len).sum();
    let wanted = usize::try_from(column - 1).unwrap_or(0);
    before + text[before..].char_indices().nth(wanted).map_or(text.len() - before, |(at, _)| at)
}
