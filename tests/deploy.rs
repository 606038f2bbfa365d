//! What is in `deploy/`: taken by the programs it is for, and about a Turnstile that is really like that.

mod common;
#[path = "deploy/promql.rs"]
mod promql;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use common::database::{Database, Kind};
use common::event_stream::EventStream;
use common::hook::{Answer, Hook};
use common::{Server, Setup, orders, wait_for};
use promql::{named, quoted};
use serde_json::{Value, json};

/// What Prometheus itself says of a target.
const OF_PROMETHEUS: &str = "up";
/// Labels that Prometheus gives to whatever it scrapes.
const OF_SCRAPING: [&str; 2] = ["job", "instance"];
/// Samples by name, each with all labels that it is seen with.
type Samples = BTreeMap<String, BTreeSet<String>>;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap_or_else(|error| panic!("deploy/{path}: {error}"))
}

/// A rule of `alerts.yml`: what it is called, what it computes, and all of its lines.
struct Rule {
    name: String,
    is_alert: bool,
    expr: String,
    text: String,
}

impl Rule {
    /// An annotation, in one line; a folded one goes on as long as its lines are further in.
    fn annotation(&self, name: &str) -> String {
        let begin = format!("          {name}: ");
        let mut lines = self.text.lines().skip_while(|line| !line.starts_with(&begin));
        let first = lines.next().unwrap_or_else(|| panic!("{} has no {name}", self.name));
        let more = lines.take_while(|line| line.starts_with("            "));
        let words = first[begin.len()..].split_whitespace().chain(more.flat_map(str::split_whitespace));
        words.filter(|word| *word != ">-").collect::<Vec<_>>().join(" ")
    }
}

fn rules() -> Vec<Rule> {
    let text = read("prometheus/alerts.yml");
    let mut rules: Vec<Rule> = Vec::new();
    let mut in_expr = false;
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        for (prefix, is_alert) in [("      - alert: ", true), ("      - record: ", false)] {
            if let Some(name) = line.strip_prefix(prefix) {
                rules.push(Rule { name: name.into(), is_alert, expr: String::new(), text: String::new() });
            }
        }
        let Some(rule) = rules.last_mut() else { continue };
        rule.text.extend([line, "\n"]);
        if let Some(expr) = line.strip_prefix("        expr: ") {
            in_expr = expr == "|";
            rule.expr = if in_expr { String::new() } else { expr.to_owned() };
        } else if in_expr && line.starts_with("          ") {
            rule.expr.extend([line, "\n"]);
        } else {
            in_expr = false;
        }
    }
    assert!(rules.len() > 20 && rules.iter().all(|rule| !rule.expr.is_empty()), "the rules can be read");
    rules
}

/// Runs a program that may not be there; its output, if it was.
fn run(command: &mut Command) {
    let name = command.get_program().to_owned();
    let Ok(output) = command.output() else {
        println!("SKIPPED: {} is not on the PATH", name.display());
        return;
    };
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
}

/// If this failed, somebody would copy files that Prometheus refuses, or alerts that fire at the wrong time.
#[test]
fn promtool_takes_the_rules_and_they_fire_when_they_should() {
    let promtool = |arguments: &[&str]| run(Command::new("promtool").args(arguments).current_dir(deploy("prometheus")));
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"]);
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&["test", "rules", "alerts_test.yml"]);
}

/// If this failed, an alert could be there of which nobody has seen that it fires, or that it does not always.
#[test]
fn every_alert_is_seen_to_fire_and_not_to() {
    let tests = read("prometheus/alerts_test.yml");
    for rule in rules().iter().filter(|rule| rule.is_alert) {
        let looked = format!("expr: ALERTS{{alertname=\"{}\",alertstate=\"firing\"}}", rule.name);
        let looks: Vec<&str> = tests.split(&looked).skip(1).collect();
        let is_quiet = |look: &&&str| look.lines().nth(2).is_some_and(|line| line.trim() == "exp_samples: []");
        let quiet = looks.iter().filter(is_quiet).count();
        assert!(quiet > 0 && quiet < looks.len(), "{} fires and does not: {quiet} of {}", rule.name, looks.len());
    }
}

