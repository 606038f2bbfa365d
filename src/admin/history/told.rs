//! A page of an entity's history, told.

use std::sync::Arc;

use super::super::api::Api;
use super::super::problem::Problem;
use super::super::query::PAGE_BYTES_MAX;
use super::records::Records;
use super::type_pauses::TypePauses;
use super::{Order, unreadable};
use crate::actors::History;
use crate::model::book::LsnBook;
use crate::model::ids::{EntityKey, Lsn};
use crate::model::record::Record;
use crate::model::state::State;
use crate::rules::{self, Account, AtVersion, Before, Earlier, EntityRules};
use crate::vital;

/// An entity of so many records at most is gone through from its first one, so that everything before and after each
/// record is known.
const REPLAYED_RECORDS_MAX: usize = 512;
/// For others, so many records before a page are looked at for what fields held.
const EARLIER_RECORDS_MAX: usize = 64;

/// An entity whose history is told.
pub(super) struct Telling<'a> {
    pub api: &'a Api,
    pub rules: &'a Arc<EntityRules>,
    pub entity: &'a EntityKey,
    pub book: &'a LsnBook,
    /// What its type's pauses are journaled as.
    pub pauses: (&'a EntityKey, &'a LsnBook),
}

/// A page of it.
pub(super) struct Page {
    pub items: Vec<Vec<u8>>,
    /// After, or before, which record the next page is; none: there is no more.
    pub next: Option<Lsn>,
    /// The entity had records before this one, which are no longer kept.
    pub trimmed_before: Option<Lsn>,
}

impl Telling<'_> {
    /// Up to `limit` records between two positions, from the one end or the other.
    pub(super) fn page(&self, after: Lsn, before: Lsn, order: Order, limit: usize) -> Result<Page, Problem> {
        let history = History { store: &self.api.store, entity: self.entity, book: self.book };
        let failed = |error| unreadable(self.api, error);
        let oldest = history.after(Lsn::ZERO, 1).map_err(failed)?.first().copied();
        let kept = self.api.journal.first_lsn();
        let trimmed_before = oldest.filter(|oldest| *oldest < kept).map(|_| kept);
        let after = after.max(Lsn(kept.0.saturating_sub(1)));
        // One more tells whether there are more.
        let mut lsns = match order {
            Order::Asc => history.after(after, limit + 1).map_err(failed)?,
            Order::Desc => history.before(before, limit + 1).map_err(failed)?,
        };
        lsns.retain(|lsn| after < *lsn && *lsn < before);
        let (mut records, seen) = self.read(&lsns, limit)?;
        let next = lsns.get(seen.wrapping_sub(1)).copied().filter(|_| seen < lsns.len());
        if order == Order::Desc {
            records.reverse();
        }
        let mut items = self.tell(&history, &records, trimmed_before)?;
        if order == Order::Desc {
            items.reverse();
        }
        Ok(Page { items, next, trimmed_before })
    }

    /// The records at the first of these positions, in this order, and how many positions that is: what was forgotten is
    /// blank, and the journal may be trimmed meanwhile.
    fn read(&self, lsns: &[Lsn], limit: usize) -> Result<(Vec<(Lsn, Record)>, usize), Problem> {
        let (mut reader, mut bytes, mut records) = (Records::new(self.api), 0, Vec::new());
        for (seen, lsn) in lsns.iter().take(limit).enumerate() {
            let Some((record, size)) = reader.get(self.entity, *lsn)? else { continue };
            bytes += size;
            if bytes > PAGE_BYTES_MAX && !records.is_empty() {
                return Ok((records, seen));
            }
            records.push((*lsn, record));
        }
        Ok((records, limit.min(lsns.len())))
    }

    /// The accounts of consecutive records, in their order.
    fn tell(
        &self,
        history: &History<'_>,
        records: &[(Lsn, Record)],
        trimmed_before: Option<Lsn>,
    ) -> Result<Vec<Vec<u8>>, Problem> {
        let Some((first, _)) = records.first() else { return Ok(Vec::new()) };
        let pauses = TypePauses::before(self.api, self.pauses, records)?;
        if trimmed_before.is_none()
            && let Some(state) = self.state_before(history, *first)?
            && let Some(items) = self.with_states(state, records, &pauses)
        {
            return Ok(items);
        }
        let mut earlier = Earlier::default();
        let failed = |error| unreadable(self.api, error);
        let mut reader = Records::new(self.api);
        for lsn in history.before(*first, EARLIER_RECORDS_MAX).map_err(failed)?.into_iter().rev() {
            if let Some((record, _)) = reader.get(self.entity, lsn)? {
                earlier.note(&record);
            }
        }
        let account = |(lsn, record): &(Lsn, Record)| {
            let item = self.account(*lsn, record, Before::Earlier(&earlier), &pauses);
            earlier.note(record);
            item
        };
        Ok(records.iter().map(account).collect())
    }

    /// The state before the record at `first`, for an entity with few records.
    fn state_before(&self, history: &History<'_>, first: Lsn) -> Result<Option<State>, Problem> {
        let lsns = history.after(Lsn::ZERO, REPLAYED_RECORDS_MAX + 1).map_err(|error| unreadable(self.api, error))?;
        if lsns.len() > REPLAYED_RECORDS_MAX {
            return Ok(None);
        }
        let (mut state, mut reader) = (State::default(), Records::new(self.api));
        for lsn in lsns.into_iter().take_while(|lsn| *lsn < first) {
            let Some((record, _)) = reader.get(self.entity, lsn)? else { return Ok(None) };
            if !evolves(&mut state, &record) {
                return Ok(None);
            }
        }
        Ok(Some(state))
    }

    /// The accounts with everything before and after each record; `None` if a record does not fit.
    fn with_states(&self, mut state: State, records: &[(Lsn, Record)], pauses: &TypePauses) -> Option<Vec<Vec<u8>>> {
        let seen = |state: &State| AtVersion::new(self.rules, self.entity.key(), state.clone());
        let (mut items, mut before) = (Vec::with_capacity(records.len()), seen(&state));
        for (lsn, record) in records {
            if !evolves(&mut state, record) {
                return None;
            }
            let after = seen(&state);
            let states = Before::States { before: &before, after: &after };
            items.push(self.account(*lsn, record, states, pauses));
            before = after;
        }
        Some(items)
    }

    fn account(&self, lsn: Lsn, record: &Record, before: Before<'_>, pauses: &TypePauses) -> Vec<u8> {
        let mut account = Account::new(self.rules, lsn, record, before);
        pauses.tell(&mut account, lsn, &record.input);
        account.to_json()
    }
}

/// Applies a record, if it is the state's next and one of rules that are still the same.
fn evolves(state: &mut State, record: &Record) -> bool {
    record.version == state.version.next() && vital::guarded(|| rules::evolve(state, record)).is_ok()
}
