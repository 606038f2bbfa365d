//! The real binary in a directory of its own, ended by its process id when the test is over.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;

use super::around::Around;
use super::http::{Http, Response};
use super::tcp::Client;
use super::{percent, wait_for};

/// A configuration in the making. Addresses, data directory and the sink are given; the rest is up to the test.
pub struct Setup {
    rules: String,
    server: String,
    source: String,
    tables: String,
    token: Option<String>,
}

impl Setup {
    pub fn new(rules: &str) -> Setup {
        Setup {
            rules: rules.to_owned(),
            server: String::new(),
            source: String::new(),
            tables: String::new(),
            token: None,
        }
    }

    /// A line of `[server]`.
    pub fn server(mut self, line: &str) -> Setup {
        self.server.extend([line, "\n"]);
        self
    }

    /// The token of HTTP, which the requests of [`Server`] then show.
    pub fn http_token(mut self, token: &str) -> Setup {
        self.token = Some(token.to_owned());
        self.server(&format!("token = {token:?}"))
    }

    /// A line of `[source.tcp]`.
    pub fn tcp(mut self, line: &str) -> Setup {
        self.source.extend([line, "\n"]);
        self
    }

    /// Further tables, such as `[limits]`.
    pub fn tables(mut self, toml: &str) -> Setup {
        self.tables.extend([toml, "\n"]);
        self
    }

    /// Writes the configuration; nothing runs yet.
    pub fn write(self) -> Server {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let server =
            Server { dir, token: self.token.clone(), around: Around::default(), options: Vec::new(), running: None };
        server.rewrite(&self.text());
        server
    }

    /// Starts and waits until it is ready.
    pub fn start(self) -> Server {
        let mut server = self.write();
        server.start();
        server
    }

    pub fn text(&self) -> String {
        let Setup { rules, server, source, tables, .. } = self;
        format!(
            "[server]\ndata_dir = \"data\"\nhttp = \"127.0.0.1:0\"\n{server}\n\
             [source.tcp]\nkind = \"tcp\"\nlisten = \"127.0.0.1:0\"\n{source}\n\
             [sink.decisions]\nkind = \"file\"\npath = \"out/decisions.ndjson\"\n\n{tables}\n{rules}\n"
        )
    }
}

