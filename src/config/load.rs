//! From a path to a checked [`Config`]: reads the files, merges what they include, reads each part, collects problems.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::diagnostics::{Diagnostics, Files, Located, Location};
use super::document::{Entry, Node, Table, Value, parse};
use super::entities::EntityType;
use super::interpolate::Env;
use super::reader::{Context, Section, Whole};
use super::server::Server;
use super::sinks::Sink;
use super::sources::Source;
use super::telemetry::Telemetry;
use super::test_blocks::{TEST, Test};
use super::tuning::{Tuning, TuningEntries};
use super::{Config, Loaded};

/// Largest configuration file, in bytes.
pub const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Loads the file at `path` and what it includes, with variables from the process environment.
pub fn load(path: &Path) -> Loaded {
    load_with(path, &|name| std::env::var(name).ok())
}

/// As [`load`], with variables from elsewhere.
pub fn load_with(path: &Path, env: Env) -> Loaded {
    let mut loader = Loader::new(env, Whole::Configuration);
    loader.file(path, None);
    loader.finish()
}

/// As [`load`], for rules that are only looked at. The file may be one that a configuration includes: if it has no sinks,
/// its decisions may go to any.
pub fn load_rules(path: &Path) -> Loaded {
    let env = |name: &str| std::env::var(name).ok();
    let mut loader = Loader::new(&env, Whole::Rules);
    loader.file(path, None);
    loader.finish()
}

/// As [`load_rules`], for a text that somebody sent: no file is read for it, and no variable.
pub fn load_sent(text: &str) -> Loaded {
    let mut loader = Loader::new(&|_| None, Whole::Sent);
    loader.text(Path::new("config.toml"), text);
    loader.finish()
}

/// Loads a text as if it were a file `config.toml` in the current folder.
pub fn load_str(text: &str, env: Env) -> Loaded {
    let mut loader = Loader::new(env, Whole::Configuration);
    loader.text(Path::new("config.toml"), text);
    loader.finish()
}

struct Loader<'e> {
    env: Env<'e>,
    whole: Whole,
    files: Files,
    out: Diagnostics,
    /// What all files together say.
    root: Table,
    /// The files that are being included, outermost first: which file each is, and how it was named.
    open: Vec<(PathBuf, PathBuf)>,
    /// The files that were read.
    done: HashSet<PathBuf>,
    /// A file is missing or not TOML.
    partial: bool,
}

impl<'e> Loader<'e> {
    fn new(env: Env<'e>, whole: Whole) -> Self {
        Loader {
            env,
            whole,
            files: Files::default(),
            out: Diagnostics::default(),
            root: Table::new(),
            open: Vec::new(),
            done: HashSet::new(),
            partial: false,
        }
    }

    /// Reads a file; `named_at` is the include that names it. A file that is included by two others is read once.
    fn file(&mut self, path: &Path, named_at: Option<Location>) {
        let identity = path.canonicalize().unwrap_or(path.to_owned());
        if let Some(first) = self.open.iter().position(|(open, _)| *open == identity) {
            self.partial = true;
            let circle: Vec<String> = self.open[first..].iter().map(|(_, path)| path.display().to_string()).collect();
            let message = format!("{} includes itself", circle[0]);
            let help = format!("remove this include; the circle is {} → {}", circle.join(" → "), circle[0]);
            self.out.error(named_at, message).help(help);
            return;
        }
        if !self.done.insert(identity.clone()) {
            return;
        }
        match read_text(path) {
            Ok(text) => {
                self.open.push((identity, path.to_owned()));
                self.text(path, &text);
                self.open.pop();
            }
            Err(why) => {
                self.partial = true;
                let help = match named_at {
                    Some(_) => "the path is relative to the file that names it",
                    None => "name another file with -c",
                };
                self.out.error(named_at, format!("cannot read {}: {why}", path.display())).help(help);
            }
        }
    }

    fn text(&mut self, path: &Path, text: &str) {
        let file = self.files.add(path, text.trim_start_matches('\u{feff}'));
        let Some(mut table) = parse(file, &self.files, self.env, &mut self.out) else {
            self.partial = true;
            return;
        };
        let include = table.iter().position(|entry| entry.name.value == "include").map(|index| table.remove(index));
        merge(&mut self.root, table, &mut self.out);
        if let (Whole::Sent, Some(include)) = (self.whole, &include) {
            let message = "over HTTP rules are one text, which includes no others";
            self.out.error(include.name.at, message).help("put them in; `turnstile replay --rules FILE` does");
            self.partial = true;
            return;
        }
        for included in include.map(|entry| self.include_paths(entry.node)).unwrap_or_default() {
            let path = self.files.resolve(file, &included);
            self.file(&path, Some(included.at));
        }
    }

