//! How a record reads: what came, when, how late, and below it what it changed or why not, and what followed.

use std::io::{self, Write};

use super::change::{change, value};
use crate::cli::render;
use crate::cli::screen::Paint;
use crate::model::time::Span;
use crate::model::value::{Map, Value};

/// Whether it is clear whose record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Known,
    Told,
}

/// The columns of labels below a record's first line.
const LABEL_COLUMNS: usize = 12;

/// What is open after a record, told again only where it has changed: otherwise each record would repeat it.
const OPEN_ENDS: [&str; 3] = ["missing", "waiting_for", "needs"];

/// Writes the account of a record, after an empty line. `last` is the one that was written before it.
pub(super) fn record(
    out: &mut dyn Write,
    paint: Paint,
    account: &Map,
    last: Option<&Map>,
    whose: Whose,
) -> io::Result<()> {
    let input = member(account, "input");
    let lsn = format!("#{}", text(account, "lsn"));
    let whose = match whose {
        Whose::Known => String::new(),
        Whose::Told => format!("{} {}  ", text(account, "type"), text(account, "key")),
    };
    let what = paint.bold(&came(&input));
    writeln!(out, "\n{}  {}  {whose}{what}", paint.dim(&lsn), moment(account, "time"))?;
    let mut lines = Lines { out, paint };
    lines.timing(&input)?;
    lines.input(&input)?;
    lines.type_pause(account)?;
    lines.changes(account)?;
    lines.followed(account)?;
    let is_same = |last: &Map| OPEN_ENDS.iter().all(|name| last.get(name) == account.get(name));
    let same_entity = |last: &&Map| ["type", "key"].iter().all(|name| last.get(name) == account.get(name));
    if last.filter(same_entity).is_some_and(is_same) { Ok(()) } else { lines.open_ends(account) }
}

/// A time to the millisecond.
fn moment(map: &Map, name: &str) -> String {
    let text = text(map, name);
    match text.split_once('.') {
        Some((seconds, fraction)) if fraction.len() > 4 && text.is_ascii() => format!("{seconds}.{}Z", &fraction[..3]),
        _ => text,
    }
}

/// What came, in a few words.
fn came(input: &Map) -> String {
    let text = |name| text(input, name);
    match &*text("kind") {
        "event" => format!("{} {} from {}", text("type"), text("id"), text("source")),
        "held" => format!("{} {} from {}: held, since it is paused", text("type"), text("id"), text("source")),
        "released" => format!("{} {} from {}, which was held", text("type"), text("id"), text("source")),
        "paused" => "paused, by hand".to_owned(),
        "resumed" => "resumed, by hand".to_owned(),
        "rules" => format!("new rules ({})", text("fingerprint")),
        "message" => {
            let says = match &*text("says") {
                "watch" => "begins to watch",
                "unwatch" => "watches no more",
                "gone" => "is there no more, or what it told was forgotten",
                _ => "tells what it shows",
            };
            format!("{} {} {says} (reference {})", text("from_type"), text("from_key"), text("reference"))
        }
        "deadline" => format!("deadline {} has passed", text("deadline")),
        "forgotten" => "forgotten, by hand".to_owned(),
        "quiet" => format!("quiet for long enough for {}", text("decision")),
        "effect_started" => format!("effect {}: attempt {} begins", text("effect"), text("attempt")),
        "effect_asked_again" => format!("effect {}: asked for again, by hand", text("effect")),
        "effect_resolved" => format!("effect {}: {}, by hand", text("effect"), text("state")),
        "effect_ended" => {
            let status = input.get("status").map(|status| format!(", HTTP {}", render::line(status)));
            format!("effect {}: {}{}", text("effect"), text("state"), status.unwrap_or_default())
        }
        other => other.to_owned(),
    }
}

/// The time between an event and its arrival, in words.
fn lateness(late: Span) -> String {
    match late.whole_seconds() {
        0 => "on time".to_owned(),
        seconds if seconds > 0 => format!("{} late", render::span(seconds)),
        seconds => format!("{} before its time: a clock is wrong", render::span(-seconds)),
    }
}

