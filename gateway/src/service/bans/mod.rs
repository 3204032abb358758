//! Bans in force: orders of the operator, their end in time, and the file in which they outlive the
//! daemon.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};

use super::reload::{Publisher, Reloader};
use super::revocations::file::write;
use crate::admin::bans::{Order, Report};
use crate::auth::revocation::seconds;
use crate::bans::{Ban, Bans, Origin, kept};
use crate::config::{Config, Diagnostic, Limits};
use crate::policy::Tier;

const NAME: &str = "bans.json";
/// Bytes; a hundred thousand bans take less.
const MOST: u64 = 64 * 1024 * 1024;

/// Orders that wait; each waits for its answer, so few suffice.
const ORDERS: usize = 4;

/// An order, and where the answer goes.
pub(super) type Asked = (Order, oneshot::Sender<Result<Report, String>>);

/// Gives orders. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct BansHandle(mpsc::Sender<Asked>);

/// A handle, and where its orders arrive.
pub(super) fn orders() -> (BansHandle, mpsc::Receiver<Asked>) {
    let (sender, orders) = mpsc::channel(ORDERS);
    (BansHandle(sender), orders)
}

impl BansHandle {
    /// Carries `order` out.
    pub(super) async fn obey(&self, order: Order) -> Result<Report, String> {
        let stopping = || "the daemon is stopping".to_owned();
        let (reply, answer) = oneshot::channel();
        self.0.send((order, reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

/// The bans that a daemon before has left in the folder for state, without those that are over.
///
/// What cannot be read is said; a daemon, which would overwrite it, puts it `aside`.
pub(super) fn load(config: &Config, aside: bool) -> (Bans, Option<Diagnostic>) {
    let Some(file) = file(config) else { return (Bans::default(), None) };
    match read(&file, &config.limits) {
        Ok(bans) => (bans, None),
        Err(error) => {
            let mut words = format!("the bans cannot be read ({error}), and nobody is banned");
            if aside {
                let aside = file.with_extension("damaged");
                words += &match fs::rename(&file, &aside) {
                    Ok(()) => format!("; the file is kept as {}", aside.display()),
                    Err(error) => format!("; the file cannot be put aside ({error})"),
                };
            }
            (Bans::default(), Some(Diagnostic::of_file(&file, words).warning()))
        }
    }
}

fn file(config: &Config) -> Option<PathBuf> {
    config.firewall.as_ref()?;
    Some(config.state.as_deref()?.join(NAME))
}

fn read(file: &Path, limits: &Limits) -> io::Result<Bans> {
    use std::io::Read as _;
    let mut text = String::new();
    match fs::File::open(file) {
        Ok(file) => file.take(MOST).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Bans::default()),
        Err(error) => return Err(error),
    };
    Ok(kept::parse(&text, limits.bans, seconds(SystemTime::now()))?)
}

fn keep(file: &Path, bans: &Bans) -> io::Result<()> {
    write(file, &kept::text(bans)?)
}

impl<P: Publisher> Reloader<P> {
    /// Takes orders about bans.
    pub(super) fn bans_handle(&self) -> BansHandle {
        self.bans.clone()
    }

    /// Waits until a ban is over; for ever when there is none.
    pub(super) fn ban_over(&self) -> impl Future<Output = ()> + use<P> {
        let until = self.state.bans().next();
        async move {
            let Some(until) = until else { return std::future::pending().await };
            // In steps: the clock of the host can be set.
            let left = until.saturating_sub(seconds(SystemTime::now()));
            tokio::time::sleep(Duration::from_secs(left.min(60))).await;
        }
    }

    /// Takes out the bans that are over.
    pub(super) async fn end_bans(&mut self) {
        let mut bans = Bans::clone(self.state.bans());
        let over = bans.expire(seconds(SystemTime::now()));
        if over.is_empty() {
            return;
        }
        for ban in &over {
            log::info!("the ban of {} is over", ban.prefix);
        }
        if let Err(error) = self.put_bans(bans).await {
            log::error!("bans that are over stay in force: {error}");
        }
    }

    /// Carries `order` out.
    pub(super) async fn obey_about_bans(&mut self, order: Order) -> Result<Report, String> {
        if self.config.firewall.is_none() {
            return Err("there is no address policy: the configuration has no [firewall]".to_owned());
        }
        let now = seconds(SystemTime::now());
        let mut bans = Bans::clone(self.state.bans());
        bans.expire(now);
        let mut warnings = Vec::new();
        match order {
            Order::List => {}
            Order::Ban { prefix, seconds, reason } => {
                let ban = Ban {
                    prefix,
                    origin: Origin::Operator,
                    reason,
                    since: now,
                    until: now.saturating_add(seconds),
                };
                let limits = &self.config.limits;
                bans.ban(ban.clone(), limits.bans, limits.ban_duration.as_secs())
                    .map_err(|error| error.to_string())?;
                warnings.extend(self.put_bans(bans).await?);
                let generation = self.generations.current();
                for never in generation.overlapping(ban.prefix, Tier::NeverBlock) {
                    warnings.push(format!(
                        "{} is never blocked ({}), the ban does not change that",
                        never.prefix, never.list
                    ));
                }
                log::warn!("{ban}");
            }
            Order::Lift { prefix } => {
                let lifted = bans
                    .lift(prefix)
                    .ok_or_else(|| format!("{prefix} is not banned by itself: see `gatehouse bans`"))?;
                warnings.extend(self.put_bans(bans).await?);
                log::warn!("the ban of {} was lifted by the operator", lifted.prefix);
            }
        }
        Ok(Report { bans: self.state.bans().all().cloned().collect(), warnings, dropped: None })
    }

    /// Puts `bans` in force, and keeps them.
    async fn put_bans(&mut self, bans: Bans) -> Result<Option<String>, String> {
        if self.trial.is_some() {
            return Err("a policy is on trial: confirm it or take it back first".to_owned());
        }
        let before = self.state.bans().clone();
        let (config, state) = (&self.config, &mut self.state);
        tokio::task::block_in_place(|| state.ban(config, Arc::new(bans)))
            .map_err(|fault| fault.to_string())?;
        self.pending = true;
        let (published, failure) = self.publish_pending().await;
        if !published {
            // What is not in force must not look as if it were.
            let (config, state) = (&self.config, &mut self.state);
            let _ = tokio::task::block_in_place(|| state.ban(config, before));
            return Err(failure.unwrap_or_else(|| "the bans are not in force".to_owned()));
        }
        self.tell_health(None);
        let Some(file) = file(&self.config) else {
            return Ok(Some("there is no [state] folder: bans end with the daemon".to_owned()));
        };
        let kept = tokio::task::block_in_place(|| keep(&file, self.state.bans()));
        kept.err().map_or(Ok(None), |error| {
            Ok(Some(format!("{}: the bans are in force, but not kept: {error}", file.display())))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_without_what_is_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(NAME);
        let mut bans = Bans::default();
        for (prefix, until) in [("192.0.2.1/32", 200), ("198.51.100.0/24", 300)] {
            let prefix = prefix.parse().expect("a prefix");
            let ban = Ban { prefix, origin: Origin::Operator, reason: "x".to_owned(), since: 1, until };
            bans.ban(ban, 10, 1000).expect("banned");
        }
        keep(&file, &bans).expect("written");
        let text = fs::read_to_string(&file).expect("readable");
        assert_eq!(kept::parse(&text, 10, 100).expect("valid"), bans);
        assert_eq!(kept::parse(&text, 10, 250).expect("valid").all().count(), 1);
    }

    #[test]
    fn what_is_not_understood_is_put_aside_and_not_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = "[firewall]\nmode = \"off\"\n[state]\nfolder = \".\"\n";
        let config = crate::config::parse(&folder.path().join("g.toml"), text).expect("valid").0;
        fs::write(folder.path().join(NAME), "{ damaged").expect("written");
        let (bans, said) = load(&config, false);
        assert!(bans == Bans::default() && said.is_some() && folder.path().join(NAME).exists());
        let (bans, said) = load(&config, true);
        assert_eq!(bans, Bans::default());
        assert!(said.is_some_and(|said| said.to_string().contains("bans.damaged")));
        assert_eq!(fs::read_to_string(folder.path().join("bans.damaged")).expect("kept"), "{ damaged");
    }
}
