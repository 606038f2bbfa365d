//! The journal: every record in the order the writer took it, durable before anything of it is seen outside.
//!
//! Records are opaque bytes here; entities, rules and the store are unknown to this folder. `append` and `read from LSN`
//! are all that the rest knows of it, so that another log can stand in; what is to be read by nobody any more is made blank. One thread owns the [`Journal`] and is the only
//! one that writes; any number of [`JournalReader`]s read what is committed. Nothing is ever changed in place: blocks
//! are added to the active segment, segments are sealed, and whole sealed files are deleted, oldest first, or replaced by
//! copies in which some records are blank.
//!
//! `block` is the stored form of records, `blank` that of a block some of whose records are blank, `rewrite` how that is made, `segment` that of a file, `recover` what happens at start, `segments` the set
//! of files that appender and readers share, `log` the appender, `reader` the iterators, `stopped` a journal that nobody appends to, `group` the grouping of entries
//! into commits, `committer` the making of them and `writer` the thread around it.

mod blank;
mod block;
mod committer;
mod error;
mod group;
mod log;
mod reader;
mod recover;
mod rewrite;
mod segment;
mod segments;
mod stopped;
#[cfg(test)]
mod tests;
mod writer;

pub use blank::Fate;
pub use block::{Block, BlockBuilder, RECORD_BYTES_MAX, try_block};
pub use committer::{Committed, Committer};
pub use error::JournalError;
pub use group::{Entry, Group, GroupCommit};
pub use log::{Journal, JournalOptions};
pub use reader::{Blocks, JournalReader};
pub use rewrite::JournalRewriter;
pub use writer::{JournalWriter, WriterGone, spawn_writer};
