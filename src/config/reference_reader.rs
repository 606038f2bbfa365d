//! Reads `[entity.T.ref.*]`.

use super::document::Entry;
use super::entities::Reference;
use super::names::{NameOf, check_name, suggest};
use super::reader::{Context, Section};

const ENTITY_HELP: &str = "add entity = \"TYPE\": the entity type that it shows";
const KEY_HELP: &str = "add key = \"…\": an expression for the key of the entity that it shows";

impl Reference {
    /// Reads all references of the entity type `owner`; `types` are the names of all types, also of those that are wrong.
    pub(super) fn read_all(section: Section, owner: &str, types: &[String]) -> Vec<Reference> {
        let (cx, title, entries) = section.into_parts();
        entries.into_iter().filter_map(|entry| Reference::read(cx, &title, entry, owner, types)).collect()
    }

    fn read(cx: &mut Context, title: &str, entry: Entry, owner: &str, types: &[String]) -> Option<Reference> {
        let name = entry.name.clone();
        check_name(&name, NameOf::Reference, &mut cx.out);
        if name.value == owner {
            cx.out
                .error(name.at, format!("`{owner}` cannot be the name of a reference of `{owner}`"))
                .help("expressions read the entity itself under this name; choose another name");
        }
        let mut section = Section::open(cx, &format!("{title}.{}", name.value), Some(entry));
        let entity = section.required_string("entity", ENTITY_HELP);
        section.require("key", KEY_HELP);
        let key = section.expr("key");
        section.finish();
        let entity = entity?;
        if !types.contains(&entity.value) && !cx.partial {
            let help = suggest(&entity, types.iter().map(String::as_str));
            cx.out.error(entity.at, format!("there is no entity type `{}`", entity.value)).help = help;
        }
        Some(Reference { name, entity, key: key? })
    }
}
