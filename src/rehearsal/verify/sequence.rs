//! Numbers that sources give their events one after the other: which of them never came, and which came twice.
//! Kept as runs without a gap, so that a sequence takes as much memory as it has gaps.
//!
//! Runs do not tell everything: where the journal's beginning was trimmed away, which numbers went with it, and of a number
//! that came again, whether it was another event that had it. Then the journal is read once more, in its order.

use std::collections::BTreeMap;
use std::time::Duration;

use super::findings::{Findings, Kind};
use crate::model::ids::IdentityHash;
use crate::model::record::EventInput;
use crate::model::time::Timestamp;

/// So many sequences are looked at, and so many runs of each; of more, it is told that they are not.
const SEQUENCES_MAX: usize = 10_000;
const RUNS_MAX: usize = 100_000;
/// So many numbers that came again are looked at once more, over all sequences.
const AGAIN_MAX: usize = 100_000;
/// So many numbers that several events have are told of a sequence; all are counted.
const TWICE_KEPT_MAX: usize = 10;
/// The journal's order is not that of the numbers, but no number is overtaken by more of its sequence than these. Of a
/// journal that was trimmed, what is at most as high as the highest of so many first ones may have had its fellows before.
const OVERTAKEN_MAX: u32 = 10_000;
/// A wider gap is told as one: it is more likely that a number is none of the sequence.
const GAP_WIDTH_MAX: u64 = 10_000_000;
/// So many sequences are named in a note.
const NAMED_MAX: usize = 10;

/// Whether the journal goes back to the first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    Kept,
    Trimmed,
}

/// The source that declares a sequence, and the source that events name.
type Name = (Box<str>, Box<str>);

/// All sequences.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    all: BTreeMap<Name, Sequence>,
    /// There are more than are looked at.
    is_full: bool,
    /// How many numbers came again.
    again: usize,
}

#[derive(Debug, Default)]
struct Sequence {
    /// By the first number of each.
    runs: BTreeMap<i64, Run>,
    /// Numbers that came again, perhaps with the same event, since it may count again.
    again: BTreeMap<i64, Again>,
    /// The first of those that another event has, with its id.
    first_twice: Vec<(i64, Box<str>)>,
    is_full: bool,
    /// So many of the first ones raised the base.
    begun: u32,
    /// Up to here nothing can be told: what is missing may have been trimmed away.
    base: Option<i64>,
}

/// A number that came again.
#[derive(Debug, Default)]
struct Again {
    /// The first event that has it.
    first: Option<IdentityHash>,
    /// Another event has it.
    is_shared: bool,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    last: i64,
    /// When the first of its numbers came.
    since: Timestamp,
}

/// Numbers between two runs: the first and the last of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gap(i64, i64);

impl Sequences {
    /// Notes an event that was counted for the first time.
    pub fn note(&mut self, input: &EventInput, now: Timestamp) {
        let Some(sequence) = &input.sequence else { return };
        let name = (sequence.source.clone(), Box::from(&*input.event.source));
        if self.all.len() >= SEQUENCES_MAX && !self.all.contains_key(&name) {
            self.is_full = true;
            return;
        }
        let known = self.all.entry(name).or_default();
        if !known.note(sequence.number, now) && !known.again.contains_key(&sequence.number) {
            self.again += 1;
            if self.again <= AGAIN_MAX {
                known.again.insert(sequence.number, Again::default());
            }
        }
    }

    /// Whether there is anything that cannot be told before all events were looked at again.
    pub fn are_doubtful(&self, beginning: Beginning) -> bool {
        let is_trimmed = beginning == Beginning::Trimmed;
        self.all.values().any(|sequence| is_trimmed && sequence.runs.len() > 1 || !sequence.again.is_empty())
    }

    /// Looks at an event again; they come in the order of the journal.
    pub fn look_again(&mut self, input: &EventInput, beginning: Beginning) {
        let Some(sequence) = &input.sequence else { return };
        let name = (sequence.source.clone(), Box::from(&*input.event.source));
        let Some(known) = self.all.get_mut(&name) else { return };
        if beginning == Beginning::Trimmed && known.begun < OVERTAKEN_MAX {
            known.begun += 1;
            known.base = known.base.max(Some(sequence.number));
        }
        known.compare(sequence.number, &input.event.source, &input.event.id);
    }

