//! New rules over old data. At start, before anything else: what the types whose rules changed make of the journal's events
//! takes the place of what they were; decisions that come out differently are journaled as further revisions.
//!
//! What is under way is marked in the store, so that a crash in between, or a start with yet other rules, begins again. A
//! record is journaled before the row that has it is written, and an entity whose ledger is as the rules say gets no record:
//! so nothing is said twice with other contents. The old states are never needed but for what no event says: the ledger of
//! decisions and effects, what is seen of others, who watches, deadlines that have passed.
//!
//! `plan` is what has to be done, `reading` makes states of events in bounded memory, `adopting` journals and stores what
//! follows, `forward` goes on from the values there are, `progress` is told meanwhile. `predict` says beforehand what would
//! change, as `report` counts it, and changes nothing; `asked` is how a running node is asked for it.

mod adopting;
mod asked;
mod forward;
mod left_out;
mod plan;
mod predict;
mod progress;
mod reading;
mod report;
mod run;

pub use asked::replays;
pub use plan::Plan;
pub use predict::Prediction;
pub use progress::Progress;
pub use report::Report;
pub use run::{Mode, run};
