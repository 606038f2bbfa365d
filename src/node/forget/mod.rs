//! Forgetting entities: their lives end, and what the journal holds of them is made unreadable. What was asked for is journaled
//! first and carried on after every start until it is done.

mod fates;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::JoinHandle;

use self::fates::End;
pub use self::fates::Fates;
use super::checkpointer::Request;
use super::fatal::Fatal;
use super::retention::Holds;
use super::sinks::Sinks;
use super::start::Shared;
use crate::actors::{History, Shards, Tag};
use crate::admin::{Forgetting, ReadAs};
use crate::journal::{Fate, JournalError, JournalReader, JournalRewriter, JournalWriter};
use crate::metrics::Metrics;
use crate::model::codec::CodecError;
use crate::model::ids::{EntityKey, Lsn, Version};
use crate::model::mandate::Mandate;
use crate::model::record::Input;
use crate::model::record_head::RecordHead;
use crate::model::system::{DEAD_LETTER_KIND, DeadLetter, FORGET_KIND, Forget, ForgetStage, SystemState};
use crate::model::time::Timestamp;
use crate::store::{Store, StoreError};

/// So many keys are looked up at a time.
const KEYS_AT_ONCE: usize = 500;
/// How often it is looked whether sinks and store have come far enough.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What forgets.
pub(super) struct Forgetter {
    shards: Shards,
    store: Store,
    journal: JournalWriter<Tag>,
    rewriter: JournalRewriter,
    sinks_settled: Arc<dyn Fn() -> Lsn + Send + Sync>,
    committed: watch::Receiver<Lsn>,
    watermark: watch::Receiver<Lsn>,
    checkpoints: crossbeam_channel::Sender<Request>,
    /// Told when something new is asked for.
    asked: Arc<Notify>,
    /// What is being done, in words; empty: nothing.
    doing: watch::Sender<String>,
    /// What becomes of records that are still as they were.
    pending: watch::Sender<Option<ReadAs>>,
    /// Locked while it is noted how far it is.
    noting: Arc<Mutex<()>>,
    journaled: JournalReader,
    holds: Holds,
    metrics: Arc<Metrics>,
    fatal: Fatal,
}

/// Why forgetting cannot go on.
#[derive(Debug, thiserror::Error)]
enum ForgetError {
    /// The node is about to end; the next start carries on.
    #[error("the node is about to end")]
    Ending,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the record at LSN {lsn} cannot be read; the journal is damaged, or of another version")]
    Record { lsn: Lsn, source: CodecError },
}

impl Forgetter {
    /// Starts it; and what has it do something.
    pub fn start(
        shared: &Shared,
        shards: &Shards,
        sinks: &Sinks,
        journal: JournalWriter<Tag>,
        checkpoints: &crossbeam_channel::Sender<Request>,
        runtime: &Runtime,
    ) -> (JoinHandle<()>, Forgetting) {
        let doing = watch::Sender::new(String::new());
        let asked = Arc::new(Notify::new());
        let pending = watch::Sender::new(None);
        let noting: Arc<Mutex<()>> = Arc::default();
        let forgetting = Forgetting {
            asked: asked.clone(),
            doing: doing.subscribe(),
            pending: pending.subscribe(),
            noting: noting.clone(),
        };
        let forgetter = Forgetter {
            shards: shards.clone(),
            store: shared.store.clone(),
            journal,
            rewriter: shared.rewriter.clone(),
            sinks_settled: sinks.settled(),
            committed: shared.committed.clone(),
            watermark: shared.watermark.subscribe(),
            checkpoints: checkpoints.clone(),
            asked,
            doing,
            pending,
            noting,
            journaled: shared.journal.clone(),
            holds: shared.holds.clone(),
            metrics: shared.metrics.clone(),
            fatal: shared.fatal.clone(),
        };
        (runtime.spawn(forgetter.run()), forgetting)
    }

    /// Forgets what is asked for, for as long as the process runs.
    async fn run(self) {
        loop {
            match self.carry_on().await {
                Ok(()) => self.asked.notified().await,
                Err(ForgetError::Ending) => return,
                Err(error) => return (self.fatal)(&error),
            }
        }
    }

