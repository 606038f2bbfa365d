//! Bad surroundings for the server: a disk that is slow or fails, few open files, a clock that goes wrong. Each is made by
//! a program or library of the system; where that is not installed there is none, and a message says so.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What the server is started with.
#[derive(Default)]
pub struct Around {
    /// A program that becomes the server, with its arguments.
    pub program: Vec<String>,
    pub env: Vec<(&'static str, String)>,
}

/// Each sync of a file takes so much longer.
pub fn slow_disk(delay: Duration) -> Option<Around> {
    traced(&format!("delay_exit={}", delay.as_micros()))
}

/// The `n`-th sync of each thread, and all after it, fail with EIO.
pub fn failing_disk(n: u32) -> Option<Around> {
    traced(&format!("error=EIO:when={n}+"))
}

fn traced(inject: &str) -> Option<Around> {
    const SYNCS: &str = "fsync,fdatasync,sync_file_range,msync";
    // -D: the server is our child, the tracer is not. Only the syncs are stopped at.
    let arguments = [
        "-D",
        "-f",
        "-q",
        "--seccomp-bpf",
        "-o",
        "/dev/null",
        &format!("-etrace={SYNCS}"),
        &format!("-einject={SYNCS}:{inject}"),
    ]
    .map(str::to_owned);
    let program = [&["strace".to_owned()][..], &arguments].concat();
    works(&program)?;
    Some(Around { program, env: Vec::new() })
}

/// At most `count` open files.
pub fn open_files(count: u32) -> Option<Around> {
    let program = vec!["prlimit".to_owned(), format!("--nofile={count}:{count}")];
    works(&program)?;
    Some(Around { program, env: Vec::new() })
}

/// Whether a command runs under the program.
fn works(program: &[String]) -> Option<()> {
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]).arg("true").stdout(Stdio::null()).stderr(Stdio::null());
    if command.status().is_ok_and(|status| status.success()) {
        return Some(());
    }
    println!("skipped: {} is not installed, or not allowed here", program[0]);
    None
}

/// A clock that can be set while the server runs; it does not touch the time by which timers run.
pub struct Clock(PathBuf);

impl Clock {
    /// A clock that is kept in `folder` and says the right time.
    pub fn new(folder: &Path) -> Option<(Clock, Around)> {
        let found = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].iter().flat_map(|lib| {
            let folders = std::fs::read_dir(lib).into_iter().flatten().flatten().map(|entry| entry.path());
            folders.chain([PathBuf::from(lib)])
        });
        let library = found.map(|lib| lib.join("faketime/libfaketimeMT.so.1")).find(|library| library.exists());
        let Some(library) = library else {
            println!("skipped: libfaketime is not installed");
            return None;
        };
        let clock = Clock(folder.join("clock"));
        clock.set("+0");
        let env = vec![
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", clock.0.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        Some((clock, Around { program: Vec::new(), env }))
    }

    /// Sets it to an offset from the right time, such as `-10y`.
    pub fn set(&self, offset: &str) {
        // Renamed, so that nobody reads half of it.
        let new = self.0.with_extension("new");
        std::fs::write(&new, format!("{offset}\n"))
            .and_then(|()| std::fs::rename(&new, &self.0))
            .expect("the clock is set");
    }
}
