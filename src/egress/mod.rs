//! Where decisions go out: rendering, dispatching, and the sinks.
//!
//! Nothing in this folder decides anything: it reads what the journal has committed.

mod cloud_event;
mod dispatcher;
mod file;

pub use cloud_event::{decision_id, write_cloud_event};
pub use dispatcher::{DispatchError, Dispatcher, DispatcherSetup, Next, NoteProgress, Sink, SinkPhase, dispatch};
pub use file::{FileSink, StdoutSink};
