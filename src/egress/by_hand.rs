//! What people ask of a sink: what it is stuck on, to skip that, and to send once more what was given up.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot};

use super::routing::Delivery;
use super::sends::{Outcome, Sends, TOO_MUCH};
use super::window::Seized;
use crate::model::ids::{EntityKey, Lsn};
use crate::model::mandate::Mandate;

/// So many questions may wait for a sink; it looks at them whenever something happens.
const ASKS_MAX: usize = 2048;
/// Why something is not sent again that a receiver did not take.
const BUSY: &str = "busy";
const FAILED: &str = "failed";
const CLOSED: &str = "closed";

/// What others see of a sink, and may ask of it.
#[derive(Clone, Default)]
pub struct SinkControl {
    /// What stands in its way, if anything.
    trouble: Arc<Mutex<Option<String>>>,
    /// None for sinks that write in order and leave out nothing.
    asks: Option<(mpsc::Sender<Ask>, Arc<Notify>)>,
}

/// Which decision is meant.
#[derive(Clone, Debug)]
pub enum Wanted {
    Id(String),
    Lsn(Lsn),
}

impl Wanted {
    fn is(&self, delivery: &Delivery) -> bool {
        match self {
            Wanted::Id(id) => delivery.id() == id,
            Wanted::Lsn(lsn) => delivery.lsn == *lsn,
        }
    }
}

/// A decision that was not taken at its last attempt; its key waits for it.
#[derive(Clone, Debug)]
pub struct Stuck {
    pub id: String,
    pub lsn: Lsn,
    pub entity: EntityKey,
    pub attempts: u32,
    pub why: Box<str>,
}

/// Why a receiver did not take what was to be sent once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// It was sent: what came of that, as a stable word and in words.
    Refused { reason: &'static str, why: String },
    /// It was not sent.
    Unsent(&'static str),
}

/// Why nothing was skipped.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SkipError {
    #[error("a sink of this kind writes all decisions in order and leaves none out; mend what is in its way")]
    InOrder,
    #[error("no key waits for that decision here; `sinks ls` shows what does")]
    Unknown,
    #[error("it was delivered just now")]
    Delivered,
    #[error("it is being skipped already")]
    Again,
    #[error("too much is asked of the sink, or it is about to end; ask again")]
    Busy,
}

/// A question.
pub(super) enum Ask {
    Stuck(oneshot::Sender<Vec<Stuck>>),
    Skip { wanted: Wanted, mandate: Mandate, done: oneshot::Sender<Result<String, SkipError>> },
    Resend { delivery: Box<Delivery>, done: oneshot::Sender<Result<(), NotTaken>> },
}

impl SinkControl {
    /// What stands in the sink's way.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn ask(&self, ask: Ask) -> Result<(), SkipError> {
        let (asks, notify) = self.asks.as_ref().ok_or(SkipError::InOrder)?;
        asks.try_send(ask).map_err(|_| SkipError::Busy)?;
        notify.notify_one();
        Ok(())
    }

    /// What the sink is stuck on, in the order of the journal.
    pub async fn stuck(&self) -> Vec<Stuck> {
        let (reply, answer) = oneshot::channel();
        if self.ask(Ask::Stuck(reply)).is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }

    /// Makes what a key waits for a dead letter, so that the key goes on; the decision's id, once that is durable.
    ///
    /// # Errors
    /// Why it was not skipped.
    pub async fn skip(&self, wanted: Wanted, mandate: Mandate) -> Result<String, SkipError> {
        let (done, answer) = oneshot::channel();
        self.ask(Ask::Skip { wanted, mandate, done })?;
        answer.await.unwrap_or(Err(SkipError::Busy))
    }

    /// Sends something once more, behind what its key has to send already. Answers what came of that, and never if the node
    /// ends before.
    ///
    /// # Errors
    /// When it cannot be asked for.
    pub fn resend(&self, delivery: Delivery) -> Result<oneshot::Receiver<Result<(), NotTaken>>, SkipError> {
        let (done, answer) = oneshot::channel();
        self.ask(Ask::Resend { delivery: Box::new(delivery), done })?;
        Ok(answer)
    }
}

/// A decision: its record, and its place there.
type Place = (Lsn, u32);

/// What was asked and is not answered yet.
pub(super) struct Asked {
    control: SinkControl,
    asks: mpsc::Receiver<Ask>,
    skipping: HashMap<Place, (Mandate, oneshot::Sender<Result<String, SkipError>>)>,
    sending: HashMap<Place, oneshot::Sender<Result<(), NotTaken>>>,
}

impl Asked {
    /// Nothing was asked; `notify` wakes the sink.
    pub fn new(notify: Arc<Notify>) -> Self {
        let (sender, asks) = mpsc::channel(ASKS_MAX);
        let control = SinkControl { trouble: Arc::default(), asks: Some((sender, notify)) };
        Asked { control, asks, skipping: HashMap::new(), sending: HashMap::new() }
    }

