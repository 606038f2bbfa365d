//! The commands that README.md and the examples show, run as they stand there; what comes out is what is shown.
//!
//! In a ```console block, `$ ` begins a command and the lines after it are its output, in which `…` stands for any text.
//! Each file is run in a copy of the repository of its own, on free ports. Of JSON the white space does not count, since
//! pages break it into lines for people.

mod common;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use common::wait_for;
use tempfile::TempDir;

/// Ports of the shipped configuration: TCP, HTTP, and the bureau of the example credit.
const PORTS: [&str; 3] = ["7400", "7480", "7490"];
/// Files in which they stand.
const WITH_PORTS: [&str; 4] =
    ["config.toml", "examples/timesheets/clock.toml", "examples/credit/rules.toml", "examples/credit/soap.toml"];
/// Commands for which a machine without network and with this binary already built has no use.
const SKIPPED: [&str; 5] = ["make", "apt", "sudo", "cargo build", "cargo install"];
/// The commands that start the server.
const STARTS: [&str; 3] = ["cargo run --release", "turnstile", "turnstile run"];
/// What starts it with a configuration of an example.
const OWN_CONFIG: &str = "turnstile run -c ";
/// For bash where there is no netcat: sends standard input and prints answers until the last line is acknowledged.
const NETCAT: &str = r#"#!/bin/bash
[ "$1" = -N ] && shift
input=$(mktemp); cat > "$input"
lines=$(grep -c '[^[:space:]]' "$input")
exec 3<>"/dev/tcp/$1/$2"; cat "$input" >&3; rm "$input"
while IFS= read -r -t 60 line <&3; do
  printf '%s\n' "$line"
  case "$line" in *"\"ack\":$lines,"*) break ;; esac
done
"#;

/// A first page whose commands do not work is where people stop reading.
#[test]
fn readme() {
    run("README.md");
}

#[test]
fn orders() {
    run("examples/orders/README.md");
}

#[test]
fn timesheets() {
    run("examples/timesheets/README.md");
}

#[test]
fn shipments() {
    run("examples/shipments/README.md");
}

#[test]
fn credit() {
    run("examples/credit/README.md");
}

struct Step {
    command: String,
    output: Vec<String>,
}

/// The repository as it is tracked, with ports that are free.
struct Copy {
    dir: TempDir,
    ports: [String; PORTS.len()],
    server: Option<Running>,
    /// What else the page leaves running.
    beside: Vec<Running>,
}

struct Running {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(page: &str) {
    for tool in ["bash", "curl"] {
        if find_on_path(tool).is_none() {
            println!("skipped: {tool} is not on the PATH");
            return;
        }
    }
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).expect("the page");
    let steps = steps(&text);
    assert!(!steps.is_empty(), "{page} shows a command");
    for tool in ["sqlite3", "python3"] {
        if find_on_path(tool).is_none() && steps.iter().any(|step| step.command.contains(tool)) {
            println!("{page} is skipped: {tool} is not on the PATH");
            return;
        }
    }
    let mut copy = Copy::new();
    // A page may later start one with a configuration of its own.
    if !steps.iter().any(|step| starts_server(&step.command) && !step.command.contains(OWN_CONFIG)) {
        copy.start(page, &Step { command: STARTS[0].into(), output: Vec::new() });
    }
    let mut wrong = Vec::new();
    for step in &steps {
        if SKIPPED.iter().any(|skipped| step.command.starts_with(skipped)) {
            println!("{page}: not run here: {}", step.command);
        } else if starts_server(&step.command) {
            copy.start(page, step);
        } else if let Some(command) = step.command.strip_suffix('&') {
            let started = copy.spawn(command);
            copy.expect_said(page, &started, step);
            copy.beside.push(started);
        } else {
            wrong.extend(copy.run(step).err());
        }
    }
    assert!(wrong.is_empty(), "{page}: {} commands say something else\n\n{}", wrong.len(), wrong.join("\n"));
}

fn starts_server(command: &str) -> bool {
    let command = command.trim_end_matches('&').trim();
    STARTS.contains(&command) || command.contains(OWN_CONFIG)
}

