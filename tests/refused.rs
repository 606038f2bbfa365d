//! Data folders that cannot be used: the process ends at once with exit code 3, and its message says what to do. Nothing
//! in the folder is changed; where it is somebody else's, they go on undisturbed. And damage that only shows once the
//! server runs ends it in the same way.

mod common;

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};

use common::{PATIENCE, Server, Setup};
use redb::{ReadableDatabase, TableDefinition};
use serde_json::json;
use turnstile::disk::{Disk, RealDisk};
use turnstile::pages::Pages;

const RULES: &str =
    "[entity.meter]\nkey = \"event.subject\"\n[entity.meter.fields]\nreadings = { on = \"Read\", take = \"count\" }\n";
/// Somebody who owns nothing here.
const NOBODY: &str = "65534";
const SECTOR: usize = 512;

fn reading(of: usize) -> String {
    json!({"id": "1", "type": "Read", "subject": format!("meter-{of}"), "time": "2026-11-20T10:00:00Z"}).to_string()
}

/// A folder that was used and closed properly.
fn used() -> Server {
    used_by(1)
}

fn used_by(meters: usize) -> Server {
    let mut server = Setup::new(RULES).start();
    let mut client = server.client();
    (0..meters).for_each(|of| client.send(reading(of)));
    client.settle(meters as u64);
    drop(client);
    assert_eq!(server.terminate().code(), Some(0));
    server
}

fn check(output: &Output, expected: &[&str]) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    for expected in expected {
        assert!(told.contains(expected), "expected {expected:?} in {told:?}");
    }
    assert!(!told.contains("panicked"), "{told}");
}

#[test]
fn a_folder_in_use() {
    let mut first = Setup::new(RULES).start();
    for _ in 0..2 {
        check(&first.run_to_end(), &["another", "stop", "data_dir"]);
    }
    assert_eq!(first.get("/readyz").status, 200, "the first goes on");
    assert_eq!(first.terminate().code(), Some(0));
    first.start();
}

#[test]
fn a_folder_that_cannot_be_made() {
    let server = Setup::new(RULES).write();
    fs::write(server.path("data"), b"a file").unwrap();
    check(&server.run_to_end(), &["cannot create or enter the data folder", "data", "server.data_dir"]);
}

/// The binary as [`NOBODY`] on this server's configuration; none where this process may not become somebody else, or
/// nobody may not run the binary.
fn run_as_nobody(server: &Server) -> Option<Output> {
    let binary = env!("CARGO_BIN_EXE_turnstile");
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", binary]).args(arguments);
        command.current_dir(server.dir()).output().ok()
    };
    if !as_nobody(&["--version"])?.status.success() {
        return None;
    }
    as_nobody(&["-c", server.path("config.toml").to_str()?, "run"])
}

/// Modes that keep others out do not keep the superuser out, as whom tests may run: so they run it as nobody.
#[test]
fn a_folder_without_permission() {
    fn modes(server: &Server, folder: u32, files: u32) {
        for path in [server.path("data"), server.path("data/journal")] {
            for entry in fs::read_dir(&path).into_iter().flatten().map(Result::unwrap) {
                let mode = if entry.path().is_dir() { folder } else { files };
                fs::set_permissions(entry.path(), Permissions::from_mode(mode)).unwrap();
            }
        }
        fs::set_permissions(server.path("data"), Permissions::from_mode(folder)).unwrap();
        for path in [server.dir(), &server.path("out")] {
            fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
        }
    }
    for (folder, files) in [(0o700, 0o600), (0o755, 0o600), (0o755, 0o644)] {
        let server = used();
        modes(&server, folder, files);
        let Some(output) = run_as_nobody(&server) else {
            eprintln!("skipped: this process cannot run the binary as somebody else (setpriv)");
            return;
        };
        check(&output, &["ermission denied", "permissions"]);
        modes(&server, 0o700, 0o600);
    }
    // Empty, and not to be written to.
    let server = Setup::new(RULES).write();
    fs::create_dir_all(server.path("data")).unwrap();
    fs::create_dir_all(server.path("out")).unwrap();
    modes(&server, 0o555, 0o444);
    let output = run_as_nobody(&server).expect("it could be run above");
    check(&output, &["ermission denied", "permissions"]);
}

/// A file system that became read-only, as the system makes it after errors of the disk.
#[test]
fn a_folder_that_is_read_only() {
    for server in [used(), Setup::new(RULES).write()] {
        fs::create_dir_all(server.path("data")).unwrap();
        let script =
            "mount --bind data data && mount -o remount,bind,ro data || exit 99; exec \"$0\" -c config.toml run";
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_turnstile")]).current_dir(server.dir());
        match command.output() {
            Ok(output) if output.status.code() == Some(3) => {
                check(&output, &["ead-only file system", "permissions"]);
            }
            Ok(output) => {
                let told = String::from_utf8_lossy(&output.stderr);
                assert!(told.contains("mount") || told.contains("unshare"), "{told}");
                eprintln!("skipped: nothing can be mounted here: {told}");
            }
            Err(error) => eprintln!("skipped: no unshare: {error}"),
        }
    }
}

