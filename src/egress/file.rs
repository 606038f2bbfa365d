//! The sinks `file` and `stdout`: decisions as lines of JSON.

use std::io::{self, Write};

use super::lines::LineSink;
use crate::disk::{DiskFile, Place};

/// Appends to a file and syncs it. Holds each revision once, because it is cut back to the progress that was journaled
/// before anything is appended.
pub struct FileSink {
    file: Box<dyn DiskFile>,
    length: u64,
}

impl FileSink {
    /// Opens or creates the file; what is beyond `length`, the journaled progress, is cut off.
    ///
    /// # Errors
    /// When the file cannot be opened, created or cut.
    pub fn open(place: impl Into<Place>, length: u64) -> io::Result<Self> {
        let place = place.into();
        let folder = place.parent();
        if let Some(folder) = &folder {
            folder.create_dirs()?;
        }
        let mut file = place.disk.open_file(&place.path)?;
        let found = file.length()?;
        if found < length {
            tracing::warn!(path = %place.path.display(), found, noted = length, "the file is shorter than what was delivered to it; appending");
        }
        let length = length.min(found);
        file.set_length(length)?;
        file.sync()?;
        // At each opening: whoever made the file may have died between that and this.
        if let Some(folder) = folder {
            place.disk.sync_dir(&folder.path)?;
        }
        Ok(FileSink { file, length })
    }
}

impl LineSink for FileSink {
    fn deliver(&mut self, lines: &[u8]) -> io::Result<u64> {
        if let Err(error) = self.file.write_at(self.length, lines).and_then(|()| self.file.sync()) {
            // Nothing of a failed delivery stays; if even that fails, the next attempt begins at the same place.
            let _ = self.file.set_length(self.length);
            return Err(error);
        }
        self.length += lines.len() as u64;
        Ok(self.length)
    }
}

/// Prints to standard output. After a crash, up to a second's decisions are printed again.
pub struct StdoutSink;

impl LineSink for StdoutSink {
    fn deliver(&mut self, lines: &[u8]) -> io::Result<u64> {
        let mut out = io::stdout().lock();
        out.write_all(lines)?;
        out.flush()?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_came_after_the_journaled_progress_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out/decisions.ndjson");
        let mut sink = FileSink::open(&path, 0).unwrap();
        assert_eq!(sink.deliver(b"one\n").unwrap(), 4);
        assert_eq!(sink.deliver(b"two\n").unwrap(), 8);
        drop(sink);
        let mut sink = FileSink::open(&path, 4).unwrap();
        sink.deliver(b"2\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\n2\n");
        drop(sink);
        // Somebody took the file away: what follows is appended to a new one.
        fs::remove_file(&path).unwrap();
        let mut sink = FileSink::open(&path, 6).unwrap();
        assert_eq!(sink.deliver(b"three\n").unwrap(), 6);
    }
}
