//! `${VAR}`, `${VAR:-default}` and `$$` in string values. A `$` before anything else stands for itself.

use std::ops::Range;

/// Looks up an environment variable; tests bring their own.
pub type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

/// What is wrong with one `${…}`, and where in the text before interpolation.
#[derive(Debug, PartialEq)]
pub(super) struct Problem {
    pub range: Range<usize>,
    pub message: String,
    pub help: String,
}

/// The text with all variables put in, and what was wrong with some; those are left out.
pub(super) fn interpolate(text: &str, env: Env) -> (String, Vec<Problem>) {
    let mut result = String::with_capacity(text.len());
    let mut problems = Vec::new();
    let mut position = 0;
    while let Some(found) = text[position..].find('$') {
        let dollar = position + found;
        result.push_str(&text[position..dollar]);
        let rest = &text[dollar + 1..];
        position = if rest.starts_with('$') {
            result.push('$');
            dollar + 2
        } else if let Some(inside) = rest.strip_prefix('{') {
            let end = inside.find('}').map(|length| dollar + 2 + length);
            let range = dollar..end.map_or(text.len(), |end| end + 1);
            match variable(inside, end.map(|end| &text[dollar + 2..end]), env) {
                Ok(value) => result.push_str(&value),
                Err((message, help)) => problems.push(Problem { range: range.clone(), message, help }),
            }
            range.end
        } else {
            result.push('$');
            dollar + 1
        };
    }
    result.push_str(&text[position..]);
    (result, problems)
}

/// The value of `name` or `name:-default`; a default also stands in for an empty value, as in a shell.
fn variable(open: &str, closed: Option<&str>, env: Env) -> Result<String, (String, String)> {
    let Some(inside) = closed else {
        return Err((format!("`${{{open}` is not closed"), "write `${NAME}`; a literal `$` is `$$`".into()));
    };
    let (name, default) = inside.split_once(":-").map_or((inside, None), |(name, default)| (name, Some(default)));
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(valid) || name.starts_with(|c: char| c.is_ascii_digit()) {
        let help = "write `${NAME}` or `${NAME:-default}`; a literal `$` is `$$`";
        return Err((format!("`{name}` is not the name of an environment variable"), help.into()));
    }
    match (env(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.into()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.into()),
        (None, None) => Err((
            format!("the environment variable `{name}` is not set"),
            format!("set it, or give a default: `${{{name}:-default}}`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, a configuration would mean something else than its author reads in it.
    #[test]
    fn variables_are_put_in() {
        let env = |name: &str| match name {
            "A" => Some("alpha".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let cases = [
            ("plain", "plain"),
            ("${A}", "alpha"),
            ("<${A}|${A}>", "<alpha|alpha>"),
            ("${NO:-def:-x}", "def:-x"),
            ("${NO:-}", ""),
            ("${EMPTY}", ""),
            ("${EMPTY:-def}", "def"),
            ("${A:-def}", "alpha"),
            ("$${A}", "${A}"),
            ("cost $5 and 5$", "cost $5 and 5$"),
            ("$$$$", "$$"),
            ("ä${A}ö", "äalphaö"),
        ];
        for (text, expected) in cases {
            assert_eq!(interpolate(text, &env), (expected.to_owned(), vec![]), "{text}");
        }
        for (text, range) in [("x${NO}", 1..6), ("${A", 0..3), ("${}", 0..3), ("${9A}", 0..5), ("${a b}", 0..6)] {
            assert_eq!(interpolate(text, &env).1.first().map(|p| p.range.clone()), Some(range), "{text}");
        }
    }
}
