//! Everything of one test: the host, the daemon on it, and the service behind the gate.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::answer::Rejection;
use crate::client::{Attempt, Client};
use crate::daemon::Daemon;
use crate::host::Host;
use crate::log::Entry;
use crate::plan::{Plan, good_token};
use crate::process::PATIENCE;
use crate::token::{Key, Token};
use crate::upstream::Upstream;

/// How soon a drop must be in the log and an edited list in force. The promise is a second; a test
/// that shares two cores with other tests gives it three, which is still less than the five after
/// which the daemon would look by itself.
pub const PROMPTLY: Duration = Duration::from_secs(3);
/// How long a client waits before it takes silence for an answer.
pub const SILENCE: Duration = Duration::from_secs(1);

/// A running system. The fields are dropped in their order.
#[derive(Debug)]
pub struct Scene {
    /// The daemon.
    pub daemon: Daemon,
    /// The service behind the gate.
    pub upstream: Upstream,
    /// Where both run, and the clients.
    pub host: Host,
    /// The key of the issuer that the usual plan trusts.
    pub key: Key,
    folder: TempDir,
}

/// What a client gets that is rejected: HTTP status, layer, reason.
pub type Expected<'a> = (u16, &'a str, &'a str);

impl Scene {
    /// The usual system.
    pub fn usual() -> Result<Self> {
        Self::with(Key::generate("ES256", "key-1")?, |_, plan| Ok(plan))
    }

    /// The usual system with `key` as the issuer's, changed by `change`.
    pub fn with(key: Key, change: impl FnOnce(&Key, Plan) -> Result<Plan>) -> Result<Self> {
        Ok(Self::beside(key, change, |_, _, _| Ok(()))?.0)
    }

    /// The same with what `start` makes of the host, the folder of the configuration and the key, before
    /// the daemon starts.
    pub fn beside<T>(
        key: Key,
        change: impl FnOnce(&Key, Plan) -> Result<Plan>,
        start: impl FnOnce(&Host, &Path, &Key) -> Result<T>,
    ) -> Result<(Self, T)> {
        let plan = change(&key, Plan::usual(&key))?;
        let folder = tempfile::tempdir()?;
        let config = plan.write(folder.path())?;
        let host = Host::new()?;
        let upstream = Upstream::start(&host)?;
        let beside = start(&host, folder.path(), &key)?;
        let daemon = Daemon::start(&host, &config)?;
        Ok((Self { daemon, upstream, host, key, folder }, beside))
    }

    /// Ends the test: the daemon must stop cleanly.
    pub fn end(mut self) -> Result<()> {
        self.daemon.stop()
    }

    /// A file beside the configuration.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.file("gatehouse.toml")
    }

    /// Replaces a file beside the configuration in one step, as careful editors do.
    pub fn edit(&self, name: &str, content: &str) -> Result<()> {
        let fresh = self.file(&format!("{name}.new"));
        fs::write(&fresh, content)?;
        Ok(fs::rename(fresh, self.file(name))?)
    }

    /// A token that the usual plan admits.
    pub fn token(&self) -> Result<String> {
        self.sign(good_token()?)
    }

    /// `token`, signed by the issuer.
    pub fn sign(&self, token: Token) -> Result<String> {
        token.sign(&self.key)
    }

    /// Makes `attempt` with `client`; it must be admitted.
    pub fn admits(&self, client: Client, attempt: &Attempt) -> Result<()> {
        attempt.by(client, &self.host)?.admitted().with_context(|| format!("client: {client:?}"))
    }

    /// Makes `attempt` with `client`; the answer and the log must name the layer and the reason,
    /// under the same id, and the log must not hold what the client sent as credentials.
    pub fn rejects(
        &self,
        client: Client,
        attempt: &Attempt,
        expected: Expected<'_>,
    ) -> Result<(Rejection, Entry)> {
        self.check_rejection(client, attempt, expected)
            .with_context(|| format!("client: {client:?}, expected: {expected:?}"))
    }

    fn check_rejection(
        &self,
        client: Client,
        attempt: &Attempt,
        (status, layer, reason): Expected<'_>,
    ) -> Result<(Rejection, Entry)> {
        let rejection = attempt.by(client, &self.host)?.rejected()?;
        ensure!(
            (rejection.answer.status, &*rejection.layer, &*rejection.reason) == (status, layer, reason),
            "the client was told {rejection:#?}"
        );
        let entry = self.daemon.wait_for("the rejection", PATIENCE, |entry| {
            entry.field("ID") == Some(&rejection.id) && entry.field("LAYER").is_some()
        })?;
        let logged = ["LAYER", "REASON", "POINT", "CLIENT"].map(|name| entry.field(name).unwrap_or_default());
        ensure!(
            logged == [layer, reason, "gateway", &attempt.source.to_string()],
            "the log has {}",
            entry.line
        );
        for (_, value) in attempt.headers.iter().filter(|(name, _)| name == "Authorization") {
            let secret = value.rsplit([' ', '.']).find(|part| part.len() > 8).unwrap_or(value);
            ensure!(!rejection.answer.body.contains(secret), "the answer holds the token: {rejection:#?}");
            let leak = self.daemon.log().into_iter().find(|entry| entry.line.contains(secret));
            ensure!(leak.is_none(), "the log holds the token: {leak:?}");
        }
        Ok((rejection, entry))
    }

    /// Makes `attempt` with `client`; nothing may answer, and the log must have the drop of the
    /// client within a second.
    pub fn drops(&self, client: Client, attempt: &Attempt) -> Result<Entry> {
        let source = attempt.source;
        let attempt = attempt.clone().patient_for(SILENCE);
        let mark = self.daemon.mark();
        std::thread::scope(|scope| {
            let trying = scope.spawn(|| attempt.by(client, &self.host));
            // Our own client connects at once; an interpreter has to start first.
            let patience = if client == Client::Raw { PROMPTLY } else { PATIENCE };
            let entry = self.daemon.wait_after(mark, "the drop", patience, |entry| entry.is_drop_of(source));
            let outcome = trying.join().map_err(|_| anyhow::anyhow!("the client panicked"))?;
            outcome?.unanswered()?;
            entry
        })
        .with_context(|| format!("client: {client:?} from {source}"))
    }
}

/// Whether `entry` names the rule on `line` of the list at `list` with `prefix`.
pub fn names_rule(entry: &Entry, list: &Path, line: u64, prefix: &str) -> Result<()> {
    let named = (entry.field("LIST"), entry.number("LINE"), entry.field("PREFIX"));
    let list = list.display().to_string();
    ensure!(named == (Some(&*list), Some(line), Some(prefix)), "another rule is named: {}", entry.line);
    Ok(())
}
