//! The arguments of `bench`, and what is said at the end.

use std::io::{self, Write};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use super::acks::Acks;
use super::counters::Counters;
use super::drive::{Measured, Pace, drive};
use super::load::{Load, token_line};
use super::shape::{Rendered, Shape};
use super::wire::Wire;
use super::workload::{Planner, Spread, Workload};
use crate::cli::client::{Client, ServerArgs};
use crate::cli::destination::{Connected, Destination, Way};
use crate::cli::failure::{Exit, Failure};
use crate::cli::render;
use crate::cli::screen::Screen;
use crate::cli::table::{Align, Table};
use crate::model::time::{Span, Timestamp};

const CONNECTIONS_MAX: u64 = 1_024;
/// Ids and keys of one run begin with so many digits of its own, so that runs do not meet each other's.
const RUN_DIGITS: usize = 8;

/// Measure a running server: events a second, and how long an acknowledgement takes
///
/// Events are made first, then sent over TCP as fast as acknowledgements come, or at a given rate. They are those of
/// the shipped examples, whose rules the server must have. By default each order gets its five events in random order,
/// 50,000 orders are open at a time, and one event in ten is a duplicate. Use a server whose data you can throw away.
///
/// The exit code is 1 if the server refused an event.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// So many events, duplicates among them
    #[arg(long, value_name = "N", default_value = "1000000")]
    events: NonZeroU64,
    /// So many keys: open at a time, or in all with --skew
    #[arg(long, value_name = "N", default_value = "50000")]
    keys: NonZeroU64,
    /// So many connections
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=CONNECTIONS_MAX))]
    connections: u64,
    /// So many events of each connection may be unacknowledged
    #[arg(long, value_name = "N", default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..))]
    pipeline: u32,
    /// Draw each event's key at random: 0 all alike, 1 the k-th key 1/k as often as the first
    #[arg(long, value_name = "EXPONENT", value_parser = parse_amount)]
    skew: Option<f64>,
    /// This share of the events goes to one key
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    hot: f64,
    /// This share of the events came before
    #[arg(long, value_name = "SHARE", default_value = "0.1", value_parser = parse_share)]
    duplicates: f64,
    /// The rules that the events are for
    #[arg(long, value_enum, value_name = "TYPE", default_value = "order")]
    entity: Shape,
    /// Send so many a second, and count an acknowledgement's time from when its event was due
    #[arg(long, value_name = "EVENTS", value_parser = parse_rate)]
    rate: Option<f64>,
    /// A TCP source of the server
    #[arg(long, env = "TURNSTILE_TO", value_name = "[tls://]HOST:PORT", default_value = "127.0.0.1:7400", value_parser = Destination::parse)]
    to: Destination,
    /// Print the result as a JSON object
    #[arg(long)]
    json: bool,
}

fn parse_amount(text: &str) -> Result<f64, String> {
    let amount = text.parse().ok().filter(|amount: &f64| amount.is_finite() && *amount >= 0.0);
    amount.ok_or_else(|| "expected a number that is not negative".to_owned())
}

fn parse_share(text: &str) -> Result<f64, String> {
    parse_amount(text).ok().filter(|share| *share <= 1.0).ok_or_else(|| "expected a share from 0 to 1".to_owned())
}

fn parse_rate(text: &str) -> Result<f64, String> {
    parse_amount(text).ok().filter(|rate| *rate >= 1.0).ok_or_else(|| "expected at least 1 a second".to_owned())
}

/// Measures the server.
///
/// # Errors
/// The token is wrong (2); the server cannot be reached or breaks off (3).
pub fn bench(args: &BenchArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let run = Uuid::new_v4().simple().to_string();
    let loads = loads(args, &run[..RUN_DIGITS]);
    let bytes = loads.iter().map(|load| load.bytes.len() as u64).sum();
    let before = counters(server)?;
    let measured = send(args, server, loads)?;
    let after = counters(server)?;
    let outcome = Outcome::new(args, bytes, &measured, &before, &after);
    if args.json {
        serde_json::to_writer(&mut screen.out, &outcome).map_err(io::Error::from)?;
        writeln!(screen.out)?;
    } else {
        outcome.print(screen)?;
    }
    if let Some(refusal) = measured.replies.iter().find_map(|acks| acks.refusal.as_ref()) {
        writeln!(screen.err, "refused, for instance: {}", render::safe(refusal))?;
    }
    Ok(if outcome.refused > 0 { Exit::No } else { Exit::Ok })
}

/// Asks over a connection of its own: the server closes one that has been idle.
fn counters(server: &ServerArgs) -> Result<Counters, Failure> {
    Ok(Counters::parse(&Client::new(server)?.metrics()?))
}

