//! Who paused an entity's type, and who resumed it: that stands in records of the type's pauses, not in those of the entity.

use super::super::api::Api;
use super::super::problem::Problem;
use super::records::Records;
use super::unreadable;
use crate::actors::History;
use crate::model::book::LsnBook;
use crate::model::ids::{EntityKey, Lsn};
use crate::model::mandate::Mandate;
use crate::model::record::{Input, Record};
use crate::model::time::Timestamp;
use crate::model::value::{Map, Value};
use crate::rules::Account;

/// So many of the last pauses and resumptions before the end of a page are looked at.
const CHANGES_MAX: usize = 200;

/// A type's pauses and resumptions, the newest first.
#[derive(Default)]
pub(super) struct TypePauses(Vec<Change>);

struct Change {
    lsn: Lsn,
    at: Timestamp,
    is_pause: bool,
    mandate: Mandate,
}

impl TypePauses {
    /// The last ones before the last of some records; none where no record has to do with a pause.
    pub fn before(
        api: &Api,
        (entity, book): (&EntityKey, &LsnBook),
        records: &[(Lsn, Record)],
    ) -> Result<Self, Problem> {
        let concerned = |(_, record): &&(Lsn, Record)| matches!(record.input, Input::Held(_) | Input::Released(_));
        let Some((last, _)) = records.iter().rfind(concerned) else { return Ok(TypePauses::default()) };
        let history = History { store: &api.store, entity, book };
        let (mut reader, mut changes) = (Records::new(api), Vec::new());
        for lsn in history.before(*last, CHANGES_MAX).map_err(|error| unreadable(api, error))? {
            let Some((record, _)) = reader.get(entity, lsn)? else { continue };
            let (is_pause, mandate) = match record.input {
                Input::Paused(mandate) => (true, mandate),
                Input::Resumed(mandate) => (false, mandate),
                _ => continue,
            };
            changes.push(Change { lsn, at: record.now, is_pause, mandate });
        }
        Ok(TypePauses(changes))
    }

    /// Adds who had the type paused when an event was held, or resumed when it was released.
    pub fn tell(&self, account: &mut Account, lsn: Lsn, input: &Input) {
        let (name, is_pause) = match input {
            Input::Held(_) => ("type_paused", true),
            Input::Released(_) => ("type_resumed", false),
            _ => return,
        };
        let last = self.0.iter().find(|change| change.lsn < lsn).filter(|change| change.is_pause == is_pause);
        if let Some(Change { at, mandate, .. }) = last {
            let Mandate { by, why } = mandate;
            let told = [("since", Value::Timestamp(*at)), ("by", Value::string(&**by)), ("why", Value::string(&**why))];
            account.add(name, Value::Map(told.into_iter().map(|(name, value)| (name.into(), value)).collect::<Map>()));
        }
    }
}
