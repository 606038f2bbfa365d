//! `[[test]]`: events and what is expected of the entities they are about. Run by `turnstile test`; a server ignores them.

use std::path::PathBuf;
use std::time::Duration;

use super::diagnostics::Located;
use super::document::{Entry, Node, Value};
use super::entities::EntityType;
use super::names::suggest;
use super::reader::{Context, Section};
use super::test_answers::{ANSWERS_HELP, Answer};
use super::test_expectations::Expectation;
use super::tuning::DURATION_MAX;
use crate::model::json;
use crate::model::refusal::Code;
use crate::model::value::{Map, Value as Json};

pub(super) const TEST: &str = "test";
const ADVANCE_MIN: Duration = Duration::from_millis(1);
const EVENTS_HELP: &str =
    "add events = [{ id = \"1\", type = \"…\", data = { … } }], or events_file = \"events.ndjson\"";
const EXPECT_HELP: &str = "add expect = [{ entity = \"TYPE/KEY\", that = [\"…\"] }]";
const EVENT_HELP: &str = "an event is a table { id = \"1\", type = \"…\", data = { … } } or its JSON in a string; { advance = \"1h\" } lets time pass";

/// One test.
#[derive(Clone, Debug)]
pub struct Test {
    pub name: Located<String>,
    pub events: EventsOfTest,
    /// Time that passes after the events.
    pub advance: Option<Duration>,
    /// The codes of the events that are refused, in their order.
    pub refused: Vec<Code>,
    /// What becomes of calls.
    pub effects: Vec<Answer>,
    pub expect: Vec<Expectation>,
}

/// Where a test's events are.
#[derive(Clone, Debug)]
pub enum EventsOfTest {
    /// One JSON document a line.
    File(Located<PathBuf>),
    Inline(Vec<Located<Step>>),
}

/// What a test does next.
#[derive(Clone, Debug)]
pub enum Step {
    Event(Json),
    /// An event as the JSON text a source would send.
    Text(String),
    /// Time passes.
    Advance(Duration),
}

impl Test {
    /// Reads all tests; `types` are the entity types, unless some of them are wrong.
    pub(super) fn read_all(cx: &mut Context, entry: Option<Entry>, types: Option<&[EntityType]>) -> Vec<Test> {
        let Some(Entry { name, node }) = entry else { return Vec::new() };
        let Value::List(blocks) = node.value else {
            let message = format!("`test` must be a list of tables, not {}", node.value.describe());
            cx.out.error(name.at, message).help("write [[test]], in double brackets");
            return Vec::new();
        };
        blocks.into_iter().filter_map(|block| Test::read(cx, block, types)).collect()
    }

    fn read(cx: &mut Context, block: Node, types: Option<&[EntityType]>) -> Option<Test> {
        let mut section = open(cx, "[test]", block)?;
        let name = section.required_string("name", "add name = \"…\": what it shows");
        let events = read_events(&mut section);
        let advance = section.duration("advance", ADVANCE_MIN..=DURATION_MAX);
        let refused = read_refused(&mut section);
        let effects = section.entry("effects").map(|entry| read_list(section.cx, entry, ANSWERS_HELP));
        section.require("expect", EXPECT_HELP);
        let expect = section.entry("expect").map(|entry| read_list(section.cx, entry, EXPECT_HELP));
        let expect = expect.unwrap_or_default();
        section.finish();
        let expect = expect.into_iter().filter_map(|node| Expectation::read(cx, node, types)).collect();
        let effects = effects.into_iter().flatten().filter_map(|node| Answer::read(cx, node, types)).collect();
        Some(Test { name: name?, events: events?, advance, refused, effects, expect })
    }
}

/// Starts reading a table that is an element of a list.
pub(super) fn open<'c>(cx: &'c mut Context, title: &str, node: Node) -> Option<Section<'c>> {
    if matches!(node.value, Value::Broken) {
        return None;
    }
    let name = Located::new(title.trim_matches(['[', ']']).to_owned(), node.at);
    let section = Section::open(cx, title, Some(Entry { name, node }));
    section.is_present().then_some(section)
}

