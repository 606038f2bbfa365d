//! What contenders stand on: folders on one disk, processes that end with their owner, the same events for all.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use turnstile::cli::bench::{
    DriveError, Load, Measured, Pace, Planned, Planner, Rendered, Replies, Shape, Spread, Workload, drive,
};
use turnstile::model::time::{Span, Timestamp};

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(5);

/// A folder beside the build, so that all contenders write to the same disk; it goes with its owner.
pub fn folder(name: &str) -> TempDir {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compare");
    std::fs::create_dir_all(&base).expect("a folder below target/");
    tempfile::Builder::new().prefix(name).tempdir_in(base).expect("a folder below target/")
}

/// A server that was started here. It is ended by its process id.
pub struct Process(Child);

impl Process {
    pub fn spawn(command: &mut Command) -> Process {
        Process(command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Ends it without warning.
    pub fn kill(mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE && !matches!(self.0.try_wait(), Ok(Some(_)) | Err(_)) {
            std::thread::sleep(POLL);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Tries until it works.
pub fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(begin.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(POLL);
    }
}

/// A port that nobody has at the moment.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Where a program is, if it is installed.
pub fn program(name: &str, besides: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = besides.iter().cloned().chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Events that all contenders get.
pub struct Events {
    pub planned: Vec<Planned>,
    run: String,
    begin: Timestamp,
}

/// Events without end, of one run.
pub struct Source {
    planner: Planner,
    run: String,
    begin: Timestamp,
}

/// Numbers of [`Events::one_a_key`] begin above those of any source.
const ONE_A_KEY_NUMBERS: u64 = 100_000_000;

/// The orders of which the results speak: so many open at a time, one event in ten a duplicate.
pub const ORDERS: Workload =
    Workload { shape: Shape::Order, spread: Spread::LifeCycle { open: 50_000 }, hot: 0.0, duplicates: 0.1, seed: 1 };

/// The same events over so many keys, all alike.
pub fn uniform(keys: u64) -> Workload {
    Workload { spread: Spread::Random { keys, skew: 0.0 }, ..ORDERS }
}

impl Source {
    /// `run` tells the ids and keys of one run from those of others.
    pub fn new(workload: &Workload, run: &str) -> Source {
        let past = Span::from_nanos(-4_000_000_000_000).unwrap_or_default();
        let begin = Timestamp::now().plus(past).unwrap_or_default();
        Source { planner: Planner::new(workload), run: run.to_owned(), begin }
    }

    /// The next so many events.
    pub fn take(&mut self, events: usize) -> Events {
        let planned = self.planner.by_ref().take(events).collect();
        Events { planned, run: self.run.clone(), begin: self.begin }
    }
}

impl Events {
    /// As requests, dealt out to so many connections in turn.
    pub fn loads(&self, connections: usize, write: impl Fn(&Rendered, &mut Vec<u8>)) -> Vec<Arc<Load>> {
        let mut loads = vec![Load::default(); connections];
        let mut rendered = Rendered::default();
        for (n, planned) in self.planned.iter().enumerate() {
            Shape::Order.render(planned, &self.run, self.begin, &mut rendered);
            loads[n % connections].push(|bytes| write(&rendered, bytes));
        }
        loads.into_iter().map(Arc::new).collect()
    }

    /// So many events, one for each of the keys after `first`, of the run without a name.
    pub fn one_a_key(first: u64, events: usize) -> Events {
        let kinds = Shape::Order.kinds();
        let planned = (first + 1..=first + events as u64)
            .map(|key| Planned { number: ONE_A_KEY_NUMBERS + key, key, kind: key as usize % kinds })
            .collect();
        Events { planned, run: String::new(), begin: Timestamp::now() }
    }

    /// How many keys they are about.
    pub fn keys(&self) -> usize {
        self.planned.iter().map(|planned| planned.key).collect::<HashSet<_>>().len()
    }

    /// The first of these events.
    pub fn first(&self, events: usize) -> Events {
        Events { planned: self.planned[..events].to_vec(), run: self.run.clone(), begin: self.begin }
    }
}

/// Sends the loads over new connections, one each.
pub fn run<R: Replies>(
    connect: impl Fn() -> io::Result<std::net::TcpStream>,
    loads: &[Arc<Load>],
    replies: impl Fn() -> R,
    pace: Pace,
) -> Result<Measured<R>, DriveError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let connections = loads.iter().map(|load| {
        let stream = connect().expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        stream.set_nonblocking(true).expect("a socket");
        let _guard = runtime.enter();
        (tokio::net::TcpStream::from_std(stream).expect("a socket").into(), load.clone(), replies())
    });
    let connections = connections.collect();
    runtime.block_on(drive(connections, pace))
}
