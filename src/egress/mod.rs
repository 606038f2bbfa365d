//! Where decisions go out: rendering, routing, dispatching, and the sinks.
//!
//! Nothing in this folder decides anything: it reads what the journal has committed.

mod addresses;
mod by_hand;
mod client;
mod cloud_event;
mod dispatcher;
mod effects;
mod file;
mod letters;
mod lines;
mod nats;
mod notes;
mod pauses;
mod routing;
mod sends;
#[cfg(test)]
mod tests;
mod webhook;
mod window;

pub use by_hand::{NotTaken, SinkControl, SkipError, Stuck, Wanted};
pub use cloud_event::write_cloud_event;
pub use dispatcher::{DispatchError, Dispatcher, DispatcherSetup, Next, NoteProgress, Outlet, SinkPhase, dispatch};
pub use effects::{Effects, EffectsSetup, NoteStep};
pub use file::{Beyond, FileSink, StdoutSink};
pub use letters::{add_body, letter_document};
pub use lines::{LineSink, Lines};
pub use nats::Nats;
pub use notes::Reached;
pub use routing::{Delivery, Routing, Takes};
pub use sends::{Bury, Outcome, Retry, Sends, SendsSetup, Sent, Transport};
pub use webhook::Webhook;
