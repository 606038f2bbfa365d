//! Numbered steps of things, whose decisions show in which order, how often and whether at all each step was counted.
//!
//! The steps of a track are 1, 2, 3 …, all from one lane, which sends them in this order, some of them twice. Each one
//! makes the track conclude how many steps it has counted and which is the highest. As long as nothing is lost, doubled or
//! out of order, those two are equal in every revision, and equal to its number. The same holds for the lane, which is an
//! entity of its own and counts the steps of all its tracks.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::Value;

use super::tcp::deliver_some;
use super::{POLL, Server, instant, percent};

pub const RULES: &str = r#"
[entity.track]
key = "event.subject"
[entity.track.fields]
count = { on = "Step", take = "count" }
top = { on = "Step", take = "max", value = "event.data.n" }
[entity.track.decision.Reached]
data = { count = "track.count", top = "track.top" }
[entity.lane]
key = "event.data.lane"
[entity.lane.fields]
count = { on = "Step", take = "count" }
top = { on = "Step", take = "max", value = "event.data.total" }
[entity.lane.decision.Passed]
data = { count = "lane.count", top = "lane.top" }
"#;

/// Tracks of a lane.
const TRACKS: usize = 5;
/// Out of so many lines one is sent a second time, a few lines later.
const REPEAT_ONE_IN: u32 = 8;
/// Unacknowledged lines of the connections, in turn; small enough that trouble falls into the middle of the data.
const WINDOWS: [usize; 4] = [8, 16, 32, 64];

/// What one connection sends, over all its reconnections.
pub struct Lane {
    name: String,
    lines: Vec<Line>,
    /// How many of the lines are acknowledged.
    pub acked: AtomicUsize,
}

struct Line {
    text: String,
    /// The track and its step, unless the line is foreign.
    step: Option<(usize, u64)>,
}

impl Lane {
    /// `steps` steps, with some repeated, and `others` strewn in between.
    pub fn new(name: &str, steps: usize, others: &[String], random: &mut StdRng) -> Lane {
        let mut lane = Lane { name: name.to_owned(), lines: Vec::new(), acked: AtomicUsize::new(0) };
        let (mut reached, mut others) = ([0; TRACKS], others.iter());
        let others_each = others.len().div_ceil(steps.max(1));
        for total in 1..=steps {
            let track = random.random_range(0..TRACKS);
            reached[track] += 1;
            let step = (track, reached[track]);
            let text = format!(
                r#"{{"id":"{name}/{total}","type":"Step","subject":"{}","time":"2026-11-20T10:00:00Z","data":{{"lane":"{name}","n":{},"total":{total}}}}}"#,
                lane.track(track),
                step.1
            );
            lane.lines.push(Line { text, step: Some(step) });
            if random.random_ratio(1, REPEAT_ONE_IN) {
                let before = random.random_range(lane.lines.len().saturating_sub(10)..lane.lines.len());
                let Line { text, step } = &lane.lines[before];
                let again = Line { text: text.clone(), step: *step };
                lane.lines.push(again);
            }
            lane.lines.extend(others.by_ref().take(others_each).map(|text| Line { text: text.clone(), step: None }));
        }
        lane
    }

    fn track(&self, track: usize) -> String {
        format!("{}:{track}", self.name)
    }

    /// Every line, in the order in which they are to be sent.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.lines.iter().map(|line| line.text.clone())
    }

    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// The highest step of each track, and the steps in all, among the first `count` lines.
    fn reached(&self, count: usize) -> ([u64; TRACKS], u64) {
        let mut reached = [0; TRACKS];
        for (track, n) in self.lines[..count].iter().filter_map(|line| line.step) {
            reached[track] = reached[track].max(n);
        }
        (reached, reached.iter().sum())
    }

    /// Every step that was acknowledged is there, each one once. To be asked while no line is under way.
    pub fn check_acked(&self, server: &Server, how: &str) {
        let (least, least_total) = self.reached(self.acked.load(Ordering::SeqCst));
        let (most, most_total) = self.reached(self.lines.len());
        let mut entities: Vec<(&str, String, u64, u64)> =
            (0..TRACKS).map(|track| ("track", self.track(track), least[track], most[track])).collect();
        entities.push(("lane", self.name.clone(), least_total, most_total));
        for (kind, key, least, most) in entities {
            let answer = server.get(&format!("/v1/entities/{kind}/{}", percent(&key)));
            if answer.status == 404 {
                assert_eq!(least, 0, "{how}: {kind} {key} is gone");
                continue;
            }
            let entity = answer.expect(200).json();
            let numbers = ["/fields/count", "/fields/top", "/events", "/version"]
                .map(|place| entity.pointer(place).and_then(Value::as_u64).unwrap_or(0));
            assert_eq!(numbers, [numbers[0]; 4], "{how}: each step of {kind} {key} counts once and in order: {entity}");
            let range = least..=most;
            assert!(range.contains(&numbers[0]), "{how}: {kind} {key} has {} steps of {range:?}", numbers[0]);
        }
    }

    pub fn is_acked(&self) -> bool {
        self.acked.load(Ordering::SeqCst) == self.lines.len()
    }
}

