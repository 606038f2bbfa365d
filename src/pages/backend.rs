//! Reading and writing through checksums. Nothing is kept in memory: the CRCs of what is read often are in the system's
//! own cache, beside the pages.

use std::io;
use std::ops::Bound;

use redb::{BackendError, StorageBackend};
use uuid::Uuid;

use super::PagesError;
use super::layout::{
    self, CRC_BYTES, FORMAT, HEADER_AT, HEADER_BYTES, PAGE_BYTES, Run, SECTOR_BYTES, first_sector, page_crc,
    read_first_sector, seal_sector, sector_is_sound,
};

/// Pages whose CRCs are read at a time.
const CRCS_AT_ONCE_MAX: usize = 64;

/// A file, or what stands for one, that redb sees through checksums.
#[derive(Debug)]
pub struct Pages<B> {
    inner: B,
    /// What every CRC of this file begins with.
    seed: u32,
}

impl<B: StorageBackend> Pages<B> {
    /// Begins a file in `inner`, which must be empty.
    pub fn create(inner: B) -> Result<Self, PagesError> {
        if inner.len()? > 0 {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists).into());
        }
        let salt = Uuid::new_v4().into_bytes();
        inner.set_len(SECTOR_BYTES as u64)?;
        inner.write(0, &first_sector(&salt))?;
        Ok(Pages { inner, seed: layout::seed(&salt) })
    }

    /// Takes the file in `inner` as it is; only its first sector is looked at.
    pub fn open(inner: B) -> Result<Self, PagesError> {
        let length = inner.len()?;
        if layout::redb_bytes(length) <= PAGE_BYTES {
            return Err(PagesError::Damaged("the file is cut short"));
        }
        let mut sector = [0; SECTOR_BYTES];
        inner.read(0, &mut sector)?;
        match read_first_sector(&sector) {
            Some((FORMAT, salt)) => Ok(Pages { inner, seed: layout::seed(&salt) }),
            Some((found, _)) => Err(PagesError::Newer { found }),
            None => Err(PagesError::Damaged("its first bytes are not those of a turnstile file")),
        }
    }

    fn read_header(&self, out: &mut [u8]) -> io::Result<()> {
        let mut sector = [0; SECTOR_BYTES];
        self.inner.read(HEADER_AT, &mut sector)?;
        if !sector_is_sound(self.seed, &sector) {
            return Err(damaged("the file's header does not match its checksum".to_owned()));
        }
        out.copy_from_slice(sector.get(..out.len()).ok_or_else(unexpected)?);
        Ok(())
    }

    fn write_header(&self, header: &[u8]) -> io::Result<()> {
        let mut sector = [0; SECTOR_BYTES];
        sector.get_mut(..HEADER_BYTES).filter(|room| room.len() == header.len()).ok_or_else(unexpected)?;
        sector[..HEADER_BYTES].copy_from_slice(header);
        seal_sector(self.seed, &mut sector);
        self.inner.write(HEADER_AT, &sector)
    }

    fn read_run(&self, run: Run, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(run.pages_at, out)?;
        let mut crcs = [0; CRCS_AT_ONCE_MAX * CRC_BYTES as usize];
        let mut at = (run.first, run.crcs_at);
        for pages in out.chunks(CRCS_AT_ONCE_MAX * PAGE_BYTES as usize) {
            let crcs = &mut crcs[..pages.len() / PAGE_BYTES as usize * CRC_BYTES as usize];
            self.inner.read(at.1, crcs)?;
            for (page, crc) in pages.chunks(PAGE_BYTES as usize).zip(crcs.chunks(CRC_BYTES as usize)) {
                if page_crc(self.seed, at.0, page).to_le_bytes() != crc {
                    let offset = layout::run(at.0, 1).pages_at;
                    return Err(damaged(format!("the page at byte {offset} does not match its checksum")));
                }
                at = (at.0 + 1, at.1 + CRC_BYTES);
            }
        }
        Ok(())
    }

    fn write_run(&self, run: Run, data: &[u8]) -> io::Result<()> {
        let mut crcs = Vec::with_capacity(run.count * CRC_BYTES as usize);
        for (number, page) in (run.first..).zip(data.chunks(PAGE_BYTES as usize)) {
            crcs.extend_from_slice(&page_crc(self.seed, number, page).to_le_bytes());
        }
        self.inner.write(run.crcs_at, &crcs)?;
        self.inner.write(run.pages_at, data)
    }
}

/// The runs that `bytes` bytes at `offset` are in, each with where they are among those bytes.
fn runs(offset: u64, bytes: usize) -> io::Result<impl Iterator<Item = (Run, std::ops::Range<usize>)>> {
    let page_bytes = PAGE_BYTES as usize;
    if offset == 0 || !offset.is_multiple_of(PAGE_BYTES) || !bytes.is_multiple_of(page_bytes) {
        return Err(unexpected());
    }
    let (first, count) = (offset / PAGE_BYTES, bytes / page_bytes);
    let mut done = 0;
    Ok(std::iter::from_fn(move || {
        let run = (done < count).then(|| layout::run(first + done as u64, count - done))?;
        let from = done * page_bytes;
        done += run.count;
        Some((run, from..done * page_bytes))
    }))
}

fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// redb reads and writes whole pages, and its header; should a later redb not, then it must not get away with it.
fn unexpected() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "neither whole pages nor the header: this redb is not the one this was made for",
    )
}

impl<B: StorageBackend> StorageBackend for Pages<B> {
    fn len(&self) -> io::Result<u64> {
        Ok(layout::redb_bytes(self.inner.len()?))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset == 0 {
            return self.read_header(out);
        }
        for (run, part) in runs(offset, out.len())? {
            self.read_run(run, &mut out[part])?;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(layout::file_bytes(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset == 0 {
            return self.write_header(data);
        }
        for (run, part) in runs(offset, data.len())? {
            self.write_run(run, &data[part])?;
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    // Locks are on bytes far behind any file's end, so their places need no translation.

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
