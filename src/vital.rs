//! Threads that the node cannot do without: a shard's, the journal's, the checkpointer's, a sink's. A panic on one of
//! them ends the process, because what is half done there must not be acknowledged or stored; a restart recovers.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static IS_VITAL: Cell<bool> = const { Cell::new(false) };
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Makes panics on vital threads end the process, after they were logged.
pub fn end_process_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if IS_GUARDED.get() {
            return;
        }
        print(panic);
        if IS_VITAL.get() {
            tracing::error!(
                "a thread that the node cannot do without has panicked; the process ends, a restart recovers"
            );
            std::process::abort();
        }
    }));
}

/// Marks the current thread as vital.
pub fn mark() {
    IS_VITAL.set(true);
}

/// Runs what may panic without harm, such as a rule, or a look into a file. Returns the panic's message instead of ending the process.
///
/// # Errors
/// The message of the panic.
pub fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    // Within another guard, that one still holds afterwards.
    let outer = IS_GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    IS_GUARDED.set(outer);
    outcome.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guarded_panic_is_told_and_harmless() {
        assert_eq!(guarded(|| 5), Ok(5));
        assert_eq!(guarded(|| -> () { panic!("no {}", "way") }), Err("no way".to_owned()));
        assert_eq!(guarded(|| (guarded(|| 5), IS_GUARDED.get())), Ok((Ok(5), true)));
        assert!(!IS_GUARDED.get());
    }
}
