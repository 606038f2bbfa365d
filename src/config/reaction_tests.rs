//! Tests of references, deadlines, effects and what decisions do besides: what right ones become.

use std::time::Duration;

use super::tests::load_ok;
use super::*;

/// Every kind of setting, none of them at its default.
pub(super) const REACTIONS: &str = r#"
[sink.c]
kind = "stdout"
[entity.application]
key = "event.subject"
fields = { applicant = { on = "Applied", take = "latest" }, created = { on = "Applied", take = "min", value = "event.time" } }
[entity.application.derived]
ready = "has(application.applicant.id)"
[entity.application.ref.person]
entity = "person"
key = "application.applicant.id"
[entity.application.deadline.stale]
at = "application.created + duration('24h')"
unless = "has(application.pull)"
grace = "0s"
[entity.application.effect.pull]
when = "application.ready"
timeout = "2m"
guarantee = "at_least_once"
retry = { attempts = 3, backoff = "250ms..1m" }
concurrency = 2
policy = "revise"
[entity.application.effect.pull.request]
method = "put"
url = "https://bureau/{{pull}}/{application.applicant.id}?of={ {'a': '}$${x}'}['a'] }"
json = { "the id" = "key", n = 3, x = -2.5, ok = true, deep = [[], {}, ["'\"'", { a = "application.created" }]] }
[entity.application.effect.pull.request.headers]
Authorization = "Bearer sesame"
Accept = "application/json"
X-Trace = "t-{key}"
[entity.application.effect.charge]
guarantee = "at_most_once"
request = { url = "{person.callback}" }
[entity.application.decision.Approved]
by = "application.applicant.lines"
settle = "2s"
to = ["self", "c"]
[entity.application.decision.Own]
to = ["self"]
[entity.person]
key = "event.subject"
fields = { callback = { on = "Person", take = "latest" } }
"#;

/// If this failed, settings would be read and not used.
#[test]
fn every_setting_arrives() {
    let config = load_ok(REACTIONS);
    let application = &config.entities[0];
    let Reference { name, entity, key } = &application.references[0];
    assert_eq!([name, entity, key].map(|text| text.as_str()), ["person", "person", "application.applicant.id"]);
    let stale = &application.deadlines[0];
    assert_eq!((stale.name.as_str(), stale.grace), ("stale", Duration::ZERO));
    assert!(stale.at.starts_with("application.created +") && stale.unless.is_some());
    let pull = &application.effects[0];
    assert_eq!((pull.timeout, pull.guarantee), (Duration::from_mins(2), Guarantee::AtLeastOnce));
    assert_eq!((pull.concurrency, pull.policy, pull.when_text()), (2, Policy::Revise, "application.ready"));
    let retry = Retry { attempts: 3, backoff_min: Duration::from_millis(250), backoff_max: Duration::from_mins(1) };
    assert_eq!(pull.retry, retry);
    assert_eq!(pull.request.method, "PUT");
    let part = |part: &TemplatePart| match part {
        TemplatePart::Text(text) => text.clone(),
        TemplatePart::Expr(expr) => format!("<{}>", expr.value),
    };
    let parts: Vec<String> = pull.request.url.parts.iter().map(part).collect();
    let expected = ["https://bureau/{pull}/", "<application.applicant.id>", "?of=", "< {'a': '}${x}'}['a'] >"];
    assert_eq!(parts, expected);
    let headers: Vec<_> = pull.request.headers.iter().map(|(name, value)| (name.as_str(), value.constant())).collect();
    let expected = [("authorization", Some("Bearer sesame")), ("accept", Some("application/json")), ("x-trace", None)];
    assert_eq!(headers, expected);
    let Some(Json::Table(document)) = &pull.request.json else { panic!("{:?}", pull.request.json) };
    let [
        (id, Json::Expr(key)),
        (_, Json::Literal(n)),
        (_, Json::Literal(x)),
        (_, Json::Literal(ok)),
        (_, Json::List(deep)),
    ] = document.as_slice()
    else {
        panic!("{document:?}")
    };
    assert_eq!([id.as_str(), key.as_str(), n, x, ok], ["the id", "key", "3", "-2.5", "true"]);
    assert!(matches!(deep.as_slice(), [Json::List(_), Json::Table(_), Json::List(items)] if items.len() == 2));
    let [approved, own] = application.decisions.as_slice() else { panic!("{:?}", application.decisions) };
    assert_eq!(approved.by.as_ref().map(|by| by.as_str()), Some("application.applicant.lines"));
    assert_eq!(approved.settle, Some(Duration::from_secs(2)));
    assert_eq!((approved.to.as_deref(), approved.feedback), (Some(&["c".to_owned()][..]), Feedback::ToSelf));
    assert_eq!((own.to.as_deref(), own.feedback), (Some(&[][..]), Feedback::ToSelf));
}