/// If this failed, somebody who was woken would be sent to a page or a command that is not there.
#[test]
fn every_alert_says_what_to_do() {
    let readme = std::fs::read_to_string(deploy("../README.md")).expect("README.md");
    let anchors: BTreeSet<String> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|title| format!("README.md#{}", title.to_lowercase().replace(' ', "-").replace(',', "")))
        .collect();
    for rule in rules().iter().filter(|rule| rule.is_alert) {
        let is_known = ["critical", "warning", "info"].iter().any(|it| rule.text.contains(&format!("severity: {it} ")));
        assert!(is_known, "{} has a severity", rule.name);
        assert!(rule.annotation("summary").len() > 15, "{}: {}", rule.name, rule.annotation("summary"));
        assert!(anchors.contains(&rule.annotation("runbook")), "{}: {}", rule.name, rule.annotation("runbook"));
        let description = rule.annotation("description");
        assert!(description.len() > 80, "{}: {description}", rule.name);
        for command in description.split('`').skip(1).step_by(2).filter_map(|it| it.strip_prefix("turnstile ")) {
            let is_argument = |word: &&str| word.starts_with("--") || word.chars().all(|c| c.is_ascii_uppercase());
            let words: Vec<&str> = command.split(' ').take_while(|word| !is_argument(word)).collect();
            let help = Command::new(env!("CARGO_BIN_EXE_turnstile")).args(&words).arg("--help").output();
            let help = help.expect("the binary starts");
            let text = String::from_utf8_lossy(&help.stdout);
            assert!(help.status.success(), "{}: there is no `turnstile {command}`", rule.name);
            for option in command.split(' ').filter(|word| word.starts_with("--")) {
                assert!(text.contains(option), "{}: `turnstile {command}` has no {option}", rule.name);
            }
        }
    }
}

/// If this failed, the unit that people copy would not start, or not do what it says.
#[test]
fn systemd_takes_the_unit() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let unit = dir.path().join("turnstile.service");
    let text = read("systemd/turnstile.service").replace("/usr/local/bin/turnstile", env!("CARGO_BIN_EXE_turnstile"));
    // What is wrong with a configuration ends the main process, whose exit code is the only one that prevents a restart.
    assert!(!text.lines().any(|line| line.starts_with("ExecStartPre=")), "{text}");
    assert!(text.lines().any(|line| line == "RestartPreventExitStatus=2"), "{text}");
    let wrong = Setup::new("[entity.a]\n").write().run_to_end();
    assert_eq!(wrong.status.code(), Some(2), "{}", String::from_utf8_lossy(&wrong.stderr));
    std::fs::write(&unit, text).expect("a unit");
    run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit));
}

const RULES: &str = r#"
[entity.visit]
key = "event.subject"
expire = "1s"
fields = { pages = { on = "Viewed", take = "count" } }
[entity.routing]
key = "event.data.routing"
[entity.routing.fields]
doc = { on = "RoutingPlanned", take = "latest" }
[entity.routing.ref.order]
entity = "order"
key = "routing.doc.order"
[entity.routing.derived]
broken = "10 / routing.doc.divisor"
[entity.routing.decision.Divided]
data = { by = "routing.broken" }
[entity.routing.deadline.orphan]
at = "timestamp(routing.doc.at)"
grace = "10ms"
[entity.routing.effect.book]
[entity.routing.effect.book.request]
url = "URL"
json = { routing = "key" }
"#;

/// What a node that has seen a bit of everything says of itself.
fn exposition() -> &'static str {
    static EXPOSITION: OnceLock<String> = OnceLock::new();
    EXPOSITION.get_or_init(run_of_everything)
}

