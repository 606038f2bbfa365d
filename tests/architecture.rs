//! The shape of the code, as a test: layers, one purpose a file, what is absent where, and that ARCHITECTURE.md keeps up.
//!
//! Works on the text of the sources and needs nothing but the standard library. The last part checks the checks: a
//! made-up violation of each rule is found.

#[path = "architecture/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use source::{code_only, names_after, unit_imports};

/// Layers, lowest first. What stands in one layer never imports its neighbours, only what is below. `metrics` may name
/// what `model` defines, such as the codes of refusals.
const LAYERS: &[&[&str]] = &[
    &["model"],
    &["metrics", "telemetry", "vital", "disk", "pages", "trust"],
    &["config"],
    &["connect"],
    &["rules", "journal", "store"],
    &["backup"],
    &["ingress", "actors", "egress"],
    &["admin", "rehearsal"],
    &["node"],
    &["fuzzing"],
    &["cli"],
    &["main", "lib"],
];

const FILE_LINES_MAX: usize = 450;

/// What must not appear in the code of a file whose path starts so, with the reason.
const ABSENT: &[(&str, &[&str], &str)] = &[
    ("src/", &["todo!", "unimplemented!", "dbg!"], "nothing is left for later in what is shipped"),
    (
        "src/rules/",
        &["SystemTime", "Instant", "Utc::now", "Local::now", "Timestamp::now", "std::fs", "std::net", "rand::"],
        "rules are pure: `now` is given, and nothing is read",
    ),
    ("src/rules/", &["actix", "tokio", "crossbeam_channel"], "rules are pure: values in, values out"),
    ("src/rules/evolve.rs", &["expr", "Expr", "evaluate"], "evolve only applies what decide concluded"),
    ("src/model/", &["actix", "tokio", "std::fs", "std::net", "std::thread"], "the model is plain data"),
    ("src/config/", &["actix", "tokio", "std::net::Tcp"], "configuration is read before anything runs"),
];

/// Crates that only some folders may use.
const CONFINED: &[(&str, &[&str], &str)] = &[
    (
        "redb::",
        &["src/journal/", "src/store/", "src/pages/", "src/disk/"],
        "only journal, store and what is beneath them know how things are kept",
    ),
    ("cel::", &["src/rules/expr/"], "only rules::expr knows which parser reads expressions"),
    ("jiter::", &["src/model/json.rs", "src/cli/"], "only model::json reads JSON; the command line cuts it up unread"),
    ("quick_xml::", &["src/model/xml.rs"], "only model::xml reads XML"),
    ("bigdecimal::", &["src/model/number.rs"], "only model::number knows how exact numbers are kept"),
    ("toml::", &["src/config/"], "only config reads TOML"),
    ("clap::", &["src/cli/", "src/main.rs"], "only the command line knows the command line"),
    ("actix_web::", &["src/admin/", "src/ingress/", "src/node/"], "only HTTP knows HTTP"),
];

/// What code outside model/codec.rs may name of bincode: the derives, and inside the model the parts that a hand-written
/// implementation of them needs.
const BINCODE_ANYWHERE: &[&str] = &["Encode", "Decode"];
const BINCODE_IN_MODEL: &[&str] = &["de", "enc", "error", "impl_borrow_decode"];

/// A file of the repository: its path from the root, with `/`, and its text.
struct File {
    path: String,
    text: String,
}

fn file(path: &str, text: &str) -> File {
    File { path: path.into(), text: text.into() }
}