/// A server's directory, and the process if one runs.
pub struct Server {
    dir: TempDir,
    token: Option<String>,
    around: Around,
    /// Of `turnstile run`.
    options: Vec<String>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    stdout: Arc<Mutex<Lines>>,
    tcp: SocketAddr,
    http: SocketAddr,
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl Server {
    /// What it is started in from now on.
    pub fn set_around(&mut self, around: Around) {
        self.around = around;
    }

    /// The options of `turnstile run` from now on.
    pub fn set_options(&mut self, options: &[&str]) {
        self.options = options.iter().map(|option| (*option).to_owned()).collect();
    }

    /// Starts the binary on this directory and waits until `/readyz` says so.
    pub fn start(&mut self) {
        self.start_unready();
        wait_for("the server is ready", || (self.get("/readyz").status == 200).then_some(()));
    }

    /// Starts the binary and waits only until it says where it listens.
    pub fn start_unready(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        let mut child = self.spawn();
        let stdout = Arc::new(Mutex::new(Lines::default()));
        let pipe = child.stdout.take().expect("stdout is a pipe");
        let shared = stdout.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                shared.lock().unwrap().lines.push(line);
            }
            shared.lock().unwrap().ended = true;
        });
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        // Held from here on, so that the process goes even if the wait below fails.
        self.running = Some(Running { child, stdout: stdout.clone(), tcp: unknown, http: unknown });
        let [http, tcp] = ["http listening on http", "source tcp listening on "].map(|prefix| {
            wait_for(&format!("a start-up line `{prefix}…`"), || {
                let seen = stdout.lock().unwrap();
                let address = seen.lines.iter().find_map(|line| line.strip_prefix(prefix));
                assert!(address.is_some() || !seen.ended, "it ended at once:\n{}", self.stderr());
                let address = address.map(|address| address.rsplit('/').next().unwrap_or(address).trim());
                address.map(|address| address.parse::<SocketAddr>().expect("an address after `listening on`"))
            })
        });
        let running = self.running.as_mut().expect("set above");
        (running.tcp, running.http) = (tcp, http);
    }

    /// Starts the binary and kills it while it recovers: `looks` looks after its data folder is open. Tells whether it
    /// had not said yet that it is ready.
    pub fn start_and_kill_recovering(&mut self, looks: usize) -> bool {
        let mut child = Owned(Some(self.spawn()));
        let files = PathBuf::from(format!("/proc/{}/fd", child.get().id()));
        let store = self.path("data/state.redb");
        let is_open = || {
            let open = std::fs::read_dir(&files).into_iter().flatten().flatten();
            open.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|file| file == store)
        };
        wait_for("it opens its data", || is_open().then_some(()));
        for _ in 0..looks {
            is_open();
        }
        Self::kill_unready(child)
    }

    /// As above: `looks` looks after it has said something in its log.
    pub fn start_and_kill_after(&mut self, said: &str, looks: usize) -> bool {
        let before = self.stderr().matches(said).count();
        let child = Owned(Some(self.spawn()));
        wait_for(said, || (self.stderr().matches(said).count() > before).then_some(()));
        for _ in 0..looks {
            self.stderr();
        }
        Self::kill_unready(child)
    }

    fn kill_unready(mut child: Owned) -> bool {
        let mut child = child.0.take().expect("still owned");
        child.kill().expect("it can be killed");
        child.wait_with_output().expect("its output").stdout.is_empty()
    }

    /// Runs it with the expectation that it ends by itself.
    pub fn run_to_end(&self) -> Output {
        let child = self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let mut child = Owned(Some(child));
        wait_for("the process ends by itself", || child.get().try_wait().expect("its status"));
        child.0.take().expect("still owned").wait_with_output().expect("its output")
    }

    /// Has the server verified, and finds nothing; returns the report.
    pub fn verify_clean(&self) -> Value {
        let verified = self.cli(&["verify", "--json"]);
        let told = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert_eq!(verified.status.code(), Some(0), "{told}{}", String::from_utf8_lossy(&verified.stderr));
        let report: Value = serde_json::from_str(&told).expect("a document");
        assert_eq!(report["clean"], true, "{told}");
        report
    }

    /// A command of the CLI on this configuration and this server.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnstile"));
        command.arg("-c").arg(self.path("config.toml")).current_dir(self.dir.path());
        if let Some(running) = &self.running {
            command.arg("--url").arg(format!("http://{}", running.http));
        }
        command.args(arguments).stdin(Stdio::null()).output().expect("the binary starts")
    }

    fn spawn(&self) -> Child {
        let stderr = OpenOptions::new().create(true).append(true).open(self.path("stderr.log")).expect("a log file");
        self.command().stdout(Stdio::piped()).stderr(stderr).spawn().expect("the binary starts")
    }

    fn command(&self) -> Command {
        let binary = env!("CARGO_BIN_EXE_turnstile").to_owned();
        let words = [&self.around.program[..], &[binary]].concat();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).envs(self.around.env.iter().map(|(name, value)| (name, value)));
        command.arg("-c").arg(self.path("config.toml")).arg("run").args(&self.options).current_dir(self.dir.path());
        command.stdin(Stdio::null()).env_remove("RUST_LOG");
        command
    }

    /// SIGKILL: no warning, no clean-up.
    pub fn kill(&mut self) {
        let mut running = self.running.take().expect("it runs");
        running.child.kill().expect("it can be killed");
        running.child.wait().expect("it can be waited for");
    }

    /// SIGTERM, without waiting for the end.
    pub fn signal_term(&self) {
        self.signal("-TERM");
    }

    /// Sends a signal, such as `-HUP`.
    pub fn signal(&self, signal: &str) {
        let pid = self.running().child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(status.success(), "kill {signal} {pid}");
    }

    /// Waits for the end of a process that was told to stop.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let mut running = self.running.take().expect("it runs");
        let child = &mut running.child;
        let status = wait_for("the process ends after SIGTERM", || child.try_wait().expect("its status"));
        drop(running);
        status
    }

    /// SIGTERM and the exit status.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal_term();
        self.wait_for_exit()
    }

    /// SIGKILL and a start on the same data.
    pub fn restart(&mut self) {
        self.kill();
        self.start();
    }

    /// The most memory it has taken since it was started, in bytes.
    pub fn memory_peak(&self) -> u64 {
        let path = format!("/proc/{}/status", self.running().child.id());
        let status = std::fs::read_to_string(path).expect("the status of a process that runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
        peak.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Replaces the configuration.
    pub fn rewrite(&self, config: &str) {
        std::fs::write(self.path("config.toml"), config).expect("the configuration can be written");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs")
    }

    pub fn tcp(&self) -> SocketAddr {
        self.running().tcp
    }

    pub fn http(&self) -> SocketAddr {
        self.running().http
    }

    pub fn client(&self) -> Client {
        Client::connect(self.tcp())
    }

    /// Lines on standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.running().stdout.lock().unwrap().lines.clone()
    }

    /// What was logged, over all starts.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.path("stderr.log")).unwrap_or_default()
    }

    /// One request on a connection of its own, with the token if there is one.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let mut headers = headers.to_vec();
        headers.extend(bearer.iter().map(|bearer| ("authorization", bearer.as_str())));
        headers.push(("connection", "close"));
        Http::connect(self.http()).request(method, path, &headers, body)
    }

    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, content_type: &str, body: impl AsRef<[u8]>) -> Response {
        self.request("POST", path, &[("content-type", content_type)], body.as_ref())
    }

    /// The document of an entity that must be there.
    pub fn entity(&self, kind: &str, key: &str) -> Value {
        self.get(&format!("/v1/entities/{kind}/{}", percent(key))).expect(200).json()
    }

    /// All entities of a type, read page by page.
    pub fn entities(&self, kind: &str, page: usize) -> Vec<Value> {
        self.entities_that(kind, page, "")
    }

    /// The same of those that a filter lets through, such as `waiting=true`.
    pub fn entities_that(&self, kind: &str, page: usize, filter: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let answer = self.get(&format!("/v1/entities/{kind}?limit={page}{after}&{filter}")).expect(200).json();
            let items = answer["items"].as_array().expect("a page has items").clone();
            assert!(items.len() <= page, "a page of {page} has {} items", items.len());
            all.extend(items);
            match &answer["next"] {
                Value::Null => return all,
                Value::String(next) => after = format!("&after={}", percent(next)),
                other => panic!("`next` is {other}"),
            }
        }
    }

    /// Lines of the file sink that are complete, parsed.
    pub fn decisions_file(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("out/decisions.ndjson")).unwrap_or_default();
        let complete = text.rfind('\n').map_or("", |end| &text[..=end]);
        complete
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in the sink's file: {line}")))
            .collect()
    }

    /// The value of a metric's sample, given as it stands in the exposition, labels included.
    pub fn metric(&self, sample: &str) -> Option<f64> {
        let text = self.get("/metrics").expect(200).text();
        text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.trim().parse().ok())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the server ---\n{}", self.stderr());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A child that goes with its owner.
struct Owned(Option<Child>);

impl Owned {
    fn get(&mut self) -> &mut Child {
        self.0.as_mut().expect("owned until taken")
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