    /// Tells what is missing though later numbers came so long before `now`, and what came twice. So many records were made
    /// `blank`.
    pub fn tell(&self, now: Timestamp, older: Duration, blank: u64, findings: &mut Findings) {
        self.tell_missing(now, older, blank, findings);
        for ((declared, source), sequence) in &self.all {
            let subject = format!("source {declared}, {source}");
            let is_shared = |(number, again): &(&i64, &Again)| again.is_shared && sequence.is_judged(**number);
            let twice = sequence.again.iter().filter(is_shared).count() as u64;
            let first = sequence.first_twice.iter().filter(|(number, _)| sequence.is_judged(*number));
            let mut told = 0;
            for (number, id) in first {
                told += 1;
                findings.add(Kind::SequenceTwice, &*subject, format!("{number} again, as event {id:?}"));
            }
            if twice > told {
                findings.add_many(Kind::SequenceTwice, twice - told, &*subject, "further ones");
            }
            if sequence.is_full {
                let detail = format!("it has more than {RUNS_MAX} gaps; what came after that was not looked at");
                findings.add(Kind::SequenceGap, &*subject, detail);
            }
        }
        if self.is_full {
            let detail = format!("there are more than {SEQUENCES_MAX} sequences; the others were not looked at");
            findings.add(Kind::SequenceGap, "all sources", detail);
        }
        if self.again > AGAIN_MAX {
            let again = self.again;
            findings.note(format!(
                "{again} numbers of sequences came again; of {AGAIN_MAX} was looked whether events share them"
            ));
        }
        self.note_bases(findings);
    }

    fn tell_missing(&self, now: Timestamp, older: Duration, blank: u64, findings: &mut Findings) {
        let gaps = || {
            let old = move |(_, since): &(Gap, Timestamp)| since.after(older) <= now;
            self.all.iter().flat_map(move |(name, it)| it.gaps().filter(old).map(move |(gap, _)| (name, gap)))
        };
        let widths = gaps().map(|(_, gap)| gap.width()).filter(|width| *width <= GAP_WIDTH_MAX);
        let missing = widths.fold(0, u64::saturating_add);
        if missing > 0 && missing <= blank {
            findings.note(format!(
                "{missing} numbers of sequences are not there, and {blank} records are blank since somebody was forgotten: they \
                 may have had these numbers"
            ));
        } else if missing > 0 && blank > 0 {
            let least = missing - blank;
            let detail = format!(
                "at least {least} of {missing} never came: {blank} records are blank since somebody was forgotten, and may have \
                 had the others"
            );
            findings.add_many(Kind::SequenceGap, least, "all sources", detail);
        }
        for ((declared, source), gap) in gaps() {
            let subject = format!("source {declared}, {source}");
            let never_came = gap.never_came();
            if gap.width() > GAP_WIDTH_MAX {
                let detail = format!("{never_came}; or a number beside them is none of the sequence");
                findings.add(Kind::SequenceGap, subject, detail);
            } else if missing > blank {
                // Where some may be of blank records, how many there are at least was told at once.
                let count = if blank > 0 { 0 } else { gap.width() };
                findings.add_many(Kind::SequenceGap, count, subject, never_came);
            }
        }
    }

    /// Tells from where on numbers were judged, where some could not be.
    fn note_bases(&self, findings: &mut Findings) {
        let named = |((declared, source), it): (&Name, &Sequence)| {
            it.base.map(|base| format!("source {declared}, {source} after {base}"))
        };
        let mut all = self.all.iter().filter_map(named);
        let mut first: Vec<String> = all.by_ref().take(NAMED_MAX).collect();
        if first.is_empty() {
            return;
        }
        let others = all.count();
        first.extend((others > 0).then(|| format!("{others} others")));
        let first = first.join("; ");
        findings.note(format!("the journal was trimmed, so that only later numbers of sequences are judged: {first}"));
    }
}

