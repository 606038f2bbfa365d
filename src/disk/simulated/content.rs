//! The bytes of a file, in pages that copies share until one of them is written.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// What a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;
/// What a file system allocates.
pub const PAGE_BYTES: usize = 4096;

/// A file's bytes. What was never written reads as zeros and takes no page.
#[derive(Clone, Debug, Default)]
pub struct Content {
    pages: BTreeMap<u64, Arc<[u8; PAGE_BYTES]>>,
    length: u64,
}

impl Content {
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Pages that take room on the disk.
    pub fn pages(&self) -> u64 {
        self.pages.len() as u64
    }

    pub fn set_length(&mut self, length: u64) {
        if length < self.length {
            let last = length / PAGE_BYTES as u64;
            let within = (length % PAGE_BYTES as u64) as usize;
            self.pages.split_off(&(last + u64::from(within > 0)));
            if let Some(page) = self.pages.get_mut(&last) {
                Arc::make_mut(page)[within..].fill(0);
            }
        }
        self.length = length;
    }

    pub fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset + out.len() as u64 > self.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (page, within, part) in parts(offset, out.len()) {
            match self.pages.get(&page) {
                Some(bytes) => out[part.clone()].copy_from_slice(&bytes[within..within + part.len()]),
                None => out[part].fill(0),
            }
        }
        Ok(())
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (page, within, part) in parts(offset, bytes.len()) {
            let found = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(found)[within..within + part.len()].copy_from_slice(&bytes[part]);
        }
        self.length = self.length.max(offset + bytes.len() as u64);
    }

    /// How many of `bytes` at `offset` can be written when no more than `pages` are free.
    pub fn fits(&self, offset: u64, bytes: usize, pages: u64) -> usize {
        let mut left = pages;
        for (page, _, part) in parts(offset, bytes) {
            if !self.pages.contains_key(&page) {
                if left == 0 {
                    return part.start;
                }
                left -= 1;
            }
        }
        bytes
    }

    /// All of it.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = vec![0; self.length as usize];
        self.read(0, &mut all).unwrap();
        all
    }
}

/// Cuts `length` bytes at `offset` at the borders of pages: the page, where in it, which of the bytes.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = (at % PAGE_BYTES as u64) as usize;
        let part = done..length.min(done + PAGE_BYTES - within);
        done = part.end;
        (!part.is_empty()).then_some((at / PAGE_BYTES as u64, within, part))
    })
}
