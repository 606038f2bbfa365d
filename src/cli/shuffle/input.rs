//! The events to be shuffled, from a file or a stream.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use crate::cli::failure::{Exit, Failure};
use crate::ingress::Decoder;
use crate::model::time::Timestamp;
use crate::rehearsal::shuffle::Recording;
use crate::rules::Ruleset;

/// A longer line is no event.
const LINE_BYTES_MAX: u64 = 256 << 20;

/// Reads all events into the recording; what is refused is noted there.
///
/// # Errors
/// The file is not there (2), or cannot be read to its end (3).
pub fn read(path: &Path, decoder: &Decoder, ruleset: &Arc<Ruleset>, recording: &mut Recording) -> Result<(), Failure> {
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(|error| failed(Exit::Usage, path, error))?)
    };
    let mut source = BufReader::new(source);
    // Until an event says what time it is.
    let mut now = Timestamp::default();
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let mut limited = (&mut source).take(LINE_BYTES_MAX);
        let length = limited.read_until(b'\n', &mut bytes).map_err(|error| failed(Exit::Io, path, error))?;
        if length == 0 {
            break;
        }
        if length as u64 == LINE_BYTES_MAX && !bytes.ends_with(b"\n") {
            let message =
                format!("line {line} is longer than {LINE_BYTES_MAX} bytes: one JSON document a line is read");
            return Err(Failure::message(Exit::Usage, message));
        }
        let text = bytes.trim_ascii();
        if text.is_empty() {
            continue;
        }
        match decoder.decode(text, now) {
            Ok(event) => {
                // What comes without a time came about when its neighbours did.
                now = now.max(event.time);
                recording.add(ruleset, line, &event);
            }
            Err(refusal) => recording.refuse(line, refusal),
        }
    }
    Ok(())
}

fn failed(exit: Exit, path: &Path, error: io::Error) -> Failure {
    Failure::new(exit, anyhow::Error::new(error).context(format!("cannot read {}", path.display())))
}
