//! A node in a temporary folder that is driven step by step: its commits can be held, its checkpoints are made on demand,
//! and a crash is a copy of the folder.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use actix::{Arbiter, SystemRunner};
use tokio::sync::watch;

use super::fixtures::{Folder, RULES, decide, order, ruleset, tuning};
use crate::actors::{
    HandedOver, Horizon, Pauses, ShardSetup, Shards, Slice, Snapshot, Supervisor, Surroundings, Tag, Work,
};
use crate::journal::{Journal, JournalReader, JournalWriter, spawn_writer};
use crate::metrics::{Metrics, TypeMetrics};
use crate::model::event::Event;
use crate::model::ids::{EntityKey, Lsn};
use crate::model::record::Record;
use crate::model::settle::{Acknowledge, EventOutcome, Outcomes, Ticket};
use crate::node::checkpoint::Checkpoint;
use crate::node::checkpointer::{Checkpointer, slices};
use crate::node::commits::Commits;
use crate::node::recovery::{self, RecoveryError};
use crate::node::replay::replay;
use crate::node::retention::Holds;
use crate::rules::Ruleset;
use crate::store::{Store, Wake};

/// Far more than anything here takes; only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_mins(2);

/// What senders were told, by line.
#[derive(Default)]
pub(super) struct Told {
    outcomes: Mutex<BTreeMap<u64, Vec<EventOutcome>>>,
    more: Condvar,
}

impl Acknowledge for Told {
    fn settled(&self, outcomes: Outcomes) {
        let mut told = self.outcomes.lock().unwrap();
        for (line, outcome) in outcomes {
            told.entry(line).or_default().push(outcome);
        }
        drop(told);
        self.more.notify_all();
    }
}

/// The valve before commits are passed on.
#[derive(Default)]
struct Valve {
    /// How many commits may still pass; any number if there is none.
    allowed: Mutex<(Option<u64>, u64)>,
    changed: Condvar,
}

impl Valve {
    fn pass(&self) {
        let mut state = self.allowed.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        let waiting = |(allowed, _): &mut (Option<u64>, u64)| *allowed == Some(0);
        let (mut state, _) = self.changed.wait_timeout_while(state, PATIENCE, waiting).unwrap();
        state.0 = state.0.map(|allowed| allowed.saturating_sub(1));
    }

    fn set(&self, allowed: Option<u64>) {
        self.allowed.lock().unwrap().0 = allowed;
        self.changed.notify_all();
    }
}

/// How a harness is wired.
#[derive(Clone, Copy)]
pub(super) struct Wiring {
    pub shards: usize,
    pub live_max: usize,
    pub idle: Duration,
    pub entity_bytes_max: usize,
    pub rules: &'static str,
}

impl Default for Wiring {
    fn default() -> Self {
        Wiring { shards: 1, live_max: 1000, idle: Duration::from_hours(1), entity_bytes_max: 1 << 24, rules: RULES }
    }
}

/// A node under test.
pub(super) struct Harness {
    system: SystemRunner,
    arbiters: Vec<Arbiter>,
    pub shards: Shards,
    pub store: Store,
    pub journal: JournalReader,
    pub ruleset: Arc<Ruleset>,
    pub types: HashMap<Arc<str>, Arc<TypeMetrics>>,
    pub pauses: Arc<Pauses>,
    pub replayed: u64,
    pub replayed_bytes: u64,
    pub told: Arc<Told>,
    valve: Arc<Valve>,
    checkpointer: Option<Checkpointer>,
    writer: Option<std::thread::JoinHandle<Option<Journal>>>,
    handed_bytes: Arc<AtomicU64>,
    lines: u64,
}

impl Harness {
    pub fn start(folder: &Folder, wiring: Wiring) -> Harness {
        Self::try_start(folder, wiring).unwrap()
    }

