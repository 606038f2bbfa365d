//! As much of PromQL as tells which metrics and labels an expression names.

use std::collections::BTreeSet;

/// Words that stand where a metric could.
const KEYWORDS: [&str; 9] = ["and", "or", "unless", "bool", "offset", "atan2", "inf", "nan", "start"];
/// Words before a list of labels in parentheses.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// What an expression names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Each metric with the labels it is selected by.
    pub metrics: Vec<(String, BTreeSet<String>)>,
    /// Labels that are grouped or matched by.
    pub labels: BTreeSet<String>,
}

/// Reads an expression. Dashboard variables stand for durations and label values, and are passed over as those are.
pub fn named(expr: &str) -> Named {
    let mut named = Named::default();
    let mut rest = expr.trim_start();
    while let Some(first) = rest.chars().next() {
        let word_end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
        rest = match first {
            '[' => after(rest, ']'),
            '"' => quoted(rest).1,
            '{' => panic!("a selector without a metric: {expr}"),
            _ if first.is_ascii_digit() => &rest[word_end.max(1)..],
            _ if word_end == 0 => &rest[first.len_utf8()..],
            _ => word(&rest[..word_end], rest[word_end..].trim_start(), &mut named),
        }
        .trim_start();
    }
    named
}

/// Takes in a word, and what belongs to it; returns what comes after.
fn word<'a>(word: &str, rest: &'a str, named: &mut Named) -> &'a str {
    if BEFORE_LABELS.contains(&word) {
        let Some(list) = rest.strip_prefix('(') else { return rest };
        let (labels, rest) = list.split_once(')').expect("a list of labels ends");
        let labels = labels.split(',').map(str::trim).filter(|label| !label.is_empty());
        named.labels.extend(labels.map(str::to_owned));
        return rest;
    }
    let is_aggregation = ["by (", "without ("].iter().any(|grouping| rest.starts_with(grouping));
    if KEYWORDS.contains(&word) || rest.starts_with('(') || is_aggregation {
        return rest;
    }
    let mut labels = BTreeSet::new();
    let Some(mut rest) = rest.strip_prefix('{') else {
        named.metrics.push((word.to_owned(), labels));
        return rest;
    };
    loop {
        rest = rest.trim_start_matches([' ', ',', '\n']);
        if let Some(rest) = rest.strip_prefix('}') {
            named.metrics.push((word.to_owned(), labels));
            return rest;
        }
        let (label, value) = rest.split_at(rest.find(['=', '!']).expect("a label is compared"));
        labels.insert(label.trim().to_owned());
        rest = quoted(value.trim_start_matches(['=', '!', '~', ' '])).1;
    }
}

/// A string in quotes, and what comes after.
pub fn quoted(text: &str) -> (&str, &str) {
    let inner = text.strip_prefix('"').unwrap_or_else(|| panic!("no string: {text}"));
    let mut escaped = false;
    let end = inner.find(|c| {
        let was_escaped = escaped;
        escaped = c == '\\' && !was_escaped;
        c == '"' && !was_escaped
    });
    let end = end.unwrap_or_else(|| panic!("a string without an end: {text}"));
    (&inner[..end], &inner[end + 1..])
}

fn after(text: &str, end: char) -> &str {
    text.split_once(end).unwrap_or_else(|| panic!("no {end} in {text}")).1
}

/// If this failed, a name that is wrong could go unseen.
#[test]
fn all_names_are_found() {
    let found = named(
        r#"sum by (job, le) (rate(a_bucket{x="}\"",y!~"1|2"}[5m])) > 0.2 * on (job) group_left () b and time() - c offset 1d or vector(0)"#,
    );
    let labels = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(found.labels, labels(&["job", "le"]));
    let metrics = [("a_bucket", &["x", "y"][..]), ("b", &[]), ("c", &[])];
    assert_eq!(found.metrics, metrics.map(|(name, by)| (name.to_owned(), labels(by))));
}
