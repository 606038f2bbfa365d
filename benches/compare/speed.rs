//! Events a second beside the others, and how long an acknowledgement takes at half of that.

use std::sync::Arc;

use turnstile::cli::bench::{Counters, Load, Measured};

use super::bed::{self, Events, Source};
use super::figures::{Figures, Unit, Wanted, millis};
use super::postgres::Postgres;
use super::raw;
use super::redis::{Given, Redis};
use super::turnstile::Turnstile;

/// Enough for a checkpoint at default settings.
const ORDERS: usize = 4_500_000;
const ORDERS_REDIS: usize = 1_000_000;
const ORDERS_POSTGRES: usize = 300_000;
/// Keys of the second workload; they are all sent to once or so before the clock starts.
const KEYS: u64 = 1_000_000;
const UNIFORM_BEFORE: usize = 2_000_000;
const UNIFORM: usize = 1_500_000;
const UNIFORM_REDIS: usize = 750_000;
/// How long the half load lasts.
const HALF_SECONDS: f64 = 10.0;

pub const TURNSTILE_ORDERS: &str = "orders: Turnstile";
pub const RAW_ORDERS: &str = "orders: raw limit (redb, same bytes, same blocks)";
pub const REDIS_ORDERS: &str = "orders: Redis";
const REDIS_PARTS: &str = "orders: Redis, given the parts that the client cut out";
pub const POSTGRES_ORDERS: &str = "orders: PostgreSQL";
pub const TURNSTILE_UNIFORM: &str = "1,000,000 keys: Turnstile";
pub const REDIS_UNIFORM: &str = "1,000,000 keys: Redis";

/// The orders, by each contender in turn.
pub fn orders(figures: &mut Figures, events: &Events) {
    let rate = turnstile_orders(figures, events);
    for (given, name, ratio, wanted) in [
        (Given::Event, REDIS_ORDERS, "orders: Turnstile / Redis", Wanted::AtLeast(3.0)),
        (Given::Parts, REDIS_PARTS, "orders: Turnstile / Redis that is given the parts", Wanted::Nothing),
    ] {
        let Some(server) = Redis::start(given) else { continue };
        let some = events.first(ORDERS_REDIS);
        let loads = server.loads(&some);
        let redis = per_second(&loads, &server.run(&loads));
        assert_eq!(server.keys(), some.keys(), "Redis did what it was asked");
        figures.add(name, Unit::PerSecond, Wanted::Nothing, redis);
        figures.add(ratio, Unit::Times, wanted, rate / redis);
    }
    if let Some(server) = Postgres::start() {
        let some = events.first(ORDERS_POSTGRES);
        let loads = Postgres::loads(&some);
        let postgres = per_second(&loads, &server.run(&loads));
        figures.add(POSTGRES_ORDERS, Unit::PerSecond, Wanted::Nothing, postgres);
        figures.add("orders: Turnstile / PostgreSQL", Unit::Times, Wanted::AtLeast(20.0), rate / postgres);
    }
}

/// The events of [`orders`], the same in each round.
pub fn orders_events() -> Events {
    Source::new(&bed::ORDERS, "a").take(ORDERS)
}

fn turnstile_orders(figures: &mut Figures, events: &Events) -> f64 {
    let server = Turnstile::start("");
    let loads = Turnstile::loads(events);
    let before = server.counters();
    let measured = server.run(&loads);
    let after = server.counters();
    let rate = per_second(&loads, &measured);
    figures.add(TURNSTILE_ORDERS, Unit::PerSecond, Wanted::Nothing, rate);
    let behind = server.sinks_catch_up();
    figures.add("orders: decisions behind the last acknowledgement", Unit::Seconds, Wanted::Nothing, behind);
    let change = |name| after.sum(name) - before.sum(name);
    let cpu = 1e6 / events.planned.len() as f64;
    figures.add("orders: server's processor time an event", Unit::Micros, Wanted::Nothing, change(CPU) * cpu);
    figures.add(
        "orders: client's processor time an event",
        Unit::Micros,
        Wanted::Nothing,
        measured.cpu.as_secs_f64() * cpu,
    );
    let bytes = raw::bytes(events);
    let journal = server.journal_bytes() as f64 / bytes.len() as f64;
    figures.add("orders: journal on disk / bytes of accepted events", Unit::Times, Wanted::AtMost(1.3), journal);
    half(figures, "orders", &server, rate, &mut Source::new(&bed::ORDERS, "b"));
    drop(server);
    let block = bytes.len() as f64 / change("turnstile_commit_records_count");
    figures.add("orders: bytes of a commit", Unit::Bytes, Wanted::Nothing, block);
    let took = raw::append(&bytes, block as usize);
    let limit = events.planned.len() as f64 / took.as_secs_f64();
    figures.add(RAW_ORDERS, Unit::PerSecond, Wanted::Nothing, limit);
    figures.add("orders: Turnstile / raw limit", Unit::Times, Wanted::AtLeast(0.2), rate / limit);
    rate
}

/// A million keys at random, by each contender in turn.
pub fn uniform(figures: &mut Figures) {
    let mut source = Source::new(&bed::uniform(KEYS), "u");
    let before = source.take(UNIFORM_BEFORE);
    let events = source.take(UNIFORM);
    let server = Turnstile::start("");
    server.run(&Turnstile::loads(&before));
    let loads = Turnstile::loads(&events);
    let rate = per_second(&loads, &server.run(&loads));
    figures.add(TURNSTILE_UNIFORM, Unit::PerSecond, Wanted::Nothing, rate);
    half(figures, "1,000,000 keys", &server, rate, &mut source);
    drop(server);
    if let Some(server) = Redis::start(Given::Event) {
        server.run(&server.loads(&before));
        let loads = server.loads(&events.first(UNIFORM_REDIS));
        let redis = per_second(&loads, &server.run(&loads));
        figures.add(REDIS_UNIFORM, Unit::PerSecond, Wanted::Nothing, redis);
        figures.add("1,000,000 keys: Turnstile / Redis", Unit::Times, Wanted::AtLeast(1.7), rate / redis);
    }
}

fn half(figures: &mut Figures, what: &str, server: &Turnstile, full: f64, source: &mut Source) {
    let rate = full / 2.0;
    let loads = Turnstile::loads(&source.take((rate * HALF_SECONDS) as usize));
    let latencies = server.run_at(&loads, rate).latencies;
    let name = |percentile| format!("{what}: acknowledgement at half load, {percentile}");
    figures.add(&name("p50"), Unit::Millis, Wanted::Nothing, millis(&latencies, 0.5));
    figures.add(&name("p99"), Unit::Millis, Wanted::AtMost(15.0), millis(&latencies, 0.99));
    figures.add(&name("p99.9"), Unit::Millis, Wanted::Nothing, millis(&latencies, 0.999));
}

/// Processor time of a server, as it tells it.
pub const CPU: &str = "process_cpu_seconds_total";

/// Answered requests a second.
pub fn per_second<R>(loads: &[Arc<Load>], measured: &Measured<R>) -> f64 {
    loads.iter().map(|load| load.len()).sum::<usize>() as f64 / measured.elapsed.as_secs_f64()
}

/// The memory a server takes, as it tells it.
pub fn resident_bytes(counters: &Counters) -> f64 {
    counters.get("process_resident_memory_bytes")
}
