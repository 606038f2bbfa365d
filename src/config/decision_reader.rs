//! Reads `[entity.T.decision.*]`.

use std::time::Duration;

use super::diagnostics::Located;
use super::document::{Entry, Node, Value};
use super::entities::{Data, Decision, Feedback, POLICIES, Policy};
use super::names::{NameOf, check_name, suggest};
use super::reader::{Context, Section};
use super::tuning::DURATION_MAX;

/// The shortest time without input that can be told from none.
const SETTLE_MIN: Duration = Duration::from_millis(1);
/// What stands for the entity itself in `to`.
pub(super) const SELF: &str = "self";

impl Decision {
    /// Reads all decisions of an entity type; `sinks` are the names that they may be sent to, if known.
    pub(super) fn read_all(section: Section, sinks: Option<&[String]>) -> Vec<Decision> {
        let (cx, title, entries) = section.into_parts();
        entries.into_iter().map(|entry| Decision::read(cx, &title, entry, sinks)).collect()
    }

    fn read(cx: &mut Context, title: &str, entry: Entry, sinks: Option<&[String]>) -> Decision {
        let name = entry.name.clone();
        check_name(&name, NameOf::Decision, &mut cx.out);
        let mut section = Section::open(cx, &format!("{title}.{}", name.value), Some(entry));
        let when = section.expr("when");
        let data = section.entry("data").and_then(|entry| read_data(section.cx, entry.node)).unwrap_or(Data::None);
        let policy = section.choice("policy", &POLICIES).map_or(Policy::Revise, |policy| policy.value);
        let by = section.expr("by");
        let settle = section.duration("settle", SETTLE_MIN..=DURATION_MAX);
        let (to, feedback) = read_to(&mut section, sinks);
        section.finish();
        Decision { name, when, data, policy, by, settle, to, feedback }
    }
}

fn read_data(cx: &mut Context, node: Node) -> Option<Data> {
    let Node { value: Value::Table(entries), .. } = node else { return cx.expr(node, "data").map(Data::Value) };
    let table = entries.into_iter().filter_map(|entry| {
        let expr = cx.expr(entry.node, &entry.name)?;
        Some((entry.name, expr))
    });
    Some(Data::Table(table.collect()))
}

/// The sinks, and whether the entity itself is among those it is sent to.
fn read_to(section: &mut Section, sinks: Option<&[String]>) -> (Option<Vec<String>>, Feedback) {
    let Some(names) = section.some_strings("to", "leave `to` out for all sinks") else { return (None, Feedback::None) };
    for (index, name) in names.iter().enumerate() {
        check_recipient(section.cx, name, &names[..index], sinks);
    }
    let (own, names): (Vec<_>, Vec<_>) = names.into_iter().map(|name| name.value).partition(|name| name == SELF);
    (Some(names), if own.is_empty() { Feedback::None } else { Feedback::ToSelf })
}

fn check_recipient(cx: &mut Context, name: &Located<String>, before: &[Located<String>], sinks: Option<&[String]>) {
    let unknown = sinks.filter(|sinks| name.value != SELF && !sinks.contains(&name.value));
    if let Some(sinks) = unknown {
        if !cx.partial {
            let help = suggest(name, sinks.iter().map(String::as_str)).unwrap_or("no sink is configured".into());
            cx.out.error(name.at, format!("there is no sink `{}`", name.value)).help(help);
        }
    } else if let Some(first) = before.iter().find(|first| first.value == name.value) {
        cx.out.error(name.at, format!("`{}` is listed twice", name.value)).help("remove one of the two").also(first.at);
    }
}
