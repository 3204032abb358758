//! A policy that is in force on trial, what it takes to go back, and edits that wait.

use std::time::Duration;

use tokio::time::Instant;

use super::lists::Lists;
use super::reload::{Publisher, Reloader};
use super::state::Refreshed;
use crate::admin::lists::Accepted;
use crate::config::{Config, Reload};

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

impl<P: Publisher> Reloader<P> {
    /// Whether edits of lists are not put in force by themselves.
    pub(super) fn edits_wait(&self) -> bool {
        self.is_manual() || self.trial.is_some() || self.waiting.reverted.is_some()
    }

    fn is_manual(&self) -> bool {
        self.config.firewall.as_ref().is_some_and(|firewall| firewall.reload == Reload::Manual)
    }

    /// Accepts content that was held back among edits that wait.
    pub(super) fn accept_edit(&mut self, list: &str) -> Result<Accepted, String> {
        let mut draft = self.waiting.draft.take().unwrap_or_else(|| self.state.lists().clone());
        let accepted = tokio::task::block_in_place(|| draft.accept(list, &self.config));
        self.waiting.edits |= accepted.is_ok();
        self.waiting.draft = Some(draft);
        let (accepted, refreshed) = accepted?;
        super::say(&refreshed.diagnostics);
        log::warn!(
            "{}: accepted by the operator, with {} entries, and waits: `gatehouse apply` puts it in force",
            accepted.list,
            accepted.entries
        );
        Ok(Accepted { waits: true, ..accepted })
    }

    /// Reads everything, but leaves edits of lists out of force.
    pub(super) fn look_at_edits(&mut self) -> Refreshed {
        let mut draft = self.waiting.draft.take().unwrap_or_else(|| self.state.lists().clone());
        let lists = draft.refresh(&self.config);
        let released = lists.changed && self.trial.is_none() && !self.is_manual();
        if released {
            // The first edit after a trial that came to nothing: these files are not what was tried.
            self.waiting = Waiting::default();
            let adopted = self.state.adopt(&self.config, draft);
            let mut refreshed = self.state.refresh_around_lists(&self.config);
            refreshed.diagnostics.extend(lists.diagnostics);
            match adopted {
                Ok((_, diagnostics)) => {
                    refreshed.policy = true;
                    refreshed.diagnostics.extend(diagnostics);
                }
                Err(fault) => refreshed.diagnostics.push(fault),
            }
            return refreshed;
        }
        if lists.changed {
            self.waiting.edits = !draft.say_the_same(self.state.lists());
            if self.waiting.edits {
                log::info!("edits of lists wait: `gatehouse apply` puts them in force");
            }
        }
        self.waiting.draft = Some(draft);
        let mut refreshed = self.state.refresh_around_lists(&self.config);
        refreshed.diagnostics.extend(lists.diagnostics);
        refreshed.unfinished |= lists.unfinished;
        refreshed
    }
}