/// Changes the file's first sector to say format 2, its checksum right.
fn newer_pages(path: &Path) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut sector = [0; SECTOR];
    file.read_exact_at(&mut sector, 0).unwrap();
    sector[16] += 1;
    let crc = crc32c::crc32c(&sector[..SECTOR - 4]);
    sector[SECTOR - 4..].copy_from_slice(&crc.to_le_bytes());
    file.write_all_at(&sector, 0).unwrap();
}

/// Replaces a row of a file, by its key's bytes, past everything that Turnstile looks at.
fn change_row<K: redb::Key + 'static>(
    path: &Path,
    table: &str,
    key: K::SelfType<'static>,
    change: impl FnOnce(&mut Vec<u8>),
) where
    K::SelfType<'static>: Copy,
{
    let table: TableDefinition<'_, K, &[u8]> = TableDefinition::new(table);
    let database =
        redb::Builder::new().create_with_backend(Pages::open(RealDisk.open(path).unwrap()).unwrap()).unwrap();
    let mut value = {
        let reading = database.begin_read().unwrap().open_table(table).unwrap();
        reading.get(key).unwrap().expect("the row").value().to_vec()
    };
    change(&mut value);
    let mut transaction = database.begin_write().unwrap();
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    transaction.open_table(table).unwrap().insert(key, value.as_slice()).unwrap();
    transaction.commit().unwrap();
}

/// What is newer, how it becomes so, and what to do.
type Newer = (&'static str, fn(&Server), &'static str);

/// Whatever part of the data a later version writes in another way: it is refused, and never takes itself for damage.
#[test]
fn a_file_from_a_newer_version() {
    let newer: [Newer; 5] = [
        ("pages of the store", |server| newer_pages(&server.path("data/state.redb")), "run the newer turnstile"),
        ("pages of a segment", |server| newer_pages(&server.path("data/journal/1.redb")), "use a newer turnstile"),
        (
            "the store",
            |server| {
                change_row::<&[u8]>(&server.path("data/state.redb"), "meta", b"format", |row| {
                    *row = vec![1, 4];
                    let parts = [&b"meta"[..], &6_u64.to_le_bytes(), b"format", row];
                    row.extend(crc32c::crc32c(&parts.concat()).to_le_bytes());
                });
            },
            "run the newer turnstile",
        ),
        (
            "a segment",
            |server| {
                change_row::<&str>(&server.path("data/journal/1.redb"), "segment", "header", |row| row[0] = 2);
            },
            "use a newer turnstile",
        ),
        (
            "a block",
            |server| change_row::<u64>(&server.path("data/journal/1.redb"), "blocks", 1, |block| block[0] = 4),
            "use a newer turnstile",
        ),
    ];
    for (what, make, expected) in newer {
        let server = used();
        make(&server);
        let before = fs::read(server.path("data/state.redb")).unwrap();
        println!("{what}");
        check(
            &server.run_to_end(),
            &[if matches!(what, "a block" | "the store") { "format 4" } else { "format 2" }, ".redb", expected],
        );
        if what.starts_with("pages") {
            assert_eq!(fs::read(server.path("data/state.redb")).unwrap(), before, "{what}: nothing was changed");
        }
    }
}

/// An entity whose page is damaged must not be taken for one that nothing was heard of: its next event would count
/// again, in a fresh state. Whoever meets the damage first, the process ends, and nothing is acknowledged after it.
#[test]
fn damage_that_is_met_later() {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let ask = [
        ("an event", reading(702) + "\n"),
        ("a question", get("/v1/entities/meter/meter-702")),
        ("a page of keys", get("/v1/entities/meter?limit=10&after=meter-701")),
    ];
    for (who, ask) in ask {
        let mut server = used_by(1000);
        let path = server.path("data/state.redb");
        let mut bytes = fs::read(&path).unwrap();
        let needle = b"meter\0meter-702";
        let found: Vec<_> = (0..bytes.len() - needle.len()).filter(|at| bytes[*at..].starts_with(needle)).collect();
        assert!(!found.is_empty());
        for at in found {
            bytes[at + needle.len() - 1] ^= 1;
        }
        fs::write(&path, bytes).unwrap();
        server.start();
        let mut stream = TcpStream::connect(if who == "an event" { server.tcp() } else { server.http() }).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(ask.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // The process ends before it says anything, or after it said that it cannot.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains("\"ack\"") && !answer.contains("meter-70"), "{who}: {answer}");
        let status = server.wait_for_exit();
        let told = server.stderr();
        assert_eq!(status.code(), Some(3), "{who}: {told}");
        assert!(told.contains("the store (state.redb) is damaged: the page at byte"), "{who}: {told}");
        assert!(told.contains("restore a backup") && !told.contains("panicked"), "{who}: {told}");
    }
}
