//! The trace an event belongs to, as W3C Trace Context and CloudEvents' extension for distributed tracing write it.
//!
//! It is in the event's extensions and so in its record: whoever finds the record finds the trace, and no state holds it.

use std::fmt;

use super::event::{Event, PackedEvent};
use super::record::{Input, Record};
use super::value::Value;

/// The extensions of events, and the headers of requests, that carry it.
pub const TRACEPARENT: &str = "traceparent";
pub const TRACESTATE: &str = "tracestate";
/// A longer `tracestate` is not passed on, as the standard allows.
const STATE_BYTES_MAX: usize = 512;
/// The flag that says that the trace is recorded.
const SAMPLED: u8 = 1;

/// A place in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace: [u8; 16],
    pub span: [u8; 8],
    pub flags: u8,
    /// What tracing systems add, of which we know nothing.
    pub state: Option<Box<str>>,
}

impl TraceContext {
    /// Reads a `traceparent`, and the `tracestate` beside it. None if the first is none; then there is no trace.
    pub fn parse(parent: &str, state: Option<&str>) -> Option<Self> {
        let mut parts = parent.split('-');
        let version = hex::<1>(parts.next()?)?[0];
        let (trace, span, flags) = (hex(parts.next()?)?, hex(parts.next()?)?, hex::<1>(parts.next()?)?[0]);
        let is_whole = parts.next().is_none() || version > 0;
        let state = state.filter(|state| !state.is_empty() && state.len() <= STATE_BYTES_MAX);
        let state = state.filter(|state| state.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        (is_whole && version != 0xff && trace != [0; 16] && span != [0; 8]).then(|| TraceContext {
            trace,
            span,
            flags: flags & SAMPLED,
            state: state.map(Box::from),
        })
    }

    /// Where the event says it belongs.
    pub fn of(event: &Event) -> Option<Self> {
        let text = |name: &str| event.extensions.get(name).and_then(Value::as_str);
        TraceContext::parse(text(TRACEPARENT)?, text(TRACESTATE))
    }

    /// The same of a journaled event.
    pub fn of_packed(event: &PackedEvent) -> Option<Self> {
        let extensions = event.extensions.as_ref()?;
        let parent = extensions.select(&[TRACEPARENT])?;
        let state = extensions.select(&[TRACESTATE]);
        TraceContext::parse(parent.as_str()?, state.as_ref().and_then(Value::as_str))
    }

    /// Where what led to the record belongs.
    pub fn of_record(record: &Record) -> Option<Self> {
        match &record.input {
            Input::Event(input) => TraceContext::of_packed(&input.event),
            _ => None,
        }
    }

    /// Whether those who come before record the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// A place in the same trace that is recorded.
    #[must_use]
    pub fn at(&self, span: [u8; 8]) -> Self {
        TraceContext { span, flags: self.flags | SAMPLED, ..self.clone() }
    }

    /// Names and values of the headers that carry it.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let state = self.state.as_ref().map(|state| (TRACESTATE, state.to_string()));
        std::iter::once((TRACEPARENT, self.to_string())).chain(state)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TraceContext { trace, span, flags, .. } = self;
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", u128::from_be_bytes(*trace), u64::from_be_bytes(*span))
    }
}

/// Lower-case hexadecimal digits, exactly so many.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    /// If this failed, traces would break here, or senders could have anything put into our headers.
    #[test]
    fn what_is_valid_is_passed_on_and_nothing_else() {
        for (text, passed_on) in [
            (PARENT, Some(PARENT.to_owned())),
            (&PARENT.replace("-01", "-00"), Some(PARENT.replace("-01", "-00"))),
            (&PARENT.replace("-01", "-03"), Some(PARENT.to_owned())),
            // A later version may say more; what we know of it is at the same place.
            (&format!("01{}-more", &PARENT[2..]), Some(PARENT.to_owned())),
            (&format!("{PARENT}-more"), None),
            (&PARENT.replacen("00", "ff", 1), None),
            (&PARENT.to_uppercase(), None),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-01", None),
            ("é0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None),
            ("", None),
        ] {
            assert_eq!(TraceContext::parse(text, None).map(|context| context.to_string()), passed_on, "{text}");
        }
        for (state, passed_on) in [("a=1,b=2", true), ("", false), ("a=1\r\nx: y", false), (&"a".repeat(513), false)] {
            let context = TraceContext::parse(PARENT, Some(state)).unwrap();
            assert_eq!(context.state.as_deref(), passed_on.then_some(state));
            assert_eq!(context.headers().count(), 1 + usize::from(passed_on));
        }
        let context = TraceContext::parse(PARENT, None).unwrap();
        assert!(context.is_sampled() && !TraceContext { flags: 0, ..context.clone() }.is_sampled());
        assert_eq!(context.at([1; 8]).trace, context.trace);
    }
}
