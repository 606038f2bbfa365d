//! Backups of a running node, one at a time, each on a thread of its own that others come before.

use std::ops::ControlFlow;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::error::BackupError;
use super::making::{Facts, Progress, check_empty, make};
use super::manifest::Manifest;
use crate::model::mandate::Mandate;

/// Bytes a second, unless another rate is asked for: a part of what a disk can do.
pub const RATE_DEFAULT: u64 = 64 << 20;
/// A slower one would never be done.
pub const RATE_MIN: u64 = 64 << 10;
/// Longest name of a backup's folder, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Whoever watches hears so often how far it is.
const TOLD_EVERY: Duration = Duration::from_millis(250);

/// Makes backups of a node.
pub struct Backups {
    pub facts: Facts,
    /// Where backups may be made, if anywhere.
    pub root: Option<PathBuf>,
    pub data_dir: PathBuf,
    /// So many bytes are left free on the disk: it may be the node's own.
    pub disk_free_min: u64,
    /// One is being made: nothing of the journal is to be trimmed.
    pub is_under_way: Arc<AtomicBool>,
    /// Lowers the current thread's priority.
    pub step_back: fn(),
}

/// A backup that is asked for.
#[derive(Clone, Debug)]
pub struct Ordered {
    /// The name of its folder.
    pub name: String,
    pub bytes_per_second: u64,
    pub mandate: Mandate,
}

/// How it stands with a backup.
#[derive(Clone, Debug)]
pub enum Stand {
    Begun,
    Making(Progress),
    Made(Box<Manifest>),
    Failed(Arc<BackupError>),
}

/// Why a backup was not begun.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("this server makes no backups; name a folder for them in `[server] backups`")]
    Nowhere,
    #[error(
        "{0:?} cannot be the name of a backup: it is the name of a folder in `[server] backups`, of letters, digits, `-`, `_` \
         and `.`, not beginning with `.`"
    )]
    Name(String),
    #[error("a rate is at least {RATE_MIN} bytes a second")]
    Rate,
    #[error("a backup is being made; only one is at a time")]
    Busy,
    #[error("{} is inside the data folder; a backup beside what it is of is none", .0.display())]
    InDataFolder(PathBuf),
    #[error(
        "{free} bytes are free where backups are made, and about {needed} are needed, limits.disk_free_min of them to be left"
    )]
    Space { free: u64, needed: u64 },
    #[error(transparent)]
    Folder(#[from] BackupError),
    #[error("the system starts no thread")]
    Thread(#[source] std::io::Error),
}

impl Backups {
    /// Begins a backup. It goes on as long as somebody looks at how it stands.
    ///
    /// # Errors
    /// Why it was not begun; nothing was written.
    pub fn begin(&self, ordered: Ordered) -> Result<watch::Receiver<Stand>, Refused> {
        let folder = self.folder(&ordered.name)?;
        if ordered.bytes_per_second < RATE_MIN {
            return Err(Refused::Rate);
        }
        let under_way = UnderWay::begin(&self.is_under_way).ok_or(Refused::Busy)?;
        check_empty(&folder)?;
        self.check_space(&folder)?;
        let (told, stand) = watch::channel(Stand::Begun);
        let (facts, step_back) = (self.facts.clone(), self.step_back);
        let run = move || {
            step_back();
            make_one(&facts, &ordered, &folder, &told);
            drop(under_way);
        };
        thread::Builder::new().name("backup".to_owned()).spawn(run).map_err(Refused::Thread)?;
        Ok(stand)
    }

    /// A disk that fills up under the node would close admission, or end it.
    fn check_space(&self, folder: &Path) -> Result<(), Refused> {
        let Facts { store, journal, .. } = &self.facts;
        let needed = store.file_bytes().saturating_add(journal.bytes()).saturating_add(self.disk_free_min);
        let there = folder.ancestors().find(|ancestor| ancestor.exists());
        // Where it cannot be told, the copying will tell.
        let Some(Ok(found)) = there.map(rustix::fs::statvfs) else { return Ok(()) };
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if free < needed { Err(Refused::Space { free, needed }) } else { Ok(()) }
    }

    fn folder(&self, name: &str) -> Result<PathBuf, Refused> {
        let root = self.root.as_deref().ok_or(Refused::Nowhere)?;
        if !is_name(name) {
            return Err(Refused::Name(name.chars().take(NAME_BYTES_MAX).collect()));
        }
        let folder = resolved(root).join(name);
        if folder.starts_with(resolved(&self.data_dir)) {
            return Err(Refused::InDataFolder(folder));
        }
        Ok(folder)
    }
}

/// Whether this names a folder, and no way to one.
fn is_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let mut parts = Path::new(name).components();
    let is_single = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    is_single && name.len() <= NAME_BYTES_MAX && !name.starts_with('.') && name.bytes().all(known)
}

/// The path without links, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(resolved), ..) => resolved,
        (Err(_), Some(parent), Some(name)) => {
            resolved(if parent.as_os_str().is_empty() { Path::new(".") } else { parent }).join(name)
        }
        _ => path.to_path_buf(),
    }
}

/// Holds the one place for a backup.
struct UnderWay(Arc<AtomicBool>);

impl UnderWay {
    fn begin(flag: &Arc<AtomicBool>) -> Option<Self> {
        let begun = flag.compare_exchange(false, true, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        begun.then(|| UnderWay(flag.clone()))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

fn make_one(facts: &Facts, ordered: &Ordered, folder: &Path, told: &watch::Sender<Stand>) {
    let shown = folder.display();
    let Mandate { by, why } = &ordered.mandate;
    tracing::info!(folder = %shown, by = %by, why = %why, "a backup is begun");
    let mut told_at: Option<Instant> = None;
    let mut tell = |progress| {
        let now = Instant::now();
        if told_at.is_none_or(|at| now.duration_since(at) >= TOLD_EVERY) {
            told_at = Some(now);
            told.send_replace(Stand::Making(progress));
        }
        if told.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let stand = match make(facts, &ordered.mandate, folder, ordered.bytes_per_second, &mut tell) {
        Ok(manifest) => {
            let (last_lsn, bytes) = (manifest.last_lsn, manifest.bytes());
            tracing::info!(folder = %shown, last_lsn, bytes, "a backup is made");
            Stand::Made(Box::new(manifest))
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            tracing::error!(folder = %shown, %error, cause, "a backup was not made; nothing of it is left");
            Stand::Failed(Arc::new(error))
        }
    };
    told.send_replace(stand);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, who has a token could have the server write anywhere.
    #[test]
    fn a_backup_has_a_name_and_no_path() {
        for (name, fits) in [
            ("monday", true),
            ("2026-11-21_03.00", true),
            ("", false),
            (".", false),
            ("..", false),
            (".hidden", false),
            ("a/b", false),
            ("a/", false),
            ("/etc", false),
            ("a\\b", false),
            ("a b", false),
            ("ä", false),
            (&"x".repeat(NAME_BYTES_MAX + 1), false),
        ] {
            assert_eq!(is_name(name), fits, "{name:?}");
        }
    }

    #[test]
    fn a_path_is_resolved_as_far_as_it_exists() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("real")).unwrap();
        std::os::unix::fs::symlink(real.join("real"), real.join("link")).unwrap();
        assert_eq!(resolved(&real.join("link/not/there")), real.join("real/not/there"));
    }
}