    pub fn control(&self) -> SinkControl {
        self.control.clone()
    }

    pub fn set_trouble(&self, trouble: Option<String>) {
        self.control.set_trouble(trouble);
    }

    /// What was sent once more came to this.
    pub fn was_sent_again(&mut self, delivery: &Delivery, outcome: Outcome) {
        let Some(done) = self.sending.remove(&(delivery.lsn, delivery.place)) else { return };
        let refused = |reason, why| Err(NotTaken::Refused { reason, why });
        let came = match outcome {
            Outcome::Delivered => Ok(()),
            Outcome::Failed { why, .. } => refused(FAILED, why),
            Outcome::Busy { .. } => refused(BUSY, TOO_MUCH.to_owned()),
            Outcome::Never { reason, why } => refused(reason, why),
            Outcome::Closed { why } => refused(CLOSED, why),
        };
        drop(done.send(came));
    }

    /// Whether something that was not taken is to be skipped; then why it was not, and who says so.
    ///
    /// # Errors
    /// The outcome, if it is not to be.
    pub fn skips(&mut self, delivery: &Delivery, outcome: Outcome) -> Result<(String, Mandate), Outcome> {
        match self.skipping.get(&(delivery.lsn, delivery.place)) {
            Some((mandate, _)) => Ok((told(&outcome), mandate.clone())),
            None => Err(outcome),
        }
    }

    /// The dead letter of something is durable.
    pub fn was_skipped(&mut self, delivery: &Delivery) {
        if let Some((_, done)) = self.skipping.remove(&(delivery.lsn, delivery.place)) {
            drop(done.send(Ok(delivery.id().to_owned())));
        }
    }

    /// Something was delivered, whatever was asked.
    pub fn was_delivered(&mut self, delivery: &Delivery) {
        if let Some((_, done)) = self.skipping.remove(&(delivery.lsn, delivery.place)) {
            drop(done.send(Err(SkipError::Delivered)));
        }
    }
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failed { why, .. } | Outcome::Never { why, .. } | Outcome::Closed { why } => why.clone(),
        Outcome::Busy { .. } => TOO_MUCH.to_owned(),
        Outcome::Delivered => String::new(),
    }
}

impl Sends {
    /// Does what was asked.
    pub(super) fn answer_asks(&mut self) {
        while let Ok(ask) = self.by_hand.asks.try_recv() {
            match ask {
                Ask::Stuck(reply) => drop(reply.send(self.stuck())),
                Ask::Skip { wanted, mandate, done } => self.ask_to_skip(&wanted, mandate, done),
                Ask::Resend { delivery, done } => self.ask_to_resend(*delivery, done),
            }
        }
    }

    fn stuck(&self) -> Vec<Stuck> {
        let stuck = self.window.stuck().into_iter().map(|(delivery, attempts, why)| {
            let (id, entity) = (delivery.id().to_owned(), delivery.entity.clone());
            Stuck { id, lsn: delivery.lsn, entity, attempts, why }
        });
        stuck.collect()
    }

    fn ask_to_skip(&mut self, wanted: &Wanted, mandate: Mandate, done: oneshot::Sender<Result<String, SkipError>>) {
        // What came of earlier attempts is told by the dead letter, too.
        let why = self.window.stuck().into_iter().find(|(delivery, ..)| wanted.is(delivery)).map(|(.., why)| why);
        let (delivery, taken) = match self.window.seize(|delivery| wanted.is(delivery)) {
            Seized::Taken(sending) => (sending.delivery.clone(), Some(sending)),
            Seized::InFlight(delivery) => (delivery, None),
            Seized::Nothing => return drop(done.send(Err(SkipError::Unknown))),
        };
        let place = (delivery.lsn, delivery.place);
        if self.by_hand.skipping.contains_key(&place) {
            return drop(done.send(Err(SkipError::Again)));
        }
        self.by_hand.skipping.insert(place, (mandate.clone(), done));
        if let Some(sending) = taken {
            self.skip(sending, why.map_or_else(|| "it was not tried".to_owned(), String::from), mandate);
        }
    }

    fn ask_to_resend(&mut self, delivery: Delivery, done: oneshot::Sender<Result<(), NotTaken>>) {
        let place = (delivery.lsn, delivery.place);
        if self.window.is_closed() {
            return drop(done.send(Err(NotTaken::Unsent("the sink is disabled until the next start"))));
        }
        match self.by_hand.sending.entry(place) {
            Entry::Occupied(_) => drop(done.send(Err(NotTaken::Unsent("it is being sent already")))),
            Entry::Vacant(free) => {
                free.insert(done);
                self.window.put(delivery);
            }
        }
    }
}
