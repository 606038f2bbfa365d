//! Certificates for tests, made by openssl in a folder of their own, and the real clients that look at them.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::{Server, tools};

/// Two authorities, what each signed, and what is no longer right.
pub struct Certificates(TempDir);

const EC: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

impl Certificates {
    /// `ca`, and by it `server`, `client` and `expired`; `other-ca`, and by it `other`. None where there is no openssl.
    pub fn make() -> Option<Certificates> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let certificates = Certificates(dir);
        let made = tools::make_certificates(certificates.dir())
            && certificates.sign("expired", "ca", -1)
            && certificates.shell(&format!(
                "openssl req -x509 {EC} -days 2 -subj /CN=other-ca -keyout other-ca.key -out other-ca.pem"
            ))
            && certificates.sign("other", "other-ca", 2);
        made.then_some(certificates)
    }

    /// Has `authority` sign a new certificate for `localhost`, good for so many days.
    pub fn sign(&self, name: &str, authority: &str, days: i32) -> bool {
        self.shell(&format!(
            "openssl req {EC} -subj /CN={name} -addext subjectAltName=DNS:localhost -keyout {name}.key -out {name}.csr && \
             openssl x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -days {days} \
             -copy_extensions copy -out {name}.pem"
        ))
    }

    fn shell(&self, script: &str) -> bool {
        let run = Command::new("sh").args(["-c", script]).current_dir(self.dir()).output();
        run.is_ok_and(|output| output.status.success())
    }

    pub fn dir(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Lines of a table that listens: with the certificate `server`, and what else is to be said.
    pub fn listener(&self, more: &str) -> String {
        let [certificate, key] = ["server.pem", "server.key"].map(|name| self.file(name).display().to_string());
        format!("tls_cert = {certificate:?}\ntls_key = {key:?}\n{more}")
    }
}

/// `localhost` and the port of an address: the name that the certificates are for.
pub fn named(address: SocketAddr) -> String {
    format!("localhost:{}", address.port())
}

/// What curl gets from `path` over TLS.
pub fn curl(server: &Server, path: &str, arguments: &[&str]) -> Output {
    let url = format!("https://{}{path}", named(server.http()));
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "60", "-w", "\n%{http_code}"]).args(arguments).arg(url);
    curl.stdin(Stdio::null()).output().expect("curl runs")
}

/// The certificate that whoever listens there shows, as `openssl s_client` sees it (PEM).
pub fn shown(address: SocketAddr) -> String {
    let client = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string(), "-showcerts"])
        .stdin(Stdio::null())
        .output();
    let text = String::from_utf8_lossy(&client.expect("openssl runs").stdout).into_owned();
    let begin = text.find("-----BEGIN CERTIFICATE-----").unwrap_or_else(|| panic!("no certificate is shown:\n{text}"));
    let end = text.find("-----END CERTIFICATE-----").expect("it ends, too");
    text[begin..end].to_owned()
}

/// Runs a Python program with `input`, which speaks TLS by Python's own `ssl`.
pub fn python(program: &str, arguments: &[&str], input: &str) -> Output {
    let mut python = Command::new("python3");
    python.arg("-c").arg(program).args(arguments);
    let mut child =
        python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("python3 runs");
    // A program that needs no input may have ended already.
    let _ = child.stdin.take().expect("stdin is a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("its output")
}
