//! Programs of others that tests look at Turnstile with: from PyPI, in a virtual environment below `target/`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The environment's `bin` with what `tests/requirements.txt` names; none where it cannot be had, which is said.
pub fn tools() -> Option<&'static Path> {
    static TOOLS: OnceLock<Option<PathBuf>> = OnceLock::new();
    TOOLS.get_or_init(install).as_deref()
}

fn install() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    let environment = target.join("pytools");
    let bin = environment.join("bin");
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/requirements.txt");
    let is_there = bin.join("nats-server").exists()
        && runs(Command::new(bin.join("python")).args(["-c", "import nats, standardwebhooks"]));
    let made = is_there
        || (runs(Command::new("python3").args(["-m", "venv"]).arg(&environment))
            && runs(Command::new(bin.join("python")).args(["-m", "pip", "install", "-q", "-r"]).arg(requirements)));
    if !made {
        eprintln!("SKIPPED: tests/requirements.txt cannot be installed here (python3 with venv, and PyPI)");
    }
    made.then_some(bin)
}

fn runs(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Makes an authority, and what it signed for `localhost` and for a client; false where there is no openssl.
pub fn make_certificates(dir: &Path) -> bool {
    let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca \
                  -keyout ca.key -out ca.pem && for name in server client; do \
                  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$name \
                  -addext subjectAltName=DNS:localhost -keyout $name.key -out $name.csr && \
                  openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -days 2 -copy_extensions copy \
                  -out $name.pem || exit 1; done";
    let made = Command::new("sh").args(["-c", script]).current_dir(dir).output();
    let made = made.is_ok_and(|output| output.status.success());
    if !made {
        eprintln!("SKIPPED: there is no openssl to make certificates with");
    }
    made
}