impl Sequence {
    /// Notes a number; whether it had not come before.
    fn note(&mut self, number: i64, now: Timestamp) -> bool {
        let before = self.runs.range(..=number).next_back().map(|(first, run)| (*first, *run));
        if before.is_some_and(|(_, run)| number <= run.last) {
            return false;
        }
        // The run it lengthens, or a new one; then the one that it meets.
        let (first, mut run) = match before.filter(|(_, run)| run.last.checked_add(1) == Some(number)) {
            Some((first, run)) => (first, Run { last: number, since: run.since.min(now) }),
            None => (number, Run { last: number, since: now }),
        };
        if let Some(next) = number.checked_add(1).and_then(|next| self.runs.remove(&next)) {
            run = Run { last: next.last, since: run.since.min(next.since) };
        }
        if self.runs.len() >= RUNS_MAX && !self.runs.contains_key(&first) {
            self.is_full = true;
            return true;
        }
        self.runs.insert(first, run);
        true
    }

    /// Compares an event with the first one that had its number, if that came again.
    fn compare(&mut self, number: i64, source: &str, id: &str) {
        let Some(again) = self.again.get_mut(&number) else { return };
        let identity = IdentityHash::of(source, id);
        if again.is_shared || *again.first.get_or_insert(identity) == identity {
            return;
        }
        again.is_shared = true;
        if self.first_twice.len() < TWICE_KEPT_MAX {
            self.first_twice.push((number, id.into()));
        }
    }

    /// Whether what is missing before this number did not go with the beginning of the journal.
    fn is_judged(&self, number: i64) -> bool {
        self.base.is_none_or(|base| number > base)
    }

    /// What is missing between runs, and since when a later number is there.
    fn gaps(&self) -> impl Iterator<Item = (Gap, Timestamp)> {
        let pairs = self.runs.values().zip(self.runs.iter().skip(1));
        let gaps = pairs.map(|(before, (first, run))| (Gap(before.last + 1, first - 1), run.since));
        gaps.filter_map(|(gap, since)| {
            // What is there beyond the base comes after it; so does what is missing there.
            let from = self.base.map_or(gap.0, |base| gap.0.max(base.saturating_add(1)));
            (from <= gap.1).then_some((Gap(from, gap.1), since))
        })
    }
}

impl Gap {
    fn width(self) -> u64 {
        self.0.abs_diff(self.1).saturating_add(1)
    }

