//! The end of a process that cannot keep its promises: after an I/O error on the journal or the store nothing may be
//! acknowledged any more.

use std::error::Error;
use std::sync::Arc;

/// The exit code after an I/O error.
pub const EXIT_IO: i32 = 3;

/// Ends the process.
pub type Fatal = Arc<dyn Fn(&dyn Error) + Send + Sync>;

/// Logs the error with its causes and exits with [`EXIT_IO`].
pub fn exit() -> Fatal {
    Arc::new(|error| {
        tracing::error!("{}; nothing is acknowledged from here on, a restart recovers", causes(error));
        std::process::exit(EXIT_IO);
    })
}

/// An error and what caused it, in one line.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
