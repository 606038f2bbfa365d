//! The source `sql`: polls a table or view of a database for the rows after a cursor, and brings each as an event.
//!
//! The cursor is noted only after the events of all rows up to it are durable, so a crash between the two repeats rows,
//! which count as duplicates by identity. What is pure is apart: `position` (a value of the growing column), `reading`
//! (what to ask for next), `seen` (rows that need not be brought again). `database` makes three drivers one, `rows` checks
//! what comes out of them; `settle` brings a page to its entities; `source` is the task that does all of it, `control` what
//! others may ask of it. Nothing here writes to a database.

mod control;
mod database;
mod mysql;
mod position;
mod postgres;
mod reading;
mod rows;
mod seen;
mod settle;
mod source;
mod sqlite;
mod trouble;

pub use control::{RewindError, SqlControl};
pub use settle::Ledger;
pub use source::{SqlSetup, sql_source};
