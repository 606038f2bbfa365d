//! What has been settled so far, told to a person while it goes on and to everyone at the end.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde::Serialize;

use super::lane::{RefusedLine, Settled};
use crate::cli::render;
use crate::cli::screen::Paint;

/// So many refusals are shown.
const REFUSALS_SHOWN_MAX: usize = 10;
const BAR: &str = "{bar:30} {percent:>3}%  {events}  {eta} left";
const SPINNER: &str = "{spinner} {events}";
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);

/// The counts; `accepted + duplicates + refused` lines are settled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub accepted: u64,
    pub duplicates: u64,
    pub refused: u64,
    /// Lines that were sent more than once; those the server had taken are among the duplicates.
    pub resent: u64,
    /// The first refusals, by line.
    pub refusals: Vec<RefusedLine>,
    /// The highest position in the journal that was told.
    pub lsn: Option<u64>,
}

/// What is seen of it while it goes on, on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing at all.
    Quiet,
    /// Only what is out of the ordinary.
    Notices,
    /// A bar, if the size of the input is known.
    Bar { bytes: Option<u64> },
}

/// The tally that all connections share.
pub struct Report {
    begun: Instant,
    tally: Mutex<Tally>,
    lines: Arc<AtomicU64>,
    progress: Progress,
    bar: ProgressBar,
    /// One notice is enough until the server is heard again.
    outage: AtomicBool,
}

impl Report {
    /// Nothing is settled yet.
    pub fn new(progress: Progress) -> Self {
        let (begun, lines) = (Instant::now(), Arc::<AtomicU64>::default());
        let bar = match progress {
            Progress::Bar { bytes } => bar(bytes, begun, Arc::clone(&lines)),
            Progress::Quiet | Progress::Notices => ProgressBar::hidden(),
        };
        Report { begun, tally: Mutex::default(), lines, progress, bar, outage: AtomicBool::new(false) }
    }

    /// Counts what an acknowledgement settled.
    pub fn settled(&self, settled: Settled) {
        self.outage.store(false, Ordering::Relaxed);
        let refused = settled.refused.len() as u64;
        self.lines.fetch_add(settled.accepted + settled.duplicates + refused, Ordering::Relaxed);
        self.bar.inc(settled.bytes);
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.accepted += settled.accepted;
        tally.duplicates += settled.duplicates;
        tally.refused += refused;
        tally.lsn = tally.lsn.max(settled.lsn);
        if refused > 0 {
            tally.refusals.extend(settled.refused);
            tally.refusals.sort_by_key(|refusal| refusal.line);
            tally.refusals.truncate(REFUSALS_SHOWN_MAX);
        }
    }

    /// Counts lines that go a second time.
    pub fn resent(&self, lines: u64) {
        if lines > 0 {
            self.tally.lock().unwrap_or_else(PoisonError::into_inner).resent += lines;
        }
    }

    /// Says that a connection broke, once for all of them.
    pub fn interrupted(&self, address: &str, why: &str) {
        if self.progress != Progress::Quiet && !self.outage.swap(true, Ordering::Relaxed) {
            self.bar.suspend(|| {
                // Only a notice: where standard error is gone, so is its reader.
                let _ = writeln!(io::stderr(), "{}: {why}; trying again", render::safe(address));
            });
        }
    }

    /// Takes the bar away and gives the counts, with the time it took.
    pub fn end(&self) -> Summary {
        self.bar.finish_and_clear();
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Summary::new(tally, self.begun.elapsed())
    }
}

fn bar(bytes: Option<u64>, begun: Instant, lines: Arc<AtomicU64>) -> ProgressBar {
    let bar = match bytes {
        Some(bytes) => ProgressBar::new(bytes),
        None => ProgressBar::new_spinner(),
    };
    let template = if bytes.is_some() { BAR } else { SPINNER };
    // A template that cannot be read would leave the default bar, which a test shows not to happen.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let events = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
        let lines = lines.load(Ordering::Relaxed);
        let _ = write!(out, "{} events, {}/s", grouped(lines), grouped(rate(lines, begun.elapsed())));
    };
    bar.set_style(style.with_key("events", events));
    bar.enable_steady_tick(REDRAW_INTERVAL);
    bar
}

