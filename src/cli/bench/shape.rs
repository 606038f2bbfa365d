//! What the events look like: those of the shipped examples.

use std::io::Write;

use super::workload::Planned;
use crate::model::time::{Span, Timestamp};

/// Which of the shipped rules the events are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// examples/orders: five services report on an order
    Order,
    /// examples/timesheets: clock-ins and clock-outs of an employee's day
    Timesheet,
}

/// An event's parts as text, for whatever form it is sent in. Filled anew for each event.
#[derive(Debug, Default)]
pub struct Rendered {
    /// What the event reports: the field it is merged into.
    pub part: &'static str,
    pub source: &'static str,
    pub kind: &'static str,
    pub id: Vec<u8>,
    pub key: Vec<u8>,
    pub time: String,
    pub data: Vec<u8>,
}

const CARRIERS: [&str; 4] = ["parcel", "express", "freight", "courier"];
const WAREHOUSES: [&str; 4] = ["east", "west", "north", "south"];
/// One payment in so many fails.
const FAILED_ONE_IN: u64 = 10;
/// A day's clockings end up on one timesheet: they are milliseconds apart, from noon on.
const NANOS_PER_MILLI: i128 = 1_000_000;
const NOON: &str = "2026-11-20T11:00:00Z";

impl Shape {
    /// How many kinds of events there are.
    pub fn kinds(self) -> usize {
        match self {
            Shape::Order => 5,
            Shape::Timesheet => 2,
        }
    }

    /// Writes an event's parts. `run` makes ids and keys differ from those of other runs; `begin` is the first event's
    /// time, each further one comes a millisecond later.
    pub fn render(self, planned: &Planned, run: &str, begin: Timestamp, out: &mut Rendered) {
        out.id.clear();
        out.key.clear();
        out.data.clear();
        // Writing into memory cannot fail.
        let _ = match self {
            Shape::Order => order(planned, run, out),
            Shape::Timesheet => timesheet(planned, run, out),
        };
        let begin = if self == Shape::Timesheet { Timestamp::parse(NOON).unwrap_or(begin) } else { begin };
        // Of a day there are 86,400,000 milliseconds, of which an hour is used here.
        let offset = if self == Shape::Timesheet { planned.number % 3_600_000 } else { planned.number };
        let later = Span::from_nanos(i128::from(offset) * NANOS_PER_MILLI).unwrap_or_default();
        out.time = begin.plus(later).unwrap_or(begin).to_string();
    }
}

fn order(planned: &Planned, run: &str, out: &mut Rendered) -> std::io::Result<()> {
    let Planned { number: n, key, kind } = *planned;
    write!(out.key, "o-{run}-{key:08}")?;
    let (part, source, name, id) = [
        ("customer", "shop", "OrderCreated", "new"),
        ("payment", "payments", "PaymentProcessed", "pay"),
        ("stock", "warehouse", "InventoryReserved", "res"),
        ("shipping", "shipping", "ShippingCalculated", "ship"),
        ("loyalty", "loyalty", "LoyaltyPointsUpdated", "pts"),
    ][kind];
    (out.part, out.source, out.kind) = (part, source, name);
    write!(out.id, "{id}-{run}-{n:08}")?;
    write!(out.data, "{{\"orderId\":\"o-{run}-{key:08}\",")?;
    let (euros, cents) = (10 + n % 900, 10 + n % 90);
    match part {
        "customer" => write!(
            out.data,
            r#""customerId":"c-{:06}","items":["SKU-{:05}","SKU-{:05}"],"channel":"web"}}"#,
            n * 31 % 1_000_000,
            n % 90_000,
            n * 7 % 90_000
        ),
        "payment" => {
            let status = if n.is_multiple_of(FAILED_ONE_IN) { "failed" } else { "successful" };
            write!(out.data, r#""status":"{status}","amount":{euros}.{cents},"currency":"EUR","method":"card"}}"#)
        }
        "stock" => write!(
            out.data,
            r#""warehouseId":"{}","reservedItems":["SKU-{:05}","SKU-{:05}"]}}"#,
            WAREHOUSES[n as usize % 4],
            n % 90_000,
            n * 7 % 90_000
        ),
        "shipping" => write!(
            out.data,
            r#""carrier":"{}","estimatedDays":{},"cost":{}.{cents},"currency":"EUR"}}"#,
            CARRIERS[n as usize % 4],
            1 + n % 9,
            3 + n % 7
        ),
        _ => write!(out.data, r#""customerId":"c-{:06}","points":{},"tier":"silver"}}"#, n * 31 % 1_000_000, n % 500),
    }
}

fn timesheet(planned: &Planned, run: &str, out: &mut Rendered) -> std::io::Result<()> {
    let Planned { number, key, kind } = *planned;
    let (part, name) = [("clock_in", "ClockIn"), ("clock_out", "ClockOut")][kind];
    (out.part, out.source, out.kind) = (part, "gate", name);
    write!(out.key, "E-{run}-{key:08}")?;
    write!(out.id, "row-{run}-{number:08}")?;
    write!(out.data, "{{\"employee\":\"E-{run}-{key:08}\",\"zone\":\"Europe/Berlin\"}}")
}

impl Rendered {
    /// Adds the event as a line for Turnstile.
    pub fn cloud_event(&self, out: &mut Vec<u8>) {
        for part in [
            br#"{"specversion":"1.0","id":""#.as_slice(),
            &self.id,
            br#"","source":""#,
            self.source.as_bytes(),
            br#"","type":""#,
            self.kind.as_bytes(),
            br#"","time":""#,
            self.time.as_bytes(),
            br#"","subject":""#,
            &self.key,
            br#"","data":"#,
            &self.data,
            b"}\n",
        ] {
            out.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::workload::{Planner, Spread, Workload};
    use super::*;

    /// Figures are quoted for events of 270 bytes.
    #[test]
    fn order_events_have_the_size_that_is_quoted() {
        let spread = Spread::LifeCycle { open: 50_000 };
        let workload = Workload { shape: Shape::Order, spread, hot: 0.0, duplicates: 0.1, seed: 1 };
        let (mut rendered, mut lines) = (Rendered::default(), Vec::new());
        for planned in Planner::new(&workload).take(10_000) {
            Shape::Order.render(&planned, "0a1b2c3d", Timestamp::now(), &mut rendered);
            rendered.cloud_event(&mut lines);
        }
        let mean = lines.len() / 10_000;
        assert!((265..=275).contains(&mean), "{mean} bytes");
    }

    #[test]
    fn lines_are_events_and_keep_their_identity() {
        for (shape, kinds) in [(Shape::Order, 5), (Shape::Timesheet, 2)] {
            assert_eq!(shape.kinds(), kinds);
            for kind in 0..kinds {
                let planned = Planned { number: 5, key: 3, kind };
                let line = |planned| {
                    let (mut rendered, mut line) = (Rendered::default(), Vec::new());
                    shape.render(&planned, "r", Timestamp::default(), &mut rendered);
                    rendered.cloud_event(&mut line);
                    serde_json::from_slice::<serde_json::Value>(&line).unwrap()
                };
                let event = line(planned);
                assert_eq!(event, line(planned), "a duplicate is the same to the byte");
                assert!(event["data"].is_object() && event["time"].is_string(), "{event}");
                assert_ne!(event["id"], line(Planned { number: 6, ..planned })["id"]);
                assert_ne!(event["subject"], line(Planned { key: 4, ..planned })["subject"]);
            }
        }
    }
}
