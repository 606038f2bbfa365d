//! What `when` makes of what is not there: each kind of reading against each kind of absence.

use super::{Machine, ruleset};

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

fn meaning(when: &str, x: &str) -> char {
    let text = format!(
        r#"
[entity.e]
key = "'k'"
[entity.e.fields]
x = {{ on = "X", take = "latest" }}
other = {{ on = "Other", take = "latest" }}
all = {{ on = "Other", take = "count" }}
every = {{ on = "Other", take = "set" }}
[entity.e.decision.True]
when = "{when}"
[entity.e.decision.False]
when = "!({when})"
"#
    );
    let mut machine = Machine::new(ruleset(&text));
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
