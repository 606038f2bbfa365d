//! How problems are shown: to people with the offending line and a caret, to programs as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::diagnostics::{Diagnostic, Diagnostics, Files, Location, Severity};

/// The names of settings that hold a secret.
pub(super) const SECRETS: [&str; 3] = ["token", "password", "secret"];
/// What secrets of webhooks begin with, wherever they stand.
const WEBHOOK_SECRET: &str = "whsec_";
/// Of a line that is longer only the part around the mistake is shown.
const LINE_CHARS_MAX: usize = 200;
/// So much of that stands before the mistake.
const CHARS_BEFORE: usize = 60;

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

impl Diagnostics {
    /// All problems as text, sorted by file and position, an empty line between them.
    pub fn render(&self, files: &Files) -> String {
        let blocks: Vec<String> = self.sorted().into_iter().map(|diagnostic| self.block(diagnostic, files)).collect();
        blocks.join("\n")
    }

    /// All problems as a list of `{severity, file, line, column, message, help, also}`; what is not known is null.
    pub fn to_json(&self, files: &Files) -> Value {
        self.sorted().into_iter().map(|diagnostic| as_json(diagnostic, files)).collect()
    }
}

fn as_json(diagnostic: &Diagnostic, files: &Files) -> Value {
    let position = diagnostic.at.map(|at| files.position(at));
    json!({
        "severity": diagnostic.severity.name(),
        "file": diagnostic.at.map(|at| files.path(at.file).display().to_string()),
        "line": position.map(|(line, _)| line),
        "column": position.map(|(_, column)| column),
        "message": diagnostic.message,
        "help": diagnostic.help,
        "also": diagnostic.also.map(|at| files.place(at)),
    })
}

impl Diagnostics {
    fn block(&self, diagnostic: &Diagnostic, files: &Files) -> String {
        let mut text = format!("{}: {}\n", diagnostic.severity.name(), diagnostic.message);
        let mut margin = 1;
        if let Some(at) = diagnostic.at {
            margin = files.position(at).0.to_string().len();
            self.snippet(&mut text, at, files);
        }
        if let Some(at) = diagnostic.also {
            let _ = writeln!(text, "{:margin$} = also: {}", "", files.place(at));
        }
        if let Some(help) = &diagnostic.help {
            let _ = writeln!(text, "{:margin$} = help: {help}", "");
        }
        text
    }

    /// The place, its line, and carets under the part that is meant (under its first line, if it has several).
    fn snippet(&self, text: &mut String, at: Location, files: &Files) {
        let (number, column) = files.position(at);
        let number = number.to_string();
        let margin = number.len();
        let (start, line) = files.line(at);
        let length = line.chars().count();
        let first = if length > LINE_CHARS_MAX { (column - 1).saturating_sub(CHARS_BEFORE) } else { 0 };
        let masked = masked(&line.replace('\t', " "));
        let shown = line.char_indices().zip(masked.chars()).skip(first).take(LINE_CHARS_MAX);
        let shown = shown.map(|((byte, _), shown)| if self.hides(at.file, start + byte) { '*' } else { shown });
        let shown: String = shown.collect();
        let [left, right] = [first > 0, first + LINE_CHARS_MAX < length].map(|is_cut| if is_cut { "…" } else { "" });
        let before = " ".repeat(column - 1 - first + left.chars().count());
        let room = shown.chars().count().saturating_sub(column - 1 - first);
        let carets = "^".repeat(files.slice(at).chars().count().min(room).max(1));
        let _ = writeln!(text, "{:margin$}--> {}", "", files.place(at));
        let _ = writeln!(text, "{:margin$} |", "");
        let _ = writeln!(text, "{number} | {left}{shown}{right}");
        let _ = writeln!(text, "{:margin$} | {before}{carets}", "");
    }
}

