//! Where things are in a file of verified pages. Numbers are little-endian, CRCs are CRC-32C.
//!
//! ```text
//! sector 0, written once            sector 1, redb's header         then, from byte 4096 on, groups of
//! 0   magic 16 bytes                0   redb's header, 320 bytes    1 page: the CRCs of
//! 16  format u32 = 1                320 length u64                  1,024 pages of redb's
//! 20  salt 16 bytes                 508 CRC of salt, bytes 0..508
//! 36  zero
//! 508 CRC of bytes 0..508
//! ```
//!
//! A page's CRC goes over the salt, its number and its bytes, so that neither a page of another place nor one of another
//! file passes for it. Page 0 of redb holds its header and nothing else; it is rewritten in place at each commit, and
//! fits a sector together with its CRC because a disk writes a sector whole or not at all: were it torn by a power cut,
//! that could not be told from damage. All other pages redb only writes while no commit refers to them.
//!
//! The length beside the header is one that the file had when it was last synced: a file that is shorter was cut. redb
//! would take the length that it finds after a crash, and stumble over pages that are no longer there.

/// The only format there is.
pub const FORMAT: u32 = 1;

/// What redb reads and writes at a time, a multiple of it.
pub(super) const PAGE_BYTES: u64 = 4096;
pub(super) const CRC_BYTES: u64 = 4;
/// What a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;
/// redb's header in its own page 0.
pub(super) const HEADER_BYTES: usize = 320;
/// Where in the header's sector the file's length is.
pub(super) const LENGTH_AT: usize = HEADER_BYTES;
/// Where redb's header is.
pub(super) const HEADER_AT: u64 = SECTOR_BYTES as u64;
const SECTOR_CRC_AT: usize = SECTOR_BYTES - CRC_BYTES as usize;

/// Pages whose CRCs fill one page.
const GROUP_PAGES: u64 = PAGE_BYTES / CRC_BYTES;

const MAGIC: &[u8; 16] = b"turnstile pages\n";
const SALT_AT: usize = 20;

/// What tells one file's pages from another's.
pub(super) type Salt = [u8; 16];

/// The first sector of a file.
pub(super) fn first_sector(salt: &Salt) -> [u8; SECTOR_BYTES] {
    let mut sector = [0; SECTOR_BYTES];
    sector[..16].copy_from_slice(MAGIC);
    sector[16..SALT_AT].copy_from_slice(&FORMAT.to_le_bytes());
    sector[SALT_AT..SALT_AT + 16].copy_from_slice(salt);
    seal_sector(0, &mut sector);
    sector
}

/// What the first sector says, if it is sound: the format and the salt.
pub(super) fn read_first_sector(sector: &[u8; SECTOR_BYTES]) -> Option<(u32, Salt)> {
    let format = sector[16..SALT_AT].try_into().ok()?;
    let salt = sector[SALT_AT..SALT_AT + 16].try_into().ok()?;
    (sector.starts_with(MAGIC) && sector_is_sound(0, sector)).then_some((u32::from_le_bytes(format), salt))
}

/// What a CRC begins with.
pub(super) fn seed(salt: &Salt) -> u32 {
    crc32c::crc32c(salt)
}

/// The CRC of page `number` of redb.
pub(super) fn page_crc(seed: u32, number: u64, page: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(seed, &number.to_le_bytes()), page)
}

/// Puts the CRC at a sector's end.
pub(super) fn seal_sector(seed: u32, sector: &mut [u8; SECTOR_BYTES]) {
    let crc = crc32c::crc32c_append(seed, &sector[..SECTOR_CRC_AT]);
    sector[SECTOR_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
}

/// Whether a sector is as it was sealed.
pub(super) fn sector_is_sound(seed: u32, sector: &[u8; SECTOR_BYTES]) -> bool {
    let crc = crc32c::crc32c_append(seed, &sector[..SECTOR_CRC_AT]);
    sector[SECTOR_CRC_AT..] == crc.to_le_bytes()
}

/// Some of redb's pages that lie together in the file, as do their CRCs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The first one's number; never 0.
    pub first: u64,
    pub count: usize,
    /// Where in the file they are, and where their CRCs.
    pub pages_at: u64,
    pub crcs_at: u64,
}

/// The first of the runs that `count` pages from `first` on are in.
pub(super) fn run(first: u64, count: usize) -> Run {
    let (group, within) = ((first - 1) / GROUP_PAGES, (first - 1) % GROUP_PAGES);
    let group_at = PAGE_BYTES * (1 + group * (GROUP_PAGES + 1));
    Run {
        first,
        count: count.min((GROUP_PAGES - within) as usize),
        pages_at: group_at + PAGE_BYTES * (1 + within),
        crcs_at: group_at + CRC_BYTES * within,
    }
}

/// How long the file is that gives redb `bytes` bytes.
pub(super) fn file_bytes(bytes: u64) -> u64 {
    match bytes.div_ceil(PAGE_BYTES) {
        0 => SECTOR_BYTES as u64,
        pages => PAGE_BYTES * (pages + (pages - 1).div_ceil(GROUP_PAGES)),
    }
}

/// How many bytes redb has in a file of `file_bytes` bytes.
pub(super) fn redb_bytes(file_bytes: u64) -> u64 {
    let Some(behind) = (file_bytes / PAGE_BYTES).checked_sub(1) else { return 0 };
    let (groups, rest) = (behind / (GROUP_PAGES + 1), behind % (GROUP_PAGES + 1));
    PAGE_BYTES * (1 + groups * GROUP_PAGES + rest.saturating_sub(1))
}
