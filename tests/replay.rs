//! Rules that are only looked at, through the real binary: what may be given to `turnstile replay` and `POST /v1/replay`,
//! and what must not be read for it. What they answer is tested in `rebuild`.

mod common;

use std::process::Command;

use common::Setup;

const TOML: &str = "application/toml";
const RULES: &str = r#"
[entity.order]
key = "event.data.order"
fields = { paid = { on = "Paid", take = "latest", value = "event.data.amount" } }
decision.Price = { data = { amount = "order.paid" }, to = ["decisions"] }
"#;

/// If this failed, whoever may ask for a replay could read the server's files, or have it read a device without end.
#[test]
fn no_file_is_read_for_rules_that_were_sent() {
    let server = Setup::new(RULES).start();
    std::fs::write(server.path("secret"), "first = \"sesame\"\nno TOML\n").expect("a file");
    assert!(Command::new("mkfifo").arg(server.path("pipe")).status().expect("mkfifo runs").success());
    let pipe = server.path("pipe").display().to_string();
    let named = [
        "include = [\"secret\"]\n".to_owned(),
        "include = \"/dev/zero\"\n".to_owned(),
        format!("include = [{pipe:?}]\n"),
        format!("[server]\ntoken_file = {pipe:?}\n"),
        "[server.tokens.a]\ntoken_file = \"/dev/zero\"\nscopes = [\"read\"]\n".to_owned(),
        format!("[server]\ntls_cert = {pipe:?}\ntls_key = {pipe:?}\n"),
        format!("[source.db]\nkind = \"sql\"\nurl_file = {pipe:?}\n"),
        format!(
            "[source.a]\nkind = \"http\"\npath = \"/a\"\nformat = \"json\"\nrespond = {{ body_file = {pipe:?} }}\n"
        ),
        format!("[sink.b]\nkind = \"nats\"\nservers = [\"nats://h\"]\nsubject = \"a\"\ncredentials_file = {pipe:?}\n"),
        "[sink.b]\nkind = \"webhook\"\nurl = \"https://h/\"\nsecret_file = \"secret\"\n".to_owned(),
        "[telemetry]\notlp = \"http://h\"\nheaders_file = \"secret\"\n".to_owned(),
    ];
    for text in named {
        let answer = server.post("/v1/replay", TOML, text.clone() + RULES);
        assert_eq!(answer.problem(400), "invalid_value", "{text}");
        let why = answer.text();
        assert!(why.contains("over HTTP rules are one text") && !why.contains("sesame"), "{text}: {why}");
    }
    server.post("/v1/replay", TOML, RULES).expect(200);
}

/// If this failed, an operator could not have a file of rules compared without the configuration around it, or one that
/// is made of several files.
#[test]
fn a_file_of_rules_alone_is_compared_and_what_it_includes() {
    let server = Setup::new(RULES).start();
    let write = |name: &str, text: &str| std::fs::write(server.path(name), text).expect("a file");
    write("rules.toml", RULES);
    write("outer.toml", "include = [\"rules.toml\"]\n");
    write("with_sinks.toml", &format!("[sink.other]\nkind = \"stdout\"\n{RULES}"));
    for file in ["rules.toml", "outer.toml", "config.toml"] {
        let shown = server.cli(&["replay", "--rules", file, "--diff"]);
        assert_eq!(shown.status.code(), Some(0), "{file}: {}", String::from_utf8_lossy(&shown.stderr));
    }
    let wrong = server.cli(&["replay", "--rules", "with_sinks.toml"]);
    let why = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(2), "{why}");
    assert!(why.contains("there is no sink `decisions`"), "{why}");
}

/// If this failed, a mistyped path could fill the memory of whoever starts, or keep it waiting for ever.
#[test]
fn what_is_no_file_is_not_read() {
    let server = Setup::new(RULES).write();
    assert!(Command::new("mkfifo").arg(server.path("pipe")).status().expect("mkfifo runs").success());
    let huge = std::fs::File::create(server.path("huge.toml")).expect("a file");
    huge.set_len(1 << 40).expect("a file with a hole");
    for (file, expected) in [
        ("pipe", "it is no file but a pipe"),
        ("/dev/zero", "it is no file but a pipe, a device"),
        ("huge.toml", "it is larger than 16 MiB"),
        (".", "it is a folder"),
    ] {
        for text in [format!("include = [{file:?}]\n"), format!("[server]\ntoken_file = {file:?}\n")] {
            server.rewrite(&(text + RULES));
            let output = server.cli(&["check"]);
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.code() == Some(2) && why.contains(expected), "{file}: {why}");
        }
    }
}
