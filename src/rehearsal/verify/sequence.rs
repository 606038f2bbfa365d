//! Numbers that sources give their events one after the other: which of them never came, and which came twice.
//! Kept as runs without a gap, so that a sequence takes as much memory as it has gaps.

use std::collections::BTreeMap;
use std::time::Duration;

use super::findings::{Findings, Kind};
use crate::model::record::EventInput;
use crate::model::time::Timestamp;

/// So many sequences are looked at, and so many runs of each; of more, it is told that they are not.
const SEQUENCES_MAX: usize = 10_000;
const RUNS_MAX: usize = 100_000;
/// So many numbers that came twice are told of a sequence; all are counted.
const TWICE_KEPT_MAX: usize = 10;

/// All sequences: by the source that declares them, and the source that events name.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    all: BTreeMap<(Box<str>, Box<str>), Sequence>,
    /// There are more than are looked at.
    is_full: bool,
}

#[derive(Debug, Default)]
struct Sequence {
    /// By the first number of each.
    runs: BTreeMap<i64, Run>,
    twice: u64,
    /// The first of them, with the id that came later.
    first_twice: Vec<(i64, Box<str>)>,
    is_full: bool,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    last: i64,
    /// When the first of its numbers came.
    since: Timestamp,
}

impl Sequences {
    /// Notes an event that was counted for the first time.
    pub fn note(&mut self, input: &EventInput, now: Timestamp) {
        let Some(sequence) = &input.sequence else { return };
        let name = (sequence.source.clone(), Box::from(&*input.event.source));
        if self.all.len() >= SEQUENCES_MAX && !self.all.contains_key(&name) {
            self.is_full = true;
            return;
        }
        self.all.entry(name).or_default().note(sequence.number, &input.event.id, now);
    }

    /// Tells what is missing though later numbers came so long before `now`, and what came twice.
    pub fn tell(&self, now: Timestamp, older: Duration, findings: &mut Findings) {
        for ((declared, source), sequence) in &self.all {
            let subject = format!("source {declared}, {source}");
            for (gap, since) in sequence.gaps() {
                if since.after(older) > now {
                    continue;
                }
                let detail = match gap {
                    (first, last) if first == last => format!("{first} never came"),
                    (first, last) => format!("{first} to {last} never came"),
                };
                findings.add_many(Kind::SequenceGap, gap.0.abs_diff(gap.1) + 1, &*subject, detail);
            }
            for (number, id) in &sequence.first_twice {
                findings.add(Kind::SequenceTwice, &*subject, format!("{number} again, as event {id:?}"));
            }
            let more = sequence.twice - sequence.first_twice.len() as u64;
            if more > 0 {
                findings.add_many(Kind::SequenceTwice, more, &*subject, "further ones");
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
    }
}

impl Sequence {
    fn note(&mut self, number: i64, id: &str, now: Timestamp) {
        let before = self.runs.range(..=number).next_back().map(|(first, run)| (*first, *run));
        if before.is_some_and(|(_, run)| number <= run.last) {
            self.twice += 1;
            if self.first_twice.len() < TWICE_KEPT_MAX {
                self.first_twice.push((number, id.into()));
            }
            return;
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
            return;
        }
        self.runs.insert(first, run);
    }

    /// What is missing between runs, and since when a later number is there.
    fn gaps(&self) -> impl Iterator<Item = ((i64, i64), Timestamp)> {
        let pairs = self.runs.values().zip(self.runs.iter().skip(1));
        pairs.map(|(before, (first, run))| ((before.last + 1, first - 1), run.since))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(n: i64) -> Timestamp {
        Timestamp::from_nanos(i128::from(n) * 1_000_000_000).unwrap()
    }

    proptest! {
        /// If this failed, numbers would be called missing that came, or the other way round.
        #[test]
        fn runs_say_what_a_set_says(numbers in prop::collection::vec(-20_i64..20, 0..60)) {
            let mut sequence = Sequence::default();
            let mut all = std::collections::BTreeSet::new();
            let mut twice = 0;
            for number in &numbers {
                sequence.note(*number, "e", second(0));
                twice += u64::from(!all.insert(*number));
            }
            let missing: Vec<i64> = match (all.first(), all.last()) {
                (Some(first), Some(last)) => (*first..*last).filter(|number| !all.contains(number)).collect(),
                _ => Vec::new(),
            };
            let told: Vec<i64> = sequence.gaps().flat_map(|((first, last), _)| first..=last).collect();
            prop_assert_eq!((told, sequence.twice), (missing, twice));
        }
    }

    /// If this failed, a number that is overtaken would be called missing while it is on its way.
    #[test]
    fn what_may_still_be_on_its_way_is_not_missing() {
        let mut sequence = Sequence::default();
        for (number, at) in [(1, 0), (3, 5), (i64::MAX, 9)] {
            sequence.note(number, "e", second(at));
        }
        let all = [(("s".into(), "/s".into()), sequence)].into_iter().collect();
        let sequences = Sequences { all, is_full: false };
        for (now, expected) in [(14, 0), (15, 1), (19, 1 + (i64::MAX as u64 - 4))] {
            let mut findings = Findings::new(9);
            sequences.tell(second(now), Duration::from_secs(10), &mut findings);
            assert_eq!(findings.count(Kind::SequenceGap), expected, "{now}");
        }
    }
}
