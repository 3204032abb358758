//! Orders that meet a card which takes a generation only when told to.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use tempfile::TempDir;

use super::super::generations::Generations;
use super::super::keys::Missing;
use super::super::state::State;
use super::*;
use crate::audit::{AuditSink, Entry};
use crate::config::Limits;
use crate::edge::Sources;

struct Nowhere;

impl AuditSink for Nowhere {
    fn record(&self, _: Entry) {}
}

struct Moody {
    takes: AtomicBool,
    generations: Arc<Generations>,
}

impl Publisher for &Moody {
    async fn publish(&self, generation: Arc<Generation>) -> Result<(), String> {
        if !self.takes.load(Ordering::Relaxed) {
            return Err("no memory".to_owned());
        }
        self.generations.advance(generation);
        Ok(())
    }
}

/// A policy in which edits wait, and the address that the waiting edit denies.
struct Setting {
    folder: TempDir,
    config: Config,
    generations: Arc<Generations>,
    gate: Arc<Gate>,
    card: Moody,
    newly_denied: IpAddr,
}

impl Setting {
    fn new(reload: &str) -> (Self, State) {
        let folder = tempfile::tempdir().expect("a folder");
        let list = folder.path().join("deny.list");
        std::fs::write(&list, "192.0.2.0/24\n").expect("written");
        let file = folder.path().join("g.toml");
        let text = format!(
            "[firewall]\nmode = \"off\"\nprotect = []\nreload = \"{reload}\"\ndeny = [\"deny.list\"]\n"
        );
        std::fs::write(&file, text).expect("written");
        let config = config::load(&file).expect("valid").0;
        let state = State::load(&config, Missing::Leave, None).expect("valid").0;
        std::fs::write(&list, "192.0.2.0/24\n198.51.100.0/24\n").expect("written");
        let generations = Arc::new(Generations::new(state.generation()));
        let snapshot = state.snapshot(&config, state.generation());
        let sources = Sources { now: SystemTime::now, random: || [0; 10] };
        let gate = Arc::new(Gate::new(snapshot, Limits::default(), Arc::new(Nowhere), sources));
        let card = Moody { takes: AtomicBool::new(true), generations: Arc::clone(&generations) };
        let newly_denied = "198.51.100.7".parse().expect("an address");
        (Self { folder, config, generations, gate, card, newly_denied }, state)
    }

    /// The task, with the state of the setting.
    fn start(&self, state: State) -> Reloader<&Moody> {
        let (generations, gate) = (Arc::clone(&self.generations), Arc::clone(&self.gate));
        Reloader::new(self.config.clone(), state, generations, gate, &self.card).expect("a watch")
    }
}

fn applied(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done(report) if report.applied)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_the_card_does_not_take_changes_nothing_and_can_be_given_again() {
    let (setting, state) = Setting::new("manual");
    let mut reloader = setting.start(state);
    let Setting { gate, card, .. } = &setting;
    card.takes.store(false, Ordering::Relaxed);
    let order = Order { confirm: Some(Duration::from_secs(60)), ..Order::default() };
    let outcome = reloader.apply(&order).await;
    assert!(matches!(&outcome, Outcome::Refused { message } if message.contains("no memory")), "{outcome:?}");
    assert!(reloader.trial.is_none(), "nothing is on trial");
    reloader.refresh().await;
    assert!(gate.snapshot().admit(setting.newly_denied).is_ok());
    assert_eq!(reloader.state.generation().number(), 1);

    card.takes.store(true, Ordering::Relaxed);
    assert!(applied(&reloader.apply(&order).await));
    assert!(gate.snapshot().admit(setting.newly_denied).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_cannot_be_taken_back_at_once_is_taken_back_as_soon_as_it_can() {
    let (setting, state) = Setting::new("manual");
    let mut reloader = setting.start(state);
    let Setting { gate, card, .. } = &setting;
    let order = Order { confirm: Some(Duration::from_secs(60)), ..Order::default() };
    assert!(applied(&reloader.apply(&order).await));
    card.takes.store(false, Ordering::Relaxed);
    reloader.revert("it was not confirmed in time").await;
    let status = reloader.health().read().policy(None).expect("a policy");
    assert!(status.error.is_some_and(|error| error.contains("no memory")));
    assert!(gate.snapshot().admit(setting.newly_denied).is_err(), "the gateway follows the card");

    card.takes.store(true, Ordering::Relaxed);
    reloader.refresh().await;
    assert!(gate.snapshot().admit(setting.newly_denied).is_ok());
    let status = reloader.health().read().policy(None).expect("a policy");
    assert!(status.edits_wait && status.reverted.is_some() && status.error.is_none(), "{status:?}");
    // Looking again and again changes nothing.
    reloader.refresh().await;
    assert!(gate.snapshot().admit(setting.newly_denied).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_made_during_a_trial_waits_until_it_is_confirmed_and_no_longer() {
    let (setting, state) = Setting::new("auto");
    let mut reloader = setting.start(state);
    let order = Order { confirm: Some(Duration::from_secs(60)), ..Order::default() };
    assert!(applied(&reloader.apply(&order).await));
    std::fs::write(setting.folder.path().join("deny.list"), "203.0.113.0/24\n").expect("written");
    let later_denied = "203.0.113.7".parse().expect("an address");
    reloader.refresh().await;
    assert!(setting.gate.snapshot().admit(later_denied).is_ok());
    assert!(reloader.health().read().policy(None).is_some_and(|policy| policy.edits_wait));

    assert!(matches!(reloader.confirm(), Outcome::Done(_)));
    reloader.refresh().await;
    assert!(setting.gate.snapshot().admit(later_denied).is_err());
    assert!(reloader.health().read().policy(None).is_some_and(|policy| !policy.edits_wait));
}