struct Lines<'a> {
    out: &'a mut dyn Write,
    paint: Paint,
}

impl Lines<'_> {
    fn line(&mut self, label: &str, told: &str) -> io::Result<()> {
        let label = render::safe(label);
        writeln!(self.out, "    {label:LABEL_COLUMNS$}  {told}")
    }

    fn type_pause(&mut self, account: &Map) -> io::Result<()> {
        for (name, what) in [("type_paused", "paused"), ("type_resumed", "resumed")] {
            if let Some(Value::Map(by_hand)) = account.get(name) {
                let [by, why] = ["by", "why"].map(|name| text(by_hand, name));
                let told = format!("the type was {what} {} (by {by}: {why})", moment(by_hand, "since"));
                self.line("because", &render::safe(&told))?;
            }
        }
        Ok(())
    }

    fn timing(&mut self, input: &Map) -> io::Result<()> {
        if !matches!(&*text(input, "kind"), "event" | "held") {
            return Ok(());
        }
        if text(input, "time_given") == "receipt" {
            return self.line("happened", "nobody said when; its arrival counts");
        }
        let late = input.get("late").and_then(Value::as_str).and_then(Span::parse);
        let told = format!("{}, {}", moment(input, "time"), late.map(lateness).unwrap_or_default());
        let is_late = late.is_some_and(|late| late.whole_seconds().abs() >= 60);
        let told = if is_late { self.paint.yellow(&told) } else { told };
        self.line("happened", &told)
    }

    /// What stands in an input from inside.
    fn input(&mut self, input: &Map) -> io::Result<()> {
        for (name, label) in [
            ("at", "due"),
            ("shown", "it shows"),
            ("response", "answer"),
            ("error", "error"),
            ("by", "by"),
            ("why", "why"),
        ] {
            if let Some(found) = input.get(name) {
                self.line(label, &value(found))?;
            }
        }
        Ok(())
    }

    fn changes(&mut self, account: &Map) -> io::Result<()> {
        let items = list(account, "changes");
        for it in &items {
            let by = it.get("by").map(|by| format!("[{}]", render::line(by))).unwrap_or_default();
            let told = match (it.get("added"), it.get("new")) {
                (Some(added), Some(new)) => format!("+ {} ({})", value(added), change(it.get("old"), new)),
                (Some(added), None) => format!("+ {}", value(added)),
                (None, Some(new)) => change(it.get("old"), new),
                (None, None) => String::new(),
            };
            let told = self.paint.green(&told);
            self.line(&format!("{}{by}", text(it, "field")), &told)?;
        }
        for it in list(account, "derived") {
            let told = change(it.get("old"), it.get("new").unwrap_or(&Value::Null));
            self.line(&text(&it, "derived"), &told)?;
        }
        for it in list(account, "unchanged") {
            let why = match &*text(&it, "why") {
                "stale" => "left as it is: what is there is newer, or the same",
                "filtered" => "left as it is: its `if` keeps this event out",
                _ => "left as it is: the event has no value for it",
            };
            let told = self.paint.yellow(why);
            self.line(&text(&it, "field"), &told)?;
        }
        Ok(())
    }

    fn followed(&mut self, account: &Map) -> io::Result<()> {
        for it in list(account, "decisions") {
            let element = it.get("element").map(|element| format!("[{}]", render::line(element))).unwrap_or_default();
            let name = self.paint.bold(&format!("{}{element}", text(&it, "decision")));
            let data = it.get("data").map(|data| format!(" {}", value(data))).unwrap_or_default();
            let back = if it.get("comes_back").is_some() { ", comes back as an event" } else { "" };
            self.line(
                "decided",
                &format!("{name} revision {}, {}{back}{data}", text(&it, "revision"), text(&it, "state")),
            )?;
        }
        for it in list(account, "references") {
            let told = match it.get("to") {
                Some(Value::Null) | None => format!("{} points to nothing any more", text(&it, "reference")),
                Some(to) => format!("{} points to {} {}", text(&it, "reference"), text(&it, "type"), render::line(to)),
            };
            self.line("reference", &told)?;
        }
        for it in list(account, "deadlines") {
            let told = match it.get("at") {
                Some(Value::Null) | None => format!("{} is given up", text(&it, "deadline")),
                Some(at) => format!("{} at {}", text(&it, "deadline"), render::line(at)),
            };
            self.line("deadline", &told)?;
        }
        for it in list(account, "effects") {
            let request = it.get("request").map(value).unwrap_or_default();
            self.line("effect", &format!("{} is asked for (run {}) {request}", text(&it, "effect"), text(&it, "run")))?;
        }
        for it in list(account, "notices") {
            let shown = it.get("shown").map(value).unwrap_or_default();
            self.line(
                "tells",
                &format!("every {} that watches (reference {}): {shown}", text(&it, "type"), text(&it, "reference")),
            )?;
        }
        for (name, label) in [("settling", "settling"), ("stopped", "stopped")] {
            if let Some(Value::List(names)) = account.get(name) {
                self.line(label, &render::list(names))?;
            }
        }
        Ok(())
    }

    fn open_ends(&mut self, account: &Map) -> io::Result<()> {
        if let Some(Value::List(missing)) = account.get("missing") {
            let told = self.paint.dim(&render::list(missing));
            self.line("missing", &told)?;
        }
        for it in list(account, "waiting_for") {
            let told = format!("{} {} since {}", text(&it, "type"), text(&it, "key"), moment(&it, "since"));
            let told = self.paint.yellow(&told);
            self.line("waits for", &told)?;
        }
        for (decision, needs) in member(account, "needs").iter() {
            let Value::List(needs) = needs else { continue };
            let told = self.paint.dim(&format!("{} needs {}", render::safe(decision), render::list(needs)));
            self.line("undecided", &told)?;
        }
        Ok(())
    }
}

