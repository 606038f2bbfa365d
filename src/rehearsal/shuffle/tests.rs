//! Rules that depend on the order are found, made small and explained; rules that do not are let be.

use std::sync::Arc;

use super::search::{Found, Options, search};
use super::{Group, Recording, Unit};
use crate::config::{self, Config};
use crate::ingress::Decoder;
use crate::model::time::Timestamp;
use crate::rules::{Ruleset, compile};

const OPTIONS: Options = Options { rounds: 60, seed: 1, duplicates: 0.3, unit: Unit::Line };
const HEAD: &str = "[entity.e]\nkey = \"event.data.k\"\n";

fn rules(text: &str) -> (Config, Arc<Ruleset>) {
    let mut loaded = config::load_str(text, &|_| None);
    let config = loaded.config.take().unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(&loaded.files)));
    let types = compile(&config.entities, &loaded.files, &mut loaded.diagnostics).unwrap_or_default();
    assert!(!loaded.diagnostics.has_errors(), "{}", loaded.diagnostics.render(&loaded.files));
    let ruleset = Arc::new(Ruleset::new(types, &[], 512));
    (config, ruleset)
}

fn recorded(ruleset: &Arc<Ruleset>, lines: &[String]) -> Vec<Group> {
    let decoder = Decoder::new(None, 1 << 20, 64);
    let mut recording = Recording::default();
    for (n, line) in lines.iter().enumerate() {
        let event = decoder.decode(line.as_bytes(), Timestamp::default()).unwrap();
        recording.add(ruleset, n as u64 + 1, &event);
    }
    recording.into_groups()
}

