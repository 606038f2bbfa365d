//! What was measured: one value a round, shown as their median and their spread.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    PerSecond,
    Times,
    Millis,
    Seconds,
    Micros,
    Bytes,
    Mebibytes,
}

/// What is wanted of a figure.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    AtLeast(f64),
    AtMost(f64),
    /// It is there to be compared with.
    Nothing,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Figure {
    pub what: String,
    pub unit: Unit,
    pub wanted: Wanted,
    /// One a round, in their order.
    pub rounds: Vec<f64>,
}

/// All lines, in the order in which they were first measured.
#[derive(Debug, Default)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// Adds this round's value.
    pub fn add(&mut self, what: &str, unit: Unit, wanted: Wanted, value: f64) {
        eprintln!("  {what}: {}", unit.show(value));
        match self.0.iter_mut().find(|figure| figure.what == what) {
            Some(figure) => figure.rounds.push(value),
            None => self.0.push(Figure { what: what.to_owned(), unit, wanted, rounds: vec![value] }),
        }
    }

    /// The median of what was measured so far.
    pub fn median(&self, what: &str) -> Option<f64> {
        self.0.iter().find(|figure| figure.what == what).map(Figure::median)
    }

    /// A table in Markdown.
    pub fn table(&self) -> String {
        let mut table = "| | median | spread over rounds | wanted |\n|---|---:|---:|---:|\n".to_owned();
        for figure in &self.0 {
            let unit = figure.unit;
            let wanted = match figure.wanted {
                Wanted::AtLeast(value) => format!("at least {}", unit.show(value)),
                Wanted::AtMost(value) => format!("at most {}", unit.show(value)),
                Wanted::Nothing => String::new(),
            };
            let (min, max) = figure.spread();
            let spread = if figure.rounds.len() > 1 {
                format!("{} – {}", unit.bare(min), unit.bare(max))
            } else {
                String::new()
            };
            let _ = writeln!(table, "| {} | {} | {spread} | {wanted} |", figure.what, unit.show(figure.median()));
        }
        table
    }
}

impl Figure {
    pub fn median(&self) -> f64 {
        let mut rounds = self.rounds.clone();
        rounds.sort_by(f64::total_cmp);
        let middle = rounds.len() / 2;
        if rounds.len().is_multiple_of(2) { f64::midpoint(rounds[middle - 1], rounds[middle]) } else { rounds[middle] }
    }

    fn spread(&self) -> (f64, f64) {
        let fold = |of: fn(f64, f64) -> f64| self.rounds.iter().copied().reduce(of).unwrap_or_default();
        (fold(f64::min), fold(f64::max))
    }
}

impl Unit {
    fn show(self, value: f64) -> String {
        let bare = self.bare(value);
        match self {
            Unit::PerSecond => format!("{bare}/s"),
            Unit::Times => format!("{bare} ×"),
            Unit::Millis => format!("{bare} ms"),
            Unit::Seconds => format!("{bare} s"),
            Unit::Micros => format!("{bare} µs"),
            Unit::Bytes => format!("{bare} B"),
            Unit::Mebibytes => format!("{bare} MiB"),
        }
    }

    fn bare(self, value: f64) -> String {
        match self {
            Unit::PerSecond | Unit::Bytes | Unit::Mebibytes => grouped(value),
            Unit::Times | Unit::Micros => format!("{value:.2}"),
            Unit::Millis | Unit::Seconds => format!("{value:.1}"),
        }
    }
}

/// A whole number, grouped by thousands.
pub fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A percentile of microseconds, in milliseconds.
pub fn millis(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 1_000.0
}
