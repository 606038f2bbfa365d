//! The gate of admission: closed while something is past its limit, such as the free disk space.

use std::sync::Mutex;

use tokio::sync::watch;

/// Open, or closed for reasons.
pub struct Gate {
    reasons: Mutex<Vec<(&'static str, String)>>,
    open: watch::Sender<bool>,
}

impl Default for Gate {
    fn default() -> Self {
        Gate { reasons: Mutex::default(), open: watch::Sender::new(true) }
    }
}

impl Gate {
    /// Sets or clears one reason, known as `name`; `why` is told to senders.
    pub fn set(&self, name: &'static str, why: Option<String>) {
        let mut reasons = self.reasons.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = reasons.len();
        reasons.retain(|(known, _)| *known != name);
        let was_set = reasons.len() < before;
        if let Some(why) = why {
            if !was_set {
                tracing::warn!("no events are admitted: {why}");
            }
            reasons.push((name, why));
        } else if was_set {
            tracing::info!("{name} is within its limit again");
        }
        self.open.send_if_modified(|open| std::mem::replace(open, reasons.is_empty()) != reasons.is_empty());
    }

    /// Whether events are admitted.
    pub fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    /// Why it is closed.
    pub fn why(&self) -> Option<String> {
        let reasons = self.reasons.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        reasons.first().map(|(_, why)| why.clone())
    }

    /// Waits until it is open.
    pub async fn opened(&self) {
        // The sender is `self`, so waiting cannot fail.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}
