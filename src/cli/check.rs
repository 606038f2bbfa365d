//! `turnstile check`: is the configuration right, and what does it come to.

use std::io::Write as _;
use std::path::Path;

use super::failure::{Exit, Failure};
use super::screen::Screen;
use crate::config::{self, Config, Diagnostics, Files, Loaded};
use crate::ingress::Decoder;
use crate::node::{self, Prepared};
use crate::rehearsal::{Case, compile_cases};
use crate::rules::compile;

#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Print the whole configuration, every default included
    #[arg(long)]
    pub print: bool,
    /// Print what is found as JSON
    #[arg(long)]
    pub json: bool,
}

/// Checks the configuration.
///
/// # Errors
/// It is wrong (2), or a file cannot be read (2).
pub fn check(args: &CheckArgs, config: &Path, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let (Loaded { files, mut diagnostics, config: loaded, .. }, prepared) = load(config);
    if let (Some(config), Some(prepared)) = (&loaded, &prepared) {
        compile_cases(config, &prepared.ruleset, &files, &mut diagnostics);
    }
    let is_wrong = diagnostics.has_errors();
    if args.json {
        writeln!(screen.out, "{}", diagnostics.to_json(&files))?;
    } else {
        eprint!("{}", diagnostics.render(&files));
    }
    let (Some(config), Some(prepared), false) = (loaded, prepared, is_wrong) else { return Ok(Exit::Usage) };
    if args.print {
        write!(screen.out, "{}", config::print(&config))?;
    } else if !args.json {
        let types: Vec<_> = prepared.ruleset.types().iter().map(|rules| rules.name.to_string()).collect();
        writeln!(
            screen.out,
            "ok: {} entity type{} ({})",
            types.len(),
            if types.len() == 1 { "" } else { "s" },
            types.join(", ")
        )?;
    }
    Ok(Exit::Ok)
}

/// A configuration that can be run; warnings are shown.
///
/// # Errors
/// Everything that is wrong with it.
pub fn prepared(path: &Path) -> Result<(Config, Prepared), Failure> {
    let ready = ready(path)?;
    eprint!("{}", ready.diagnostics.render(&ready.files));
    Ok((ready.config, ready.prepared))
}

/// A configuration whose rules are run here, with its files for showing places in it; warnings are not shown.
pub struct Ready {
    pub files: Files,
    pub diagnostics: Diagnostics,
    pub config: Config,
    pub prepared: Prepared,
}

impl Ready {
    /// Decodes CloudEvents, under the limits of the configuration.
    pub fn cloud_events(&self) -> Decoder {
        let limits = &self.config.tuning.limits;
        let limit = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Decoder::new(None, limit(limits.event_bytes_max), limit(limits.json_depth_max))
    }

    /// The tests of the configuration.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn cases(&self) -> Result<Vec<Case>, Failure> {
        let mut diagnostics = Diagnostics::default();
        let cases = compile_cases(&self.config, &self.prepared.ruleset, &self.files, &mut diagnostics);
        if diagnostics.has_errors() { Err(wrong(&diagnostics, &self.files)) } else { Ok(cases) }
    }
}

/// Loads a configuration and compiles its rules.
///
/// # Errors
/// Everything that is wrong with it.
pub fn ready(path: &Path) -> Result<Ready, Failure> {
    or_wrong(load(path))
}

/// As [`ready`], for rules that are only looked at: a configuration, or a file that one includes.
///
/// # Errors
/// Everything that is wrong with them.
pub fn rules(path: &Path) -> Result<Ready, Failure> {
    or_wrong(compiled(config::load_rules(path)))
}

fn or_wrong((loaded, prepared): (Loaded, Option<Prepared>)) -> Result<Ready, Failure> {
    let Loaded { files, diagnostics, config, .. } = loaded;
    match (config, prepared) {
        (Some(config), Some(prepared)) => Ok(Ready { files, diagnostics, config, prepared }),
        _ => Err(wrong(&diagnostics, &files)),
    }
}

fn wrong(diagnostics: &Diagnostics, files: &Files) -> Failure {
    Failure::message(Exit::Usage, format!("the configuration is wrong\n{}", diagnostics.render(files)))
}

fn load(path: &Path) -> (Loaded, Option<Prepared>) {
    compiled(config::load(path))
}

fn compiled(mut loaded: Loaded) -> (Loaded, Option<Prepared>) {
    let prepared =
        loaded.config.as_ref().and_then(|config| node::prepare(config, &loaded.files, &mut loaded.diagnostics));
    compile(&loaded.sound_entities, &loaded.files, &mut loaded.diagnostics);
    (loaded, prepared)
}
