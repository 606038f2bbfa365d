//! What was found, grouped by what kind of trouble it is, each with what to do about it.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::model::ids::EntityKey;

/// Kinds of findings, in the order in which they are shown: what is wrong before what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Unreadable,
    Field,
    Events,
    Missing,
    Decision,
    Behind,
    Ahead,
    StoredOtherwise,
    Orphan,
    Chain,
    Revision,
    CountedTwice,
    NotTaken,
    Gauges,
    Agenda,
    Undeliverable,
    Waiting,
    Incomplete,
    Undelivered,
    EffectOpen,
    EffectUnknown,
    DeadLetter,
    Silent,
    SequenceGap,
    SequenceTwice,
    AgainstMissing,
    AgainstExtra,
    AgainstValue,
    AgainstEvent,
}

impl Kind {
    /// Every kind: what metrics and pages list.
    pub const ALL: [Kind; 29] = [
        Kind::Unreadable,
        Kind::Field,
        Kind::Events,
        Kind::Missing,
        Kind::Decision,
        Kind::Behind,
        Kind::Ahead,
        Kind::StoredOtherwise,
        Kind::Orphan,
        Kind::Chain,
        Kind::Revision,
        Kind::CountedTwice,
        Kind::NotTaken,
        Kind::Gauges,
        Kind::Agenda,
        Kind::Undeliverable,
        Kind::Waiting,
        Kind::Incomplete,
        Kind::Undelivered,
        Kind::EffectOpen,
        Kind::EffectUnknown,
        Kind::DeadLetter,
        Kind::Silent,
        Kind::SequenceGap,
        Kind::SequenceTwice,
        Kind::AgainstMissing,
        Kind::AgainstExtra,
        Kind::AgainstValue,
        Kind::AgainstEvent,
    ];

    /// Its stable word, for programs and metrics.
    pub fn word(self) -> &'static str {
        self.told().0
    }

    /// What it is, in a few words.
    pub fn title(self) -> &'static str {
        self.told().1
    }

    /// What to do about it.
    pub fn advice(self) -> &'static str {
        self.told().2
    }

    fn told(self) -> (&'static str, &'static str, &'static str) {
        const RESTORE: &str = "keep a copy of the data folder, check the disk and its log, then restore the last backup \
                               that is clean and send again what came since";
        const BUG: &str = "this is a bug or damage: keep a copy of the data folder and report it; restoring a backup that \
                           is clean brings back what is right";
        const AGAIN: &str = "have their source send them again: what is known counts once";
        match self {
            Kind::Unreadable => ("unreadable", "rows of the store that cannot be read", RESTORE),
            Kind::Field => ("field", "fields that are not what their events make them", RESTORE),
            Kind::Events => ("events", "entities that have counted other events than are journaled", RESTORE),
            Kind::Missing => ("completeness", "entities whose missing fields are not those noted", RESTORE),
            Kind::Decision => ("decision", "decisions that do not say what their fields make them say", BUG),
            Kind::Behind => ("behind", "entities that lack records which are journaled", RESTORE),
            Kind::Ahead => ("ahead", "entities that are ahead of the journal", RESTORE),
            Kind::StoredOtherwise => (
                "stored_otherwise",
                "entities that are stored otherwise than they are in memory, at the same version",
                "what is in memory counts, as long as it is there: any event of the entity stores it anew; then verify \
                 again, and check the disk",
            ),
            Kind::Orphan => ("orphan", "stored entities of which the journal knows nothing", RESTORE),
            Kind::Chain => ("chain", "entities whose records do not follow each other", BUG),
            Kind::Revision => ("revision", "decisions whose revisions do not follow each other", BUG),
            Kind::CountedTwice => ("counted_twice", "events that counted twice", BUG),
            Kind::NotTaken => (
                "not_taken",
                "journaled events that the rules would not take now",
                "the rules or a limit such as `key_bytes_max` have become stricter; set them back",
            ),
            Kind::Gauges => ("gauges", "counts of the store that are wrong", RESTORE),
            Kind::Agenda => ("agenda", "entities that are not looked at when they should be", RESTORE),
            Kind::Undeliverable => (
                "undeliverable",
                "sinks that lack what the journal no longer has",
                "no server starts there: keep a copy of the data folder and put the missing files of its journal back; or \
                 restore the last backup and send again what came since",
            ),
            Kind::Waiting => (
                "waiting",
                "entities that wait for another one too long",
                "see why the other one was never told of: ask its source, or send its event; `turnstile ls TYPE \
                 --waiting` lists all",
            ),
            Kind::Incomplete => (
                "incomplete",
                "entities that are incomplete too long",
                "see why what is missing was never told: ask its source, or send its event; `turnstile ls TYPE \
                 --incomplete` lists all",
            ),
            Kind::Undelivered => (
                "undelivered",
                "decisions that a sink has not delivered",
                "see the sink in `turnstile status` and its errors in the log; it goes on where it is once its receiver \
                 answers",
            ),
            Kind::EffectOpen => (
                "effect_open",
                "effects that have no outcome",
                "see whether what is called answers, and the log; a call goes on at the next start",
            ),
            Kind::EffectUnknown => (
                "effect_unknown",
                "effects of which nobody knows what became of them",
                "ask the other side whether the call was done, under its Idempotency-Key",
            ),
            Kind::DeadLetter => (
                "dead_letter",
                "dead letters",
                "`turnstile dead-letters show ID` shows one; mend what is wrong and send it again",
            ),
            Kind::Silent => (
                "silent",
                "sources that have fallen silent",
                "see whether the source still runs and reaches this server; `turnstile sources ls` shows it",
            ),
            Kind::SequenceGap => (
                "sequence_gap",
                "numbers of a sequence that never came",
                "have the source send them again: what is known counts once; a number of an event that was refused, or whose \
                 type `[server] ignore` names, is never known",
            ),
            Kind::SequenceTwice => (
                "sequence_twice",
                "numbers of a sequence that several events have",
                "the source gives a number twice: see whether it was restarted, or whether two of it run",
            ),
            Kind::AgainstMissing => ("against_missing", "keys of the list that are not here", AGAIN),
            Kind::AgainstExtra => (
                "against_extra",
                "keys that are here and not in the list",
                "see where their events came from: `turnstile get TYPE KEY`; or the list is not complete",
            ),
            Kind::AgainstValue => (
                "against_value",
                "values that are not those of the list",
                "see which event is missing or wrong; sending the right one again corrects it",
            ),
            Kind::AgainstEvent => ("against_event", "events of the list that were never received", AGAIN),
        }
    }
}