/// The line with every secret's value as asterisks, as many as it has characters: problems end up in logs. Goes by the text
/// alone, since what is wrong may be the syntax.
fn masked(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    let starts = |rest: &[u8]| SECRETS.into_iter().find(|name| rest.starts_with(name.as_bytes()));
    // All in one go: a line may be as long as a file.
    let next = |rest: &str| (0..rest.len()).find_map(|at| Some((at, starts(&rest.as_bytes()[at..])?)));
    while let Some((at, name)) = next(rest) {
        let (before, after) = rest.split_at(at + name.len());
        let is_name = !before[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-');
        let value = after.trim_start_matches(['"', '\'']).trim_start().strip_prefix('=');
        let value = value.filter(|value| is_name && !value.starts_with('='));
        shown.push_str(before);
        let Some(value) = value.map(str::trim_start) else {
            rest = after;
            continue;
        };
        let quote = value.chars().next().filter(|c| ['"', '\''].contains(c));
        let inner = value.trim_start_matches(|c| Some(c) == quote);
        let ends = |c: char| match quote {
            Some(quote) => c == quote,
            // A list is secret as a whole.
            None if value.starts_with('[') => c == ']',
            None => c.is_whitespace() || ",]}#".contains(c),
        };
        let end = inner.find(ends).unwrap_or(inner.len());
        shown.push_str(&after[..after.len() - inner.len()]);
        shown.extend(inner[..end].chars().map(|_| '*'));
        rest = &inner[end..];
    }
    let value_end = |text: &str| text.find(['"', '\'', ' ', ',', ']']).unwrap_or(text.len());
    let shown = masked_after(&(shown + rest), WEBHOOK_SECRET, value_end);
    // Who logs in, in a URL.
    masked_after(&shown, "://", |text| text[..value_end(text)].rfind('@').unwrap_or(0))
}

/// The line with so many bytes after each `start` as asterisks as `length` says.
fn masked_after(line: &str, start: &str, length: impl Fn(&str) -> usize) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(start) {
        let (before, after) = rest.split_at(at + start.len());
        let (secret, after) = after.split_at(length(after));
        shown.push_str(before);
        shown.extend(secret.chars().map(|_| '*'));
        rest = after;
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, a mistake beside a token would put the token into the log.
    #[test]
    fn tokens_are_masked_and_nothing_else() {
        for (line, expected) in [
            (r#"token = "a b""#, r#"token = "***""#),
            (r#"server = { token='é"x', nmae = "x" }"#, r#"server = { token='***', nmae = "x" }"#),
            (r#"http = "x"; server.token = """a""" # b"#, r#"http = "x"; server.token = """*""" # b"#),
            ("\"token\" = 123, x = 1", "\"token\" = ***, x = 1"),
            (r#"token = "unclosed"#, r#"token = "********"#),
            (r#"token = """#, r#"token = """#),
            (r#"token_file = "secret" # the token"#, r#"token_file = "secret" # the token"#),
            (r#"id = "event.data.token == 'x'""#, r#"id = "event.data.token == 'x'""#),
            (r#"my_token = "x""#, r#"my_token = "x""#),
            (r#"password = "a b", token = 'c'"#, r#"password = "***", token = '*'"#),
            (r#"secret = ["whsec_a", "b"] # c"#, "secret = ***************] # c"),
            (r#"    "whsec_a+/=","#, r#"    "whsec_****","#),
            (r#"url = "nats://me:a/b@host:1", x = 1"#, r#"url = "nats://******@host:1", x = 1"#),
            (r#"url = "https://host/x?y""#, r#"url = "https://host/x?y""#),
        ] {
            assert_eq!(masked(line), expected);
        }
    }

    /// If this failed, a mistake far along a line would end the process, or fill the screen with that line.
    #[test]
    fn of_a_long_line_the_part_around_the_mistake_is_shown() {
        let dots = |n: usize| ".".repeat(n);
        for (before, behind, expected) in [
            (70_000, 70_000, format!("1 | …{}MISTAKE{}…\n  | {}^^^^^^^\n", dots(60), dots(133), " ".repeat(61))),
            (70_000, 3, format!("1 | …{}MISTAKE...\n  | {}^^^^^^^\n", dots(60), " ".repeat(61))),
            (0, 70_000, format!("1 | MISTAKE{}…\n  | ^^^^^^^\n", dots(193))),
            (150, 43, format!("1 | {}MISTAKE{}\n  | {}^^^^^^^\n", dots(150), dots(43), " ".repeat(150))),
        ] {
            let mut files = Files::default();
            let file = files.add("a.toml", dots(before) + "MISTAKE" + &dots(behind));
            let (start, end) = (before as u32, before as u32 + 7);
            let mut problems = Diagnostics::default();
            problems.error(Location { file, start, end }, "here");
            let shown = problems.render(&files);
            assert!(shown.ends_with(&expected), "{before} {behind}: {shown}");
        }
    }

    /// If this failed, the message people see first would not look as promised.
    #[test]
    fn a_problem_shows_its_line_with_a_caret() {
        let mut files = Files::default();
        let file = files.add("config.toml", format!("{}lisen = \"x\"\r\n\tb = 1\n", "\n".repeat(11)));
        let mut problems = Diagnostics::default();
        problems.warning(Location { file, start: 25, end: 26 }, "second");
        problems
            .error(Location { file, start: 11, end: 16 }, "unknown key `lisen` in [source.tcp]")
            .help("did you mean `listen`?")
            .also(Location { file, start: 0, end: 0 });
        let expected = "\
error: unknown key `lisen` in [source.tcp]
  --> config.toml:12:1
   |
12 | lisen = \"x\"
   | ^^^^^
   = also: config.toml:1:1
   = help: did you mean `listen`?

warning: second
  --> config.toml:13:2
   |
13 |  b = 1
   |  ^
";
        assert_eq!(problems.render(&files), expected);
        assert_eq!(problems.to_json(&files)[0]["line"], 12);
        assert_eq!(problems.to_json(&files)[1]["severity"], "warning");
    }
}
