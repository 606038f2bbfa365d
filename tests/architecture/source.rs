//! Just enough of Rust's syntax to see what a source imports: comments and literals blanked out, paths followed.

/// The source with comments, strings and character literals replaced by spaces; lines stay where they are.
pub fn code_only(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let length = blank_length(&chars, at);
        if length == 0 {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..at + length].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at += length;
        }
    }
    out
}

/// How many characters from here on are a comment or a literal.
fn blank_length(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let after_word = at > 0 && is_word(chars[at - 1]);
    match rest {
        ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => block_comment(rest),
        ['"', ..] => quoted(rest, '"'),
        ['r', '"' | '#', ..] if !after_word => raw_string(rest),
        ['\'', '\\', ..] => quoted(rest, '\''),
        ['\'', _, '\'', ..] => 3,
        _ => 0,
    }
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A raw string's length; 0 for a raw identifier.
fn raw_string(rest: &[char]) -> usize {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let end: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body: String = rest[2 + hashes..].iter().collect();
    let length = body.find(&end).map_or(body.chars().count(), |byte| body[..byte].chars().count() + end.len());
    2 + hashes + length
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `word` stands, not as a part of a longer name.
pub fn find_word<'c>(code: &'c str, word: &'c str) -> impl Iterator<Item = usize> + 'c {
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = code[..*at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let open_end = !word.ends_with(is_word);
        !before.is_some_and(|c| is_word(c) || c == ':' && word.ends_with("::"))
            && (open_end || !after.is_some_and(is_word))
    })
}

/// The names that follow `prefix` (`crate::`): one for a path, several for a group, `*` for a glob; and where.
pub fn names_after(code: &str, prefix: &str) -> Vec<(usize, String)> {
    let starts = code.match_indices(prefix).map(|(at, _)| at);
    let free = starts.filter(|at| !code[..*at].chars().next_back().is_some_and(|c| is_word(c) || c == ':'));
    free.flat_map(|at| first_names(&code[at + prefix.len()..]).into_iter().map(move |name| (at, name))).collect()
}

fn first_names(rest: &str) -> Vec<String> {
    let rest = rest.trim_start();
    let Some(group) = rest.strip_prefix('{') else {
        return if rest.starts_with('*') {
            vec!["*".into()]
        } else {
            vec![rest.chars().take_while(|c| is_word(*c)).collect()]
        };
    };
    let mut names = Vec::new();
    let (mut depth, mut item, mut expects) = (1, String::new(), true);
    for c in group.chars() {
        if depth == 1 && expects && (is_word(c) || c == '*') {
            item.push(c);
            continue;
        }
        if !item.is_empty() {
            names.push(std::mem::take(&mut item));
            expects = false;
        }
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => expects = true,
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// What a file imports of the crate: lines and the folders or files directly below src/ (`*` for all of them).
pub fn unit_imports(path: &str, code: &str) -> Vec<(usize, String)> {
    let mut found = names_after(code, "crate::");
    found.extend(names_after(code, "turnstile::"));
    found.extend(names_after_supers(code, module_depth(path)));
    found.into_iter().map(|(at, name)| (code[..at].matches('\n').count() + 1, name)).collect()
}

/// The names after as many `super::` as lead to the root of the crate from a module so deep.
fn names_after_supers(code: &str, depth: usize) -> Vec<(usize, String)> {
    const SUPER: &str = "super::";
    let mut found = Vec::new();
    let mut end = 0;
    for (at, _) in code.match_indices(SUPER) {
        if at < end || code[..at].chars().next_back().is_some_and(|c| is_word(c) || c == ':') {
            continue;
        }
        end = at;
        while code[end..].starts_with(SUPER) {
            end += SUPER.len();
        }
        if (end - at) / SUPER.len() == depth + inline_modules(&code[..at]) {
            found.extend(first_names(&code[end..]).into_iter().map(|name| (at, name)));
        }
    }
    found
}

/// How many `mod name { … }` are open at the end of the code.
fn inline_modules(code: &str) -> usize {
    let mut open = Vec::new();
    for (at, c) in code.char_indices() {
        match c {
            '{' => open.push(code[..at].split_whitespace().nth_back(1) == Some("mod")),
            '}' => drop(open.pop()),
            _ => {}
        }
    }
    open.into_iter().filter(|is_module| *is_module).count()
}

/// How many `super` lead from a file to the root of the crate.
fn module_depth(path: &str) -> usize {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.last() {
        Some(&"mod.rs") => parts.len() - 1,
        _ => parts.len(),
    }
}

/// The names in backticks in the first column of the table under a heading.
pub fn table_names<'p>(page: &'p str, heading: &str) -> impl Iterator<Item = String> + 'p {
    let section = page.split_once(heading).map_or("", |(_, rest)| rest);
    let section = section.split("\n## ").next().unwrap_or("");
    let first_columns = section.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
    first_columns.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned))
}

#[test]
fn comments_and_literals_are_blanked() {
    for (source, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("x \" y", 'z', '\'')"#, "f(        ,    ,     )"),
        ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
        (r##"r#"a "b" c"# d"##, "             d"),
        ("r#type", "r#type"),
    ] {
        assert_eq!(code_only(source), code, "{source}");
    }
}

#[test]
fn paths_are_followed() {
    for (code, names) in [
        ("use crate::a::b;", &["a"][..]),
        ("use crate::{a::{x, y}, b, c as d};", &["a", "b", "c"]),
        ("pub(in crate::a) fn f() { crate::b() }", &["a", "b"]),
        ("use crate::*;", &["*"]),
        ("use other_crate::a;", &[]),
    ] {
        assert_eq!(names_after(code, "crate::").into_iter().map(|(_, name)| name).collect::<Vec<_>>(), names, "{code}");
    }
}