    pub fn try_start(folder: &Folder, wiring: Wiring) -> Result<Harness, RecoveryError> {
        let ruleset = ruleset(wiring.rules);
        let metrics = Arc::new(Metrics::new());
        let types: HashMap<_, _> = ruleset
            .types()
            .iter()
            .map(|rules| (rules.name.clone(), metrics.entity_type(&rules.name, &["last"], &[], &["Large", "Seen"])))
            .collect();
        let opened = recovery::open(folder.path(), &tuning(), &ruleset)?;
        let recovered = replay(&opened, &types)?;
        let (store, journal) = (opened.store, opened.journal.reader());
        let (committed, committed_seen) = watch::channel(opened.journal.last_lsn());
        let (slice_sender, slice_receiver) = slices(wiring.shards);
        let found: Arc<OnceLock<Shards>> = Arc::default();
        let commits =
            Commits { shards: found.clone(), committed, journaled_bytes: Arc::default(), metrics: metrics.clone() };
        let valve = Arc::new(Valve::default());
        let before = valve.clone();
        let on_commit = move |commit| {
            before.pass();
            commits.pass_on(commit);
        };
        let (writer, thread) = spawn_writer(opened.journal, 64, on_commit, |error| panic!("{error}")).unwrap();
        let system = actix::System::new();
        let horizon = Horizon::default();
        let handed_bytes: Arc<AtomicU64> = Arc::default();
        let pauses = Arc::new(Pauses::new(&ruleset));
        let around = || Surroundings {
            store: store.clone(),
            metrics: metrics.clone(),
            types: types.clone(),
            ruleset: ruleset.clone(),
            pauses: pauses.clone(),
            tracer: crate::telemetry::Tracer::default(),
            entity_bytes_max: wiring.entity_bytes_max,
            decide,
            fatal: Arc::new(|error| panic!("{error}")),
        };
        let setups = setups(
            wiring,
            recovered.entities,
            &Parts {
                writer: &writer,
                slices: &slice_sender,
                committed: journal.last_lsn(),
                handed_bytes: &handed_bytes,
                peers: &found,
                horizon: &horizon,
            },
            around,
        );
        let (arbiters, shards) = system.block_on(async {
            let arbiters: Vec<_> = setups.iter().map(|_| Arbiter::new()).collect();
            let start = |(arbiter, setup): (&Arbiter, _)| Supervisor::start_on(&arbiter.handle(), setup);
            let shards = Shards::new(arbiters.iter().zip(setups).map(start).collect());
            (arbiters, shards)
        });
        let _ = found.set(shards.clone());
        system.block_on(pauses.load(&shards));
        horizon.start();
        // As `Agenda` does, all at once.
        horizon.advance(Wake(i64::MAX));
        let ahead = store.agenda(None, Wake(i64::MAX), usize::MAX)?;
        system.block_on(shards.schedule(ahead));
        let checkpointer = Checkpointer {
            store: store.clone(),
            shards: shards.clone(),
            slices: slice_receiver,
            requests: crossbeam_channel::never(),
            committed: committed_seen,
            journal: writer,
            journaled_bytes: Arc::default(),
            handed_bytes: handed_bytes.clone(),
            metrics,
            tuning: tuning(),
            sinks_need: Arc::new(Vec::new),
            reader: journal.clone(),
            data_dir: folder.path().to_owned(),
            kept: watch::Sender::default(),
            fatal: Arc::new(|error| panic!("{error}")),
            watermark: watch::Sender::new(store.watermark()?),
            saved_bytes: Arc::default(),
            holds: Holds::default(),
        };
        Ok(Harness {
            system,
            arbiters,
            shards,
            store,
            journal,
            ruleset,
            types,
            pauses,
            replayed: recovered.records,
            replayed_bytes: recovered.bytes,
            told: Arc::default(),
            valve,
            checkpointer: Some(checkpointer),
            writer: Some(thread),
            handed_bytes,
            lines: 0,
        })
    }

    /// Delivers events together; returns their first line.
    pub fn deliver(&mut self, events: &[Event]) -> u64 {
        let first = self.lines + 1;
        let sender: Arc<dyn Acknowledge> = self.told.clone();
        let mut work = Vec::new();
        for event in events {
            self.lines += 1;
            let takers = self.ruleset.admit(event).unwrap();
            assert!(!takers.is_empty());
            let tickets = Ticket::issue(&sender, self.lines, takers.len());
            work.extend(takers.into_iter().zip(tickets).map(|(taken, ticket)| Work::Event {
                taken,
                ticket,
                trace: None,
            }));
        }
        self.shards.deliver(work);
        first
    }

    /// Delivers events together, and returns what became of each once all are settled.
    pub fn settle(&mut self, events: &[Event]) -> Vec<EventOutcome> {
        let first = self.deliver(events);
        self.all_told();
        (first..=self.lines).map(|line| self.told(line).unwrap()).collect()
    }

    /// Waits until every line was told of.
    pub fn all_told(&self) {
        let outcomes = self.told.outcomes.lock().unwrap();
        let few = |outcomes: &mut BTreeMap<_, _>| (outcomes.len() as u64) < self.lines;
        let (outcomes, timeout) = self.told.more.wait_timeout_while(outcomes, PATIENCE, few).unwrap();
        assert!(!timeout.timed_out(), "{} of {} lines are settled", outcomes.len(), self.lines);
    }

    /// What became of a line, if that was told.
    pub fn told(&self, line: u64) -> Option<EventOutcome> {
        let outcomes = self.told.outcomes.lock().unwrap();
        let told = outcomes.get(&line)?;
        assert_eq!(told.len(), 1, "line {line} is settled once");
        Some(told[0].clone())
    }

    /// So many more commits are passed on; all if it is not said.
    pub fn allow_commits(&self, allowed: Option<u64>) {
        self.valve.set(allowed);
    }

