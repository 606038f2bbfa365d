//! The command line: one file a subcommand. Everything a person or a script sees of Turnstile in a terminal is here.
//!
//! What is asked for goes to standard output, everything else (errors, progress, notices) to standard error. Nothing in
//! this folder opens the journal or the store: `run` starts a node, `check`, `test` and `shuffle` run rules by themselves,
//! `verify` has a stopped node's folder looked at, the other subcommands talk to a running node.

pub mod bench;
mod check;
mod client;
mod completions;
mod dead_letters;
mod destination;
mod entry;
mod failure;
mod forget;
mod get;
mod ls;
mod mandate;
mod page;
mod render;
mod run;
mod screen;
mod send;
mod shuffle;
mod sources;
mod status;
mod table;
mod test;
#[cfg(test)]
mod testing;
mod verify;

pub use entry::main;