fn grouped(count: u64) -> String {
    render::grouped(count.cast_signed())
}

fn rate(lines: u64, elapsed: Duration) -> u64 {
    let millis = elapsed.as_millis().max(1);
    u64::try_from((u128::from(lines) * 1_000 + millis / 2) / millis).unwrap_or(u64::MAX)
}

/// The end of it, as `--json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub lines: u64,
    #[serde(flatten)]
    pub tally: Tally,
    /// In milliseconds' precision.
    pub seconds: f64,
    /// Lines a second.
    pub rate: u64,
}

impl Summary {
    fn new(tally: Tally, elapsed: Duration) -> Self {
        let lines = tally.accepted + tally.duplicates + tally.refused;
        let seconds = elapsed.as_millis() as f64 / 1e3;
        Summary { lines, tally, seconds, rate: rate(lines, elapsed) }
    }

    /// The counts and the first refusals, for a person.
    pub fn print(&self, out: &mut dyn Write, paint: Paint) -> io::Result<()> {
        let Tally { accepted, duplicates, refused, resent, .. } = self.tally;
        let (lines, rate) = (grouped(self.lines), grouped(self.rate));
        let noun = if self.lines == 1 { "line" } else { "lines" };
        writeln!(out, "{} in {:.2} s, {rate}/s", paint.bold(&format!("{lines} {noun}")), self.seconds)?;
        let width = lines.len();
        for (name, count) in [("accepted", accepted), ("duplicates", duplicates), ("refused", refused)] {
            let line = format!("  {name:10}  {:>width$}", grouped(count));
            writeln!(out, "{}", if name == "refused" && count > 0 { paint.red(&line) } else { line })?;
        }
        if resent > 0 {
            let note = format!(
                "  {:10}  {:>width$}  (what had arrived before counts as duplicate)",
                "sent again",
                grouped(resent)
            );
            writeln!(out, "{}", paint.dim(&note))?;
        }
        self.print_refusals(out)
    }

    /// The first refusals only.
    pub fn print_refusals(&self, out: &mut dyn Write) -> io::Result<()> {
        for RefusedLine { line, code, message } in &self.tally.refusals {
            writeln!(out, "line {line}: {}: {}", render::safe(code), render::safe(message))?;
        }
        let others = self.tally.refused.saturating_sub(self.tally.refusals.len() as u64);
        if others > 0 { writeln!(out, "and {} more", grouped(others)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(refusals: u64) -> Summary {
        let report = Report::new(Progress::Quiet);
        let refused = |line| RefusedLine { line, code: "conflict".into(), message: format!("m{line}\u{1b}") };
        // Connections report in any order.
        for half in [6..=refusals, 1..=refusals.min(5)] {
            let refused = half.map(refused).collect();
            report.settled(Settled { accepted: 600, duplicates: 4, refused, lsn: Some(9), ..Settled::default() });
        }
        report.resent(3);
        Summary { seconds: 1.5, rate: 812, ..report.end() }
    }

    #[test]
    fn a_summary_is_told_in_lines() {
        let mut out = Vec::new();
        summary(12).print(&mut out, Paint::Plain).unwrap();
        let mut expected = "\
1,220 lines in 1.50 s, 812/s
  accepted    1,200
  duplicates      8
  refused        12
  sent again      3  (what had arrived before counts as duplicate)
"
        .to_owned();
        expected.extend((1..=10).map(|line| format!("line {line}: conflict: m{line}\\u{{1b}}\n")));
        expected += "and 2 more\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_summary_is_one_json_object() {
        let expected = r#"{"lines":1209,"accepted":1200,"duplicates":8,"refused":1,"resent":3,"#.to_owned()
            + r#""refusals":[{"line":1,"code":"conflict","message":"m1\u001b"}],"lsn":9,"seconds":1.5,"rate":812}"#;
        assert_eq!(serde_json::to_string(&summary(1)).unwrap(), expected);
    }

    #[test]
    fn the_bars_templates_can_be_read() {
        for template in [BAR, SPINNER] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
