//! The pure core: what rules mean. Values in, values out.
//!
//! Nothing in this folder reads a clock, a random number, a socket or a file; nothing imports the journal or the store.

mod account;
mod admit;
mod anew;
mod audience;
mod bindings;
mod compile;
mod conclude;
mod decide;
mod decision;
mod document;
mod entity_bindings;
mod entity_rules;
mod evolve;
mod expiry;
mod expr;
mod fickle;
mod held_back;
mod kinds;
mod machine;
mod merge;
mod messages;
mod negations;
mod pausing;
mod reads;
mod rebuilt;
mod request;
#[cfg(test)]
mod tests;
mod watches;

pub use account::{Account, AtVersion, Before, Earlier};
pub use admit::{Ruleset, Taken, Takers};
pub use anew::{Anew, Content, anew};
pub use audience::Audience;
pub use bindings::{BodyBindings, EventBindings};
pub use compile::{compile, compile_condition, compile_text};
pub use decide::{Decided, Outcome, Verdict, decide, decide_inside, decide_system, touched, without_conclusions};
pub use document::{Document, Explained, completeness, explain, matches};
pub use entity_rules::{EffectRules, EntityRules};
pub use evolve::{evolve, given_correlation};
pub use expr::{Expr, Fault, Part, Roots};
pub use fickle::Fickle;
pub use held_back::HeldBack;
pub use machine::{Around, Came, Machine, Rest};
pub use messages::messages;
pub use pausing::{hold, is_news, release};
pub use rebuilt::{Rebuilt, Ruled, adopt, moved};
