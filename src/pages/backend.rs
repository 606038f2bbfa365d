//! Reading and writing through checksums. Nothing is kept in memory: the CRCs of what is read often are in the system's
//! own cache, beside the pages.

use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{BackendError, StorageBackend};
use uuid::Uuid;

use super::PagesError;
use super::layout::{
    self, CRC_BYTES, FORMAT, HEADER_AT, HEADER_BYTES, LENGTH_AT, PAGE_BYTES, Run, SECTOR_BYTES, Salt, first_sector,
    page_crc, read_first_sector, seal_sector, sector_is_sound,
};

/// Pages whose CRCs are read at a time.
const CRCS_AT_ONCE_MAX: usize = 64;

/// A file, or what stands for one, that redb sees through checksums.
#[derive(Debug)]
pub struct Pages<B> {
    inner: B,
    /// What every CRC of this file begins with.
    seed: u32,
    /// How long the file is for sure, after a power cut too; 0 until it is known.
    synced_bytes: AtomicU64,
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
        Ok(Pages::new(inner, &salt))
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
            Some((FORMAT, salt)) => Ok(Pages::new(inner, &salt)),
            Some((found, _)) => Err(PagesError::Newer { found }),
            None => Err(PagesError::Damaged("its first bytes are not those of a turnstile file")),
        }
    }

    fn new(inner: B, salt: &Salt) -> Self {
        Pages { inner, seed: layout::seed(salt), synced_bytes: AtomicU64::new(0) }
    }

    /// redb looks at the header first, once it has locked the file. So this is where a file that was cut is found: before
    /// the lock, another process could be at work on it.
    fn read_header(&self, out: &mut [u8]) -> io::Result<()> {
        let sector = self.header_sector()?;
        let noted = noted_length(&sector);
        let length = self.inner.len()?;
        if length < noted {
            return Err(damaged(format!("the file is cut short, it has {length} of {noted} bytes")));
        }
        // Later ones are noted when they are synced.
        let _ = self.synced_bytes.compare_exchange(0, noted, Ordering::Relaxed, Ordering::Relaxed);
        out.copy_from_slice(sector[..HEADER_BYTES].get(..out.len()).ok_or_else(unexpected)?);
        Ok(())
    }

    fn header_sector(&self) -> io::Result<[u8; SECTOR_BYTES]> {
        let mut sector = [0; SECTOR_BYTES];
        self.inner.read(HEADER_AT, &mut sector)?;
        if !sector_is_sound(self.seed, &sector) {
            return Err(damaged("the file's header does not match its checksum".to_owned()));
        }
        Ok(sector)
    }

    fn write_header(&self, header: &[u8]) -> io::Result<()> {
        let header: &[u8; HEADER_BYTES] = header.try_into().map_err(|_| unexpected())?;
        let mut sector = [0; SECTOR_BYTES];
        sector[..HEADER_BYTES].copy_from_slice(header);
        self.write_header_sector(sector, self.synced_bytes.load(Ordering::Relaxed))
    }

    fn write_header_sector(&self, mut sector: [u8; SECTOR_BYTES], length: u64) -> io::Result<()> {
        sector[LENGTH_AT..LENGTH_AT + 8].copy_from_slice(&length.to_le_bytes());
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

/// The length in a sound header sector.
fn noted_length(sector: &[u8; SECTOR_BYTES]) -> u64 {
    let mut length = [0; 8];
    length.copy_from_slice(&sector[LENGTH_AT..LENGTH_AT + 8]);
    u64::from_le_bytes(length)
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
        let length = layout::file_bytes(len);
        if length < self.synced_bytes.load(Ordering::Relaxed) {
            // Noted for good before it is true, so that a power cut does not leave a file that seems to be cut.
            self.write_header_sector(self.header_sector()?, length)?;
            self.inner.sync_data()?;
            self.synced_bytes.store(length, Ordering::Relaxed);
        }
        self.inner.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        let length = self.inner.len()?;
        self.inner.sync_data()?;
        self.synced_bytes.store(length, Ordering::Relaxed);
        Ok(())
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
