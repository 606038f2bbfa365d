//! Whether a source has what it needs of NATS, for people and for the parts of the source.

use async_nats::Event;
use prometheus::{IntCounter, IntGauge};
use tokio::sync::watch;

/// How a source stands with NATS.
pub struct Link {
    state: watch::Sender<State>,
    /// 1 while it can receive.
    connected: IntGauge,
    /// Messages that were dropped unread.
    dropped: IntCounter,
    /// Messages in the stream that the consumer has not delivered yet.
    pub lag: IntGauge,
}

#[derive(Clone, Default)]
struct State {
    /// How often a connection was made.
    connections: u64,
    is_connected: bool,
    /// Why it receives nothing; none if it does.
    problem: Option<String>,
}

impl Link {
    /// One that is not there yet.
    pub fn new(connected: IntGauge, dropped: IntCounter, lag: IntGauge) -> Self {
        let state = State { problem: Some("not connected yet".to_owned()), ..State::default() };
        Link { state: watch::Sender::new(state), connected, dropped, lag }
    }

    /// Hears what happens to the connection.
    pub(super) fn heard(&self, event: &Event) {
        match event {
            Event::Connected => self.state.send_modify(|state| {
                state.connections += 1;
                state.is_connected = true;
            }),
            Event::Disconnected | Event::Closed => {
                self.state.send_modify(|state| state.is_connected = false);
                self.set_problem(Some("not connected".to_owned()));
            }
            Event::SlowConsumer(_) => self.dropped.inc(),
            _ => {}
        }
    }

    /// Waits for a connection; tells which one it is.
    pub(super) async fn connected(&self) -> u64 {
        let mut state = self.state.subscribe();
        // The sender is `self`, so waiting cannot fail.
        state.wait_for(|state| state.is_connected).await.map_or(0, |state| state.connections)
    }

    /// Waits until this connection is there no more, or was replaced by another.
    pub(super) async fn gone(&self, connection: u64) {
        let mut state = self.state.subscribe();
        let _ = state.wait_for(|state| !state.is_connected || state.connections != connection).await;
    }

    /// Sets why nothing is received, or that messages are; tells whether that is new.
    pub(super) fn set_problem(&self, problem: Option<String>) -> bool {
        self.connected.set(i64::from(problem.is_none()));
        self.state.send_if_modified(|state| {
            let is_new = state.problem != problem;
            state.problem = problem;
            is_new
        })
    }

    /// Why nothing is received; none if messages are.
    pub fn problem(&self) -> Option<String> {
        self.state.borrow().problem.clone()
    }
}
