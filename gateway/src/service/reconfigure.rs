//! Puts the whole configuration in force anew: everything is read and judged first, and then it is
//! swapped at once. Sessions stay, and are judged again by what is in force then.

use std::fmt;

use super::apply::{Draft, faulty, refused};
use super::keys::Keys;
use super::reload::{Publisher, Reloader};
use super::trial::Waiting;
use crate::admin::apply::{Outcome, Report};
use crate::config::{self, Config};

/// What the daemon does besides when the configuration is another one: tasks end and begin.
pub(super) struct Following {
    whole: Box<Follow>,
    policy: Box<FollowPolicy>,
}

type Follow = dyn Fn(&Config, &Keys) + Send + Sync;
type FollowPolicy = dyn Fn(&Config) + Send + Sync;

impl Following {
    /// `follow` is called with what is in force from then on.
    pub(super) fn new(follow: impl Fn(&Config, &Keys) + Send + Sync + 'static) -> Self {
        Self { whole: Box::new(follow), policy: Box::new(|_| {}) }
    }

    /// `follow` is called as well when the address policy alone is another one: by `gatehouse apply`,
    /// or when it is taken back.
    #[must_use]
    pub(super) fn policy(self, follow: impl Fn(&Config) + Send + Sync + 'static) -> Self {
        Self { policy: Box::new(follow), ..self }
    }

    /// Calls what follows the address policy.
    pub(super) fn policy_is(&self, config: &Config) {
        (self.policy)(config);
    }
}

impl Default for Following {
    fn default() -> Self {
        Self::new(|_, _| {})
    }
}

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Following")
    }
}

impl<P: Publisher> Reloader<P> {
    /// The same, which calls `following` when the configuration is another one.
    #[must_use]
    pub(super) fn followed_by(mut self, following: Following) -> Self {
        self.following = following;
        self
    }

    /// Reads the configuration and all its files anew, and puts them in force as a whole; when anything
    /// is wrong with them, nothing changes.
    pub(super) async fn reconfigure(&mut self) -> Outcome {
        let outcome = self.try_to_reconfigure().await;
        self.health().configured(matches!(outcome, Outcome::Done(_)));
        outcome
    }

    async fn try_to_reconfigure(&mut self) -> Outcome {
        if self.trial.is_some() {
            return refused(
                "a policy is on trial: confirm it with `gatehouse apply --confirmed`, \
                 or take it back with `gatehouse apply --revert`",
            );
        }
        let (fresh, warnings) = match config::load(&self.config.file) {
            Ok(loaded) => loaded,
            Err(faults) => return faulty(&faults),
        };
        let (config, restart) = self.config.reloaded_as(&fresh);
        let draft = match self.draft_of(config, restart, warnings).await {
            Ok(draft) => draft,
            Err(outcome) => return outcome,
        };
        let gateway = tokio::task::block_in_place(|| self.state.prepare(&self.config, &draft.config));
        let (gateway, found) = match gateway {
            Ok(prepared) => prepared,
            Err(faults) => return faulty(&faults),
        };
        let Draft { config, lists, restart, mut warnings } = draft;
        warnings.extend(found);
        let bound = self.listeners.as_mut().map(|listeners| listeners.bind(&config)).transpose();
        let bound = match bound {
            Ok(bound) => bound,
            Err(error) => {
                let cause = std::error::Error::source(&error)
                    .map_or_else(String::new, |source| format!(" ({source})"));
                return refused(format!(
                    "{error}{cause}; everything stays as it was. An address that overlaps one in force, such as \
                     0.0.0.0 and 127.0.0.1 with the same port, takes a restart"
                ));
            }
        };
        let before = self.generations.current();
        if config.firewall.is_some() {
            let lists_before = match tokio::task::block_in_place(|| self.state.adopt(&config, lists)) {
                Ok((before, trimmed)) => {
                    warnings.extend(trimmed);
                    before
                }
                Err(fault) => return faulty(&[fault]),
            };
            if let Err(error) = self.publish().await {
                self.state.restore(lists_before, before);
                return refused(format!("{error}; everything stays as it was"));
            }
            self.pending = false;
        }
        self.state.take(gateway);
        self.config = config;
        self.waiting = Waiting::default();
        if let Some(listeners) = &mut self.listeners {
            listeners.close_others(&self.config);
        }
        // Before anybody is judged by them: keys that were kept are in force then.
        (self.following.whole)(&self.config, self.state.keys());
        self.follow_config(None);
        if let Some((listeners, bound)) = self.listeners.as_mut().zip(bound) {
            listeners.open(bound, &self.gate);
        }
        self.keep();
        let generation = self.generations.current().number();
        log::info!("the configuration was read anew");
        Outcome::Done(Box::new(Report {
            applied: true,
            before: before.number(),
            generation,
            restart_needed: restart.iter().map(|&what| what.to_owned()).collect(),
            warnings: warnings.iter().map(ToString::to_string).collect(),
            ..Report::default()
        }))
    }
}
