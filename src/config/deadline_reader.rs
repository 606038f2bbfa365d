//! Reads `[entity.T.deadline.*]`.

use std::time::Duration;

use super::document::Entry;
use super::entities::{Deadline, GRACE_DEFAULT};
use super::names::{NameOf, Namespace, check_name};
use super::reader::{Context, Section};
use super::tuning::DURATION_MAX;

const AT_HELP: &str = "add at = \"…\": an expression for the time, such as order.created + duration('30m')";

impl Deadline {
    /// Reads all deadlines of an entity type and adds their names to its namespace.
    pub(super) fn read_all(section: Section, namespace: &mut Namespace) -> Vec<Deadline> {
        let (cx, title, entries) = section.into_parts();
        entries.into_iter().filter_map(|entry| Deadline::read(cx, &title, entry, namespace)).collect()
    }

    fn read(cx: &mut Context, title: &str, entry: Entry, namespace: &mut Namespace) -> Option<Deadline> {
        let name = entry.name.clone();
        check_name(&name, NameOf::Deadline, &mut cx.out);
        namespace.add(&name, NameOf::Deadline, &mut cx.out);
        let mut section = Section::open(cx, &format!("{title}.{}", name.value), Some(entry));
        section.require("at", AT_HELP);
        let at = section.expr("at");
        let unless = section.expr("unless");
        let grace = section.duration("grace", Duration::ZERO..=DURATION_MAX).unwrap_or(GRACE_DEFAULT);
        section.finish();
        Some(Deadline { name, at: at?, unless, grace })
    }
}