fn read_list(cx: &mut Context, entry: Entry, help: &str) -> Vec<Node> {
    match entry.node.value {
        Value::List(items) if items.is_empty() => {
            cx.out.error(entry.node.at, format!("`{}` is empty", entry.name.value)).help(help);
            Vec::new()
        }
        Value::List(items) => items,
        Value::Broken => Vec::new(),
        other => {
            let message = format!("`{}` must be a list, not {}", entry.name.value, other.describe());
            cx.out.error(entry.node.at, message).help(help);
            Vec::new()
        }
    }
}

fn read_events(section: &mut Section) -> Option<EventsOfTest> {
    let (inline_at, file_at) = (section.peek("events"), section.peek("events_file"));
    let file = section.path("events_file");
    let inline = section.entry("events").map(|entry| read_list(section.cx, entry, EVENTS_HELP));
    let cx = &mut *section.cx;
    match (inline_at, file_at) {
        (Some(at), Some(other)) => {
            cx.out.error(at, "a test has either `events` or `events_file`").help("remove one of the two").also(other);
        }
        (None, None) => {
            cx.out.error(section.at, "the test has no events").help(EVENTS_HELP);
        }
        _ => {}
    }
    if let Some(file) = file {
        let path = cx.files.resolve(file.at.file, &file);
        return Some(EventsOfTest::File(Located::new(path, file.at)));
    }
    Some(EventsOfTest::Inline(inline?.into_iter().filter_map(|node| read_step(cx, node)).collect()))
}

fn read_step(cx: &mut Context, node: Node) -> Option<Located<Step>> {
    let at = node.at;
    let step = match node.value {
        Value::String(text) => Step::Text(text),
        Value::Table(entries) if entries.iter().any(|entry| entry.name.value == "advance") => {
            let node = Node { value: Value::Table(entries), at };
            let mut section = open(cx, "events", node)?;
            let advance = section.duration("advance", ADVANCE_MIN..=DURATION_MAX);
            section.finish();
            Step::Advance(advance?)
        }
        Value::Table(_) => Step::Event(json_of(cx, node)?),
        Value::Broken => return None,
        other => {
            cx.out.error(at, format!("an event cannot be {}", other.describe())).help(EVENT_HELP);
            return None;
        }
    };
    Some(Located::new(step, at))
}

/// A TOML value as the JSON it stands for: dates are their texts, numbers keep their exact values.
pub(super) fn json_of(cx: &mut Context, node: Node) -> Option<Json> {
    Some(match node.value {
        Value::String(text) | Value::Datetime(text) => Json::string(text),
        Value::Integer(integer) => json::number(&integer.to_string())?,
        Value::Float(text) => {
            let number = json::number(text.trim_start_matches('+'));
            if number.is_none() {
                cx.out.error(node.at, format!("JSON has no number {text}")).help("write it in digits");
            }
            number?
        }
        Value::Boolean(truth) => Json::Bool(truth),
        Value::List(items) => {
            Json::List(items.into_iter().map(|item| json_of(cx, item)).collect::<Option<Vec<Json>>>()?)
        }
        Value::Table(entries) => {
            let members = entries.into_iter().map(|entry| Some((entry.name.value.into(), json_of(cx, entry.node)?)));
            Json::Map(members.collect::<Option<Map>>()?)
        }
        Value::Broken => return None,
    })
}

fn read_refused(section: &mut Section) -> Vec<Code> {
    let texts = section.strings("refused").unwrap_or_default();
    let mut codes = Vec::new();
    for text in texts {
        if let Some(code) = Code::ALL.into_iter().find(|code| code.as_str() == text.value) {
            codes.push(code);
        } else {
            let help = suggest(&text, Code::ALL.iter().map(|code| code.as_str()));
            section.cx.out.error(text.at, format!("`{}` is not the code of a refusal", text.value)).help = help;
        }
    }
    codes
}
