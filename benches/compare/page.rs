//! The machine it was measured on, and the page and the plot that keep what was measured.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use turnstile::model::time::Timestamp;

use super::bed;
use super::figures::{Figures, grouped};
use super::nats;
use super::postgres::Postgres;
use super::redis::Redis;
use super::speed;

const PAGE: &str = "docs/benchmarks.md";
const PLOT: &str = "docs/benchmarks.svg";

/// One line: when, on what, and what was compared.
pub fn about() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let cpu =
        cpus.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1)).unwrap_or("unknown CPU");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = read("/proc/meminfo");
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().split(' ').next()?.parse().ok());
    let gib = kib.unwrap_or(0.0) / f64::from(1 << 20);
    let kernel = read("/proc/sys/kernel/osrelease");
    let commit = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let version = |version: Option<String>| version.unwrap_or_else(|| "not installed".to_owned());
    let busy = read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
    let today = Timestamp::now().to_string();
    format!(
        "{}, {cores} cores of {cpu}, {gib:.0} GiB, Linux {}, load average {busy} before, a sync of 4 KiB takes {:.2} ms; Turnstile {} ({commit}), \
         Redis {}, PostgreSQL {}, NATS {}.",
        today.split('T').next().unwrap_or_default(),
        kernel.trim(),
        sync_millis(),
        env!("CARGO_PKG_VERSION"),
        version(Redis::version()),
        version(Postgres::version()),
        version(nats::version()),
    )
}

/// The median of some syncs, where the contenders' files are.
fn sync_millis() -> f64 {
    let folder = bed::folder("sync");
    let mut file = std::fs::File::create(folder.path().join("file")).expect("a file");
    let mut times: Vec<_> = (0..101)
        .map(|_| {
            file.write_all(&[7; 4096]).expect("the disk takes it");
            let begin = Instant::now();
            file.sync_data().expect("the disk takes it");
            begin.elapsed()
        })
        .collect();
    times.sort();
    times[50].as_secs_f64() * 1_000.0
}

/// Puts what was measured where the page has its place, between `<!-- name: begin -->` and `<!-- name: end -->`.
pub fn write(name: &str, about: &str, figures: &Figures) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(&path).expect("the page");
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let (head, rest) = page.split_once(&begin).expect("the page has the place");
    let (_, tail) = rest.split_once(&end).expect("the place ends");
    let page = format!("{head}{begin}{about}\n\n{}{end}{tail}", figures.table());
    std::fs::write(path, page).expect("the page can be written");
}

const BARS: [(&str, &str); 6] = [
    (speed::RAW_ORDERS, "#b8b8b8"),
    (speed::TURNSTILE_ORDERS, "#2f6f4f"),
    (speed::REDIS_ORDERS, "#a8443a"),
    (speed::POSTGRES_ORDERS, "#3a5f8a"),
    (speed::TURNSTILE_UNIFORM, "#2f6f4f"),
    (speed::REDIS_UNIFORM, "#a8443a"),
];
const WIDTH: f64 = 420.0;
const ROW: usize = 34;

/// Draws events a second as bars.
pub fn plot(figures: &Figures) {
    let bars: Vec<_> = BARS.iter().filter_map(|(what, colour)| Some((what, colour, figures.median(what)?))).collect();
    let most = bars.iter().map(|(.., value)| *value).fold(1.0, f64::max);
    let height = 40 + bars.len() * ROW;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 {height}\" font-family=\"sans-serif\" \
         font-size=\"14\">\n<rect width=\"860\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"22\" font-weight=\"bold\">Events acknowledged a second, synced to disk</text>\n"
    );
    for (n, (what, colour, value)) in bars.iter().enumerate() {
        let (top, width) = (36 + n * ROW, value / most * WIDTH);
        let what = what.split(" (").next().unwrap_or(what);
        let _ = writeln!(
            svg,
            "<text x=\"10\" y=\"{}\">{what}</text>\n<rect x=\"240\" y=\"{top}\" width=\"{width:.0}\" height=\"24\" \
             fill=\"{colour}\"/>\n<text x=\"{:.0}\" y=\"{}\">{}</text>",
            top + 17,
            248.0 + width,
            top + 17,
            grouped(*value)
        );
    }
    svg.push_str("</svg>\n");
    std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(PLOT), svg).expect("the plot can be written");
}
