//! A real NATS server with JetStream, on a port the system chooses, ended by its process id.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{tools::tools, wait_for};

/// The server; its data stays when it is killed and started again.
pub struct Nats {
    dir: TempDir,
    binary: PathBuf,
    port: u16,
    more: String,
    child: Option<Child>,
}

impl Nats {
    /// A server with these further settings, not started yet; none where there is no server to be had. It is the one that
    /// `NATS_SERVER` names, else that of the tools.
    pub fn prepare(more: &str) -> Option<Nats> {
        let binary = std::env::var_os("NATS_SERVER").map(PathBuf::from);
        Some(Nats::with(binary.map_or_else(|| Some(tools()?.join("nats-server")), Some)?, more))
    }

    /// Debian's server, which is of another age.
    pub fn start_debians() -> Option<Nats> {
        let binary = PathBuf::from("/usr/sbin/nats-server");
        if !binary.exists() {
            eprintln!("SKIPPED: Debian's nats-server is not installed");
            return None;
        }
        let mut nats = Nats::with(binary, "");
        nats.run();
        Some(nats)
    }

    fn with(binary: PathBuf, more: &str) -> Nats {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a port").port();
        let dir = tempfile::tempdir().expect("a temporary directory");
        Nats { dir, binary, port, more: more.to_owned(), child: None }
    }

    pub fn start(more: &str) -> Option<Nats> {
        let mut nats = Nats::prepare(more)?;
        nats.run();
        Some(nats)
    }

    /// Starts it and waits until it listens.
    pub fn run(&mut self) {
        let config = format!(
            "listen: 127.0.0.1:{}\njetstream {{ store_dir: \"{}\" }}\n{}\n",
            self.port,
            self.path("jetstream").display(),
            self.more
        );
        let path = self.path("nats.conf");
        std::fs::write(&path, config).expect("its configuration");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("nats.log")).expect("its log");
        let mut command = Command::new(&self.binary);
        command.arg("-c").arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = self.child.insert(command.spawn().expect("nats-server starts"));
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        wait_for("nats-server listens", || {
            assert!(child.try_wait().expect("its status").is_none(), "nats-server ended at once");
            TcpStream::connect(address).ok()
        });
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it can be waited for");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- log of nats-server ---\n{}",
                std::fs::read_to_string(self.path("nats.log")).unwrap_or_default()
            );
        }
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