/// One of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The entity, or what else it is about: `order/17`, `sink hook`.
    pub subject: String,
    pub detail: String,
}

/// All of a kind: how many, and the first of them.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub count: u64,
    pub examples: Vec<Example>,
}

/// Everything found so far.
#[derive(Debug)]
pub struct Findings {
    groups: BTreeMap<Kind, Group>,
    examples_max: usize,
    notes: Vec<String>,
}

impl Findings {
    /// None; of each kind so many will be kept to be shown.
    pub fn new(examples_max: usize) -> Self {
        Findings { groups: BTreeMap::new(), examples_max, notes: Vec::new() }
    }

    /// Adds one about anything.
    pub fn add(&mut self, kind: Kind, subject: impl Into<String>, detail: impl Into<String>) {
        self.add_many(kind, 1, subject, detail);
    }

    /// Adds so many at once, told as one.
    pub fn add_many(&mut self, kind: Kind, count: u64, subject: impl Into<String>, detail: impl Into<String>) {
        let group = self.groups.entry(kind).or_default();
        group.count = group.count.saturating_add(count);
        if group.examples.len() < self.examples_max {
            group.examples.push(Example { subject: subject.into(), detail: detail.into() });
        }
    }

    /// Adds one about an entity.
    pub fn of(&mut self, kind: Kind, entity: &EntityKey, detail: impl Into<String>) {
        self.add(kind, named(entity), detail);
    }

    /// Notes what whoever reads the findings should know, and nobody has to do anything about.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// What was noted.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// How many there are of a kind.
    pub fn count(&self, kind: Kind) -> u64 {
        self.groups.get(&kind).map_or(0, |group| group.count)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The groups as a document.
    pub fn to_json(&self) -> Json {
        let group = |(kind, group): (&Kind, &Group)| {
            let examples = group.examples.iter();
            let examples: Vec<Json> =
                examples.map(|it| json!({ "subject": it.subject, "detail": it.detail })).collect();
            json!({
                "kind": kind.word(), "title": kind.title(), "count": group.count, "advice": kind.advice(),
                "examples": examples,
            })
        };
        self.groups.iter().map(group).collect()
    }
}

/// An entity as findings name it.
pub(super) fn named(entity: &EntityKey) -> String {
    format!("{}/{}", entity.kind(), entity.key())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, a finding would have no metric of its own, or leave whoever reads it alone with it.
    #[test]
    fn every_kind_has_its_word_and_its_advice() {
        let mut words: Vec<_> = Kind::ALL.iter().map(|kind| kind.word()).collect();
        assert!(Kind::ALL.is_sorted() && Kind::ALL.iter().all(|kind| kind.advice().len() > 20));
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Kind::ALL.len());
    }

    /// If this failed, a report would grow with the trouble it tells of, or hide how much there is.
    #[test]
    fn all_are_counted_and_the_first_are_shown() {
        let mut findings = Findings::new(2);
        for key in ["a", "b", "c"] {
            findings.of(Kind::Field, &EntityKey::new("order", key), "x");
        }
        findings.add_many(Kind::SequenceGap, 5, "clock", "3 to 7");
        let json = findings.to_json();
        assert_eq!(json[0]["count"], 3);
        assert_eq!(json[0]["examples"][1]["subject"], "order/b");
        assert_eq!(json[0]["examples"].as_array().map(Vec::len), Some(2));
        assert_eq!((&json[1]["kind"], &json[1]["count"]), (&"sequence_gap".into(), &5.into()));
    }
}