fn root() -> PathBuf {
    // Also right when this file is compiled by itself, from the root.
    option_env!("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// All text files below `folder` whose names the filter wants.
fn files(folder: &str, wanted: fn(&str) -> bool) -> Vec<File> {
    let mut found = Vec::new();
    walk(&root().join(folder), folder, wanted, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(folder: &Path, path: &str, wanted: fn(&str) -> bool, found: &mut Vec<File>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        if entry.path().is_dir() {
            walk(&entry.path(), &path, wanted, found);
        } else if wanted(&name)
            && let Ok(text) = std::fs::read_to_string(entry.path())
        {
            found.push(File { path, text });
        }
    }
}

fn is_rust(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "rs")
}

fn sources() -> Vec<File> {
    let sources = files("src", is_rust);
    assert!(sources.len() > 10, "the sources were not found from {}", root().display());
    sources
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// The folder or file directly below src/ that a file belongs to.
fn unit(path: &str) -> &str {
    let below = path.strip_prefix("src/").unwrap_or(path);
    let first = below.split('/').next().unwrap_or(below);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn layer(unit: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&unit))
}

fn layer_violations(file: &File) -> Vec<String> {
    let own = unit(&file.path);
    let Some(own_layer) = layer(own) else {
        return vec![format!("{}: `{own}` has no layer; give it one in tests/architecture.rs", file.path)];
    };
    let imports = unit_imports(&file.path, &code_only(&file.text));
    let wrong = imports.iter().filter(|(_, used)| *used != own && layer(used).is_none_or(|used| used >= own_layer));
    wrong.map(|(line, used)| format!("{}:{line}: `{own}` must not import `{used}`", file.path)).collect()
}

fn form_violations(file: &File) -> Vec<String> {
    let mut violations = Vec::new();
    if !file.text.starts_with("//!") {
        violations.push(format!("{}: does not begin with `//!`: say what the file is for", file.path));
    }
    let lines = file.text.lines().count();
    if lines > FILE_LINES_MAX {
        violations.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}: it has two purposes", file.path));
    }
    violations
}

fn absence_violations(file: &File) -> Vec<String> {
    let code = code_only(&file.text);
    let mut violations = Vec::new();
    let mut report = |at: usize, what: &str, why: &str| {
        let line = code[..at].matches('\n').count() + 1;
        violations.push(format!("{}:{line}: `{what}` must not be here: {why}", file.path));
    };
    for (_, words, why) in ABSENT.iter().filter(|(prefix, ..)| file.path.starts_with(prefix)) {
        words.iter().for_each(|word| source::find_word(&code, word).for_each(|at| report(at, word, why)));
    }
    for (name, _, why) in CONFINED.iter().filter(|(_, homes, _)| !homes.iter().any(|home| file.path.starts_with(home)))
    {
        source::find_word(&code, name).for_each(|at| report(at, name, why));
    }
    if file.path != "src/model/codec.rs" {
        let in_model = file.path.starts_with("src/model/");
        let allowed = |name: &str| BINCODE_ANYWHERE.contains(&name) || in_model && BINCODE_IN_MODEL.contains(&name);
        for (at, name) in names_after(&code, "bincode::") {
            if !allowed(&name) {
                report(at, &format!("bincode::{name}"), "only model/codec.rs encodes and decodes");
            }
        }
    }
    violations
}

/// Paths of the machines that the code was written on have no meaning anywhere else.
fn machine_path_violations(file: &File) -> Vec<String> {
    let patterns = [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];
    let mut violations = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for pattern in patterns {
            let mut ahead = line.match_indices(pattern).map(|(at, _)| line[..at].chars().next_back());
            if ahead.any(|before| before.is_none_or(|c| !c.is_alphanumeric() && !".-_~}".contains(c))) {
                violations.push(format!("{}:{}: a path of one machine: {pattern}", file.path, number + 1));
            }
        }
    }
    violations
}

/// Names in `[dependencies]` and the like.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut section = "";
    let mut names = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line.trim_matches(|c| c == '[' || c == ']');
        } else if section.ends_with("dependencies") && !line.starts_with('#') {
            names.extend(line.split_once('=').map(|(name, _)| name.trim().trim_matches('"').to_owned()));
        }
    }
    names
}

fn undocumented<'n>(names: impl IntoIterator<Item = &'n String>, page: &str) -> Vec<String> {
    names.into_iter().filter(|name| !page.contains(&format!("`{name}`"))).cloned().collect()
}

#[test]
fn files_import_only_from_layers_below() {
    assert_none(&sources().iter().flat_map(layer_violations).collect::<Vec<_>>());
}

#[test]
fn every_file_says_what_it_is_for_and_is_short() {
    let all = ["src", "tests", "benches"].into_iter().flat_map(|folder| files(folder, is_rust));
    assert_none(&all.flat_map(|file| form_violations(&file)).collect::<Vec<_>>());
}

#[test]
fn what_must_be_absent_is_absent() {
    assert_none(&sources().iter().flat_map(absence_violations).collect::<Vec<_>>());
}

#[test]
fn no_path_of_one_machine_is_mentioned() {
    let folders = ["src", "tests", "benches", "examples", ".ci"].into_iter();
    let top = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "Cargo.toml", "Makefile", "config.toml", "deny.toml"];
    let mut all: Vec<File> = folders.flat_map(|folder| files(folder, |_| true)).collect();
    all.extend(top.map(|path| file(path, &read(path))));
    assert_none(&all.iter().flat_map(machine_path_violations).collect::<Vec<_>>());
}

#[test]
fn unsafe_code_is_forbidden() {
    let manifest = read("Cargo.toml");
    let lints = manifest.split("[lints.rust]").nth(1).unwrap_or_default();
    let lints = lints.split("\n[").next().unwrap_or_default();
    assert!(lints.lines().any(|line| line.trim() == "unsafe_code = \"forbid\""), "Cargo.toml must forbid unsafe code");
}