    fn never_came(self) -> String {
        let Gap(first, last) = self;
        if first == last { format!("{first} never came") } else { format!("{first} to {last} never came") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::event::{Event, TimeGiven};
    use crate::model::ids::PayloadHash;
    use crate::model::value::Map;

    fn second(n: i64) -> Timestamp {
        Timestamp::from_nanos(i128::from(n) * 1_000_000_000).unwrap()
    }

    fn input(number: i64, id: &str) -> EventInput {
        let event = Event {
            source: "/s".into(),
            id: id.into(),
            kind: "A".into(),
            time: second(0),
            time_given: TimeGiven::BySender,
            subject: None,
            data: None,
            extensions: Map::default(),
        };
        let sequence = Some(Box::new(crate::model::event::Sequence { source: "s".into(), number }));
        EventInput { event: event.packed(), payload: PayloadHash(0), id: None, time: None, hops: 0, sequence }
    }

    /// What is told of events that came in this order, each after a second, where so many records are blank.
    fn told(events: &[(i64, &str)], beginning: Beginning, blank: u64) -> (u64, u64, Vec<String>) {
        let mut sequences = Sequences::default();
        for (n, (number, id)) in (0..).zip(events) {
            sequences.note(&input(*number, id), second(n));
        }
        if sequences.are_doubtful(beginning) {
            for (number, id) in events {
                sequences.look_again(&input(*number, id), beginning);
            }
        }
        let mut findings = Findings::new(9);
        sequences.tell(second(100_000), Duration::ZERO, blank, &mut findings);
        (findings.count(Kind::SequenceGap), findings.count(Kind::SequenceTwice), findings.notes().to_vec())
    }

    proptest! {
        /// If this failed, numbers would be called missing that came, or the other way round.
        #[test]
        fn runs_say_what_a_set_says(numbers in prop::collection::vec(-20_i64..20, 0..60)) {
            let mut sequence = Sequence::default();
            let mut all = std::collections::BTreeSet::new();
            for number in &numbers {
                prop_assert_eq!(sequence.note(*number, second(0)), all.insert(*number));
            }
            let missing: Vec<i64> = match (all.first(), all.last()) {
                (Some(first), Some(last)) => (*first..*last).filter(|number| !all.contains(number)).collect(),
                _ => Vec::new(),
            };
            let told: Vec<i64> = sequence.gaps().flat_map(|(Gap(first, last), _)| first..=last).collect();
            prop_assert_eq!(told, missing);
        }
    }

    /// If this failed, a number that is overtaken would be called missing while it is on its way.
    #[test]
    fn what_may_still_be_on_its_way_is_not_missing() {
        let mut sequences = Sequences::default();
        for (number, at) in [(1, 0), (3, 5), (i64::MAX, 9)] {
            sequences.note(&input(number, "e"), second(at));
        }
        for (now, expected) in [(14, 0), (15, 1), (19, 1 + 1)] {
            let mut findings = Findings::new(9);
            sequences.tell(second(now), Duration::from_secs(10), 0, &mut findings);
            assert_eq!(findings.count(Kind::SequenceGap), expected, "{now}");
        }
    }

    /// If this failed, one absurd number would hide all else that is missing, or what is told would overflow.
    #[test]
    fn a_gap_that_is_too_wide_is_one() {
        for (events, expected) in [
            (&[(1, "a"), (i64::MAX, "b"), (3, "c")][..], 2),
            (&[(i64::MIN, "a"), (i64::MAX, "b")], 1),
            (&[(0, "a"), (i64::MAX, "b"), (i64::MIN, "c")], 2),
            (&[(0, "a"), (10_000_001, "b")], 10_000_000),
            (&[(0, "a"), (10_000_002, "b")], 1),
        ] {
            assert_eq!(told(events, Beginning::Kept, 0), (expected, 0, Vec::new()), "{events:?}");
        }
    }

    /// If this failed, an event that counts again after its entity's life has ended would be taken for two.
    #[test]
    fn only_another_event_has_a_number_twice() {
        for (events, expected) in [
            (&[(1, "a"), (2, "b"), (1, "a")][..], 0),
            (&[(1, "a"), (2, "b"), (1, "c"), (1, "a"), (1, "c")], 1),
            (&[(1, "a"), (2, "b"), (1, "c"), (2, "c")], 2),
        ] {
            assert_eq!(told(events, Beginning::Kept, 0), (0, expected, Vec::new()), "{events:?}");
        }
    }

    /// If this failed, what was trimmed away would be called missing, or what is missing would be passed over.
    #[test]
    fn what_may_have_been_trimmed_away_is_not_missed() {
        let ids: Vec<String> = (0..OVERTAKEN_MAX + 4).map(|n| n.to_string()).collect();
        // Every other one was trimmed away; then two are missing, and one of before comes again.
        let mut events: Vec<(i64, &str)> = (0..).map(|n| 100 + 2 * n).zip(ids.iter().map(String::as_str)).collect();
        let base = 100 + 2 * i64::from(OVERTAKEN_MAX - 1);
        events.truncate(OVERTAKEN_MAX as usize);
        events.extend([(base + 1, "x"), (base + 3, "y"), (base + 5, "z"), (7, "old")]);
        let (gaps, twice, notes) = told(&events, Beginning::Trimmed, 0);
        assert_eq!((gaps, twice), (2, 0));
        assert_eq!(notes.len(), 1);
        assert!(notes[0].ends_with(&format!("are judged: source s, /s after {base}")), "{notes:?}");
        assert_eq!(told(&events, Beginning::Kept, 0).0, 92 + u64::from(OVERTAKEN_MAX) - 1 + 2);
        assert_eq!(told(&[(3, "a"), (1, "b")], Beginning::Trimmed, 0).0, 0);
        assert_eq!(told(&[(1, "a"), (2, "b")], Beginning::Trimmed, 0).2, Vec::<String>::new());
    }

    /// If this failed, whoever forgets somebody would be told for ever that numbers are missing, and to send them again.
    #[test]
    fn what_was_forgotten_is_not_missing() {
        let events = [(1, "a"), (3, "b"), (6, "c")];
        for (blank, expected, notes) in [(0, 3, 0), (1, 2, 0), (2, 1, 0), (3, 0, 1), (9, 0, 1)] {
            let (gaps, _, told) = told(&events, Beginning::Kept, blank);
            assert_eq!((gaps, told.len()), (expected, notes), "{blank} blank: {told:?}");
        }
    }
}
