//! The journal of a server that is not running, read as it lies there: nothing in its folder is changed.

use std::collections::VecDeque;
use std::sync::Arc;

use super::error::{JournalError, at};
use super::reader::JournalReader;
use super::recover::{check_header, folder, list};
use super::segment::{self, About};
use super::segments::{Active, Sealed, Segments};
use crate::disk::Place;

impl JournalReader {
    /// Reads the journal in `data_dir`, if there is one. While this reader is kept no server can start there.
    ///
    /// # Errors
    /// A file cannot be opened (a server runs), or is not what it should be.
    pub fn of_stopped(data_dir: impl Into<Place>) -> Result<Option<JournalReader>, JournalError> {
        let dir = folder(&data_dir.into());
        let is_there = dir.exists().map_err(at(&dir.path, "look for"))?;
        let mut numbers = if is_there { list(&dir)?.numbers } else { Vec::new() };
        let Some(newest) = numbers.pop() else { return Ok(None) };
        let look = |number: u64| {
            let path = segment::path(&dir.path, number);
            let database = segment::open_read_only(&*dir.disk, &path)?;
            let about = About::read(&database, &path)?;
            Ok((path, database, about))
        };
        let (_, database, about) = look(newest)?;
        let (uuid, last_lsn) = (about.header.uuid(), about.end().last_lsn);
        let mut sealed = VecDeque::new();
        for number in numbers {
            let (path, _, about) = look(number)?;
            check_header(&about.header, number, uuid, &path)?;
            let last_lsn = about.end().last_lsn;
            sealed.push_back(Sealed { header: about.header, last_lsn });
        }
        let active = Active { header: about.header, database: Arc::new(database) };
        Ok(Some(JournalReader::new(Arc::new(Segments::new(dir, sealed, active, last_lsn)))))
    }
}
