//! What a supervisor does after commits: brings letters to other entities and receipts back, has calls made, waits for rests.

use actix::{AsyncContext, Context};

use super::aftermath::{Aftermath, Rest};
use super::entity::Work;
use super::outbox::Released;
use super::slots::{Batches, SlotId};
use super::supervisor::Supervisor;
use crate::model::ids::EntityKey;
use crate::model::outbox::{Outgoing, Receipt};
use crate::model::record::Input;
use crate::model::time::Timestamp;

impl Supervisor {
    /// Tells senders what became of their events, and does what else was released.
    pub(super) fn tell(&mut self, released: Released, context: &mut Context<Self>) {
        let Released { settled, work, acts } = released;
        settled.tell();
        self.deliver(work);
        for (id, aftermath) in acts {
            self.act(id, *aftermath, context);
        }
    }

    fn deliver(&self, work: Vec<Work>) {
        if !work.is_empty()
            && let Some(shards) = self.peers.get()
        {
            shards.deliver(work);
        }
    }

    fn act(&mut self, id: SlotId, aftermath: Aftermath, context: &mut Context<Self>) {
        let Aftermath { due, calls, rests, standing, slice_ended } = aftermath;
        if let Some(due) = due {
            self.schedule(id, due);
        }
        if !calls.is_empty() {
            (self.calls)(calls);
        }
        let Some(key) = self.slots.get_mut(id).map(|slot| slot.key.clone()) else { return };
        self.note_pause(&key, standing, slice_ended);
        for Rest { decision, since, wait } in rests {
            let entity = key.clone();
            context.run_later(wait, move |supervisor, _| {
                let input = Input::Quiet { decision, since };
                supervisor.put(Work::Inside { entity, input, done: None });
            });
        }
    }

    fn put(&mut self, work: Work) {
        let mut batches = Batches::default();
        self.sort(work, &mut batches);
        self.send(batches, Timestamp::now());
    }

    /// Sends what an entity has to tell and may tell by now.
    pub(super) fn send_letters(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let letters = slot.letters();
        self.deliver(letters.into_iter().map(|letter| Work::Letter(Box::new(letter))).collect());
    }

    /// What an entity of this shard has sent has arrived.
    pub(super) fn arrived(&mut self, sender: &EntityKey, receipt: Receipt) {
        // One without an actor has nothing under way: it will send again what it does not know to have arrived.
        let Some(id) = self.slots.find(sender) else { return };
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.aside.arrived(receipt);
        self.send_letters(id);
    }

    /// Letters of a record that is on its way to the journal.
    pub(super) fn post_letters(&mut self, id: SlotId, letters: Vec<Outgoing>) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.aside.put(letters);
        }
    }
}
