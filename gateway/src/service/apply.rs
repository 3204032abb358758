//! Puts edits in force by order: at once, on trial, or only for show.

use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::lists::Lists;
use super::recent::Recent;
use super::reload::{Publisher, Reloader};
use super::trial::{Trial, Waiting};
use crate::admin::apply::{AddressChange, Clients, ListChange, Order, Outcome, Report, Verdict};
use crate::config::{self, Config, Diagnostic, Firewall, Reload, Severity};
use crate::edge::Gate;
use crate::policy::{Change, Difference, Generation};

/// Orders that wait; each waits for its answer, so few suffice.
const ORDERS: usize = 4;

/// How long to wait for a list that is just being written, and how often.
const UNFINISHED: (Duration, usize) = (Duration::from_millis(600), 3);

/// What an operator has to know who tries what is not to be tried any more.
const IN_FORCE_ALREADY: &str = "there is nothing to try: with [firewall] reload = \"auto\" edits of lists are in force \
                                by themselves; set it to \"manual\" to put them in force on trial";

/// The longest trial: after a day nobody remembers it.
const LONGEST_TRIAL: Duration = Duration::from_secs(24 * 60 * 60);

/// When to try again to go back after a trial.
const RETRY: Duration = Duration::from_secs(5);

/// What the operator asked of the reloader.
pub(super) enum Asked {
    Apply(Order, oneshot::Sender<Outcome>),
    Reload(oneshot::Sender<Outcome>),
    Trial(Verdict, oneshot::Sender<Outcome>),
}

/// Gives orders to the reloader. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct ApplyHandle(mpsc::Sender<Asked>);

/// A handle, and where its orders arrive.
pub(super) fn orders() -> (ApplyHandle, mpsc::Receiver<Asked>) {
    let (sender, receiver) = mpsc::channel(ORDERS);
    (ApplyHandle(sender), receiver)
}

impl ApplyHandle {
    /// Carries out `order`. It goes on when nobody waits for the answer any more.
    pub(super) async fn apply(&self, order: Order) -> Result<Outcome, String> {
        let (reply, answer) = oneshot::channel();
        self.ask(Asked::Apply(order, reply), answer).await
    }

    /// Reads the whole configuration anew.
    pub(super) async fn reload(&self) -> Result<Outcome, String> {
        let (reply, answer) = oneshot::channel();
        self.ask(Asked::Reload(reply), answer).await
    }

    /// Ends the trial.
    pub(super) async fn end_trial(&self, verdict: Verdict) -> Result<Outcome, String> {
        let (reply, answer) = oneshot::channel();
        self.ask(Asked::Trial(verdict, reply), answer).await
    }