    fn include_paths(&mut self, node: Node) -> Vec<Located<String>> {
        let at = node.at;
        let nodes = if let Value::List(nodes) = node.value { nodes } else { vec![node] };
        let mut paths = Vec::new();
        for Node { value, at: item_at } in nodes {
            match value {
                Value::String(path) if !path.is_empty() => paths.push(Located::new(path, item_at)),
                Value::Broken => self.partial = true,
                Value::String(_) => {
                    self.out.error(item_at, "`include` has an empty path").help("remove it");
                }
                other => {
                    let message = format!("`include` must be a list of paths, not {}", other.describe());
                    let at = if matches!(other, Value::Table(_)) { at } else { item_at };
                    self.out.error(at, message).help("write include = [\"rules.toml\"]");
                }
            }
        }
        paths
    }

    fn finish(self) -> Loaded {
        let mut cx = Context { files: self.files, out: self.out, partial: self.partial, whole: self.whole };
        // What could not even be parsed is absent from what follows, and would be missed there for no good reason.
        let is_whole = !cx.out.has_errors();
        let mut config = assemble(&mut cx, self.root);
        let mut sound_entities = Vec::new();
        if cx.out.has_errors() && is_whole {
            sound_entities = std::mem::take(&mut config.entities);
        }
        let config = (!cx.out.has_errors()).then_some(config);
        Loaded { files: cx.files, diagnostics: cx.out, config, sound_entities }
    }
}

/// The text of a file, or why it cannot be read.
pub fn read_text(path: &Path) -> Result<String, String> {
    let bytes = read_bytes(path, FILE_BYTES_MAX)?;
    String::from_utf8(bytes).map_err(|error| format!("byte {} is not UTF-8", error.utf8_error().valid_up_to()))
}

/// What is in a file, or why it cannot be read. Nothing is read of what may have no end or make its reader wait.
pub(super) fn read_bytes(path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
    let kind = std::fs::metadata(path).map_err(|error| why(&error))?;
    if kind.is_dir() {
        return Err("it is a folder".into());
    }
    if !kind.is_file() {
        return Err("it is no file but a pipe, a device or a socket".into());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| why(&error))?;
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(|error| why(&error))?;
    if bytes.len() <= bytes_max {
        return Ok(bytes);
    }
    let size = if bytes_max < 1 << 20 { format!("{bytes_max} bytes") } else { format!("{} MiB", bytes_max >> 20) };
    Err(format!("it is larger than {size}"))
}

/// Why a file cannot be read, the same on every system.
fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

/// Adds a file's entries. Tables of the same name are joined; what is in both files is reported.
fn merge(root: &mut Table, table: Table, out: &mut Diagnostics) {
    for entry in table {
        let Some(existing) = root.iter_mut().find(|existing| existing.name.value == entry.name.value) else {
            root.push(entry);
            continue;
        };
        let section = &entry.name.value;
        match (&mut existing.node.value, entry.node.value) {
            // Tests stand beside the rules they are about, in any file.
            (Value::List(existing), Value::List(blocks)) if section == TEST => existing.extend(blocks),
            (Value::Table(existing), Value::Table(entries)) => {
                for entry in entries {
                    match existing.iter().find(|other| other.name.value == entry.name.value) {
                        Some(other) => twice(&format!("{section}.{}", entry.name.value), &entry, other, out),
                        None => existing.push(entry),
                    }
                }
            }
            (_, value) => {
                let at = entry.node.at;
                let entry = Entry { name: entry.name.clone(), node: Node { value, at } };
                twice(&entry.name.value, &entry, existing, out);
            }
        }
    }
}

fn twice(name: &str, entry: &Entry, first: &Entry, out: &mut Diagnostics) {
    out.error(entry.name.at, format!("`{name}` is given in two files")).help("keep one of them").also(first.name.at);
}

fn assemble(cx: &mut Context, root: Table) -> Config {
    let mut top = Section::top(cx, root);
    let [server, source, sink, entity] = ["server", "source", "sink", "entity"].map(|key| top.entry(key));
    let test = top.entry(TEST);
    let tuning = TuningEntries {
        journal: top.entry("journal"),
        actors: top.entry("actors"),
        checkpoint: top.entry("checkpoint"),
        limits: top.entry("limits"),
        log: top.entry("log"),
    };
    let telemetry = top.entry("telemetry");
    top.finish();
    let server = Server::read(cx, server);
    let sources = Source::read_all(cx, source, &server);
    let is_without_sinks = cx.whole != Whole::Configuration && sink.is_none();
    let (sinks, sink_names) = Sink::read_all(cx, sink);
    let sink_names = (!is_without_sinks).then_some(sink_names);
    let is_whole = !cx.out.has_errors();
    let entities = EntityType::read_all(cx, entity, sink_names.as_deref());
    // What a type with errors would have is not said to be missing.
    let known = (is_whole && !cx.out.has_errors()).then_some(entities.as_slice());
    let tests = Test::read_all(cx, test, known);
    Sink::check_types(cx, &sinks, &entities);
    let tuning = Tuning::read(cx, tuning);
    let telemetry = Telemetry::read(cx, telemetry);
    Config { server, sources, sinks, entities, tests, tuning, telemetry }
}
