//! What recovery refuses: folders whose parts do not belong together, other rules, other versions, other processes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::fixtures::{RULES, ruleset, tuning};
use super::{Folder, Harness, Wiring, added};
use crate::journal::{BlockBuilder, Journal};
use crate::node::recovery::{self, RecoveryError};
use crate::node::replay::replay;

/// A folder that was used: eight records, of which the first four are in the store.
fn used() -> Folder {
    let folder = Folder::new();
    let mut harness = Harness::start(&folder, Wiring::default());
    for n in 0..4 {
        harness.settle(&[added(&format!("e{n}"), "a", 1)]);
        if n == 1 {
            harness.checkpoint();
        }
    }
    drop(harness);
    folder
}

fn refusal(folder: &Path, rules: &str) -> RecoveryError {
    match recovery::open(folder, &tuning(), &ruleset(rules)) {
        Ok(_) => panic!("it is not refused"),
        Err(error) => error,
    }
}

/// Each would lose data, or take other data for it, if it were not refused with words that say what to do.
#[test]
fn folders_whose_parts_do_not_belong_together() {
    fn check(damage: impl FnOnce(&Path), expected: &str) {
        let folder = used();
        damage(folder.path());
        let before = names(folder.path());
        let error = refusal(folder.path(), RULES).to_string();
        assert!(error.contains(expected), "expected {expected:?}, got {error:?}");
        assert_eq!(names(folder.path()), before, "nothing is made or taken away");
    }
    check(|folder| fs::remove_file(folder.join("state.redb")).unwrap(), "holds a journal but no store (state.redb)");
    check(
        |folder| fs::remove_dir_all(folder.join("journal")).unwrap(),
        "a store up to LSN 4 but its journal is missing",
    );
    check(
        |folder| {
            let other = used();
            fs::rename(other.path().join("state.redb"), folder.join("state.redb")).unwrap();
        },
        "but its journal is another's",
    );
    // A journal of this store that ends too early, or begins too late.
    check(
        |folder| {
            let uuid = Journal::exists(folder).unwrap().unwrap();
            fs::remove_dir_all(folder.join("journal")).unwrap();
            make_journal(folder, uuid);
        },
        "its journal ends at LSN 1",
    );
}

fn make_journal(folder: &Path, uuid: uuid::Uuid) {
    let options =
        crate::journal::JournalOptions { segment_bytes: 1 << 20, commit_bytes_max: 1 << 16, cache_bytes: 1 << 20 };
    let mut journal = Journal::open(folder, uuid, options).unwrap();
    let mut block = BlockBuilder::with_capacity(8);
    block.push(b"record", false);
    journal.append(&mut [block]).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A record that cannot be read, or whose predecessor is missing, ends the start; nothing is guessed.
#[test]
fn records_that_do_not_fit() {
    let check = |record: &[u8], expected: &str| {
        let folder = used();
        let rules = ruleset(RULES);
        let mut opened = recovery::open(folder.path(), &tuning(), &rules).unwrap();
        let mut block = BlockBuilder::with_capacity(record.len());
        block.push(record, false);
        opened.journal.append(&mut [block]).unwrap();
        let error = replay(&opened, &std::collections::HashMap::new()).err().expect("it is refused").to_string();
        assert!(error.contains(expected), "expected {expected:?}, got {error:?}");
    };
    check(b"\x63", "the record at LSN 9 cannot be read");
    let folder = used();
    let harness = Harness::start(&folder, Wiring::default());
    let (_, mut record) = harness.records().pop().unwrap();
    drop(harness);
    record.version = record.version.next().next();
    check(&record.encode(), "at LSN 9, but its state is at version 4; records are missing");
}

/// If this failed, states would be read by rules they were not made by; or a type that was away would come back without the
/// events it missed.
#[test]
fn other_rules_are_noticed_and_types_that_are_new_or_come_back() {
    let folder = used();
    let differ = |rules: &str| {
        let opened = recovery::open(folder.path(), &tuning(), &ruleset(rules)).unwrap();
        opened.changed.map_or(Vec::new(), |plan| plan.names())
    };
    assert_eq!(differ(RULES), [""; 0]);
    let changed = RULES.replace("take = \"sum\"", "take = \"max\"");
    assert_eq!(differ(&changed), ["order"]);
    assert_eq!(differ(RULES), [""; 0], "nothing was done yet");
    let (before, tally) = RULES.split_at(RULES.find("[entity.tally]").unwrap());
    let (_, recent) = tally.split_at(tally.find("[entity.recent]").unwrap());
    assert_eq!(differ(&format!("{before}{recent}")), [""; 0]);
    assert_eq!(differ(RULES), ["tally"], "it was away");
    let more = format!(
        "{RULES}\n[entity.more]\nkey = \"event.data.key\"\n[entity.more.fields]\nn = {{ on = \"More\", take = \"count\" }}\n"
    );
    assert_eq!(differ(&more), ["tally", "more"]);
}

/// Before the first record there is nothing that other rules could misread.
#[test]
fn a_folder_without_records_takes_any_rules() {
    let folder = Folder::new();
    recovery::open(folder.path(), &tuning(), &ruleset(RULES)).unwrap();
    let changed = RULES.replace("take = \"sum\"", "take = \"max\"");
    recovery::open(folder.path(), &tuning(), &ruleset(&changed)).unwrap();
}

/// Two processes on one folder would each overwrite what the other acknowledged.
#[test]
fn a_folder_in_use_is_refused_until_it_is_free() {
    let folder = used();
    let harness = Harness::start(&folder, Wiring::default());
    let error = refusal(folder.path(), RULES).to_string();
    assert!(error.contains("stop") && error.contains("data_dir"), "{error}");
    drop(harness);
    recovery::open(folder.path(), &tuning(), &ruleset(RULES)).unwrap();
}

#[test]
fn a_folder_that_cannot_be_made_or_entered_is_told_with_its_path() {
    let folder = Folder::new();
    let occupied = folder.path().join("file");
    fs::write(&occupied, b"").unwrap();
    let error = refusal(&occupied, RULES);
    assert!(matches!(&error, RecoveryError::Folder { .. }), "{error}");
    assert!(error.to_string().contains(&*occupied.to_string_lossy()) && error.to_string().contains("permissions"));
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    // The superuser may write everywhere.
    if fs::write(closed.join("probe"), b"").is_err() {
        let error = refusal(&closed, RULES).to_string();
        assert!(error.contains("permissions"), "{error}");
    }
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
}
