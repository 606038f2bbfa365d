//! Shuffles: the same events in many orders, repeated, with states stored and read back in between. What entities come to
//! must depend on the set of events alone; where it does not, the smallest two orders that show it are looked for, and the
//! rule that is to blame.
//!
//! `recording` sorts events by the entities they are about, `ties` tells which of those have to do with each other, `journaled`
//! takes events from a journal, `group` runs an order of them, `orders` makes random ones,
//! `compare` tells what differs, `shrink` makes it small, `blame` says why, `search` does it for all.

mod blame;
mod compare;
mod group;
mod journaled;
mod orders;
mod recording;
mod search;
mod shrink;
#[cfg(test)]
mod tests;
mod ties;

pub use blame::Blame;
pub use compare::{Difference, Part, Subject};
pub use group::{Arrival, Given, Group, Unit};
pub use journaled::{JournaledError, read_journal};
pub use recording::{Recording, Refused};
pub use search::{Conflict, Finding, Found, Options, search};
pub use shrink::Pair;