#[test]
fn the_architecture_page_names_every_dependency_and_folder() {
    let page = read("ARCHITECTURE.md");
    let names = dependencies(&read("Cargo.toml"));
    assert!(names.len() > 5, "the dependencies were not found");
    let missing = undocumented(&names, &page);
    assert!(missing.is_empty(), "ARCHITECTURE.md does not say why these are needed: {missing:?}");
    let stale: Vec<_> = source::table_names(&page, "## Why each dependency").filter(|n| !names.contains(n)).collect();
    assert!(stale.is_empty(), "ARCHITECTURE.md explains what Cargo.toml no longer has: {stale:?}");
    let units: BTreeSet<String> = sources().iter().map(|file| unit(&file.path).to_owned()).collect();
    for unit in units.iter().filter(|unit| *unit != "lib") {
        let paths = [format!("`src/{unit}/`"), format!("`src/{unit}.rs`")];
        assert!(paths.iter().any(|path| page.contains(path)), "ARCHITECTURE.md does not say what src/{unit} is");
    }
}

/// If this failed, the tests above would pass whatever the code looked like.
#[test]
fn made_up_violations_are_caught() {
    let count = |check: fn(&File) -> Vec<String>, path: &str, text: &str| check(&file(path, text)).len();
    for (path, text, expected) in [
        ("src/rules/decide.rs", "use crate::store::Row;", 1),
        ("src/rules/decide.rs", "use crate::{model::ids::Lsn, journal::{Log, Block}};", 1),
        ("src/rules/decide.rs", "fn f() { crate::node::start() }", 1),
        ("src/rules/decide.rs", "use super::super::journal;", 1),
        ("src/rules/mod.rs", "use super::journal;", 1),
        ("src/node/start.rs", "use crate::cli;", 1),
        ("src/node/mod.rs", "mod tests { use super::super::cli; }", 1),
        ("src/journal/log.rs", "fn f() {}\nmod tests {\n    use super::super::tests::open;\n}", 0),
        ("src/rules/expr/eval.rs", "use super::super::merge;\nuse crate::rules::glob;", 0),
        ("src/journal/writer.rs", "use crate::{model::ids, metrics};\n// use crate::cli;", 0),
        ("src/model/value.rs", "use crate::*;", 1),
        ("src/model/value.rs", "use turnstile::node;", 1),
        ("src/metrics.rs", "use crate::model::refusal::Code;", 0),
        ("src/metrics.rs", "use crate::telemetry;", 1),
        ("src/somewhere.rs", "", 1),
        ("src/main.rs", "use turnstile::cli;", 0),
    ] {
        assert_eq!(count(layer_violations, path, text), expected, "{path}: {text}");
    }
    for (path, text, expected) in [
        ("src/cli/get.rs", "fn f() { todo!() }", 1),
        ("src/cli/get.rs", "/// A `todo!` in words.\nconst A: &str = \"dbg!\";", 0),
        ("src/rules/decide.rs", "let now = Timestamp::now();", 1),
        ("src/rules/evolve.rs", "use super::expr::Expr;", 2),
        ("src/journal/segment.rs", "use bincode::{Decode, Encode};\nfn f<T: bincode::Decode<()>>() {}", 0),
        ("src/journal/segment.rs", "use bincode::{Decode, config};", 1),
        ("src/journal/segment.rs", "bincode::decode_from_slice(b, c)", 1),
        ("src/model/number.rs", "use bincode::de::Decoder;\nbincode::impl_borrow_decode!(X);", 0),
        ("src/store/row.rs", "use bincode::de::Decoder;", 1),
        ("src/egress/file.rs", "use redb::Database;", 1),
    ] {
        assert_eq!(count(absence_violations, path, text), expected, "{path}: {text}");
    }
    assert_eq!(count(form_violations, "src/a.rs", "use std::fs;"), 1);
    assert_eq!(count(form_violations, "src/a.rs", &format!("//! A.\n{}", "\n".repeat(FILE_LINES_MAX))), 1);
    assert_eq!(count(machine_path_violations, "a.md", concat!("see /wo", "rk/x and (/ho", "me/me)")), 2);
    assert_eq!(count(machine_path_violations, "a.md", "../network/x a.work/b"), 0);
    let manifest = "[package]\nname = \"x\"\n[dependencies]\nredb = \"4\"\ncel = { version = \"1\" }\n[lints]\na = 1\n";
    assert_eq!(undocumented(&dependencies(manifest), "we need `redb`"), ["cel"]);
}