/// The commands of a page with the output shown for each.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut in_block = false;
    let mut continued = false;
    for line in page.lines() {
        if line.starts_with("```") {
            in_block = line.trim() == "```console";
        } else if !in_block {
        } else if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.into(), output: Vec::new() });
            continued = command.ends_with('\\');
        } else if let Some(step) = steps.last_mut() {
            if continued {
                step.command.extend(["\n", line]);
                continued = line.ends_with('\\');
            } else {
                step.output.push(line.into());
            }
        }
    }
    for step in &mut steps {
        while step.output.last().is_some_and(|line| line.trim().is_empty()) {
            step.output.pop();
        }
    }
    steps
}

impl Copy {
    fn new() -> Copy {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for file in tracked(root) {
            let to = dir.path().join("repository").join(&file);
            std::fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
            std::fs::copy(root.join(&file), to).expect("a copy");
        }
        // Held together, so that no two are the same.
        let free = PORTS.map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let ports = free.map(|listener| listener.local_addr().expect("an address").port().to_string());
        let copy = Copy { dir, ports, server: None, beside: Vec::new() };
        for config in WITH_PORTS {
            let config = copy.root().join(config);
            let text = std::fs::read_to_string(&config).expect("the shipped configuration");
            std::fs::write(&config, copy.with_ports(&text)).expect("the configuration");
        }
        // What the page's `cargo run --release` would have built.
        let built = copy.root().join("target/release");
        std::fs::create_dir_all(&built).expect("a directory");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_turnstile"), built.join("turnstile")).expect("a link");
        let tools = copy.dir.path().join("bin");
        std::fs::create_dir_all(&tools).expect("a directory");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_turnstile"), tools.join("turnstile")).expect("a link");
        if find_on_path("nc").is_none() {
            let path = tools.join("nc");
            std::fs::write(&path, NETCAT).expect("a script");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(path, mode).expect("a script can be run");
        }
        copy
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("repository")
    }

    fn with_ports(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (shipped, free) in PORTS.iter().zip(&self.ports) {
            text = text
                .replace(&format!(":{shipped}"), &format!(":{free}"))
                .replace(&format!(" {shipped} "), &format!(" {free} "));
        }
        text.replace("turnstile send ", &format!("turnstile send --to 127.0.0.1:{} ", self.ports[0]))
    }

    fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("bash");
        let path = std::env::var("PATH").unwrap_or_default();
        shell.args(["-c", &self.with_ports(command)]).current_dir(self.root()).stdin(Stdio::null());
        shell.env("PATH", format!("{}:{path}", self.dir.path().join("bin").display())).env_remove("RUST_LOG");
        shell.env("TURNSTILE_URL", format!("http://127.0.0.1:{}", self.ports[1]));
        shell.env("TURNSTILE_TO", format!("127.0.0.1:{}", self.ports[0]));
        shell
    }

    /// Starts the server, waits until it listens, and looks at what it says.
    fn start(&mut self, page: &str, step: &Step) {
        self.server = None;
        let command = if step.command.contains(OWN_CONFIG) { &step.command } else { "turnstile run" };
        self.server = Some(self.spawn(command));
        let ready = format!("curl -sf http://127.0.0.1:{}/readyz", PORTS[1]);
        wait_for("the server is ready", || {
            let server = self.server.as_mut().expect("started above");
            assert!(server.child.try_wait().expect("its status").is_none(), "{page}: the server ended");
            self.shell(&ready).output().expect("curl runs").status.success().then_some(())
        });
        self.expect_said(page, self.server.as_ref().expect("started above"), step);
    }

    fn spawn(&self, command: &str) -> Running {
        let mut child = self.shell(&format!("exec {command}")).stdout(Stdio::piped()).spawn().expect("it starts");
        let pipe = child.stdout.take().expect("a pipe");
        let said = Arc::new(Mutex::new(String::new()));
        let shared = said.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                shared.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Running { child, said }
    }

    fn expect_said(&self, page: &str, started: &Running, step: &Step) {
        let expected = self.with_ports(&(step.output.join("\n") + "…"));
        wait_for(&format!("{page}: {} says what is shown:\n{expected}", step.command), || {
            matches(&expected, &started.said.lock().unwrap()).then_some(())
        });
    }

    /// Runs a command and compares its output. What is asked for may be on its way still, so reading is repeated.
    fn run(&self, step: &Step) -> Result<(), String> {
        let expected = self.with_ports(&step.output.join("\n"));
        let command = step.command.trim_start_matches("target/release/");
        let reads = [
            "curl -s http",
            "curl -s 'http",
            "curl -s -G",
            "cat ",
            "grep ",
            "head ",
            "tail ",
            "turnstile get",
            "turnstile explain",
            "turnstile ls",
            "turnstile status",
            "turnstile sources ls",
            "turnstile dead-letters ls",
        ]
        .iter()
        .any(|prefix| command.starts_with(prefix));
        let mut tries = if reads { 100 } else { 1 };
        loop {
            let output =
                self.shell(&format!("timeout 60 bash -c {} 2>&1", quoted(&step.command))).output().expect("bash runs");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let code = output.status.code();
            // 1 is an answer, such as that something was refused; what is shown tells whether it is the right one.
            let fine = matches!(code, Some(0 | 1)) && (step.output.is_empty() || matches(&expected, &said));
            if fine {
                return Ok(());
            }
            tries -= 1;
            if tries == 0 {
                let command = &step.command;
                let why = format!("$ {command}\nended with {code:?} and said\n{said}but the page shows\n{expected}\n");
                return Err(why);
            }
            std::thread::sleep(common::POLL);
        }
    }
}

/// Files of the repository; all but the build's where there is no git.
fn tracked(root: &Path) -> Vec<PathBuf> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
    let listed = output.ok().filter(|output| output.status.success()).map(|output| output.stdout).unwrap_or_default();
    let mut files: Vec<PathBuf> =
        String::from_utf8_lossy(&listed).split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect();
    if files.is_empty() {
        let names = ["orders", "timesheets", "shipments", "credit"].into_iter().flat_map(|example| {
            let folder = Path::new("examples").join(example);
            let files = std::fs::read_dir(root.join(&folder)).into_iter().flatten().flatten();
            files.map(move |file| folder.join(file.file_name()))
        });
        files = names.chain(["README.md", "config.toml"].map(PathBuf::from)).collect();
    }
    files.retain(|file| root.join(file).is_file());
    files
}

fn find_on_path(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(tool)).find(|file| file.is_file())
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Whether a text is what is shown, `…` standing for anything.
fn matches(shown: &str, text: &str) -> bool {
    let lines = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let json = shown.trim_start().starts_with(['{', '[']);
    fits(lines(shown).trim_end(), lines(text).trim_end()) || (json && fits(&bare(shown), &bare(text)))
}

fn fits(shown: &str, text: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn an_ellipsis_stands_for_any_text() {
    for (shown, text, expected) in [
        ("a", "a\n", true),
        ("a", "b", false),
        ("a…c", "abc", true),
        ("a…c", "abcd", false),
        ("a…", "abc\nd", true),
        ("…x…y", "1x2x3y", true),
        ("…x…y", "1y2x", false),
        ("{\"a\":1,\n  \"b\":…}", "{\"a\":1,\"b\":2}", true),
        ("{\"a\":1,\n  \"b\":…}", "{\"a\":1,\"c\":2}", false),
        ("two words", "twowords", false),
    ] {
        assert_eq!(matches(shown, text), expected, "{shown:?} and {text:?}");
    }
}

#[test]
fn pages_are_taken_apart() {
    let steps = steps("text\n```console\n$ one \\\n  more\nout\n\n$ two\n```\n```sh\n$ no\n```\n");
    let seen: Vec<_> = steps.iter().map(|step| (step.command.as_str(), step.output.join("|"))).collect();
    assert_eq!(seen, [("one \\\n  more", "out".to_owned()), ("two", String::new())]);
}
