//! The sinks `file` and `stdout`: decisions as lines of JSON.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use super::lines::LineSink;

/// Appends to a file and syncs it. Holds each revision once, because it is cut back to the progress that was journaled
/// before anything is appended.
pub struct FileSink {
    file: File,
    length: u64,
}

impl FileSink {
    /// Opens or creates the file; what is beyond `length`, the journaled progress, is cut off.
    ///
    /// # Errors
    /// When the file cannot be opened, created or cut.
    pub fn open(path: &Path, length: u64) -> io::Result<Self> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(directory) = directory {
            fs::create_dir_all(directory)?;
        }
        let is_new = !path.exists();
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        let found = file.metadata()?.len();
        if found < length {
            tracing::warn!(path = %path.display(), found, noted = length, "the file is shorter than what was delivered to it; appending");
        }
        let length = length.min(found);
        file.set_len(length)?;
        file.seek(SeekFrom::Start(length))?;
        file.sync_all()?;
        if is_new {
            File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(FileSink { file, length })
    }
}

impl LineSink for FileSink {
    fn deliver(&mut self, lines: &[u8]) -> io::Result<u64> {
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Nothing of a failed delivery stays; if even that fails, the next attempt begins at the same place.
            let _ = self.file.set_len(self.length);
            self.file.seek(SeekFrom::Start(self.length))?;
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
