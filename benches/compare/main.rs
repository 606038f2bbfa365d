//! Turnstile beside what people use for this today, and beside what the disk could do: `make bench`.
//!
//! Everything is started here, in folders below `target/`, and gets the same events from the same client. Contenders
//! take turns in each round, so that what disturbs the machine disturbs all of them; ratios are taken within a round.

mod bed;
mod figures;
mod hot;
mod long;
mod nats;
mod page;
mod postgres;
mod raw;
mod redis;
mod speed;
mod turnstile;
mod upkeep;

use clap::{Parser, ValueEnum};
use figures::Figures;

/// Measures Turnstile beside Redis, PostgreSQL and the disk, and prints one table in Markdown
#[derive(Debug, Parser)]
struct Args {
    /// So many rounds
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["orders", "uniform", "hot", "upkeep", "nats"])]
    only: Vec<Part>,
    /// Put the table into docs/benchmarks.md, and the plot beside it
    #[arg(long)]
    write: bool,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Orders, by everybody
    Orders,
    /// A million keys at random, by everybody
    Uniform,
    /// One key that everybody speaks to
    Hot,
    /// Checkpoints, journal, memory, recovery
    Upkeep,
    /// Orders out of a stream of NATS, beside a client that only acknowledges them
    Nats,
    /// Ten million keys, ten gigabytes: half an hour
    Long,
}

/// Events a second where the orders were not measured, to take halves and tenths of.
const RATE_UNMEASURED: f64 = 100_000.0;

fn main() {
    let args = Args::parse();
    for (installed, name) in [
        (redis::Redis::version(), "redis-server"),
        (postgres::Postgres::version(), "postgresql"),
        (nats::version(), "nats-server"),
    ] {
        if installed.is_none() {
            eprintln!("{name} is not installed: left out");
        }
    }
    let about = page::about();
    let mut figures = Figures::default();
    for round in 1..=args.rounds {
        eprintln!("round {round} of {}", args.rounds);
        measure(&args.only, &mut figures);
    }
    println!("{about}\n\n{}", figures.table());
    if args.write {
        let long = args.only.contains(&Part::Long);
        page::write(if long { "long" } else { "figures" }, &about, &figures);
        if !long {
            page::plot(&figures);
        }
    }
}

fn measure(parts: &[Part], figures: &mut Figures) {
    let has = |part| parts.contains(&part);
    if has(Part::Orders) {
        speed::orders(figures, &speed::orders_events());
    }
    if has(Part::Uniform) {
        speed::uniform(figures);
    }
    if has(Part::Hot) {
        hot::hot(figures);
    }
    if has(Part::Upkeep) {
        let full = figures.median(speed::TURNSTILE_ORDERS).unwrap_or(RATE_UNMEASURED);
        upkeep::checkpoints(figures, full);
        upkeep::tenth(figures, full);
        upkeep::memory(figures);
        upkeep::recovery(figures);
    }
    if has(Part::Nats) {
        nats::nats(figures);
    }
    if has(Part::Long) {
        long::memory(figures);
        long::commits(figures);
    }
}
