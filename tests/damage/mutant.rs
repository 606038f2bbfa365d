//! One change to one file.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rand::RngExt;
use rand::rngs::StdRng;

use super::folder::Image;

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// A change to the file `name`.
pub struct Mutant {
    name: String,
    change: Change,
}

enum Change {
    Bit {
        at: u64,
        bit: u8,
    },
    Byte {
        at: u64,
        value: u8,
    },
    Zeros {
        at: u64,
        bytes: usize,
    },
    Garbage {
        at: u64,
        bytes: Vec<u8>,
    },
    /// A page of this file, or of another, where this one has another.
    Page {
        at: u64,
        from: String,
        page: Vec<u8>,
    },
    Cut {
        to: u64,
    },
}

impl Mutant {
    pub fn new(image: &Image, random: &mut StdRng) -> Mutant {
        // Nothing reads the lock, an empty file.
        let names: Vec<&String> = image.files.keys().filter(|name| !name.ends_with("lock")).collect();
        let name = names[random.random_range(0..names.len())].clone();
        let bytes = &image.files[&name];
        let at = place(bytes, random);
        let page_at = (at / PAGE * PAGE) as u64;
        let sector_at = (at / SECTOR * SECTOR) as u64;
        let change = match random.random_range(0..12) {
            0..3 => Change::Bit { at: at as u64, bit: random.random_range(0..8) },
            3..5 => Change::Byte { at: at as u64, value: random.random() },
            5 => Change::Zeros { at: page_at, bytes: PAGE.min(bytes.len() - page_at as usize) },
            6 => Change::Zeros { at: sector_at, bytes: SECTOR },
            7 => Change::Garbage { at: sector_at, bytes: (0..SECTOR).map(|_| random.random()).collect() },
            8 => Change::Page { at: page_at, from: name.clone(), page: page(bytes, place(bytes, random)) },
            9 => {
                // Of the same place in another file, as a restored backup in parts has it.
                let from = names[random.random_range(0..names.len())];
                Change::Page { at: page_at, from: from.clone(), page: page(&image.files[from], at) }
            }
            10 => Change::Cut { to: at as u64 },
            _ => Change::Cut { to: page_at },
        };
        Mutant { name, change }
    }

    /// The sort of change.
    pub fn kind(&self) -> &'static str {
        match self.change {
            Change::Bit { .. } => "a bit flipped",
            Change::Byte { .. } => "a byte changed",
            Change::Zeros { .. } => "zeros",
            Change::Garbage { .. } => "garbage",
            Change::Page { .. } => "a page over another",
            Change::Cut { .. } => "a file cut short",
        }
    }

    pub fn apply(&self, folder: &Path) {
        let path = folder.join(&self.name);
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let put = |at: u64, bytes: &[u8]| file.write_all_at(bytes, at).unwrap();
        match &self.change {
            Change::Bit { at, bit } => put(*at, &[fs::read(&path).unwrap()[*at as usize] ^ 1 << bit]),
            Change::Byte { at, value } => put(*at, &[*value]),
            Change::Zeros { at, bytes } => put(*at, &vec![0; *bytes]),
            Change::Garbage { at, bytes } | Change::Page { at, page: bytes, .. } => put(*at, bytes),
            Change::Cut { to } => file.set_len(*to).unwrap(),
        }
    }
}

/// Mostly where something is: files have pages that were never used. And often at the beginning, where a byte decides
/// which commit counts.
fn place(bytes: &[u8], random: &mut StdRng) -> usize {
    let anywhere = |random: &mut StdRng| random.random_range(0..bytes.len());
    match random.random_range(0..10) {
        0 => random.random_range(0..2 * SECTOR),
        1 => anywhere(random),
        _ => loop {
            let at = anywhere(random);
            let sector = at / SECTOR * SECTOR;
            if bytes[sector..(sector + SECTOR).min(bytes.len())].iter().any(|byte| *byte != 0) {
                return at;
            }
        },
    }
}

fn page(bytes: &[u8], at: usize) -> Vec<u8> {
    let at = at.min(bytes.len() - 1) / PAGE * PAGE;
    bytes[at..(at + PAGE).min(bytes.len())].to_vec()
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, ", self.name, self.kind())?;
        match &self.change {
            Change::Bit { at, bit } => write!(f, "bit {bit} of byte {at}"),
            Change::Byte { at, value } => write!(f, "byte {at} to {value}"),
            Change::Zeros { at, bytes } => write!(f, "{bytes} bytes from {at} on"),
            Change::Garbage { at, bytes } => write!(f, "{} bytes from {at} on", bytes.len()),
            Change::Page { at, from, .. } => write!(f, "one of {from} at byte {at}"),
            Change::Cut { to } => write!(f, "to {to} bytes"),
        }
    }
}
