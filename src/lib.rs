//! Turnstile: every key, single file. One actor per entity key, a durable journal, declared merges.
//!
//! The layers, lowest first, are `model`, `metrics`, `disk`, `pages` → `config` → `connect` → `rules`, `journal`, `store` → `backup` →
//! `ingress`, `actors`, `egress` → `admin`, `rehearsal` → `node` → `cli` → `main`. A file imports only from layers below its own; ARCHITECTURE.md
//! has the map.

pub mod actors;
pub mod admin;
pub mod backup;
pub mod cli;
pub mod config;
pub mod connect;
pub mod disk;
pub mod egress;
#[doc(hidden)]
pub mod fuzzing;
pub mod ingress;
pub mod journal;
pub mod metrics;
pub mod model;
pub mod node;
pub mod pages;
pub mod rehearsal;
pub mod rules;
pub mod store;
pub mod telemetry;
pub mod trust;
pub mod vital;
