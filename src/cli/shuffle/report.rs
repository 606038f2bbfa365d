//! What a shuffle found, for people and as JSON.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::{Value as Json, json};

use crate::cli::render::{column, grouped, safe};
use crate::cli::screen::Paint;
use crate::config::Files;
use crate::rehearsal::entity_name;
use crate::rehearsal::shuffle::{
    Arrival, Conflict, Difference, Finding, Found, Group, Options, Recording, Refused, Unit,
};

/// So many refusals, and as many conflicts, are shown.
const SHOWN_MAX: usize = 10;
/// So many arrivals of an order are shown.
const ARRIVALS_SHOWN_MAX: usize = 40;
/// A longer text of a value is cut.
const VALUE_CHARS_MAX: usize = 60;
/// A pause of so many milliseconds is worth a word.
const PAUSE_SHOWN_MS: u64 = 1_000;

/// What was read.
pub struct Report {
    options: Options,
    events: u64,
    refused: u64,
    refusals: Vec<Refused>,
}

impl Report {
    /// The counts of a recording.
    pub fn of(recording: &Recording, options: Options) -> Self {
        let (events, refused) = (recording.events, recording.refused);
        Report { options, events, refused, refusals: recording.refusals.clone() }
    }

    /// The verdict for a program.
    pub fn to_json(&self, files: &Files, groups: &[Group], found: &Found) -> Json {
        json!({
            "converges": found.groups > 0 && found.diverging == 0,
            "entities": found.entities,
            "groups": found.groups,
            "diverging": found.diverging,
            "events": self.events,
            "orders": found.orders,
            "applied": found.applied,
            "seed": self.options.seed,
            "findings": found.findings.iter().map(|it| finding_json(files, groups, it)).collect::<Vec<_>>(),
            "refused": self.refused,
            "refusals": self.refusals.iter().map(|it| json!({
                "number": it.number, "code": it.refusal.code.as_str(), "message": it.refusal.message,
            })).collect::<Vec<_>>(),
            "conflicts": found.conflicts.iter().map(|it| json!({
                "entity": entity_name(&groups[it.group].entity),
                "number": it.number,
                "with": it.with,
                "differences": it.differences.iter().map(difference_json).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        })
    }

    /// The verdict for a person.
    pub fn print(
        &self,
        out: &mut dyn Write,
        paint: Paint,
        files: &Files,
        groups: &[Group],
        found: &Found,
    ) -> io::Result<()> {
        let number = |count: u64| grouped(count.cast_signed());
        print_verdict(out, paint, found)?;
        let (events, orders, applied) = (number(self.events), number(found.orders), number(found.applied));
        writeln!(out, "  {events} events, {orders} orders, {applied} events applied, seed {}", self.options.seed)?;
        found
            .findings
            .iter()
            .try_for_each(|finding| print_finding(out, paint, files, groups, finding, self.options.unit))?;
        if self.refused > 0 {
            writeln!(out, "\nrefused: {}", number(self.refused))?;
        }
        for Refused { number, refusal } in self.refusals.iter().take(SHOWN_MAX) {
            let event = self.options.unit.of(*number);
            writeln!(out, "  {event}: {}: {}", refusal.code.as_str(), safe(&refusal.message))?;
        }
        let more = self.refused.saturating_sub(SHOWN_MAX as u64);
        if more > 0 {
            writeln!(out, "  and {} more", number(more))?;
        }
        found.conflicts.iter().take(SHOWN_MAX).try_for_each(|conflict| self.print_conflict(out, groups, conflict))
    }

    fn print_conflict(&self, out: &mut dyn Write, groups: &[Group], conflict: &Conflict) -> io::Result<()> {
        let [refused, with] = [conflict.number, conflict.with].map(|number| self.options.unit.of(number));
        let parts: Vec<_> = conflict.differences.iter().map(|difference| difference.subject.part.described()).collect();
        let entity = safe(&entity_name(&groups[conflict.group].entity));
        write!(out, "  {refused} instead of {with} would make ")?;
        if parts.is_empty() {
            writeln!(out, "no difference to {entity}")
        } else {
            writeln!(out, "a difference to {entity}: {}", parts.join(", "))
        }
    }
}

fn print_verdict(out: &mut dyn Write, paint: Paint, found: &Found) -> io::Result<()> {
    let number = |count: u64| grouped(count.cast_signed());
    let entities = if found.entities == 1 { "entity" } else { "entities" };
    let entities = format!("{} {entities}", number(found.entities));
    let groups = if found.groups == 1 { "group" } else { "groups" };
    let groups = format!("{} {groups}", number(found.groups));
    let diverging = number(found.diverging);
    // Entities that are tied to each other have one fate.
    let are_tied = found.entities != found.groups;
    match (found.groups, found.diverging) {
        (0, _) => writeln!(out, "{}", paint.red("nothing to shuffle: no entity takes any of these events")),
        (_, 0) if are_tied => writeln!(out, "{}: {entities} in {groups}", paint.green("converges")),
        (_, 0) => writeln!(out, "{}: {entities}", paint.green("converges")),
        _ if are_tied => writeln!(out, "{}: {diverging} of {groups}, {entities} in all", paint.red("diverges")),
        _ => writeln!(out, "{}: {diverging} of {entities}", paint.red("diverges")),
    }
}

fn print_finding(
    out: &mut dyn Write,
    paint: Paint,
    files: &Files,
    groups: &[Group],
    finding: &Finding,
    unit: Unit,
) -> io::Result<()> {
    let group = &groups[finding.group];
    let orders = [&finding.pair.first, &finding.pair.second].map(|order| arrivals(group, order, unit));
    let others = match finding.groups - 1 {
        0 => String::new(),
        1 => ", and so does 1 other".to_owned(),
        others => format!(", and so do {} others", grouped(others.cast_signed())),
    };
    let what = finding.subject.part.described();
    let title = format!("{what} of {} depends on the order", safe(&entity_name(&finding.subject.entity)));
    writeln!(out, "\n{}{others}\n", paint.bold(&title))?;
    let mut rows = vec![["in this order".to_owned(), "and in this order".to_owned()]];
    let length = orders[0].len().max(orders[1].len());
    for n in 0..length.min(ARRIVALS_SHOWN_MAX) {
        rows.push([0, 1].map(|side| orders[side].get(n).cloned().unwrap_or_default()));
    }
    two_columns(out, &rows)?;
    if length > ARRIVALS_SHOWN_MAX {
        writeln!(out, "    … {} in all; --json has them", grouped((length as u64).cast_signed()))?;
    }
    writeln!(out)?;
    for difference in &finding.differences {
        let [first, second] = [&difference.first, &difference.second].map(|value| shown(value.as_ref()));
        writeln!(out, "    {}: {first}, or {second}", difference.subject.part.described())?;
    }
    let at = finding.blame.at.map(|at| format!("  ({})", files.place(at))).unwrap_or_default();
    writeln!(out, "\n  rule     {}{at}", paint.bold(&finding.blame.rule))?;
    writeln!(out, "  why      {}", finding.blame.why)?;
    writeln!(out, "  instead  {}", finding.blame.instead)
}

fn two_columns(out: &mut dyn Write, rows: &[[String; 2]]) -> io::Result<()> {
    let width = column(rows.iter().map(|[left, _]| left.as_str()));
    rows.iter().try_for_each(|[left, right]| writeln!(out, "    {}", format!("{left:width$}    {right}").trim_end()))
}

/// Arrivals in words.
fn arrivals(group: &Group, order: &[Arrival], unit: Unit) -> Vec<String> {
    let words = order.iter().enumerate().map(|(n, arrival)| {
        let given = &group.events[arrival.event];
        let event = &given.taken.input.event;
        let mut text = format!("{}  {} {}", unit.of(given.number), safe(&event.kind), safe(&event.id));
        if order[..n].iter().any(|before| before.event == arrival.event) {
            text.push_str(", again");
        }
        if given.is_timeless() {
            text.push_str(", without time");
        }
        if arrival.pause_ms >= PAUSE_SHOWN_MS {
            let _ = write!(text, ", {} s later", arrival.pause_ms / 1_000);
        }
        if arrival.reload {
            text.push_str(", after a restart");
        }
        if group.entities > 1 {
            let _ = write!(text, ", for {}", safe(&entity_name(&given.taken.entity)));
        }
        if arrival.hold {
            text.push_str(", what follows is late");
        }
        text
    });
    words.collect()
}

fn shown(value: Option<&String>) -> String {
    match value {
        None => "nothing".to_owned(),
        Some(text) if text.chars().count() > VALUE_CHARS_MAX => {
            safe(&text.chars().take(VALUE_CHARS_MAX).chain(['…']).collect::<String>())
        }
        Some(text) => safe(text),
    }
}

fn finding_json(files: &Files, groups: &[Group], finding: &Finding) -> Json {
    let group = &groups[finding.group];
    let order = |order: &[Arrival]| {
        let arrivals = order.iter().map(|arrival| {
            let event = &group.events[arrival.event].taken.input.event;
            json!({
                "number": group.events[arrival.event].number, "id": *event.id, "source": *event.source, "type": *event.kind,
                "pause_ms": arrival.pause_ms, "reload": arrival.reload, "hold": arrival.hold,
                "entity": entity_name(&group.events[arrival.event].taken.entity),
            })
        });
        arrivals.collect::<Vec<_>>()
    };
    json!({
        "entity": entity_name(&finding.subject.entity),
        "groups": finding.groups,
        "part": finding.subject.part.described(),
        "swaps": finding.pair.swaps(),
        "first": order(&finding.pair.first),
        "second": order(&finding.pair.second),
        "differences": finding.differences.iter().map(difference_json).collect::<Vec<_>>(),
        "rule": finding.blame.rule,
        "at": finding.blame.at.map(|at| files.place(at)),
        "why": finding.blame.why,
        "instead": finding.blame.instead,
    })
}

fn difference_json(difference: &Difference) -> Json {
    json!({"part": difference.subject.part.described(), "first": difference.first, "second": difference.second})
}
