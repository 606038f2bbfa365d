//! New rules for what is there: values stay, by the names of their fields, and the rules go on from them.

use std::sync::Arc;

use super::adopting::{Adopting, Fields, Job};
use crate::model::ids::EntityKey;
use crate::node::recovery::RecoveryError;
use crate::rules::EntityRules;
use crate::store::{Layout, Store, TypeMark};

/// So many rows change at a time, in one transaction with the mark that says so.
const ROWS_AT_ONCE: usize = 200;

/// Moves all entities of a type to its rules, `mark` being what it is known by. Goes on where it was cut short, whatever
/// rules it was begun with.
///
/// # Errors
/// Journal or store fail.
pub(super) fn go_on(
    store: &Store,
    adopting: &mut Adopting,
    rules: &Arc<EntityRules>,
    mark: &TypeMark,
) -> Result<(), RecoveryError> {
    let new = rules.slot_names();
    let mut after: Option<Arc<str>> = None;
    loop {
        let keys = store.keys(&rules.name, after.as_deref(), "", ROWS_AT_ONCE)?;
        let Some(last) = keys.last().cloned() else { return Ok(()) };
        let jobs = keys.iter().map(|key| {
            let names = names_at(mark, key).into();
            Job { key: EntityKey::new(&rules.name, key), rules: rules.clone(), fields: Fields::Kept(names) }
        });
        let layouts = moved_through(mark, &last, &new);
        let so_far = TypeMark { fingerprint: TypeMark::UNSETTLED, layouts };
        adopting.kept(jobs.collect(), Some((&rules.name, &so_far)))?;
        after = Some(last);
    }
}

/// What the slots of the entity `key` stand for.
fn names_at<'a>(mark: &'a TypeMark, key: &str) -> &'a [String] {
    let mut layouts = mark.layouts.iter();
    let found = layouts.find(|layout| layout.through.as_deref().is_none_or(|through| key <= through));
    found.map_or(&[], |layout| &layout.names)
}

/// The layouts when all entities up to `last` have the one with these names.
fn moved_through(mark: &TypeMark, last: &str, names: &[String]) -> Vec<Layout> {
    let first = Layout { through: Some(last.to_owned()), names: names.to_vec() };
    let others = mark.layouts.iter().filter(|layout| layout.through.as_deref().is_none_or(|through| through > last));
    [first].into_iter().chain(others.cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, a value would show up under the name of another field after a crash in between.
    #[test]
    fn rows_are_read_by_the_layout_they_were_written_in() {
        let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let begun_with_a = TypeMark::settled([1; 32], names("a"));
        let layouts = moved_through(&begun_with_a, "k5", &names("b"));
        let cut_short = TypeMark { fingerprint: TypeMark::UNSETTLED, layouts };
        let at = |mark: &TypeMark, key: &str| names_at(mark, key).join(" ");
        assert_eq!((at(&cut_short, "k5"), at(&cut_short, "k50")), ("b".to_owned(), "a".to_owned()));
        for (last, expected) in [("k3", ["c", "b", "b", "a"]), ("k5", ["c", "c", "c", "a"]), ("k7", ["c"; 4])] {
            let mark = TypeMark { fingerprint: [0; 32], layouts: moved_through(&cut_short, last, &names("c")) };
            assert_eq!(["k3", "k4", "k5", "k6"].map(|key| at(&mark, key)), expected, "{last}");
        }
    }
}