/// Lets every lane deliver, reconnecting to `address` as often as it takes, while `trouble` goes on.
pub fn under_load(server: &mut Server, lanes: &[Lane], trouble: impl FnOnce(&mut Server, &Mutex<SocketAddr>)) {
    let address = Mutex::new(server.tcp());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (lane, unacked_max) in lanes.iter().zip(WINDOWS.into_iter().cycle()) {
            let (address, over) = (&address, &over);
            scope.spawn(move || {
                let mut left: VecDeque<String> = lane.texts().collect();
                while !left.is_empty() && !over.load(Ordering::SeqCst) {
                    let address = *address.lock().unwrap_or_else(PoisonError::into_inner);
                    deliver_some(address, &mut left, unacked_max, &lane.acked);
                    std::thread::sleep(POLL); // a server that is down is not asked all the time
                }
            });
        }
        let ends = EndsWaiting(&over);
        trouble(server, &address);
        drop(ends);
    });
}

/// Tells the deliveries to end when the test does, so that a failure is not a hang.
struct EndsWaiting<'a>(&'a AtomicBool);

impl Drop for EndsWaiting<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Lines that are acknowledged.
pub fn acked(lanes: &[Lane]) -> usize {
    lanes.iter().map(|lane| lane.acked.load(Ordering::SeqCst)).sum()
}

/// Entity type and key, then the decision's name.
pub type Slot = (String, String, String);

/// The last revision of a decision in a sink's file.
#[derive(Debug)]
pub struct Last {
    pub revision: u64,
    pub data: Value,
    time: i64,
}

/// Looks at every line of the sink's file: ids say what the rest says, each revision stands there once, those of a decision
/// without a gap, in order, with rising times, and those of steps tell of as many steps as their number says.
pub fn check_file(server: &Server) -> BTreeMap<Slot, Last> {
    let mut last: BTreeMap<Slot, Last> = BTreeMap::new();
    for line in server.decisions_file() {
        let id = line["id"].as_str().expect("an id").to_owned();
        let revision = line["revision"].as_u64().or_else(|| line["revision"].as_str()?.parse().ok());
        let revision = revision.unwrap_or_else(|| panic!("no revision in {line}"));
        let parts: Vec<&str> = id.split('/').collect();
        let [entity, key, name, number] = parts[..] else { panic!("{id} is not type/key/name/revision") };
        let subject = line["subject"].as_str().expect("a subject");
        assert_eq!((key, number), (percent(subject).as_str(), revision.to_string().as_str()), "{line}");
        assert_eq!(line["type"], name, "the type is the decision's name: {line}");
        assert_eq!(line["source"], format!("/turnstile/{entity}"), "{line}");
        let time = instant(line["time"].as_str().expect("a time")).expect("RFC 3339");
        let slot = (entity.to_owned(), subject.to_owned(), name.to_owned());
        let (before, time_before) = last.get(&slot).map_or((0, i64::MIN), |last| (last.revision, last.time));
        assert_eq!(revision, before + 1, "revisions of {slot:?} come once, in order, without a gap");
        assert!(time > time_before, "the time of {id} is later than its predecessor's");
        if ["Reached", "Passed"].contains(&name) {
            let counted = [&line["data"]["count"], &line["data"]["top"]];
            assert_eq!(counted, [revision; 2], "{id}: the step that makes it is the next one: {line}");
        }
        last.insert(slot, Last { revision, data: line["data"].clone(), time });
    }
    last
}

/// What a reader of the sink's file has seen so far, which must never change.
#[derive(Default)]
pub struct Published(String);

impl Published {
    /// Compares the file with what it was and notes what is new.
    pub fn look(&mut self, server: &Server, how: &str) {
        let text = std::fs::read_to_string(server.path("out/decisions.ndjson")).unwrap_or_default();
        let complete = text.rfind('\n').map_or("", |end| &text[..=end]);
        let common = self.0.len().min(complete.len());
        if self.0.as_bytes()[..common] != complete.as_bytes()[..common] {
            let changed = self.0.lines().zip(complete.lines()).find(|(before, now)| before != now);
            panic!("{how}: a decision that was read is another one now: {changed:#?}");
        }
        self.0.push_str(&complete[common..]);
    }

    /// That the file, now complete, has everything that was ever read from it.
    pub fn check_all_there(&mut self, server: &Server) {
        self.look(server, "in the end");
        let lines = server.decisions_file().len();
        assert_eq!(lines, self.0.lines().count(), "decisions that were read are no longer in the file");
    }
}
