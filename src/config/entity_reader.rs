//! Reads `[entity.*]` tables; for what is in their larger parts there are readers of their own.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::diagnostics::{Diagnostics, Expr, Located, Location};
use super::document::{Entry, Node, Value};
use super::entities::{
    COMPLETE_FIELDS_MAX, DUPLICATES, Deadline, Decision, Duplicates, Effect, EntityType, Expire, Field, KeyRule,
    Reference,
};
use super::fingerprint::by_specificity;
use super::names::{NameOf, Namespace, check_glob, check_name, glob_matches, suggest};
use super::reader::{Context, Section};
use super::tuning::DURATION_MAX;

const KEY_HELP: &str = "add key = \"event.data.…\": which entity an event is about";
const DEDUPE_MIN: Duration = Duration::from_secs(1);

impl EntityType {
    /// Reads all entity types and returns those that are right; `sinks` are the names that decisions may be sent to,
    /// if these are known.
    pub(super) fn read_all(cx: &mut Context, entry: Option<Entry>, sinks: Option<&[String]>) -> Vec<EntityType> {
        let at = entry.as_ref().map_or(Location::START, |entry| entry.name.at);
        let given = entry.is_some();
        let section = Section::open(cx, "entity", entry);
        let wrong = given && !section.is_present();
        let entries = section.rest();
        if entries.is_empty() && !wrong && !cx.partial {
            let help = "add an [entity.NAME] with a `key` and [entity.NAME.fields]";
            cx.out.error(at, "no entity type is configured").help(help);
        }
        let types: Vec<String> = entries.iter().map(|entry| entry.name.value.clone()).collect();
        let sound = |entry| {
            let errors = cx.out.errors();
            EntityType::read(cx, entry, &types, sinks).filter(|_| cx.out.errors() == errors)
        };
        entries.into_iter().filter_map(sound).collect()
    }

    fn read(cx: &mut Context, entry: Entry, types: &[String], sinks: Option<&[String]>) -> Option<EntityType> {
        let name = entry.name.clone();
        check_name(&name, NameOf::EntityType, &mut cx.out);
        let title = format!("entity.{}", name.value);
        let mut section = Section::open(cx, &title, Some(entry));
        section.require("key", KEY_HELP);
        let key = read_key(&mut section);
        let id = section.expr("id");
        let time = section.expr("time");
        let condition = section.expr("if");
        let dedupe = section.duration("dedupe", DEDUPE_MIN..=DURATION_MAX);
        let expire = Expire::read(&mut section);
        let duplicates = section.choice("duplicates", &DUPLICATES).map_or(Duplicates::Strict, |choice| choice.value);
        let require_time = section.boolean("require_time", false);
        section.require("fields", "without fields it takes no events: add [entity.NAME.fields]");
        let mut namespace = Namespace::default();
        let fields = Field::read_all(section.section("fields"));
        for field in &fields {
            namespace.add(&field.name, NameOf::Field, &mut section.cx.out);
        }
        let derived = read_derived(section.section("derived"), &mut namespace);
        let complete = read_complete(section.section("complete"), &namespace);
        let references = Reference::read_all(section.section("ref"), &name, types);
        let deadlines = Deadline::read_all(section.section("deadline"), &mut namespace);
        let effects = Effect::read_all(section.section("effect"), &mut namespace);
        let decisions = Decision::read_all(section.section("decision"), sinks);
        section.finish();
        if let Some(expire) = &expire {
            expire.check(&decisions, &mut cx.out);
        }
        let key = key?;
        check_key_covers(&key, &fields, &mut cx.out);
        Some(EntityType {
            name,
            key,
            id,
            time,
            condition,
            dedupe,
            expire,
            duplicates,
            require_time,
            fields,
            derived,
            complete,
            references,
            deadlines,
            effects,
            decisions,
        })
    }
}

fn read_key(section: &mut Section) -> Option<KeyRule> {
    let node = section.entry("key")?.node;
    let Node { value: Value::Table(entries), at } = node else {
        return section.cx.expr(node, "key").map(KeyRule::Expr);
    };
    if entries.is_empty() {
        section.cx.out.error(at, "`key` is an empty table").help("give an expression for each event type");
    }
    let mut rules: Vec<(Located<String>, Expr)> = Vec::new();
    for entry in entries {
        check_glob(&entry.name, &mut section.cx.out);
        rules.extend(section.cx.expr(entry.node, &entry.name).map(|expr| (entry.name, expr)));
    }
    by_specificity(&mut rules);
    Some(KeyRule::ByType(rules))
}

/// Reports fields on event types for which a table of keys has none: every such event would be refused.
fn check_key_covers(key: &KeyRule, fields: &[Field], out: &mut Diagnostics) {
    let KeyRule::ByType(rules) = key else { return };
    let mut reported = HashSet::new();
    for on in fields.iter().flat_map(|field| &field.on) {
        let covered = rules.iter().any(|(glob, _)| glob.value == on.value || glob_matches(glob, on));
        // A glob may be covered by several rules together, which only the events can show.
        if !on.contains('*') && !covered && reported.insert(on.value.clone()) {
            out.error(on.at, format!("`key` has no expression for events of type `{}`", on.value))
                .help(format!("add \"{}\" to the table `key`, or \"*\" for all other types", on.value));
        }
    }
}

fn read_derived(section: Section, namespace: &mut Namespace) -> Vec<(Located<String>, Expr)> {
    let (cx, _, entries) = section.into_parts();
    let mut derived = Vec::new();
    for Entry { name, node } in entries {
        check_name(&name, NameOf::Derived, &mut cx.out);
        namespace.add(&name, NameOf::Derived, &mut cx.out);
        derived.extend(cx.expr(node, &name).map(|expr| (name, expr)));
    }
    derived
}

fn read_complete(mut section: Section, namespace: &Namespace) -> Vec<Located<String>> {
    section.require("fields", "add fields = [\"…\"]: names of fields and derived values");
    let names = section.some_strings("fields", "leave `complete` out if nothing is awaited").unwrap_or_default();
    let mut seen: HashMap<String, Location> = HashMap::new();
    for name in &names {
        if !namespace.values().any(|value| value == name.value) {
            let help = suggest(name, namespace.values());
            let message = format!("`{}` is neither a field nor a derived value", name.value);
            section.cx.out.error(name.at, message).help = help;
        } else if let Some(first) = seen.insert(name.value.clone(), name.at) {
            section
                .cx
                .out
                .error(name.at, format!("`{}` is listed twice", name.value))
                .help("remove one of the two")
                .also(first);
        }
    }
    if names.len() > COMPLETE_FIELDS_MAX {
        let message = format!("`fields` has {} names, at most {COMPLETE_FIELDS_MAX} are possible", names.len());
        section.cx.out.error(names[COMPLETE_FIELDS_MAX].at, message).help("leave out what is awaited least");
    }
    section.finish();
    names
}