    async fn ask(&self, asked: Asked, answer: oneshot::Receiver<Outcome>) -> Result<Outcome, String> {
        let stopping = || "the daemon is stopping".to_owned();
        self.0.send(asked).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

/// What the files say now.
pub(super) struct Draft {
    pub(super) config: Config,
    pub(super) lists: Lists,
    pub(super) restart: Vec<&'static str>,
    pub(super) warnings: Vec<Diagnostic>,
}

pub(super) fn refused(message: impl Into<String>) -> Outcome {
    Outcome::Refused { message: message.into() }
}

pub(super) fn faulty(faults: &[Diagnostic]) -> Outcome {
    Outcome::Faulty { diagnostics: faults.iter().map(ToString::to_string).collect() }
}

impl<P: Publisher> Reloader<P> {
    /// Does what was asked.
    pub(super) async fn obey(&mut self, asked: Asked) {
        // Whoever asked may have given up, or lost the connection by the very policy; the order is
        // carried out all the same.
        match asked {
            Asked::Apply(order, reply) => {
                let outcome = self.apply(&order).await;
                let _ = reply.send(outcome);
            }
            Asked::Reload(reply) => {
                let outcome = self.reconfigure().await;
                let _ = reply.send(outcome);
            }
            Asked::Trial(verdict, reply) => {
                let outcome = match verdict {
                    Verdict::Confirm => self.confirm(),
                    Verdict::Revert if self.trial.is_some() => {
                        self.revert("it was taken back by order").await;
                        Outcome::Done(Box::new(self.unchanged()))
                    }
                    Verdict::Revert => refused("no policy is on trial: there is nothing to take back"),
                };
                let _ = reply.send(outcome);
            }
        }
    }

    async fn apply(&mut self, order: &Order) -> Outcome {
        if self.trial.is_some() && !order.dry_run {
            return refused(
                "a policy is on trial: confirm it with `gatehouse apply --confirmed`, \
                 or take it back with `gatehouse apply --revert`",
            );
        }
        if order.confirm.is_some_and(|time| time > LONGEST_TRIAL || time.is_zero()) {
            return refused("a trial takes more than no time and at most a day");
        }
        let draft = match self.draft().await {
            Ok(draft) => draft,
            Err(outcome) => return outcome,
        };
        if draft.config.firewall.is_none() {
            return refused("there is no address policy: the running configuration has no [firewall]");
        }
        let in_force = self.generations.current();
        let (config, lists) = (&draft.config, &draft.lists);
        let (generation, trimmed) = match tokio::task::block_in_place(|| self.state.propose(config, lists)) {
            Ok(proposed) => proposed,
            Err(fault) => return faulty(&[fault]),
        };
        let mut report =
            tokio::task::block_in_place(|| compare(&in_force, &generation, &self.gate, &self.recent, order));
        report.restart_needed = draft.restart.iter().map(|&what| what.to_owned()).collect();
        report.warnings = draft.warnings.iter().chain(&trimmed).map(ToString::to_string).collect();
        if order.dry_run {
            return Outcome::Done(Box::new(report));
        }
        if report.is_unchanged() && draft.config.firewall == self.config.firewall {
            if order.confirm.is_some() && self.config.firewall.as_ref().is_some_and(is_auto) {
                report.warnings.push(IN_FORCE_ALREADY.to_owned());
            }
            // Nothing that would be worth a trial: the same rules, perhaps on other lines.
            self.adopt_lines(draft).await;
            let generation = self.generations.current().number();
            return Outcome::Done(Box::new(Report { generation, ..report }));
        }
        self.put_in_force(draft, order.confirm, report).await
    }

    /// What the files say, unless they are faulty.
    async fn draft(&self) -> Result<Draft, Outcome> {
        let (fresh, warnings) = config::load(&self.config.file).map_err(|faults| faulty(&faults))?;
        let (config, restart) = self.config.with_policy_of(&fresh);
        self.draft_of(config, restart, warnings).await
    }

    /// The lists that `config` names, unless they are faulty.
    pub(super) async fn draft_of(
        &self,
        config: Config,
        restart: Vec<&'static str>,
        mut warnings: Vec<Diagnostic>,
    ) -> Result<Draft, Outcome> {
        let mut lists = self.waiting.draft.clone().unwrap_or_else(|| self.state.lists().clone());
        lists.ask_again();
        let (pause, times) = UNFINISHED;
        for _ in 0..times {
            let refreshed = tokio::task::block_in_place(|| lists.refresh(&config));
            if refreshed.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
                return Err(faulty(&refreshed.diagnostics));
            }
            warnings.extend(refreshed.diagnostics);
            if !refreshed.unfinished {
                return Ok(Draft { config, lists, restart, warnings });
            }
            tokio::time::sleep(pause).await;
        }
        Err(refused("a list is being written all the time: try again once it is complete"))
    }

    /// Takes over lists that say the same as before.
    async fn adopt_lines(&mut self, draft: Draft) {
        let adopted = tokio::task::block_in_place(|| self.state.adopt(&draft.config, draft.lists));
        if adopted.is_ok() {
            self.waiting = Waiting::default();
            self.pending = true;
            self.publish_pending().await;
            self.keep();
        }
    }

    async fn put_in_force(&mut self, draft: Draft, confirm: Option<Duration>, report: Report) -> Outcome {
        let in_force = self.generations.current();
        let adopted = tokio::task::block_in_place(|| self.state.adopt(&draft.config, draft.lists));
        let lists_before = match adopted {
            Ok((before, _)) => before,
            Err(fault) => return faulty(&[fault]),
        };
        if let Err(error) = self.publish().await {
            // Nobody has seen it. What was newer than what is in force is compiled again.
            self.state.restore(lists_before, in_force);
            return refused(format!("{error}; the policy before stays in force"));
        }
        self.pending = false;
        let config_before = std::mem::replace(&mut self.config, draft.config);
        self.waiting = Waiting::default();
        self.trial = confirm.map(|time| Trial {
            until: Instant::now() + time,
            config: config_before,
            lists: lists_before,
        });
        self.follow_config(None);
        self.say_in_force();
        self.keep();
        if let Some(trial) = &self.trial {
            log::warn!(
                "generation {} is on trial: the policy before returns in {} s unless it is confirmed",
                self.generations.current().number(),
                trial.seconds_left()
            );
        }
        Outcome::Done(Box::new(Report {
            applied: true,
            generation: self.generations.current().number(),
            confirm_within_s: self.trial.as_ref().map(Trial::seconds_left),
            ..report
        }))
    }

    fn confirm(&mut self) -> Outcome {
        if self.trial.take().is_none() {
            return refused(match &self.waiting.reverted {
                Some(reverted) => format!("no policy is on trial any more: {reverted}"),
                None => "no policy is on trial: there is nothing to confirm".to_owned(),
            });
        }
        log::info!("generation {} is confirmed", self.generations.current().number());
        // What was edited meanwhile waits no longer, unless all edits do: the next look finds it.
        if !self.edits_wait() {
            self.waiting = Waiting::default();
        }
        self.tell_health(None);
        self.keep();
        Outcome::Done(Box::new(self.unchanged()))
    }

    /// Goes back to the policy before the trial.
    pub(super) async fn revert(&mut self, why: &str) {
        let Some(Trial { config, lists, .. }) = self.trial.take() else { return };
        let tried = self.generations.current().number();
        let reverted = format!("generation {tried} was on trial and is not in force any more: {why}");
        let adopted = tokio::task::block_in_place(|| self.state.adopt(&config, lists.clone()));
        let tried = match adopted {
            Ok((tried, _)) => tried,
            // It was compiled before, so only a lack of memory or a limit can be the reason.
            Err(fault) => {
                log::error!("the policy before the trial cannot return, and it is tried again: {fault}");
                let failure = format!("the policy before the trial cannot return: {fault}");
                self.trial = Some(Trial { until: Instant::now() + RETRY, config, lists });
                return self.tell_health(Some(failure));
            }
        };
        self.config = config;
        // The files still say what was tried, or something newer that came meanwhile. They are
        // looked at once as the former configuration names them, so that only an edit is news.
        let mut draft = self.waiting.draft.take().unwrap_or(tried);
        let found = tokio::task::block_in_place(|| draft.refresh(&self.config));
        super::say(&found.diagnostics);
        let edits = !draft.say_the_same(self.state.lists());
        self.waiting = Waiting { draft: Some(draft), edits, reverted: Some(reverted.clone()) };
        self.pending = true;
        let (_, failure) = self.publish_pending().await;
        self.follow_config(failure);
        log::warn!("{reverted}; the edits wait in their files for `gatehouse apply` or the next edit");
    }

    /// A report of no change.
    fn unchanged(&self) -> Report {
        let number = self.generations.current().number();
        Report { before: number, generation: number, ..Report::default() }
    }
}

fn is_auto(firewall: &Firewall) -> bool {
    firewall.reload == Reload::Auto
}

/// What `generation` would change about the policy in force.
fn compare(
    in_force: &Generation,
    generation: &Generation,
    gate: &Gate,
    recent: &Recent,
    order: &Order,
) -> Report {
    let difference = Difference::between(in_force, generation);
    let lists = difference.lists.iter().map(|list| ListChange {
        tier: list.source.tier.name().to_owned(),
        list: list.source.list.as_deref().unwrap_or_default().to_owned(),
        prefixes: list.prefixes,
        added: list.added,
        removed: list.removed,
        packets: None,
    });
    Report {
        applied: false,
        before: in_force.number(),
        generation: generation.number(),
        lists: lists.collect(),
        dropped: addresses(&difference.dropped),
        passing: addresses(&difference.passing),
        clients: clients(in_force, generation, gate.clients(), recent.clients(), order.operator),
        ..Report::default()
    }
}

fn addresses(change: &Change) -> AddressChange {
    let example = |&(first, last): &(IpAddr, IpAddr)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    AddressChange {
        ipv4: change.v4,
        ipv6_networks: u64::try_from(change.v6_networks).unwrap_or(u64::MAX),
        examples: change.examples.iter().map(example).collect(),
    }
}

fn clients(
    in_force: &Generation,
    generation: &Generation,
    with_sessions: Vec<IpAddr>,
    reported: Vec<IpAddr>,
    operator: Option<IpAddr>,
) -> Clients {
    let mut clients =
        Clients { with_sessions: with_sessions.len(), reported: reported.len(), ..Clients::default() };
    let mut known: Vec<IpAddr> = with_sessions.into_iter().chain(reported).collect();
    known.sort_unstable();
    known.dedup();
    for client in known {
        match (in_force.decide(client).is_drop(), generation.decide(client).is_drop()) {
            (false, true) => clients.newly_dropped.add(client),
            (true, false) => clients.newly_passing.add(client),
            _ => {}
        }
    }
    clients.operator_dropped = operator.filter(|&address| generation.decide(address).is_drop());
    clients
}

#[cfg(test)]
mod tests;
