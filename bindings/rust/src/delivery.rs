use crate::abi::*;
use crate::host::{HostInner, Open};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

/// How a delivery ended. The convenience functions name the usual ones: `Outcome::retry("disk full")`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored or accepted by the destination.
    Delivered,
    /// The attempt failed for now; the gateway delivers the profile again.
    Retry {
        /// For people.
        reason: String,
        /// No earlier attempt; zero leaves it to the gateway.
        after: Duration,
        /// Handed back at the next attempt, say, a bit for each endpoint that has the profile.
        progress: u64,
        /// The destination's own status, where it speaks HTTP; else 0.
        http_status: u32,
    },
    /// This profile will never be taken.
    Rejected {
        /// For people.
        reason: String,
        /// The destination's own status, where it speaks HTTP; else 0.
        http_status: u32,
        /// The destination's word to the sender, without secrets.
        sender_message: String,
    },
    /// Given up because of `abort`.
    Aborted,
}

impl Outcome {
    /// A failure for now. The gateway chooses the time of the next attempt.
    pub fn retry(reason: impl Into<String>) -> Outcome {
        Outcome::Retry { reason: reason.into(), after: Duration::ZERO, progress: 0, http_status: 0 }
    }

    /// A failure for ever.
    pub fn rejected(reason: impl Into<String>) -> Outcome {
        Outcome::Rejected { reason: reason.into(), http_status: 0, sender_message: String::new() }
    }

    /// Gives the outcome as the header's struct to `body`.
    pub(crate) fn with<R>(&self, body: impl FnOnce(&gw_outcome) -> R) -> R {
        let none = gw_slice::of(&[]);
        let mut raw = gw_outcome {
            size: std::mem::size_of::<gw_outcome>(),
            status: GW_STATUS_DELIVERED,
            retry_after_ns: 0,
            progress: 0,
            http_status: 0,
            reason: none,
            sender_message: none,
        };
        match self {
            Outcome::Delivered => {}
            Outcome::Aborted => raw.status = GW_STATUS_ABORTED,
            Outcome::Retry { reason, after, progress, http_status } => {
                raw.status = GW_STATUS_RETRY;
                raw.retry_after_ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
                raw.progress = *progress;
                raw.http_status = *http_status;
                raw.reason = gw_slice::of(reason.as_bytes());
            }
            Outcome::Rejected { reason, http_status, sender_message } => {
                raw.status = GW_STATUS_REJECTED;
                raw.http_status = *http_status;
                raw.reason = gw_slice::of(reason.as_bytes());
                raw.sender_message = gw_slice::of(sender_message.as_bytes());
            }
        }
        body(&raw)
    }
}

/// One attempt to hand a profile over, or one flush. It may be kept and finished later, from any thread.
///
/// One that is dropped without an outcome is `rejected`, since the gateway would wait for it in vain.
#[must_use = "a delivery that is dropped counts as rejected"]
pub struct Delivery {
    host: Arc<HostInner>,
    open: Arc<Open>,
    attempt: u32,
    progress: u64,
}

thread_local! {
    /// During a call into the plugin, the operations that a panic has dropped: the call finishes them with the panic's text.
    static DROPPED: RefCell<Option<Vec<Arc<Open>>>> = const { RefCell::new(None) };
}

impl Delivery {
    pub(crate) fn new(host: &Arc<HostInner>, open: &Arc<Open>, attempt: u32, progress: u64) -> Delivery {
        Delivery { host: host.clone(), open: open.clone(), attempt, progress }
    }

    /// The number of the attempt, 1 for the first; 0 for a flush.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What the last attempt left in [`Outcome::Retry`]; 0 at first, or after a change of plugin or config.
    pub fn progress(&self) -> u64 {
        self.progress
    }

    /// Whether `abort` has ended it already, so that its work can stop.
    pub fn is_over(&self) -> bool {
        self.open.is_finished()
    }

    /// Reports the outcome. It is ignored where `abort` has ended the delivery before.
    pub fn finish(self, outcome: Outcome) {
        self.host.finish(&self.open, &outcome);
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.open.is_finished() {
            return;
        }
        if std::thread::panicking() {
            // The call that panics on this thread has more to say: the panic's text.
            let keep = |dropped: &RefCell<Option<Vec<Arc<Open>>>>| dropped.borrow_mut().as_mut().map(|list| list.push(self.open.clone()));
            if DROPPED.try_with(keep).ok().flatten().is_none() {
                self.host.finish(&self.open, &Outcome::rejected("a panic of the plugin dropped the delivery"));
            }
            return;
        }
        self.host.finish(&self.open, &Outcome::rejected("the plugin dropped the delivery without an outcome"));
    }
}

/// Runs a call into the plugin, and returns what it dropped while it panicked.
pub(crate) fn collecting_dropped<R>(body: impl FnOnce() -> R) -> (R, Vec<Arc<Open>>) {
    DROPPED.with(|dropped| *dropped.borrow_mut() = Some(Vec::new()));
    let result = body();
    (result, DROPPED.with(|dropped| dropped.borrow_mut().take()).unwrap_or_default())
}