fn run_of_everything() -> String {
    let database = Database::start(Kind::Sqlite).expect("it is always there");
    database.run_sql("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT); INSERT INTO notes VALUES (1, 'n')");
    let hook = Hook::start(|call, _| Answer::Status(if call.headers.contains_key("webhook-id") { 400 } else { 200 }));
    let tables = format!(
        "[sink.hook]\nkind = \"webhook\"\nurl = {url:?}\nallow_private = true\n\
         secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\nretry = {{ attempts = 1 }}\n\
         [source.clock]\nkind = \"sql\"\nurl = {:?}\ncursor = \"id\"\nevery = \"20ms\"\nsequence = \"event.data.nr\"\n\
         query = \"SELECT * FROM notes WHERE id > :cursor ORDER BY id LIMIT :limit\"\n\
         event = {{ id = \"row.id\", type = \"'Noted'\", subject = \"'s'\", data = \"{{'text': row.text}}\" }}\n\
         [source.bus]\nkind = \"nats\"\nservers = \"nats://127.0.0.1:1\"\nstream = \"S\"\nconsumer = \"c\"\n\
         [source.live]\nkind = \"nats\"\nservers = \"nats://127.0.0.1:1\"\nsubjects = [\"s\"]\n",
        database.url(),
        url = hook.url(),
    );
    let server = Setup::new(&[orders::RULES, &RULES.replace("URL", &hook.url())].concat()).tables(&tables).start();
    let routing = json!({"routing": "r", "order": "none", "divisor": 0, "at": "2026-11-20T10:00:00Z"});
    let routing = orders::event("r-1", "RoutingPlanned", "o", &routing);
    let events = [orders::created("o"), orders::paid("o", "successful"), orders::reserved("o"), routing];
    orders::feed(&server, &events);
    let mut timeless = orders::shipped("o");
    timeless.as_object_mut().expect("an object").remove("time");
    orders::feed(&server, &[timeless]);
    server.post("/v1/events", orders::STRUCTURED, orders::paid("o", "failed").to_string()).expect(409);
    mend_by_hand(&server);
    let _stream = EventStream::open(&server, "/v1/decisions", None);
    for (sample, least) in [
        ("turnstile_dead_letters{reason=\"exhausted\"}", 1.0),
        ("turnstile_effects_total{effect=\"routing.book\",state=\"succeeded\"}", 1.0),
        ("turnstile_deadlines_fired_total{deadline=\"orphan\",entity=\"routing\"}", 1.0),
        ("turnstile_events_accepted_total{source=\"clock\"}", 1.0),
        ("turnstile_rule_errors_total{entity=\"routing\",rule=\"Divided\"}", 1.0),
        ("turnstile_source_caught_up_timestamp_seconds{source=\"clock\"}", 1.0),
        ("turnstile_source_last_event_timestamp_seconds{source=\"clock\"}", 1.0),
        ("turnstile_source_last_event_timestamp_seconds{source=\"http\"}", 1.0),
        ("turnstile_events_without_sequence_total{source=\"clock\"}", 1.0),
        ("turnstile_entities_expired_total{entity=\"visit\"}", 1.0),
        ("turnstile_entities_forgotten_total", 1.0),
        ("turnstile_records_blanked_total", 1.0),
        ("turnstile_entities_paused{entity=\"order\"}", 1.0),
        ("turnstile_events_held{entity=\"order\"}", 1.0),
        ("turnstile_streams{kind=\"decisions\"}", 1.0),
        ("turnstile_streams_cut_total{reason=\"slow\"}", 0.0),
        ("turnstile_journal_first_lsn", 1.0),
        ("turnstile_journal_needed_lsn{by=\"the store\"}", 1.0),
        ("turnstile_journal_needed_lsn{by=\"sink hook\"}", 1.0),
        ("turnstile_verify_findings{kind=\"dead_letter\"}", 1.0),
        ("turnstile_verify_last_success_timestamp_seconds", 1.0),
    ] {
        wait_for(sample, || server.metric(sample).filter(|value| *value >= least));
    }
    server.get("/metrics").expect(200).text()
}

