//! Which names may be given, and which known name an unknown one probably means.

use std::collections::BTreeMap;

use super::diagnostics::{Diagnostics, Located, Location};

/// Longest name of anything that is configured, in characters.
pub const NAME_CHARS_MAX: usize = 64;
/// Longest event type or glob of event types, in bytes.
pub const TYPE_BYTES_MAX: usize = 256;

/// Words that CEL reserves: they cannot be read in an expression.
const CEL_RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];
/// Names that are always bound in expressions.
const BOUND: [&str; 7] = ["key", "event", "element", "body", "meta", "row", "item"];

/// What a name is for; decides which words are refused.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum NameOf {
    EntityType,
    Field,
    Derived,
    Deadline,
    Effect,
    Reference,
    Decision,
    Source,
    Sink,
    Token,
}

impl NameOf {
    fn describe(self) -> &'static str {
        match self {
            NameOf::EntityType => "an entity type",
            NameOf::Field => "a field",
            NameOf::Derived => "a derived value",
            NameOf::Deadline => "a deadline",
            NameOf::Effect => "an effect",
            NameOf::Reference => "a reference",
            NameOf::Decision => "a decision",
            NameOf::Token => "a token",
            NameOf::Source => "a source",
            NameOf::Sink => "a sink",
        }
    }

    fn is_read_in_expressions(self) -> bool {
        !matches!(self, NameOf::Decision | NameOf::Source | NameOf::Sink)
    }

    /// Whether expressions read it by its name alone, not as a member of the entity.
    fn stands_alone(self) -> bool {
        matches!(self, NameOf::EntityType | NameOf::Reference)
    }
}

/// Reports a name that cannot be used.
pub(super) fn check_name(name: &Located<String>, of: NameOf, out: &mut Diagnostics) {
    let what = of.describe();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(word) || name.starts_with(|c: char| c.is_ascii_digit()) {
        out.error(name.at, format!("`{}` cannot be the name of {what}", name.value))
            .help("names are made of letters, digits and `_`, and do not start with a digit");
    } else if name.len() > NAME_CHARS_MAX {
        out.error(name.at, format!("the name of {what} has {} characters", name.len()))
            .help(format!("it may have up to {NAME_CHARS_MAX}"));
    } else if of.is_read_in_expressions() && CEL_RESERVED.contains(&name.as_str()) {
        out.error(name.at, format!("`{}` cannot be the name of {what}", name.value))
            .help("the expression language (CEL) reserves this word; choose another name");
    } else if of.stands_alone() && BOUND.contains(&name.as_str()) {
        out.error(name.at, format!("`{}` cannot be the name of {what}", name.value))
            .help("expressions always have something else under this name; choose another name");
    }
}

/// The names that expressions read as members of one entity, and where each is given.
#[derive(Default)]
pub(super) struct Namespace(BTreeMap<String, (NameOf, Location)>);

impl Namespace {
    /// Adds a name, or reports that it is taken.
    pub fn add(&mut self, name: &Located<String>, of: NameOf, out: &mut Diagnostics) {
        let Some((first, at)) = self.0.get(&name.value) else {
            self.0.insert(name.value.clone(), (of, name.at));
            return;
        };
        out.error(name.at, format!("`{}` is both {} and {}", name.value, first.describe(), of.describe()))
            .help("fields, derived values, deadlines and effects share one namespace; rename one")
            .also(*at);
    }

    /// The names of fields and derived values.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        let is_value = |of| matches!(of, NameOf::Field | NameOf::Derived);
        self.0.iter().filter(move |(_, (of, _))| is_value(*of)).map(|(name, _)| name.as_str())
    }
}

/// Reports a glob of event types that can match nothing.
pub(super) fn check_glob(glob: &Located<String>, out: &mut Diagnostics) {
    const HELP: &str = "give an event type, a glob such as \"Order*\", or \"*\" for every type";
    if glob.trim().is_empty() {
        out.error(glob.at, "an event type cannot be empty").help(HELP);
    } else if glob.len() > TYPE_BYTES_MAX {
        out.error(glob.at, format!("an event type has at most {TYPE_BYTES_MAX} bytes")).help(HELP);
    }
}

/// Whether the event type is one that the glob means; `*` stands for any characters.
pub fn glob_matches(glob: &str, event_type: &str) -> bool {
    let mut parts = glob.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = event_type.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(part) = last.replace(part) {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

/// The help for an unknown name: the one that is probably meant, else all there are.
pub(super) fn suggest<'k>(unknown: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    let far = unknown.chars().count() / 3 + 1;
    let lower = unknown.to_lowercase();
    let near = known.iter().map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), *name));
    match near.filter(|(distance, _)| *distance <= far).min() {
        Some((distance, name)) if distance < name.chars().count() => Some(format!("did you mean `{name}`?")),
        _ if known.is_empty() => None,
        _ => Some(format!("it may be {}", either(&known))),
    }
}

/// "`a`, `b` or `c`".
fn either(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, events would be taken by rules that do not name them, or refused as unmatched.
    #[test]
    fn globs_match() {
        let cases = [
            ("A", "A", true),
            ("A", "AB", false),
            ("A", "", false),
            ("*", "anything", true),
            ("*", "", true),
            ("A_*", "A_b", true),
            ("A_*", "B_A_b", false),
            ("*_done", "a_done", true),
            ("*_done", "a_done_", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXcYb", false),
            ("ab*ba", "aba", false),
            ("a**b", "ab", true),
        ];
        for (glob, event_type, expected) in cases {
            assert_eq!(glob_matches(glob, event_type), expected, "{glob} on {event_type}");
        }
    }

    /// If this failed, a typo would be answered with a guess that is none.
    #[test]
    fn the_nearest_name_is_suggested() {
        let known = ["listen", "token", "token_file", "kind", "if"];
        assert_eq!(suggest("lisen", known).as_deref(), Some("did you mean `listen`?"));
        assert_eq!(suggest("tokenfile", known).as_deref(), Some("did you mean `token_file`?"));
        assert_eq!(suggest("Kind", known).as_deref(), Some("did you mean `kind`?"));
        assert!(suggest("bananas", known).is_some_and(|help| help.starts_with("it may be `listen`, `token`")));
        assert!(suggest("xy", known).is_some_and(|help| help.starts_with("it may be `listen`, `token`")));
    }
}
