//! A file that is read and stays as it is. redb opens only its own files for reading alone, not those of a backend; so
//! it is let write, into memory: its header, and what it notes of free pages when it closes.

use std::collections::HashMap;
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

use super::PagesError;
use super::backend::Pages;
use super::layout::PAGE_BYTES;

/// Pages of a file, overlaid with what was written since it was opened.
#[derive(Debug)]
pub struct Unchanged<B> {
    pages: Pages<B>,
    overlay: Mutex<Overlay>,
}

#[derive(Debug, Default)]
struct Overlay {
    /// As redb set it; the file's own until then.
    length: Option<u64>,
    /// By where redb wrote them: whole pages, and the header at 0.
    written: HashMap<u64, Vec<u8>>,
}

impl<B: StorageBackend> Unchanged<B> {
    /// Opens the file in `inner` for reading: whatever redb writes while it has it stays in memory. Others may do so at
    /// the same time.
    pub fn open(inner: B) -> Result<Self, PagesError> {
        Ok(Unchanged { pages: Pages::open(inner)?, overlay: Mutex::default() })
    }

    fn overlay(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: StorageBackend> StorageBackend for Unchanged<B> {
    fn len(&self) -> io::Result<u64> {
        match self.overlay().length {
            Some(length) => Ok(length),
            None => self.pages.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let page_bytes = PAGE_BYTES as usize;
        let offsets = || (offset..).step_by(page_bytes);
        let overlay = self.overlay();
        if offsets().take(out.len().div_ceil(page_bytes)).all(|offset| !overlay.written.contains_key(&offset)) {
            drop(overlay); // what is read from the file is not changed
            return self.pages.read(offset, out);
        }
        for (offset, part) in offsets().zip(out.chunks_mut(page_bytes)) {
            match overlay.written.get(&offset).and_then(|written| written.get(..part.len())) {
                Some(written) => part.copy_from_slice(written),
                None => self.pages.read(offset, part)?,
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.overlay().length = Some(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut overlay = self.overlay();
        for (offset, part) in (offset..).step_by(PAGE_BYTES as usize).zip(data.chunks(PAGE_BYTES as usize)) {
            overlay.written.insert(offset, part.to_vec());
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.pages.close()
    }

    // Shared where redb would have the file for itself: nobody changes it.

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.pages.try_lock_shared_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.pages.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.pages.lock_shared_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.pages.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.pages.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.pages.query_lock_range(start, end)
    }
}