    /// Commits that were written, passed on or not.
    pub fn commits_written(&self) -> u64 {
        self.valve.allowed.lock().unwrap().1
    }

    pub fn read(&self, entity: &EntityKey) -> Option<Snapshot> {
        self.system.block_on(self.shards.read(entity))
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.system.block_on(future)
    }

    /// Waits until the one shard has handled what it was sent before, and what its actors made of that. Their mailboxes are
    /// emptied in the order in which they were filled, so what `marker`, a live order, answers comes after all that.
    pub fn handled(&self, marker: &str) {
        assert_eq!(self.shards.count(), 1);
        assert!(self.read(&order(marker)).is_some());
    }

    /// Actors of all types that are live.
    pub fn live(&self) -> i64 {
        self.types.values().map(|metrics| metrics.live.get()).sum()
    }

    /// Bytes of states without actors that wait for the store.
    pub fn handed_bytes(&self) -> u64 {
        self.handed_bytes.load(Ordering::Relaxed)
    }

    pub fn checkpointer(&self) -> &Checkpointer {
        self.checkpointer.as_ref().unwrap()
    }

    /// The checkpointer, for another thread.
    pub fn take_checkpointer(&mut self) -> Checkpointer {
        self.checkpointer.take().unwrap()
    }

    pub fn give_checkpointer(&mut self, checkpointer: Checkpointer) {
        self.checkpointer = Some(checkpointer);
    }

    /// Makes a whole checkpoint.
    pub fn checkpoint(&self) {
        // Senders are told a moment before the checkpointer hears of the commit.
        let committed = &self.checkpointer().committed;
        wait_until("all is committed", || *committed.borrow() == self.journal.last_lsn());
        self.checkpointer().checkpoint(None).unwrap();
    }

    /// Stores a part of what changed, as a checkpoint does that a crash interrupts.
    pub fn checkpoint_partly(&self, entities: usize) {
        for shard in 0..self.shards.count() as u16 {
            self.begin_copying(shard);
            self.shards.copy_slice(shard, entities);
            self.store_slice();
        }
    }

    /// Asks the first shard for copies of all that changed.
    pub fn begin_slice(&self) {
        self.begin_copying(0);
        self.shards.copy_slice(0, usize::MAX);
    }

    fn begin_copying(&self, shard: u16) {
        let changed = self.shards.take_changed(shard).blocking_recv().unwrap();
        self.shards.begin_copying(shard, changed);
    }

    /// Stores the copies that were asked for.
    pub fn store_slice(&self) {
        let slice = self.checkpointer().slices.recv_timeout(PATIENCE).unwrap();
        let mut checkpoint = Checkpoint::begin(self.store.clone(), Lsn::ZERO);
        let mut stored = checkpoint.take(slice).unwrap();
        stored.extend(checkpoint.store().unwrap());
        self.shards.stored(stored);
    }

    /// Every record of the journal.
    pub fn records(&self) -> Vec<(Lsn, Record)> {
        let mut records = Vec::new();
        for block in self.journal.read_from(self.journal.first_lsn()).unwrap() {
            records.extend(block.unwrap().records().map(|(lsn, bytes)| (lsn, Record::decode(bytes).unwrap())));
        }
        records
    }
}

/// What all shards are given.
struct Parts<'a> {
    writer: &'a JournalWriter<Tag>,
    slices: &'a crossbeam_channel::Sender<Slice>,
    committed: Lsn,
    handed_bytes: &'a Arc<AtomicU64>,
    peers: &'a Arc<OnceLock<Shards>>,
    horizon: &'a Horizon,
}

fn setups(
    wiring: Wiring,
    recovered: HashMap<EntityKey, HandedOver>,
    parts: &Parts<'_>,
    around: impl Fn() -> Surroundings,
) -> Vec<ShardSetup> {
    let mut by_shard: Vec<HashMap<_, _>> = (0..wiring.shards).map(|_| HashMap::new()).collect();
    for (key, handed) in recovered {
        by_shard[key.partition().shard(wiring.shards)].insert(key, handed);
    }
    let setup = |(index, recovered)| ShardSetup {
        index,
        around: around(),
        writer: parts.writer.clone(),
        slices: parts.slices.clone(),
        committed: parts.committed,
        live_max: wiring.live_max,
        idle: wiring.idle,
        recovered,
        handed_bytes: parts.handed_bytes.clone(),
        peers: parts.peers.clone(),
        calls: Arc::new(|_| {}),
        horizon: parts.horizon.clone(),
    };
    (0..).zip(by_shard).map(setup).collect()
}

/// The end without a last checkpoint: what was not stored is left to recovery.
impl Drop for Harness {
    fn drop(&mut self) {
        self.valve.set(None);
        for arbiter in self.arbiters.drain(..) {
            arbiter.stop();
            let _ = arbiter.join();
        }
        self.checkpointer = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Waits for a condition.
#[track_caller]
pub(super) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}
