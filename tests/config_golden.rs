//! Every wrong configuration in `tests/config` gives exactly the message beside it. `UPDATE_GOLDEN=1` rewrites them.

use std::path::{Path, PathBuf};

use turnstile::config::load_with;
use turnstile::rehearsal::compile_cases;
use turnstile::rules::{Ruleset, compile};

/// If this failed, people would read another message than the one that was thought about. A case `x.toml` has its
/// message in `x.txt`; `ok_*` cases have warnings at most.
#[test]
fn messages_are_as_written() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut cases: Vec<PathBuf> = std::fs::read_dir("tests/config")
        .expect("the cases are there")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    cases.sort();
    let mut failures = Vec::new();
    for case in &cases {
        let rendered = render(case);
        let golden = case.with_extension("txt");
        if update {
            std::fs::write(&golden, &rendered).expect("the golden file can be written");
        } else if std::fs::read_to_string(&golden).unwrap_or_default() != rendered {
            failures.push(format!("{}:\n{rendered}", case.display()));
        }
    }
    assert!(failures.is_empty(), "{} cases differ:\n\n{}", failures.len(), failures.join("\n"));
    assert!(cases.len() >= 45, "only {} cases were found", cases.len());
}

fn render(case: &Path) -> String {
    let mut loaded = load_with(case, &|name| (name == "PORT").then(|| "7400".to_owned()));
    // Expressions are looked at once everything around them in their entity type is right, tests once all of it is.
    let declared = loaded.config.iter().flat_map(|config| &config.entities).chain(&loaded.sound_entities);
    let declared: Vec<_> = declared.cloned().collect();
    let types = compile(&declared, &loaded.files, &mut loaded.diagnostics).unwrap_or_default();
    if let Some(config) = loaded.config.as_ref().filter(|_| !loaded.diagnostics.has_errors()) {
        compile_cases(config, &Ruleset::new(types, &[], 512), &loaded.files, &mut loaded.diagnostics);
    }
    let rendered = loaded.diagnostics.render(&loaded.files);
    let is_ok = case.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ok_"));
    assert_eq!(!loaded.diagnostics.has_errors(), is_ok, "{}:\n{rendered}", case.display());
    assert_eq!(loaded.config.is_none(), !is_ok && !is_about_expressions(case), "{}:\n{rendered}", case.display());
    rendered
}

/// `expr_*` cases are right but for their expressions.
fn is_about_expressions(case: &Path) -> bool {
    case.file_name().is_some_and(|name| name.to_string_lossy().starts_with("expr_"))
}
