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
    traced(&format!("delay_exit={}", delay.as_micros()), Path::new("/dev/null"))
}

/// The `n`-th sync of each thread, and all after it, fail with EIO. `log` gets a line for each sync.
pub fn failing_disk(n: u32, log: &Path) -> Option<Around> {
    traced(&format!("error=EIO:when={n}+"), log)
}

/// When the first sync failed, in seconds since 1970, as the log of [`failing_disk`] tells.
pub fn first_failure(log: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(log).expect("the log");
    let line = text.lines().find(|line| line.contains("EIO"))?;
    line.split_whitespace().find_map(|word| word.parse::<f64>().ok().filter(|word| word.fract() > 0.0))
}

fn traced(inject: &str, log: &Path) -> Option<Around> {
    const SYNCS: &str = "fsync,fdatasync,sync_file_range,msync";
    // -D: the server is our child, the tracer is not. Only the syncs are stopped at.
    let arguments = [
        "-D",
        "-f",
        "-q",
        "--seccomp-bpf",
        "-ttt",
        "-o",
        &log.display().to_string(),
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

/// A file system of its own, so small that it can be filled; it goes with this value.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it at `path`; none, with a message, where that is not allowed.
    pub fn new(path: &Path, kib: u64) -> Option<SmallDisk> {
        std::fs::create_dir_all(path).expect("a folder");
        let size = format!("size={kib}k");
        if run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs"], path) {
            return Some(SmallDisk(path.to_owned()));
        }
        println!("skipped: no file system can be mounted here; that takes root");
        None
    }

    /// Gives it another size, with all that is on it.
    pub fn resize(&self, kib: u64) {
        assert!(run("mount", &["-o", &format!("remount,size={kib}k")], &self.0), "it is given another size");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since the server may still be there.
        run("umount", &["-l"], &self.0);
    }
}

fn run(program: &str, arguments: &[&str], path: &Path) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).arg(path).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
