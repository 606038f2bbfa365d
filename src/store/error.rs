//! What can go wrong with the store. Nothing here is worth a second try within the process: I/O errors are final, and
//! a refused write is a bug of the caller.

use std::io;
use std::path::PathBuf;

use crate::model::ids::{EntityKey, Lsn, Version};
use crate::vital;

/// Why the store could not be opened, read or written. The messages say what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the file, or is just making it.
    #[error(
        "{} is in use by another process; stop the other turnstile, or give this one its own data_dir",
        path.display()
    )]
    Locked { path: PathBuf },

    /// A newer version of the program wrote this. Nothing was changed.
    #[error(
        "the store's {what} (in state.redb) has format {found}, this version reads up to {expected}; run the newer turnstile that \
         wrote it, or restore a backup made by this version"
    )]
    NewerFormat { what: &'static str, found: u64, expected: u64 },

    /// An earlier version of the program wrote this. Nothing was changed.
    #[error(
        "the store (state.redb) has format {found}, which this version does not read any more (it reads {expected}); run \
         the turnstile that wrote it, or start on an empty folder"
    )]
    OlderFormat { found: u64, expected: u64 },

    /// Bytes that are not what was written: a checksum, a layout or an invariant between rows does not hold.
    #[error(
        "the store (state.redb) is damaged: {what} (table `{table}`, key `{key}`); check the disk, then restore a backup \
         of the whole data folder; nothing was guessed or repaired"
    )]
    Corrupt { what: String, table: &'static str, key: String },

    /// The disk or the file system failed. Final: only a restart recovers.
    #[error("cannot {action} the store (state.redb); see to the disk (space, permissions, cables), then restart")]
    Io { action: &'static str, source: io::Error },

    /// An earlier failure made the open file unusable. Final: only a restart recovers.
    #[error("the store was closed by an earlier failure ({0}); look for the first error in the log, then restart")]
    Unusable(String),

    /// A checkpoint tried to replace a state by an older one. Its transaction was not written.
    #[error(
        "entity {entity} is stored at version {stored} and must not go back to {offered}; this is a bug, please \
         report it",
        stored = stored.0,
        offered = offered.0
    )]
    VersionRegression { entity: EntityKey, stored: Version, offered: Version },

    /// A checkpoint tried to lower the watermark. Nothing was written.
    #[error("the watermark is {stored} and must not go back to {offered}; this is a bug, please report it")]
    WatermarkRegression { stored: Lsn, offered: Lsn },

    /// A row that could not be read back, or would be read back as another. Nothing was written.
    #[error("entity {entity} cannot be stored: {why}; this is a bug, please report it")]
    InvalidWrite { entity: EntityKey, why: &'static str },
}

/// The whole file, in [`StoreError::Corrupt`], where no table or key is known.
const WHOLE_FILE: &str = "(whole file)";

impl StoreError {
    /// Damage that redb found, or that shows in the file as a whole.
    pub(super) fn corrupt_file(what: impl Into<String>) -> Self {
        StoreError::Corrupt { what: what.into(), table: WHOLE_FILE, key: String::new() }
    }

    /// Damage of one row. `key` is shown as text if it is text, else in hex.
    pub(super) fn corrupt(table: &'static str, key: &[u8], what: impl Into<String>) -> Self {
        let key = match std::str::from_utf8(key) {
            Ok(text) => text.escape_debug().to_string(),
            Err(_) => hex(key),
        };
        StoreError::Corrupt { what: what.into(), table, key }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::from("0x"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

/// Runs what calls redb. Pages are verified before redb sees them; should it panic all the same, that is damage like any
/// other, and not a bug in whatever was being handled.
pub(super) fn guarded<T>(operation: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    // Nothing half-changed is seen again: the store is final after an error, and its file holds whole commits.
    vital::guarded(operation)
        .unwrap_or_else(|panic| Err(StoreError::corrupt_file(format!("redb cannot make sense of a page: {panic}"))))
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(source) => match source.kind() {
                // A file that is cut short or has another magic number: the disk did what it was asked to.
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                    StoreError::corrupt_file(source.to_string())
                }
                _ => StoreError::Io { action: "read or write", source },
            },
            redb::Error::Corrupted(what) => StoreError::corrupt_file(what),
            error @ (redb::Error::TableDoesNotExist(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::RepairAborted
            | redb::Error::UpgradeRequired(_)) => StoreError::corrupt_file(error.to_string()),
            other => StoreError::Unusable(other.to_string()),
        }
    }
}

/// redb has an error enum a family of operations; to us they are all one.
macro_rules! from_redb {
    ($($family:ident),*) => {$(
        impl From<redb::$family> for StoreError {
            fn from(error: redb::$family) -> Self {
                redb::Error::from(error).into()
            }
        }
    )*};
}
from_redb!(StorageError, TableError, TransactionError, CommitError, DatabaseError, SetDurabilityError);

#[cfg(test)]
mod tests {
    use super::*;

    /// A panic that gets out would be pinned on the event being handled, or end a thread unseen.
    #[test]
    fn a_panic_of_redb_is_damage() {
        for panicking in [|| panic!("page {}", 7), || panic!("page 7")] as [fn() -> Result<(), StoreError>; 2] {
            let error = guarded(panicking).expect_err("it panicked");
            assert!(matches!(&error, StoreError::Corrupt { what, .. } if what.ends_with(": page 7")), "{error}");
        }
    }

    /// A message that does not say what to do leaves whoever is on call alone with it.
    #[test]
    fn messages_say_what_to_do() {
        let cases: Vec<(StoreError, &str)> = vec![
            (StoreError::Locked { path: "data/state.redb".into() }, "stop the other turnstile"),
            (StoreError::NewerFormat { what: "file", found: 9, expected: 1 }, "run the newer turnstile"),
            (StoreError::corrupt("entities", b"order\0a", "its checksum does not match"), r"key `order\0a`"),
            (StoreError::corrupt("identities", &[0xff, 1], "its checksum does not match"), "key `0xff01`"),
            (redb::StorageError::Io(io::ErrorKind::StorageFull.into()).into(), "then restart"),
            (redb::StorageError::PreviousIo.into(), "look for the first error"),
            (redb::StorageError::Io(io::ErrorKind::UnexpectedEof.into()).into(), "restore a backup"),
        ];
        for (error, expected) in cases {
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
