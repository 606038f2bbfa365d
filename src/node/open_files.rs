//! The system's limit on open files: raised as far as it goes, and never used up by connections, since a journal that
//! cannot open its next segment ends the process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are kept for everything but connections: the journal, the store, sinks, threads' own, the command line's.
const FILES_KEPT: u64 = 96;
/// Fewer connections than this make no node, whatever the limit.
const CONNECTIONS_MIN: u64 = 8;

/// Raises the limit and tells how many connections each of `listeners` may have: `wanted`, or what the limit leaves.
pub(super) fn connections_max(wanted: u64, listeners: usize) -> u64 {
    let Some(files) = raised() else { return wanted };
    let max = share(wanted, listeners, files);
    if max < wanted {
        tracing::warn!(
            "the system allows {files} open files, which leaves {max} of limits.connections_max = {wanted} connections to \
             each listener; raise the limit (ulimit -n, LimitNOFILE=) or lower connections_max"
        );
    }
    max
}

fn share(wanted: u64, listeners: usize, files: u64) -> u64 {
    let left = files.saturating_sub(FILES_KEPT) / (listeners.max(1) as u64);
    wanted.min(left.max(CONNECTIONS_MIN))
}

/// The limit on open files, after raising it to what this process may have; none if there is none.
fn raised() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(_) => current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, connections would take the files that the journal needs, or there would be none at all.
    #[test]
    fn connections_get_what_is_left_of_the_open_files() {
        for (wanted, listeners, files, expected) in
            [(1024, 2, 1 << 20, 1024), (1024, 2, 256, 80), (1024, 1, 256, 160), (50, 2, 256, 50), (1024, 2, 90, 8)]
        {
            assert_eq!(
                share(wanted, listeners, files),
                expected,
                "{wanted} wanted, {listeners} listeners, {files} files"
            );
        }
    }
}