fn text(map: &Map, name: &str) -> String {
    map.get(name).map(render::line).unwrap_or_default()
}

fn member(map: &Map, name: &str) -> Map {
    match map.get(name) {
        Some(Value::Map(member)) => member.clone(),
        _ => Map::default(),
    }
}

/// The documents of a list.
fn list(map: &Map, name: &str) -> Vec<Map> {
    let Some(Value::List(items)) = map.get(name) else { return Vec::new() };
    let documents = items.iter().filter_map(|item| if let Value::Map(map) = item { Some(map.clone()) } else { None });
    documents.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::json;

    fn told(account: &str, whose: Whose) -> String {
        let Value::Map(account) = json::parse(account.as_bytes(), 20).unwrap() else { panic!("{account}") };
        let mut out = Vec::new();
        record(&mut out, Paint::Plain, &account, None, whose).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// If this failed, whoever is woken at night would not see what came, how late, what it did, or why it did nothing.
    #[test]
    fn an_event_reads_from_what_came_to_what_is_still_waited_for() {
        let account = r#"{"lsn":7,"version":2,"type":"order","key":"o","time":"2026-11-20T10:00:00Z","cause":"p-1",
            "input":{"kind":"event","source":"shop","id":"p-1","type":"Paid","time":"2026-11-20T06:58:00Z",
                "time_given":"sender","late":"10920.5s"},
            "outcome":"merged",
            "changes":[{"field":"payment","take":"latest","old":null,"new":{"status":"ok"}},
                {"field":"paid","by":"eur","take":"sum","old":4,"new":10.5,"added":6.5},
                {"field":"notes","take":"list","added":"hi\u001b[31m"}],
            "unchanged":[{"field":"price","why":"stale"},{"field":"tax","why":"filtered"},{"field":"x","why":"no_value"}],
            "derived":[{"derived":"rich","old":false,"new":true}],
            "decisions":[{"id":"order/o/Confirmed/2","decision":"Confirmed","revision":2,"state":"revised","data":{"n":1}}],
            "references":[{"reference":"shipment","type":"shipment","to":"S1"}],
            "deadlines":[{"deadline":"unpaid","at":null}],
            "effects":[{"effect":"pull","run":1,"request":{"url":"http://x"}}],
            "missing":["stock"],
            "waiting_for":[{"reference":"shipment","type":"shipment","key":"S1","since":"2026-11-20T10:00:00Z"}],
            "needs":{"Shipped":["shipment.segment"]}}"#;
        let expected = "
#7  2026-11-20T10:00:00Z  order o  Paid p-1 from shop
    happened      2026-11-20T06:58:00Z, 3 h 2 min late
    payment       nothing → {\"status\":\"ok\"}
    paid[eur]     + 6.5 (4 → 10.5)
    notes         + hi\\u{1b}[31m
    rich          false → true
    price         left as it is: what is there is newer, or the same
    tax           left as it is: its `if` keeps this event out
    x             left as it is: the event has no value for it
    decided       Confirmed revision 2, revised {\"n\":1}
    reference     shipment points to shipment S1
    deadline      unpaid is given up
    effect        pull is asked for (run 1) {\"url\":\"http://x\"}
    missing       stock
    waits for     shipment S1 since 2026-11-20T10:00:00Z
    undecided     Shipped needs shipment.segment
";
        assert_eq!(told(account, Whose::Told), expected);
    }

    /// If this failed, what has changed would be hard to find among what is open all the time.
    #[test]
    fn what_stays_open_is_told_once() {
        let account = |lsn: u64, key: &str, missing: &str| {
            let text = format!(r#"{{"lsn":{lsn},"type":"t","key":"{key}","time":"T","missing":["{missing}"]}}"#);
            let Value::Map(account) = json::parse(text.as_bytes(), 9).unwrap() else { panic!("{text}") };
            account
        };
        let first = account(1, "a", "x");
        for (second, told) in
            [(account(2, "a", "x"), false), (account(2, "a", "y"), true), (account(2, "b", "x"), true)]
        {
            let mut out = Vec::new();
            record(&mut out, Paint::Plain, &second, Some(&first), Whose::Known).unwrap();
            assert_eq!(String::from_utf8(out).unwrap().contains("missing"), told, "{second:?}");
        }
        let mut times = Map::default();
        for (time, shown) in
            [("2026-11-20T10:00:00.145592208Z", "2026-11-20T10:00:00.145Z"), ("2026-11-20T10:00:00.5Z", "")]
        {
            times.insert("t", Value::string(time));
            assert_eq!(moment(&times, "t"), if shown.is_empty() { time } else { shown });
        }
    }

    #[test]
    fn inputs_from_inside_are_told_in_words() {
        for (input, expected) in [
            (
                r#"{"kind":"message","says":"notice","from_type":"parent","from_key":"k","reference":"p","shown":{"n":1}}"#,
                "parent k tells what it shows (reference p)\n    it shows      {\"n\":1}\n",
            ),
            (
                r#"{"kind":"deadline","deadline":"unpaid","at":"2026-11-20T10:00:00Z"}"#,
                "deadline unpaid has passed\n    due           2026-11-20T10:00:00Z\n",
            ),
            (r#"{"kind":"quiet","decision":"Made","since_version":3}"#, "quiet for long enough for Made\n"),
            (r#"{"kind":"effect_started","effect":"pull","run":1,"attempt":2}"#, "effect pull: attempt 2 begins\n"),
            (
                r#"{"kind":"effect_ended","effect":"pull","run":1,"state":"failed","status":500,"response":"no"}"#,
                "effect pull: failed, HTTP 500\n    answer        no\n",
            ),
            (
                r#"{"kind":"event","type":"T","id":"1","source":"s","time":"x","time_given":"receipt"}"#,
                "T 1 from s\n    happened      nobody said when; its arrival counts\n",
            ),
        ] {
            let account = format!(r#"{{"lsn":1,"time":"T","input":{input},"changes":[]}}"#);
            assert_eq!(told(&account, Whose::Known), format!("\n#1  T  {expected}"));
        }
        for (late, told) in [("0.9s", "on time"), ("-0.5s", "on time"), ("75s", "1 min 15 s late")] {
            assert_eq!(lateness(Span::parse(late).unwrap()), told);
        }
        assert!(lateness(Span::parse("-5s").unwrap()).starts_with("5 s before its time"));
    }
}
