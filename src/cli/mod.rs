//! The command line: one file a subcommand. Everything a person or a script sees of Turnstile in a terminal is here.
//!
//! What is asked for goes to standard output, everything else (errors, progress, notices) to standard error. Nothing in
//! this folder opens the journal or the store: `run` starts a node, `restore` has one restored, `check`, `test` and `shuffle`
//! run rules by themselves, `verify` has a stopped node's folder looked at, the other subcommands talk to a running node.

mod backup;
pub mod bench;
mod check;
mod client;
mod completions;
mod dead_letters;
mod destination;
mod effects;
mod entry;
mod event_stream;
mod explain;
mod export;
mod failure;
mod forget;
mod get;
mod letters_by_hand;
mod ls;
mod mandate;
mod page;
mod pause;
mod render;
mod replay;
mod restore;
mod run;
mod schema;
mod screen;
mod send;
mod shuffle;
mod sinks;
mod sources;
mod status;
mod streamed;
mod table;
mod test;
#[cfg(test)]
mod testing;
mod verify;
mod watch;

pub use entry::main;