/// Has one entity forgotten and another one paused, with an event that waits, and verifies all when there is something to
/// find.
fn mend_by_hand(server: &Server) {
    let visit = json!({"id": "v-1", "type": "Viewed", "time": "2026-11-20T10:00:00Z", "subject": "v", "data": {}});
    orders::feed(server, &[visit, orders::created("gone"), orders::created("held")]);
    let cli = |arguments: &[&str], code: i32| {
        let output = server.cli(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    cli(&["forget", "order", "gone", "--yes", "--by", "ann", "--why", "asked"], 0);
    cli(&["pause", "order", "held", "--by", "ann", "--why", "odd sums"], 0);
    orders::feed(server, &[orders::reserved("held")]);
    let letter = "turnstile_dead_letters{reason=\"exhausted\"}";
    wait_for(letter, || server.metric(letter).filter(|count| *count >= 1.0));
    cli(&["verify"], 1);
}

fn samples(exposition: &str) -> Samples {
    let mut samples = Samples::new();
    for line in exposition.lines().filter(|line| !line.starts_with('#')) {
        let end = line.find(['{', ' ']).expect("a name");
        let labels = samples.entry(line[..end].to_owned()).or_default();
        let mut rest = line[end..].trim_start_matches('{');
        while let Some((label, value)) = rest.split_once('=').filter(|(label, _)| !label.contains(' ')) {
            labels.insert(label.to_owned());
            rest = quoted(value).1.trim_start_matches(',');
        }
    }
    samples
}

/// Looks at an expression and at what is shown of its result; what of it is not there, in words.
fn problems(expr: &str, shown: &str, samples: &Samples, recorded: &Samples) -> Vec<String> {
    let (named, none) = (named(expr), BTreeSet::new());
    assert!(!named.metrics.is_empty(), "no metric in {expr}");
    let mut known: BTreeSet<&str> = OF_SCRAPING.into();
    let mut problems = Vec::new();
    for (metric, by) in &named.metrics {
        let labels = match samples.get(metric).or_else(|| recorded.get(metric)) {
            Some(labels) => labels,
            None if metric == OF_PROMETHEUS => &none,
            None => {
                problems.push(format!("no metric `{metric}`"));
                continue;
            }
        };
        known.extend(labels.iter().map(String::as_str));
        let wrong = by.iter().filter(|label| !labels.contains(*label) && !OF_SCRAPING.contains(&label.as_str()));
        problems.extend(wrong.map(|label| format!("`{metric}` has no label `{label}`")));
    }
    let in_text = |text: &str, mark: &str| -> Vec<String> {
        let after = text.split(mark).skip(1);
        after.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()).collect()
    };
    let shown = if shown.contains("$labels.") { in_text(shown, "$labels.") } else { in_text(shown, "{{") };
    let shown = shown.into_iter().filter(|label| !label.is_empty());
    let labels = named.labels.iter().cloned().chain(shown).filter(|label| !known.contains(label.as_str()));
    problems.extend(labels.map(|label| format!("no label `{label}`")));
    problems
}

/// If this failed, an alert would never fire and a panel stay empty, since nothing is called that.
#[test]
fn no_rule_and_no_panel_names_what_is_not_there() {
    let samples = samples(exposition());
    let mut recorded = Samples::new();
    let mut wrong = Vec::new();
    for rule in rules() {
        let found = problems(&rule.expr, if rule.is_alert { &rule.text } else { "" }, &samples, &recorded);
        wrong.extend(found.into_iter().map(|problem| format!("{}: {problem}", rule.name)));
        if !rule.is_alert {
            let metrics = named(&rule.expr).metrics;
            let labels = metrics.iter().filter_map(|(metric, _)| samples.get(metric)).flatten().cloned();
            recorded.insert(rule.name, labels.collect());
        }
    }
    let dashboard: Value = serde_json::from_str(&read("grafana/turnstile.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<i64> = panels.iter().map(|panel| panel["id"].as_i64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    let rows = panels.iter().filter(|panel| panel["type"] == "row").count();
    assert_eq!(rows, 8, "overview, ingress, journal, entities, decisions, effects, verification, process");
    let targets = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().expect("a title");
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(move |target| (title, target))
    });
    let mut seen = BTreeSet::new();
    for (title, target) in targets {
        assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}: the data source is chosen by whoever looks");
        let text = |member: &str| target[member].as_str().unwrap_or_else(|| panic!("{title} has no {member}"));
        let found = problems(text("expr"), text("legendFormat"), &samples, &recorded);
        wrong.extend(found.into_iter().map(|problem| format!("{title}: {problem}")));
        seen.extend(named(text("expr")).metrics.into_iter().map(|(metric, _)| metric));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The other way round: what is measured can be looked at.
    let parts = ["_bucket", "_sum", "_count"];
    let family = |name: &str| parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name).to_owned();
    let shown: BTreeSet<String> = seen.iter().map(|name| family(name)).collect();
    let ours = samples.keys().map(|name| family(name)).filter(|name| name.starts_with("turnstile_"));
    let unseen: BTreeSet<String> = ours.filter(|name| !shown.contains(name)).collect();
    assert!(unseen.is_empty(), "no panel shows {unseen:?}");
}