/// An event `type id second k v`; without a time where the second is `-`.
fn event(short: &str) -> String {
    let parts: Vec<&str> = short.split(' ').collect();
    let [kind, id, second, key, value] = parts.as_slice() else { panic!("{short}") };
    let time = if *second == "-" { String::new() } else { format!(r#""time":"2026-11-20T10:00:{second}Z","#) };
    format!(r#"{{"id":"{id}","type":"{kind}",{time}"data":{{"k":"{key}","v":{value}}}}}"#)
}

fn found(rules_text: &str, events: &[&str], options: Options) -> (Found, Vec<Group>) {
    let (config, ruleset) = rules(&[HEAD, rules_text].concat());
    let lines: Vec<String> = events.iter().map(|short| event(short)).collect();
    let groups = recorded(&ruleset, &lines);
    let found = search(&config, &ruleset, &groups, options, |_| {}).unwrap();
    (found, groups)
}

/// Noise of which a counterexample needs nothing.
const NOISE: [&str; 6] = ["N n1 01 a 1", "N n2 02 a 2", "N n3 03 a 3", "N n4 04 b 4", "N n5 05 a 5", "N n6 06 a 6"];

struct Case {
    what: &'static str,
    rules: &'static str,
    events: &'static [&'static str],
    /// The rule, how many arrivals in each order, how many swaps, and parts of what is said.
    expected: (&'static str, [usize; 2], usize, &'static [&'static str]),
}

const CASES: [Case; 7] = [
    Case {
        what: "a decision made for good before all it reads has come",
        rules: "[entity.e.fields]\nn = { on = \"N\", take = \"count\" }\npaid = { on = \"P\", take = \"latest\" }\n\
                ship = { on = \"S\", take = \"latest\", value = \"event.data.v\" }\n\
                [entity.e.decision.D]\nwhen = \"has(e.paid)\"\ndata = { days = \"e.?ship.orValue(5)\" }\npolicy = \"once\"\n",
        events: &["P p 10 a 1", "S s 11 a 2"],
        expected: (
            "entity.e.decision.D",
            [2, 2],
            1,
            &["policy = \"revise\"", "when = \"(has(e.paid)) && has(e.ship)\"", "`ship`"],
        ),
    },
    Case {
        what: "a decision made for good while its condition was true for a moment",
        rules: "[entity.e.fields]\nn = { on = \"N\", take = \"count\" }\n\
                v = { on = \"P\", take = \"latest\", value = \"event.data.v\" }\n\
                [entity.e.decision.D]\nwhen = \"e.v > 10\"\npolicy = \"once\"\n",
        events: &["P p1 10 a 20", "P p2 11 a 5"],
        expected: ("entity.e.decision.D", [2, 2], 1, &["for a while only", "policy = \"revise\""]),
    },
    Case {
        what: "the latest of what has no time",
        rules: "[entity.e.fields]\nn = { on = \"N\", take = \"count\" }\n\
                v = { on = \"P\", take = \"latest\", value = \"event.data.v\" }\n",
        events: &["P p1 - a 20", "P p2 - a 5"],
        expected: ("entity.e.fields.v", [2, 2], 1, &["without one", "require_time = true"]),
    },
    Case {
        what: "an identity that is forgotten",
        rules: "dedupe = \"5m\"\n[entity.e.fields]\nn = { on = \"N\", take = \"latest\" }\n\
                v = { on = \"P\", take = \"sum\", value = \"event.data.v\" }\n",
        events: &["P p1 10 a 20"],
        expected: ("entity.e", [1, 2], 0, &["`dedupe` window", "longer `dedupe`"]),
    },
    Case {
        what: "two payloads under one identity",
        rules: "duplicates = \"lenient\"\n[entity.e.fields]\nn = { on = \"N\", take = \"latest\" }\n\
                v = { on = \"P\", take = \"max\", value = \"event.data.v\" }\n",
        events: &["P p1 10 a 20", "P p1 10 a 30"],
        expected: ("entity.e", [2, 2], 1, &["same identity", "duplicates = \"strict\""]),
    },
    Case {
        what: "a decision that cannot be evaluated in the end",
        rules: "[entity.e.fields]\nn = { on = \"N\", take = \"count\" }\nw = { on = \"W\", take = \"count\" }\n\
                v = { on = \"P\", take = \"latest\", value = \"event.data.v\" }\n\
                [entity.e.decision.D]\nwhen = \"10 / int(e.v) > 0\"\ndata = { w = \"e.w\" }\n",
        events: &["P p1 10 a 2", "P p2 11 a 0", "W w 12 a 1"],
        expected: ("entity.e.decision.D", [2, 2], 1, &["cannot be evaluated (", "in every state"]),
    },
    Case {
        what: "what has no time among what has",
        rules: "[entity.e.fields]\nn = { on = \"N\", take = \"count\" }\n\
                v = { on = \"P\", take = \"list\", value = \"event.data.v\" }\n",
        events: &["P p1 59 a 20", "P p2 - a 5"],
        expected: ("entity.e.fields.v", [2, 2], 0, &["without one", "order_by"]),
    },
];

/// If this failed, rules that depend on the order would pass, or people would have to find out why by themselves.
#[test]
fn what_depends_on_the_order_is_found_made_small_and_explained() {
    for Case { what, rules, events, expected: (rule, lengths, swaps, says) } in CASES {
        let events = [&NOISE[..4], events, &NOISE[4..]].concat();
        let (found, _) = found(rules, &events, OPTIONS);
        assert_eq!((found.groups, found.diverging), (2, 1), "{what}: {found:#?}");
        let [finding] = found.findings.as_slice() else { panic!("{what}: {:#?}", found.findings) };
        assert_eq!(finding.subject.entity.key(), "a", "{what}");
        let pair = &finding.pair;
        assert_eq!(
            (&*finding.blame.rule, [pair.first.len(), pair.second.len()]),
            (rule, lengths),
            "{what}: {finding:#?}"
        );
        assert_eq!(pair.swaps(), swaps, "{what}: {pair:?}");
        assert!(!finding.differences.is_empty() && finding.blame.at.is_some(), "{what}: {finding:?}");
        let said = [finding.blame.why.as_str(), &finding.blame.instead].join(" ");
        for part in says {
            assert!(said.contains(part), "{what}: {part:?} is not in {said:?}");
        }
    }
}

/// If this failed, rules would be blamed that are right.
#[test]
fn what_does_not_depend_on_the_order_converges() {
    let rules = "[entity.e.fields]\nn = { on = \"N\", take = \"list\", value = \"event.data.v\" }\n\
                 sum = { on = \"*\", take = \"sum\", value = \"event.data.v\" }\n\
                 last = { on = \"N\", take = \"latest\", value = \"event.data.v\", by = \"event.data.v % 2 == 0\" }\n\
                 [entity.e.decision.D]\nwhen = \"e.sum > 5\"\ndata = { sum = \"e.sum\" }\n";
    let (found, _) = found(rules, &NOISE, OPTIONS);
    assert_eq!((found.groups, found.diverging, found.orders), (2, 0, 120), "{found:?}");
    assert!(found.findings.is_empty() && found.applied > 360, "{found:?}");
}

/// If this failed, a verdict could not be looked into again, or another entity's events would change it.
#[test]
fn the_seed_alone_decides() {
    let Case { rules, events, .. } = &CASES[0];
    let run = |events: &[&str], seed| {
        let (found, _) = found(rules, events, Options { rounds: 3, seed, ..OPTIONS });
        format!("{:?} {:?}", found.applied, found.findings.iter().map(|it| &it.pair).collect::<Vec<_>>())
    };
    let events = [&NOISE[..], events].concat();
    assert_eq!(run(&events, 7), run(&events, 7));
    let applied: std::collections::BTreeSet<_> = (0..9).map(|seed| run(&events, seed)).collect();
    assert!(applied.len() > 1, "all seeds give the same orders: {applied:?}");
    let (config, ruleset) = self::rules(&[HEAD, *rules].concat());
    let lines: Vec<String> = events.iter().map(|short| event(short)).collect();
    let groups = recorded(&ruleset, &lines);
    let alone = &groups[..1];
    let count = |groups: &[Group]| search(&config, &ruleset, groups, OPTIONS, |_| {}).unwrap().applied;
    assert_eq!(count(&groups) - count(alone), count(&groups[1..]), "each entity's orders are its own");
}

/// If this failed, a conflict would pass unseen, or be blamed on the rules.
#[test]
fn a_conflict_is_looked_into_and_blamed_on_nobody() {
    let rules = "[entity.e.fields]\nv = { on = \"P\", take = \"max\", value = \"event.data.v\" }\n";
    let (found, _) = found(rules, &["P p1 10 a 20", "P p1 10 a 30", "P p2 10 b 1", "P p2 11 b 1"], OPTIONS);
    assert_eq!(found.diverging, 0, "{found:?}");
    let [first, second] = found.conflicts.as_slice() else { panic!("{:?}", found.conflicts) };
    assert_eq!((first.number, first.with, first.differences.len()), (2, 1, 1), "{first:?}");
    assert_eq!((second.number, second.with, second.differences.len()), (4, 3, 0), "{second:?}");
}

/// If this failed, long recordings would end in counterexamples that nobody can read.
#[test]
fn a_counterexample_in_a_thousand_events_is_small() {
    let Case { rules, events, .. } = &CASES[0];
    let noise: Vec<String> = (0..1_000).map(|n| format!("N n{n} {:02} a {n}", n % 60)).collect();
    let mut all: Vec<&str> = noise.iter().map(String::as_str).collect();
    all.insert(300, events[0]);
    all.insert(700, events[1]);
    let (found, _) = found(rules, &all, Options { rounds: 5, ..OPTIONS });
    let [finding] = found.findings.as_slice() else { panic!("{found:?}") };
    assert_eq!((finding.pair.first.len(), finding.pair.swaps()), (2, 1), "{finding:?}");
}

/// Routings that name their shipments; `tables` come after them.
fn together(tables: &str, events: &[&str]) -> Found {
    let rules_text = format!(
        "[entity.s]\nkey = \"event.data.k\"\n[entity.s.fields]\n\
         segment = {{ on = \"S\", take = \"latest\", value = \"event.data.v\" }}\n\
         [entity.r]\nkey = \"event.data.k\"\n[entity.r.fields]\n\
         to = {{ on = \"R\", take = \"latest\", value = \"event.data.v\" }}\n\
         at = {{ on = \"R\", take = \"min\", value = \"event.time\" }}\n\
         note = {{ on = \"T\", take = \"latest\", value = \"event.data.v\" }}\n\
         told = {{ on = \"Told\", take = \"count\" }}\n\
         [entity.r.ref.s]\nentity = \"s\"\nkey = \"'s' + string(r.to)\"\n\
         [entity.r.deadline.late]\nat = \"r.at + duration('1h')\"\nunless = \"has(s.segment)\"\n{tables}\n"
    );
    let (config, ruleset) = rules(&rules_text);
    let lines: Vec<String> = events.iter().map(|short| event(short)).collect();
    search(&config, &ruleset, &recorded(&ruleset, &lines), OPTIONS, |_| {}).unwrap()
}

const TOGETHER: [&str; 6] =
    ["R r1 01 x 1", "S s1 02 s1 7", "R r2 03 y 2", "T t1 04 x 5", "R r3 05 z 1", "S s2 06 s3 9"];

/// If this failed, entities that look at each other would be shuffled apart, or right rules be blamed.
#[test]
fn entities_that_refer_to_each_other_are_shuffled_together() {
    let tables = "[entity.r.decision.D]\ndata = { s = \"s.segment\", late = \"r.late\" }\nsettle = \"2s\"\n\
                  [entity.r.decision.Told]\nto = [\"self\"]\nwhen = \"has(s.segment)\"\ndata = \"r.?note.orValue(0)\"\n\
                  [entity.r.decision.Counted]\ndata = \"r.told\"\n\
                  [entity.r.effect.call]\nwhen = \"has(s.segment)\"\npolicy = \"revise\"\n\
                  request = { url = \"http://h/\", json = \"r.?note.orValue(0)\" }\n\
                  [entity.r.decision.After]\nwhen = \"r.call.state == 'succeeded'\"\ndata = \"r.call.at\"\n";
    let found = together(tables, &TOGETHER);
    // x and z name s1; y names one that never comes; s3 is named by nobody.
    assert_eq!((found.entities, found.groups, found.diverging), (5, 3, 0), "{found:#?}");
}

/// If this failed, what was decided or called too early, because another entity was late, would be found in production.
#[test]
fn what_depends_on_who_was_faster_is_found_and_explained() {
    for (tables, rule, says) in [
        (
            "[entity.r.decision.D]\nwhen = \"has(r.note)\"\npolicy = \"once\"\ndata = { s = \"s.?segment.orValue(0)\" }\n",
            "entity.r.decision.D",
            "says for good what was known when it was first made; `s` came or changed later",
        ),
        (
            "[entity.r.decision.D]\nwhen = \"has(r.note)\"\npolicy = \"once\"\ndata = { late = \"has(r.late)\" }\n",
            "entity.r.decision.D",
            "`late` came or changed later",
        ),
        (
            "[entity.r.effect.call]\nwhen = \"has(s.segment)\"\n\
             request = { url = \"http://h/\", json = \"r.?note.orValue(0)\" }\n",
            "entity.r.effect.call",
            "it asks for good for what was known when it was first asked for; `note` came or changed later",
        ),
    ] {
        let found = together(tables, &TOGETHER);
        assert!(found.diverging > 0, "{rule}: {found:#?}");
        let [finding] = found.findings.as_slice() else { panic!("{:#?}", found.findings) };
        assert_eq!(finding.blame.rule, rule);
        assert!(finding.blame.why.contains(says), "{}", finding.blame.why);
        assert!(finding.pair.first.len() <= 3, "{:?}", finding.pair);
    }
}
