//! Sinks that are told of dead letters: what other sinks gave up on, each once, and never what they gave up on themselves.

mod common;

use std::collections::BTreeSet;

use common::hook::{Answer, Hook};
use common::totals::{RULES, feed_revisions};
use common::{Server, Setup, wait_for};
use serde_json::{Value, json};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// If this failed, nobody who listens would hear of what was given up; or they would hear for ever that they cannot be told.
#[test]
fn sinks_for_dead_letters_are_told_of_each_once() {
    let (hook, pager) = (Hook::start(|_, _| Answer::Status(500)), Hook::start(|_, _| Answer::Status(422)));
    let more = format!(
        "[sink.letters]\nkind = \"file\"\npath = \"letters.ndjson\"\ndead_letters = true\n\
         [sink.chosen]\nkind = \"file\"\npath = \"chosen.ndjson\"\ndead_letters = true\n\
         if = \"event.data.sink == 'pager'\"\n\
         [sink.pager]\nkind = \"webhook\"\nurl = \"{}\"\nsecret = {SECRET:?}\nallow_private = true\n\
         dead_letters = true\nretry = {{ attempts = 1 }}\n\
         [sink.hook]\nkind = \"webhook\"\nurl = \"{}\"\nsecret = {SECRET:?}\nallow_private = true\n\
         retry = {{ attempts = 2, backoff = \"10ms..20ms\" }}\n",
        pager.url(),
        hook.url(),
    );
    let orders: Vec<String> = (0..3).map(|n| format!("o-{n}")).collect();
    let mut server = Setup::new(RULES).tables(&more).start();
    feed_revisions(&server, &orders, 1..2);
    let told = |server: &Server, file: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(server.path(file)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("an event")).collect()
    };
    let list = |server: &Server| server.get("/v1/dead-letters").expect(200).json()["items"].as_array().unwrap().clone();
    // Three of the hook, and three of the pager, which cannot be told of them.
    wait_for("all have given up", || (list(&server).len() == 6).then_some(()));
    let letters = wait_for("the file has them", || Some(told(&server, "letters.ndjson")).filter(|it| it.len() >= 3));
    server.restart();
    assert_eq!(told(&server, "letters.ndjson"), letters, "each once");
    // What was not noted before the restart goes out again.
    let rung: BTreeSet<String> = pager.calls().iter().map(|call| call.id().to_owned()).collect();
    assert_eq!((told(&server, "chosen.ndjson").len(), rung.len()), (0, 3), "no letter is about such a sink's");
    assert_eq!(list(&server).len(), 6);
    for letter in &letters {
        assert_eq!(
            (&letter["type"], &letter["source"]),
            (&json!("turnstile.dead_letter"), &json!("/turnstile/dead-letters"))
        );
        let id = letter["id"].as_str().unwrap();
        assert_eq!(letter["data"], server.get(&format!("/v1/dead-letters/{id}")).expect(200).json());
        assert!(letter["data"]["body"].as_str().unwrap().contains("Total"), "{letter}");
    }
    assert_eq!(server.decisions_file().len(), 3, "decisions go where they went");
}