/// The events, dealt out to the connections in turn.
fn loads(args: &BenchArgs, run: &str) -> Vec<Load> {
    let keys = args.keys.get();
    let spread = args.skew.map_or(Spread::LifeCycle { open: keys }, |skew| Spread::Random { keys, skew });
    let seed = u64::from_str_radix(run, 16).unwrap_or_default();
    let workload = Workload { shape: args.entity, spread, hot: args.hot, duplicates: args.duplicates, seed };
    let span = Span::from_nanos(-i128::from(args.events.get()) * 1_000_000).unwrap_or_default();
    let begin = Timestamp::now().plus(span).unwrap_or_default();
    let mut loads = vec![Load::default(); args.connections as usize];
    let mut rendered = Rendered::default();
    let connections = (0..loads.len()).cycle();
    for (_, (planned, connection)) in (0..args.events.get()).zip(Planner::new(&workload).zip(connections)) {
        args.entity.render(&planned, run, begin, &mut rendered);
        loads[connection].push(|bytes| rendered.cloud_event(bytes));
    }
    loads
}

fn send(args: &BenchArgs, server: &ServerArgs, loads: Vec<Load>) -> Result<Measured<Acks>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Io, error))?;
    let pipeline = args.pipeline as usize;
    let pace = Pace { pipeline, batch: (pipeline / 2).max(1), rate: args.rate };
    let greeting = server.token().map(token_line).unwrap_or_default();
    let way = args.to.way(server)?;
    runtime.block_on(async {
        let mut connections = Vec::with_capacity(loads.len());
        for load in loads {
            let stream = connect(&way, &greeting).await.map_err(|error| {
                let cause = anyhow::Error::new(error).context(format!("cannot connect to {way} (--to says where)"));
                Failure::new(Exit::Io, cause)
            })?;
            connections.push((stream, Arc::new(load), Acks::default()));
        }
        let driven = drive(connections, pace).await;
        driven.map_err(|error| Failure::new(Exit::Io, error))
    })
}

/// A connection on which `greeting` was sent.
async fn connect(way: &Way, greeting: &[u8]) -> io::Result<Wire> {
    let mut connected = way.connect().await?;
    match &mut connected {
        Connected::Plain(stream) => stream.write_all(greeting).await?,
        Connected::Secured(stream) => {
            stream.write_all(greeting).await?;
            stream.flush().await?;
        }
    }
    Ok(connected.into())
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Outcome {
    events: u64,
    bytes: u64,
    seconds: f64,
    events_per_second: f64,
    duplicates: u64,
    refused: u64,
    ack_milliseconds: Percentiles,
    /// Processor time of this process while it sent.
    client_cpu_seconds: f64,
    /// Those of the server's counters that have changed.
    server: std::collections::BTreeMap<String, Change>,
}

#[derive(Debug, Serialize)]
struct Percentiles {
    p50: f64,
    p99: f64,
    #[serde(rename = "p99.9")]
    p999: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
struct Change {
    before: f64,
    after: f64,
}

impl Percentiles {
    fn of(micros: &Histogram<u64>) -> Self {
        let at = |quantile| micros.value_at_quantile(quantile) as f64 / 1_000.0;
        Percentiles { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: micros.max() as f64 / 1_000.0 }
    }
}

impl Outcome {
    fn new(args: &BenchArgs, bytes: u64, measured: &Measured<Acks>, before: &Counters, after: &Counters) -> Self {
        let seconds = measured.elapsed.max(Duration::from_nanos(1)).as_secs_f64();
        let changes = after.iter().filter_map(|(name, after)| {
            let before = before.get(name);
            (before.to_bits() != after.to_bits()).then(|| (name.to_owned(), Change { before, after }))
        });
        Outcome {
            events: args.events.get(),
            bytes,
            seconds,
            events_per_second: args.events.get() as f64 / seconds,
            duplicates: measured.replies.iter().map(|acks| acks.duplicates).sum(),
            refused: measured.replies.iter().map(|acks| acks.refused).sum(),
            ack_milliseconds: Percentiles::of(&measured.latencies),
            client_cpu_seconds: measured.cpu.as_secs_f64(),
            server: changes.collect(),
        }
    }

    fn print(&self, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let Outcome { seconds, ack_milliseconds: ack, .. } = self;
        let count = |count: u64| render::grouped(count as i64);
        let out = &mut screen.out;
        let rate = render::grouped(self.events_per_second as i64);
        writeln!(out, "{} events acknowledged in {seconds:.2} s: {rate}/s", count(self.events))?;
        writeln!(out, "  event       {} bytes in the mean", self.bytes / self.events)?;
        writeln!(out, "  duplicates  {}", count(self.duplicates))?;
        writeln!(out, "  refused     {}", count(self.refused))?;
        let Percentiles { p50, p99, p999, max } = ack;
        writeln!(out, "  ack         p50 {p50:.1} ms, p99 {p99:.1} ms, p99.9 {p999:.1} ms, max {max:.1} ms")?;
        writeln!(out, "  client      {:.2} s of processor time\n", self.client_cpu_seconds)?;
        let columns = [("server", Align::Left), ("before", Align::Right), ("after", Align::Right)];
        let rows = self.server.iter().map(|(name, change)| {
            vec![
                name.strip_prefix("turnstile_").unwrap_or(name).to_owned(),
                amount(change.before),
                amount(change.after),
            ]
        });
        Ok(Table::new(columns).rows(&mut *screen.out, screen.paint, &rows.collect::<Vec<_>>())?)
    }
}

/// A sample as a person reads it.
fn amount(value: f64) -> String {
    if value.fract() == 0.0 { render::grouped(value as i64) } else { format!("{value:.3}") }
}