/// If this failed, a metric could be described that no run has ever shown, and nobody would know whether it works.
#[test]
fn everything_that_is_described_is_exposed() {
    let samples = samples(exposition());
    let parts = std::fs::read_dir(deploy("../src/metrics")).expect("src/metrics");
    let parts = parts.map(|entry| entry.expect("an entry").path()).chain([deploy("../src/metrics.rs")]);
    let source: String = parts.map(|part| std::fs::read_to_string(part).expect("a source")).collect();
    let described = source.split('"').filter(|text| text.starts_with("turnstile_") && !text.contains([' ', '{']));
    let described: BTreeSet<&str> = described.collect();
    assert!(described.len() > 50, "{described:?}");
    let is_exposed = |name: &&&str| !["", "_count"].iter().any(|part| samples.contains_key(&format!("{name}{part}")));
    let missing: Vec<_> = described.iter().filter(is_exposed).collect();
    assert!(missing.is_empty(), "not exposed: {missing:?}");
}

/// A table of all metrics, as the node itself tells of them.
fn table(exposition: &str) -> String {
    let samples = samples(exposition);
    let mut table = "| metric | labels | | |\n|---|---|---|---|\n".to_owned();
    let told = |kind: &'static str| {
        let begin = format!("# {kind} turnstile_");
        exposition.lines().filter_map(move |line| line.strip_prefix(begin.as_str())?.split_once(' '))
    };
    let types: BTreeMap<&str, &str> = told("TYPE").map(|(name, kind)| (name, kind.trim())).collect();
    for (name, help) in told("HELP") {
        let of = |part: &str| samples.get(&format!("turnstile_{name}{part}"));
        let labels = of("").or_else(|| of("_count")).into_iter().flatten();
        let labels: Vec<String> = labels.map(|label| format!("`{label}`")).collect();
        let cells = [&format!("`turnstile_{name}`"), &labels.join(", "), types[name], help];
        table.extend(["| ", &cells.join(" | "), " |\n"]);
    }
    table
}

/// If this failed, somebody would not find what could be watched, or look for what is not there.
#[test]
fn the_page_has_every_metric() {
    let page = std::fs::read_to_string(deploy("../docs/metrics.md")).expect("docs/metrics.md");
    let table = table(exposition());
    assert!(table.lines().count() > 50, "{table}");
    assert!(page.ends_with(&table), "docs/metrics.md must end with\n{table}");
}
