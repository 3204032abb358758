//! A policy that is in force on trial, and what it takes to go back.

use std::time::Duration;

use tokio::time::Instant;

use super::lists::Lists;
use crate::config::Config;

/// The policy in force is on trial.
#[derive(Debug)]
pub(super) struct Trial {
    /// When the policy before returns.
    pub until: Instant,
    /// The configuration before.
    pub config: Config,
    /// The lists before.
    pub lists: Lists,
}

/// What keeps edits of lists from being put in force by themselves.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// What the files say, once somebody has looked.
    pub draft: Option<Lists>,
    /// Whether that differs from what is in force.
    pub edits: bool,
    /// The files still have what a trial was to try: their next edit ends the waiting.
    pub reverted: Option<String>,
}

impl Trial {
    /// Seconds until the policy before returns.
    pub(super) fn seconds_left(&self) -> u64 {
        seconds_until(self.until)
    }
}

/// Seconds until `time`; one that has begun counts.
pub(super) fn seconds_until(time: Instant) -> u64 {
    let left = time.saturating_duration_since(Instant::now());
    left.saturating_add(Duration::from_millis(999)).as_secs()
}

/// Waits until the trial, if there is one, has run out of time.
pub(super) async fn out_of_time(trial: Option<&Trial>) {
    match trial {
        Some(trial) => tokio::time::sleep_until(trial.until).await,
        None => std::future::pending().await,
    }
}
