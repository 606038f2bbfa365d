//! What `when` makes of what is not there: each kind of reading against each kind of absence.

use super::{Machine, ruleset};
use crate::config;
use crate::rules::compile;

/// What `e.x` is, in the JSON of `event.data`; the first is that no event brought it.
const WORLDS: [(&str, &str); 6] = [
    ("absent", ""),
    ("null", "null"),
    ("empty", "{}"),
    ("y null", r#"{"y":null}"#),
    ("y false", r#"{"y":false}"#),
    ("y true", r#"{"y":true}"#),
];

/// For each condition one letter a world, in the order of [`WORLDS`]: `T` it is true, `F` it is false, `-` it is unknown,
/// so neither it nor its negation is true.
const MEANINGS: [(&str, &str); 22] = [
    ("has(e.x)", "FFTTTT"),
    ("!has(e.x)", "TTFFFF"),
    ("has(e.x.y)", "FFFFTT"),
    ("!has(e.x.y)", "TTTTFF"),
    ("e.x.y", "---!FT"),
    ("!e.x.y", "---!TF"),
    ("e.x.y == true", "---FFT"),
    ("e.x.y != true", "---TTF"),
    ("e.x.y == null", "---TFF"),
    ("e.?x.?y.orValue(false)", "FFF!FT"),
    ("e.?x.?y.hasValue()", "FFFTTT"),
    ("!e.?x.?y.hasValue()", "TTTFFF"),
    ("e.?x.?y.orValue(false) == true", "FFFFFT"),
    ("has(e.x.y) && e.x.y", "FFFFFT"),
    ("!has(e.x.y) || e.x.y", "TTTTFT"),
    ("has(e.x.y) ? e.x.y : true", "TTTTFT"),
    ("e.x.y == true || true", "TTTTTT"),
    ("e.x.y == true && false", "FFFFFF"),
    ("e.x.y == true || has(e.other)", "---FFT"),
    ("'y' in e.x", "--FTTT"),
    ("size(e.x) == 0", "--TFFF"),
    ("e.all >= 0 && size(e.every) >= 0", "TTTTTT"),
];

/// If this failed, rules would mean something else than the documentation says. `!` is wrong: no bool.
#[test]
fn reading_what_is_missing_is_unknown() {
    for (when, expected) in MEANINGS {
        let meaning: String = WORLDS.iter().map(|(_, x)| meaning(when, x)).collect();
        assert_eq!(meaning, expected, "{when}; worlds: {:?}", WORLDS.map(|(name, _)| name));
    }
}

/// Negations that `check` warns of.
const PARTIAL: [&str; 8] = [
    "!e.x.y",
    "!(e.x.y)",
    "!e.?x.?y",
    "!(e.x.y == true)",
    "!(e.all >= 0 && e.x.y == true)",
    "!(e.x.y in [true])",
    "!e.yes",
    "has(e.x) ? true : !e.other.y",
];

/// If this failed, `check` would tell people to write what is unknown just the same, or means something else.
#[test]
fn what_check_offers_for_a_negation_is_total() {
    for when in PARTIAL {
        let (negation, total, waiting) = offered(when).unwrap_or_else(|| panic!("no warning of {when}"));
        let put = |form: &str| when.replacen(&negation, form, 1);
        assert_eq!(offered(&put(&total)), None, "{total} is not warned of");
        assert_eq!(offered(&put(&waiting)), None, "{waiting} is not warned of");
        for (world, x) in WORLDS {
            let (now, total, waiting) = (meaning(when, x), meaning(&put(&total), x), meaning(&put(&waiting), x));
            match now {
                '-' => assert_eq!((total, waiting), ('T', 'F'), "{when}, {world}"),
                // Where the operand is null it is no bool; asked whether it is there, it is not.
                '!' => assert!(matches!(waiting, 'F' | '!'), "{when}, {world}"),
                known => assert_eq!(total, known, "{when}, {world}"),
            }
        }
    }
}

/// If this failed, people would learn to pass over warnings.
#[test]
fn what_has_a_value_is_not_warned_of() {
    for (when, _) in MEANINGS.into_iter().filter(|(when, _)| *when != "!e.x.y") {
        assert_eq!(offered(when), None, "{when}");
    }
}

/// The negation that is warned of, and the two forms that are offered.
fn offered(when: &str) -> Option<(String, String, String)> {
    let text = configuration(when, "true");
    let loaded = config::load_str(&text, &|_| None);
    let (config, mut diagnostics) = (loaded.config?, loaded.diagnostics);
    compile(&config.entities, &loaded.files, &mut diagnostics)?;
    let warning = *diagnostics.sorted().first()?;
    let at = warning.at?;
    let help = warning.help.as_deref().unwrap_or_default();
    let mut forms = help.split('`').skip(1).step_by(2).map(str::to_owned);
    Some((text[at.start as usize..at.end as usize].to_owned(), forms.next()?, forms.next()?))
}

fn configuration(when: &str, other: &str) -> String {
    format!(
        r#"
[entity.e]
key = "'k'"
[entity.e.fields]
x = {{ on = "X", take = "latest" }}
other = {{ on = "Other", take = "latest" }}
all = {{ on = "Other", take = "count" }}
every = {{ on = "Other", take = "set" }}
[entity.e.derived]
yes = "e.x.y == true"
[entity.e.decision.True]
when = "{when}"
[entity.e.decision.False]
when = "{other}"
"#
    )
}

fn meaning(when: &str, x: &str) -> char {
    let mut machine = Machine::new(ruleset(&configuration(when, &format!("!({when})"))));
    let event = match x {
        "" => r#"{"id":"0","type":"Other","data":null}"#.to_owned(),
        x => format!(r#"{{"id":"1","type":"X","data":{x}}}"#),
    };
    machine.count(&[&event]);
    let made: Vec<String> = machine.decision_lines();
    let made: Vec<&str> = made.iter().map(|line| line.split(' ').next().unwrap_or_default()).collect();
    match (made.as_slice(), machine.errors.len()) {
        (["True"], 0) => 'T',
        (["False"], 0) => 'F',
        ([], 0) => '-',
        ([], 2) => '!',
        other => panic!("{when} with {x}: {other:?}"),
    }
}