    /// Forgets all that is asked for until the rewriting begins, in one pass over the journal.
    async fn carry_on(&self) -> Result<(), ForgetError> {
        let (open, fates, through) = loop {
            let open = self.end_all().await?;
            if open.is_empty() {
                return Ok(());
            }
            let mut ends = HashMap::new();
            for (_, Forget { entity, stage, .. }) in &open {
                if let ForgetStage::Ended { version } = stage {
                    ends.insert(entity.clone(), End { version: *version, lsn: self.end_of(entity, *version).await? });
                }
            }
            let fates = Arc::new(Fates::new(ends));
            self.hide(&fates);
            if let Some(through) = self.store_all(&fates).await? {
                break (open, fates, through);
            }
        };
        while !self.holds.begin_rewriting() {
            self.doing.send_replace("waiting until nothing is verified or backed up".to_owned());
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let records = self.rewrite(fates, through).await;
        self.holds.end_rewriting();
        let records = records?;
        self.metrics.retention.blanked.inc_by(records);
        for (key, mut forget) in open {
            let _alone = self.noting.lock().await;
            if self.stage(&key).await.as_ref() != Some(&forget.stage) {
                // Its next life is to be forgotten, too: that is asked for and comes next.
                continue;
            }
            forget.stage = ForgetStage::Done { at: Timestamp::now(), records };
            self.note(&key, forget).await?;
            self.metrics.retention.forgotten.inc();
        }
        self.pending.send_replace(None);
        self.doing.send_replace(String::new());
        Ok(())
    }

    async fn stage(&self, key: &str) -> Option<ForgetStage> {
        let snapshot = self.shards.read(&EntityKey::new(FORGET_KIND, key)).await?;
        forgetting(*snapshot.state.system?).map(|forget| forget.stage)
    }

    /// Ends the lives of all that are to be forgotten.
    async fn end_all(&self) -> Result<Vec<(Arc<str>, Forget)>, ForgetError> {
        let mut open = Vec::new();
        for (key, forget) in self.system(FORGET_KIND, forgetting).await? {
            if !matches!(forget.stage, ForgetStage::Done { .. }) {
                open.push((key, self.end(forget).await?));
            }
        }
        Ok(open)
    }

    /// Where the record is with which a life ended.
    async fn end_of(&self, entity: &EntityKey, version: Version) -> Result<Lsn, ForgetError> {
        let committed = *self.committed.borrow();
        let book = self.shards.book(entity).await.ok_or(ForgetError::Ending)?;
        let (store, journal, entity) = (self.store.clone(), self.journaled.clone(), entity.clone());
        let looking = tokio::task::spawn_blocking(move || {
            let history = History { store: &store, entity: &entity, book: &book };
            let mut before = committed.next();
            loop {
                let lsns = history.before(before, KEYS_AT_ONCE)?;
                for lsn in &lsns {
                    let block = match journal.read_from(*lsn).and_then(|mut blocks| blocks.next().transpose()) {
                        // It went, after a start perhaps, and all that is older with it.
                        Err(JournalError::Trimmed { .. }) => return Ok(*lsn),
                        block => block?,
                    };
                    let head = block.as_ref().and_then(|block| block.at(*lsn)).map(RecordHead::of).transpose();
                    let head = head.map_err(|source| ForgetError::Record { lsn: *lsn, source })?;
                    if head.is_some_and(|head| head.version <= version) {
                        return Ok(*lsn);
                    }
                }
                // Without a trace of it, it is long ago.
                let Some(last) = lsns.last() else { return Ok(Lsn::ZERO) };
                before = *last;
            }
        });
        looking.await.map_err(|_| ForgetError::Ending)?
    }

    /// Has records read as they will be, for as long as the journal still has them as they were.
    fn hide(&self, fates: &Arc<Fates>) {
        let fates = fates.clone();
        self.pending.send_replace(Some(Arc::new(move |bytes| fates.of(bytes))));
    }

    /// Ends the entity's life. What came for it until then goes with it, also if that was after it was asked for.
    async fn end(&self, mut forget: Forget) -> Result<Forget, ForgetError> {
        if forget.stage == ForgetStage::Asked {
            let input = Input::Forgotten(forget.mandate.clone());
            self.shards.step(forget.entity.clone(), input).await.map_err(|_| ForgetError::Ending)?;
            let snapshot = self.shards.read_ended(&forget.entity).await;
            let version = snapshot.map_or(Version(0), |snapshot| snapshot.state.ended());
            forget.stage = ForgetStage::Ended { version };
            self.note(&Forget::key(&forget.entity), forget.clone()).await?;
        }
        Ok(forget)
    }

    /// Waits until no sink and no recovery needs the records any more. Everything up to the position that is returned is in the
    /// store as it is now; none: more is asked for meanwhile, and is to end at once.
    async fn store_all(&self, fates: &Fates) -> Result<Option<Lsn>, ForgetError> {
        let decided = *self.committed.borrow();
        while (self.sinks_settled)() < decided {
            self.doing.send_replace("waiting until every sink has delivered what was decided".to_owned());
            if tokio::time::timeout(LOOK_EVERY, self.asked.notified()).await.is_ok() {
                return Ok(None);
            }
        }
        for (key, letter) in self.system(DEAD_LETTER_KIND, dead_letter).await? {
            if fates.concerns(&letter) {
                let mandate = Mandate { by: Box::default(), why: "what it is about was forgotten".into() };
                let input = Input::Forgotten(mandate);
                let noted = self.shards.note(EntityKey::new(DEAD_LETTER_KIND, key), input).await;
                noted.map_err(|_| ForgetError::Ending)?;
            }
        }
        let through = *self.committed.borrow();
        let mut watermark = self.watermark.clone();
        while *watermark.borrow_and_update() < through {
            self.doing.send_replace("waiting for a checkpoint".to_owned());
            // One that was asked for already will do.
            let _ = self.checkpoints.try_send(Request::Now);
            let reached = tokio::time::timeout(LOOK_EVERY, watermark.changed()).await;
            if matches!(reached, Ok(Err(_))) {
                return Err(ForgetError::Ending);
            }
        }
        Ok(Some(through))
    }

    /// Rewrites the journal up to `through`; returns how many records changed.
    async fn rewrite(&self, fates: Arc<Fates>, through: Lsn) -> Result<u64, ForgetError> {
        let (journal, rewriter, doing) = (self.journal.clone(), self.rewriter.clone(), self.doing.clone());
        let rewriting = tokio::task::spawn_blocking(move || {
            let sealed = journal.seal().map_err(|_| ForgetError::Ending)?;
            sealed.recv().map_err(|_| ForgetError::Ending)?;
            drop(journal);
            let segments = rewriter.sealed(through);
            let mut records = 0;
            for (n, number) in segments.iter().enumerate() {
                doing.send_replace(format!("rewriting the journal, file {} of {}", n + 1, segments.len()));
                let mut unread = None;
                let changed = rewriter.rewrite(*number, &mut |lsn, bytes| {
                    fates.of(bytes).unwrap_or_else(|source| {
                        unread.get_or_insert(ForgetError::Record { lsn, source });
                        Fate::Keep
                    })
                })?;
                if let Some(error) = unread {
                    return Err(error);
                }
                records += changed;
            }
            Ok(records)
        });
        rewriting.await.map_err(|_| ForgetError::Ending)?
    }

    async fn note(&self, key: &str, forget: Forget) -> Result<(), ForgetError> {
        let noted = self.shards.note(EntityKey::new(FORGET_KIND, key), Input::Forget(Box::new(forget))).await;
        noted.map(|_| ()).map_err(|_| ForgetError::Ending)
    }

    /// All entities of one of the system's types, as far as `part` wants them.
    async fn system<T>(
        &self,
        kind: &str,
        part: fn(SystemState) -> Option<T>,
    ) -> Result<Vec<(Arc<str>, T)>, ForgetError> {
        let kind: Arc<str> = kind.into();
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            // In this order: what is stored in between is found there.
            let mut keys = self.shards.unsaved(&kind, after.as_deref(), "", KEYS_AT_ONCE).await;
            let (store, of, from) = (self.store.clone(), kind.clone(), after.clone());
            let stored = tokio::task::spawn_blocking(move || store.keys(&of, from.as_deref(), "", KEYS_AT_ONCE));
            keys.extend(stored.await.map_err(|_| ForgetError::Ending)??);
            keys.sort_unstable();
            keys.dedup();
            keys.truncate(KEYS_AT_ONCE);
            for key in &keys {
                let read = self.shards.read(&EntityKey::new(&kind, key)).await;
                let system = read.and_then(|snapshot| snapshot.state.system);
                found.extend(system.and_then(|system| part(*system)).map(|it| (key.clone(), it)));
            }
            match keys.pop() {
                Some(last) if keys.len() + 1 == KEYS_AT_ONCE => after = Some(last.to_string()),
                _ => return Ok(found),
            }
        }
    }
}

fn forgetting(system: SystemState) -> Option<Forget> {
    if let SystemState::Forget(forget) = system { Some(forget) } else { None }
}

fn dead_letter(system: SystemState) -> Option<DeadLetter> {
    match system {
        SystemState::DeadLetter(letter) => Some(letter),
        // What was dealt with by hand still says what stood in the way.
        SystemState::ClosedLetter(closed) => Some(closed.letter),
        _ => None,
    }
}
