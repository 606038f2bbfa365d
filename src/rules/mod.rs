//! The pure core: what rules mean. Values in, values out.
//!
//! Nothing in this folder reads a clock, a random number, a socket or a file; nothing imports the journal or the store.

mod admit;
mod bindings;
mod compile;
mod decide;
mod document;
mod evolve;
mod expr;
mod machine;
mod merge;
#[cfg(test)]
mod tests;

pub use admit::{Ruleset, Taken, Takers};
pub use bindings::{BodyBindings, EventBindings};
pub use compile::{EntityRules, compile, compile_condition, compile_text};
pub use decide::{Decided, Outcome, Verdict, decide, decide_system};
pub use document::{Document, Explained, completeness, explain, matches};
pub use evolve::evolve;
pub use expr::{Expr, Fault, Part, Roots};
pub use machine::{Came, Machine};