/// If this failed, what is not written would be other than documented: calls made too often, or given up at once.
#[test]
fn defaults_are_as_documented() {
    let text = "[entity.a]\nkey = \"event.subject\"\nfields = { f = { on = \"A\", take = \"latest\" } }\n\
                deadline.late.at = \"a.f.at\"\n\
                effect.get.request.url = \"http://h/\"\n\
                effect.post.request = { url = \"http://h/\", json = \"key\" }\n\
                effect.once = { guarantee = \"at_most_once\", request.url = \"http://h/\" }\n\
                decision.Made = {}\n";
    let config = load_ok(text);
    let a = &config.entities[0];
    assert_eq!(a.deadlines[0].grace, Duration::from_secs(5));
    let [get, post, once] = a.effects.as_slice() else { panic!("{:?}", a.effects) };
    assert_eq!([get, post, once].map(|effect| effect.request.method.as_str()), ["GET", "POST", "GET"]);
    assert_eq!((get.timeout, get.concurrency, get.policy), (Duration::from_secs(30), 8, Policy::Once));
    assert_eq!((get.guarantee, get.when_text(), get.retry.attempts), (Guarantee::AtLeastOnce, "true", 10));
    assert_eq!((get.retry.backoff_min, get.retry.backoff_max), (Duration::from_secs(1), Duration::from_mins(5)));
    assert_eq!(once.retry.attempts, 1);
    let made = &a.decisions[0];
    assert!(made.by.is_none() && made.settle.is_none() && made.to.is_none() && made.feedback == Feedback::None);
}

