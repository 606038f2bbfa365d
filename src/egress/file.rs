//! The sinks `file` and `stdout`: decisions as lines of JSON.

use std::io::{self, Write};

use super::lines::LineSink;
use crate::disk::{DiskFile, Place};

/// What is done with what a file holds beyond the place that was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// It was written and not noted, and is written again: away with it.
    Cut,
    /// The node was restored from a backup and knows nothing of it: it was published, and stays. Only a line without an end
    /// goes, which nobody can have read.
    Keep,
}

/// So much of a file is looked at in search of the end of a line.
const LOOKED_AT_BYTES: u64 = 64 * 1024;

/// Appends to a file and syncs it. Holds each revision once, because it is cut back to the progress that was journaled
/// before anything is appended.
pub struct FileSink {
    file: Box<dyn DiskFile>,
    length: u64,
}

impl FileSink {
    /// Opens or creates the file; `beyond` says what becomes of what is beyond `length`, the journaled progress.
    ///
    /// # Errors
    /// When the file cannot be opened, created or cut.
    pub fn open(place: impl Into<Place>, length: u64, beyond: Beyond) -> io::Result<Self> {
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
        let length = match beyond {
            Beyond::Cut => length.min(found),
            Beyond::Keep => whole_lines(&*file, length.min(found), found)?,
        };
        file.set_length(length)?;
        file.sync()?;
        // At each opening: whoever made the file may have died between that and this.
        if let Some(folder) = folder {
            place.disk.sync_dir(&folder.path)?;
        }
        Ok(FileSink { file, length })
    }
}

impl FileSink {
    /// How long the file is.
    pub fn length(&self) -> u64 {
        self.length
    }
}

/// Where the last line of `file` ends that does, between `from` and its `end`.
fn whole_lines(file: &dyn DiskFile, from: u64, mut end: u64) -> io::Result<u64> {
    while end > from {
        let start = end.saturating_sub(LOOKED_AT_BYTES).max(from);
        let mut part = vec![0; (end - start) as usize];
        file.read_at(start, &mut part)?;
        if let Some(at) = memchr::memrchr(b'\n', &part) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(from)
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
        let mut sink = FileSink::open(&path, 0, Beyond::Cut).unwrap();
        assert_eq!(sink.deliver(b"one\n").unwrap(), 4);
        assert_eq!(sink.deliver(b"two\n").unwrap(), 8);
        drop(sink);
        let mut sink = FileSink::open(&path, 4, Beyond::Cut).unwrap();
        sink.deliver(b"2\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\n2\n");
        drop(sink);
        // Somebody took the file away: what follows is appended to a new one.
        fs::remove_file(&path).unwrap();
        let mut sink = FileSink::open(&path, 6, Beyond::Cut).unwrap();
        assert_eq!(sink.deliver(b"three\n").unwrap(), 6);
    }

    /// If this failed, a node that was restored would take decisions away that others have read, or leave half a line among
    /// them.
    #[test]
    fn after_a_restore_what_was_published_stays() {
        let long =
            format!("{}\n{}", "x".repeat(LOOKED_AT_BYTES as usize * 2), "y".repeat(LOOKED_AT_BYTES as usize + 5));
        for (found, noted, kept) in [
            ("one\ntwo\n", 4, 8),
            ("one\ntwo\nthr", 4, 8),
            ("one\ntwo", 4, 4),
            ("one\n", 4, 4),
            ("", 4, 0),
            ("one\n", 9, 4),
            (&*long, 0, LOOKED_AT_BYTES * 2 + 1),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("decisions.ndjson");
            fs::write(&path, found).unwrap();
            let mut sink = FileSink::open(&path, noted, Beyond::Keep).unwrap();
            assert_eq!(sink.length(), kept, "{found:.20?}");
            assert_eq!(sink.deliver(b"more\n").unwrap(), kept + 5);
            assert_eq!(fs::read_to_string(&path).unwrap(), found[..kept as usize].to_owned() + "more\n");
        }
    }
}
