//! The whole of it: one thread that reads, one task a connection, one report.

use std::io::Read;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::connection::{self, Options, SendError};
use super::input::{self, BATCHES_WAITING_MAX, InputError};
use super::report::Report;

/// Why not everything was sent.
#[derive(Debug, thiserror::Error)]
pub enum TransmitError {
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Input(#[from] InputError),
}

/// Sends all of `source` over so many connections and waits until every line is settled.
///
/// # Errors
/// When the input cannot be read to its end (what was read is settled then) or sending was given up.
pub async fn transmit(
    source: impl Read + Send + 'static,
    connections: usize,
    options: Options,
    report: &Arc<Report>,
) -> Result<(), TransmitError> {
    let options = Arc::new(options);
    let mut lanes = Vec::with_capacity(connections);
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let (sender, receiver) = mpsc::channel(BATCHES_WAITING_MAX);
        lanes.push(sender);
        tasks.spawn(connection::run(receiver, Arc::clone(&options), Arc::clone(report)));
    }
    let (ended, end) = oneshot::channel();
    // Never joined: it may be reading from a terminal when sending is given up.
    std::thread::spawn(move || {
        // Nobody listens any more if sending was given up.
        let _ = ended.send(input::read_lines(source, lanes));
    });
    while let Some(task) = tasks.join_next().await {
        match task {
            Ok(outcome) => outcome?,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }
    // The connections end after the input; a thread that panicked has said so.
    Ok(end.await.unwrap_or(Ok(()))?)
}