/// If this failed, a call would say another number than is written.
#[test]
fn numbers_keep_their_value() {
    let numbers = [
        ("0x1_0", "16"),
        ("+1.0", "1.0"),
        ("1_000.5", "1000.5"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("1e-7", "1e-7"),
        ("false", "false"),
    ];
    for (written, expected) in numbers {
        let config = load_ok(&REACTIONS.replace("n = 3", &format!("n = {written}")));
        let Some(Json::Table(document)) = &config.entities[0].effects[0].request.json else { panic!("{written}") };
        let Json::Literal(text) = &document[1].1 else { panic!("{written}") };
        assert_eq!(text, expected, "{written}");
        let again = load_ok(&print_rules(&config));
        assert_eq!(again.entities[0].fingerprint_text(), config.entities[0].fingerprint_text(), "{written}");
    }
}

/// If this failed, what `check --print` shows would not be what is in force, or show a token.
#[test]
fn what_is_printed_loads_as_the_same_and_tells_no_secret() {
    let config = load_ok(REACTIONS);
    let printed = print(&config);
    assert_eq!(print(&load_ok(&printed)), printed);
    let fingerprints =
        |config: &Config| config.entities.iter().map(EntityType::fingerprint_text).collect::<Vec<_>>().concat();
    assert_eq!(fingerprints(&load_ok(&print_rules(&config))), fingerprints(&config));
    let lines = [
        "grace = \"0s\"",
        "retry = { attempts = 3, backoff = \"250ms..1m\" }",
        "retry = { attempts = 10, backoff = \"1s..5m\" }",
        "concurrency = 8",
        "headers = { \"authorization\" = \"***\", \"accept\" = \"application/json\", \"x-trace\" = \"***{key}\" }",
        "url = \"https://bureau/{{pull}}/{application.applicant.id}?***{ {'a': '}$${x}'}['a'] }\"",
        "to = [\"c\", \"self\"]",
        "to = [\"self\"]",
    ];
    let printed = print(&load_ok(&REACTIONS.replace("\"at_most_once\"", "\"at_least_once\"")));
    for line in lines {
        assert!(printed.lines().any(|printed| printed == line), "{line} is not in\n{printed}");
    }
    assert!(!printed.contains("sesame") && !format!("{config:?}").contains("sesame"));
}

/// If this failed, the log of a start that failed would hold the tokens of the environment.
#[test]
fn problems_show_variables_and_not_their_values() {
    let wrong = [
        ("headers.authorization = \"Bearer ${TOKEN}ä\"", "one line of ASCII"),
        ("headers.authorization = \"Bearer ${TOKEN} {key\"", "is not closed"),
        ("headers.authorization = \"Bearer ${TOKEN} }\"", "closes nothing"),
        ("headers.host = \"${TOKEN}\"", "every call has one of its own"),
        ("url = \"${TOKEN}\"", "must begin with"),
        ("url = \"http://me@${TOKEN}/\"", "user or password"),
        ("url = \"http://h/ ?key=${TOKEN}\"", "%20"),
    ];
    for (line, expected) in wrong {
        let text = format!(
            "[entity.a]\nkey = \"event.subject\"\nfields = {{ f = {{ on = \"A\", take = \"latest\" }} }}\n\
             [entity.a.effect.e.request]\n{line}\n"
        );
        let loaded = load_str(&text, &|name| (name == "TOKEN").then(|| "sesame".into()));
        let shown = loaded.diagnostics.render(&loaded.files);
        assert!(shown.contains(expected) && shown.contains("${TOKEN}"), "{shown}");
        assert!(!shown.contains("sesame") && !format!("{loaded:?}").contains("sesame"), "{shown}");
    }
}

/// If this failed, a mistake beside the headers of a call would put its tokens into the log.
#[test]
fn problems_show_no_headers_nor_what_may_be_a_misspelt_secret() {
    let effect =
        "[entity.a]\nkey = 'event.subject'\nfields = { f = { on = 'A', take = 'latest' } }\n[entity.a.effect.e";
    let request = "request = { url = 'http://h', headers = ";
    for (text, expected) in [
        (
            format!("{effect}]\n{request}{{ a = \"Bearer sesame\", b = '{{key}}sesame' }}, x = 1 }}\n"),
            "headers = { a = \"*************\", b = '{key}******' }, x = 1 }",
        ),
        (
            format!("{effect}]\n{request}{{ a = 'sesame', b = 'sesame ${{V}}' }}, x }}\n"),
            "headers = { a = '******', b = '*******${V}' }, x }",
        ),
        (format!("{effect}.request.headers]\na = '{{{{sesame}}}}' x\n"), "a = '**********' x"),
        (format!("{effect}.request.headers]\n'a b' = '''sesame{{f}}'''\n"), "'a b' = '''******{f}'''"),
        ("[server]\ntokn = \"sesame\"\n".to_owned(), "tokn = \"******\""),
        ("[source.s]\nkind = 'nats'\npasswort = 'sesame'\nname = 7\n".to_owned(), "passwort = '******'"),
    ] {
        let loaded = load_str(&text, &|_| Some("sesame".to_owned()));
        let shown = loaded.diagnostics.render(&loaded.files);
        assert!(shown.contains(expected) && !shown.contains("sesame"), "{shown}");
    }
}

/// If this failed, a start would be refused after harmless edits, or allowed after edits that change what data means.
#[test]
fn the_fingerprint_follows_the_meaning() {
    let of = |text: &str| load_ok(text).entities[0].fingerprint_text();
    let edited = |from: &str, to: &str| {
        assert!(REACTIONS.contains(from), "{from}");
        of(&REACTIONS.replacen(from, to, 1))
    };
    let harmless = [
        ("Bearer sesame", "Bearer other"),
        ("Authorization =", "authorization ="),
        ("timeout = \"2m\"", "timeout = \"1m\""),
        ("attempts = 3", "attempts = 4"),
        ("250ms..1m", "1s"),
        ("concurrency = 2\n", ""),
        ("guarantee = \"at_least_once\"\n", ""),
        ("method = \"put\"", "method = \"PUT\""),
        ("n = 3, x = -2.5", "x = -2.5, n = 3"),
        ("Accept = \"application/json\"\nX-Trace = \"t-{key}\"", "X-Trace = \"t-{key}\"\nAccept = \"*/*\""),
        ("[\"self\", \"c\"]", "[\"c\", \"self\"]"),
    ];
    for (from, to) in harmless {
        assert_eq!(edited(from, to), of(REACTIONS), "{from} -> {to}");
    }
    let meaning = [
        ("ref.person]", "ref.human]"),
        ("entity = \"person\"", "entity = \"application\""),
        ("key = \"application.applicant.id\"", "key = \"application.applicant.person\""),
        ("deadline.stale]", "deadline.old]"),
        ("duration('24h')", "duration('23h')"),
        ("unless = \"has(application.pull)\"\n", ""),
        ("grace = \"0s\"", "grace = \"1s\""),
        ("effect.charge]", "effect.debit]"),
        ("when = \"application.ready\"\n", ""),
        ("guarantee = \"at_most_once\"\n", ""),
        ("policy = \"revise\"\n", ""),
        ("method = \"put\"\n", ""),
        ("{{pull}}", "{{push}}"),
        ("{application.applicant.id}", "{application.applicant.name}"),
        ("Accept = \"application/json\"\n", ""),
        ("t-{key}", "u-{key}"),
        ("n = 3", "n = 4"),
        ("\"the id\" = \"key\"", "\"the id\" = \"'key'\""),
        ("\"the id\" =", "id ="),
        ("{ a = \"application.created\" }", "[\"application.created\"]"),
        ("by = \"application.applicant.lines\"\n", ""),
        ("settle = \"2s\"", "settle = \"3s\""),
        ("[\"self\", \"c\"]", "[\"c\"]"),
    ];
    for (from, to) in meaning {
        assert_ne!(edited(from, to), of(REACTIONS), "{from} -> {to}");
    }
}

/// If this failed, every node with data would make all its states anew once it is upgraded.
#[test]
fn the_fingerprint_of_plain_types_stays() {
    let text = "[sink.c]\nkind = \"stdout\"\n[entity.a]\nkey = \"event.subject\"\n\
                fields = { f = { on = \"A\", take = \"latest\" } }\nderived = { d = \"a.f.x\" }\n\
                decision.Made = { data = { x = \"a.d\" }, to = [\"c\"] }\n";
    let zones = chrono_tz::IANA_TZDB_VERSION;
    let expected = format!("engine 2\ntime zones {zones}\nentity a\n{REST_OF_FINGERPRINT}");
    assert_eq!(load_ok(text).entities[0].fingerprint_text(), expected);
}

/// What the type in the test above comes to.
const REST_OF_FINGERPRINT: &str = "\
    decision Made policy revise when \"true\" data \"x\" \"a.d\" to [\"c\"]\n\
    derived d \"a.f.x\"\nduplicates strict\n\
    field f take latest on [\"A\"] value \"event.data\" order_by \"event.time\"\n\
    key \"event.subject\"\nrequire_time false\n";

/// If this failed, an error in a template would be shown at other characters than those that it is about.
#[test]
fn expressions_in_templates_know_their_place() {
    let head = "[entity.a]\nkey = \"event.subject\"\nfields = { f = { on = \"A\", take = \"latest\" } }\n\
                [entity.a.effect.e.request]\n";
    let cases = [
        ("url = \"http://ä/{{x}}/{a.f.id}\"", "config.toml:5:26", "f"),
        ("url = '''\nhttp://h/{a['}']}{a.f.x}'''", "config.toml:6:21", "f"),
        ("url = 'http://h/{a[\"}\"]}{a.f.x}'", "config.toml:5:28", "f"),
        // Where offsets cannot be known, all of it is shown.
        ("url = \"http://h/{a['\\\"']}{a.f.x}\"", "config.toml:5:7", "\"http://h/{a['\\\"']}{a.f.x}\""),
        ("url = \"http://${H:-h}/{a.f.x}\"", "config.toml:5:7", "\"http://${H:-h}/{a.f.x}\""),
    ];
    for (line, place, part) in cases {
        let loaded = load_str(&format!("{head}{line}\n"), &|_| None);
        let config = loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(&loaded.files)));
        let Some(TemplatePart::Expr(expr)) = config.entities[0].effects[0].request.url.parts.last() else {
            panic!("{line} ends with an expression")
        };
        let at = expr.at.within(&loaded.files, 2, 3);
        assert_eq!((loaded.files.place(at).as_str(), loaded.files.slice(at)), (place, part), "{line}");
    }
}

/// If this failed, a file that cannot be read would be buried under complaints about what is in it.
#[test]
fn a_type_in_a_missing_file_is_not_missed() {
    let (person, rest) = ("[entity.person]", "[entity.person2]");
    let loaded = load_str(&format!("include = \"no/such.toml\"\n{}", REACTIONS.replace(person, rest)), &|_| None);
    let shown = loaded.diagnostics.render(&loaded.files);
    assert!(shown.contains("no/such.toml") && !shown.contains("no entity type"), "{shown}");
    let loaded = load_str(&REACTIONS.replace(person, rest), &|_| None);
    let shown = loaded.diagnostics.render(&loaded.files);
    assert!(shown.contains("there is no entity type `person`") && shown.contains("did you mean `person2`?"), "{shown}");
}
