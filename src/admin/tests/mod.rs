//! The interface over a node small enough for a test: a journal, a store and one shard, all real.

mod dead_letters;
mod events;
mod history;
mod node;
mod pausing;
mod reading;
mod service;
mod streams;
