//! Reads `[entity.T.fields]` and checks that what a field says fits its `take`.

use super::document::Entry;
use super::entities::{Field, KEEP_MAX, TAKES, Take};
use super::names::{NameOf, check_glob, check_name};
use super::reader::{Context, Section};

const ON_HELP: &str = "add on = \"EventType\": the events it is merged from; a list, globs and \"*\" are possible";
const TAKE_HELP: &str = "add take = \"latest\" (or first, min, max, sum, count, set, list)";

impl Field {
    pub(super) fn read_all(section: Section) -> Vec<Field> {
        let at = section.at;
        let present = section.is_present();
        let (cx, title, entries) = section.into_parts();
        if present && entries.is_empty() {
            let help = "without fields it takes no events; add name = { on = \"EventType\", take = \"latest\" }";
            cx.out.error(at, format!("[{title}] is empty")).help(help);
        }
        entries.into_iter().map(|entry| Field::read(cx, &title, entry)).collect()
    }

    fn read(cx: &mut Context, title: &str, entry: Entry) -> Field {
        let name = entry.name.clone();
        check_name(&name, NameOf::Field, &mut cx.out);
        let mut section = Section::open(cx, &format!("{title}.{}", name.value), Some(entry));
        section.require("on", ON_HELP);
        let empty_help = "name at least one event type, or \"*\" for every type";
        let on = section.some_strings("on", empty_help).unwrap_or_default();
        for glob in &on {
            check_glob(glob, &mut section.cx.out);
        }
        let take = section.required_choice("take", &TAKES, TAKE_HELP);
        if let Some(take) = &take {
            check_fits(&mut section, take.value);
        }
        let field = Field {
            name,
            on,
            take: take.as_ref().map_or(Take::Latest, |take| take.value),
            value: section.expr("value"),
            order_by: section.expr("order_by"),
            condition: section.expr("if"),
            by: section.expr("by"),
            keep: section.integer("keep", 1..=KEEP_MAX).map(|keep| keep as u32),
        };
        section.finish();
        field
    }
}

/// Reports keys that mean nothing with this operator.
fn check_fits(section: &mut Section, take: Take) {
    let misfits = [
        ("keep", take != Take::List, "only `list` keeps several values in order; leave `keep` out, or take = \"list\""),
        ("order_by", !take.is_ordered(), "only `first`, `latest` and `list` depend on order; leave `order_by` out"),
        ("value", take == Take::Count, "`count` counts events whatever they hold; leave `value` out, or use `if`"),
    ];
    for (key, misfit, help) in misfits {
        if let (true, Some(at)) = (misfit, section.peek(key)) {
            let message = format!("`{key}` does not go with take = \"{}\"", take.name());
            section.cx.out.error(at, message).help(help);
        }
    }
}
