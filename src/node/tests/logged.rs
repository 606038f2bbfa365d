//! What the process logs while these tests run, as JSON.

use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::Value;

/// Lines so far, of all tests.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps what is logged from now on; gives the first line that has `member` with this value.
pub(super) fn keep_lines() -> impl Fn(&str, &str) -> Value {
    static LINES: OnceLock<Lines> = OnceLock::new();
    let lines = LINES.get_or_init(|| {
        let lines = Lines::default();
        let to = lines.clone();
        let builder = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || to.clone());
        builder.try_init().expect("no other test logs");
        lines
    });
    |member, value| {
        let bytes = lines.0.lock().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let mut parsed = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
        parsed.find(|line| line[member] == value).unwrap_or_else(|| panic!("no line with {member} = {value}:\n{text}"))
    }
}
