//! Messages that are admitted together.

use std::sync::Arc;
use std::time::Instant;

use super::hand::Open;
use super::message::{Place, Received};
use super::source::NatsSource;
use crate::ingress::admission::Admitted;
use crate::ingress::credits::Need;
use crate::model::refusal::Refusal;
use crate::model::settle::{Acknowledge, EventOutcome};
use crate::model::time::Timestamp;

/// So many messages are read before they are sent on their way.
pub(super) const BATCH_MESSAGES_MAX: usize = 256;

/// A batch in the making.
pub(super) struct Batch<'s> {
    source: &'s NatsSource,
    sender: Arc<dyn Acknowledge>,
    now: Timestamp,
    read_at: Instant,
    messages: Vec<(Received, Need, Result<Admitted, Refusal>)>,
}

impl<'s> Batch<'s> {
    pub fn new(source: &'s NatsSource) -> Self {
        Batch {
            source,
            sender: source.hand.clone(),
            now: Timestamp::now(),
            read_at: Instant::now(),
            messages: Vec::new(),
        }
    }

    /// Adds a message; waits for credits. A refused one takes some as well: its dead letter is a record.
    pub async fn add(&mut self, mut message: Received) {
        let hand = &self.source.hand;
        let event = message.event(&self.source.decoder, self.now);
        message.event_id = event.as_ref().ok().map(|event| event.id.clone());
        let takers = event.and_then(|event| hand.admission.admit(event, self.now, &hand.metrics));
        if let (Place::Request { entities, .. }, Ok(takers)) = (&mut message.place, &takers) {
            entities.extend(takers.iter().map(|taken| taken.entity.clone()));
        }
        let records = takers.as_ref().map_or(1, |takers| takers.len().max(1)) as u64;
        let need = hand.admission.credits.need(records, message.len() as u64);
        if !hand.admission.credits.try_take(need) {
            // What was admitted before must be on its way, or its credits would never come back.
            self.finish();
            hand.admission.credits.take(need).await;
        }
        self.messages.push((message, need, takers));
        if self.messages.len() >= BATCH_MESSAGES_MAX {
            self.finish();
        }
    }

    /// Sends the messages so far on their way.
    pub fn finish(&mut self) {
        let hand = &self.source.hand;
        let (read_at, mut takers) = (self.read_at, Vec::with_capacity(self.messages.len()));
        let first = hand.take(self.messages.drain(..).map(|(message, need, taken)| {
            takers.push(taken);
            Open { message, need, read_at }
        }));
        let mut deliveries = Vec::with_capacity(takers.len());
        for (line, takers) in (first..).zip(takers) {
            match takers {
                Ok(takers) => hand.admission.send(&self.sender, line, takers, &mut deliveries),
                Err(refusal) => self.sender.settled(vec![(line, EventOutcome::Refused(refusal))]),
            }
        }
        hand.admission.deliver(&mut deliveries);
        // The next batch is received now.
        self.now = Timestamp::now();
        self.read_at = Instant::now();
    }
}
