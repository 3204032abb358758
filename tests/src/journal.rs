//! A real journal of its own for a test: systemd-journald in mount and network namespaces in which
//! `/run` is empty.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::process::{Mark, PATIENCE, Process};

const JOURNALD: &str = "/lib/systemd/systemd-journald";

/// What runs inside. The last line replaces the shell, so the process is journald itself.
const BOOT: &str = "\
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log/journal
ip link set lo up
echo prepared
exec /lib/systemd/systemd-journald";

/// A running journal.
#[derive(Debug)]
pub struct Journal {
    journald: Process,
    follower: Option<Process>,
}

impl Journal {
    /// Starts a journal, and waits until it takes entries.
    pub fn start() -> Result<Self> {
        ensure!(
            std::path::Path::new(JOURNALD).is_file(),
            "{JOURNALD} is missing: run cargo xtask test, which installs the package systemd"
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--propagation", "private", "sh", "-ec", BOOT]);
        let journald = Process::start("journald", command)?;
        journald.wait_for("that it is prepared", Mark::default(), PATIENCE, |line| {
            line.contains("prepared").then_some(())
        })?;
        let mut journal = Self { journald, follower: None };
        // journald writes when it starts, so the follower has a first line to wait for. It
        // retries until the socket's journal is there, for a bounded number of times.
        let mut follow = journal.inside("sh");
        follow.args([
            "-c",
            "for try in $(seq 100); do [ -S /run/systemd/journal/socket ] && ls /run/log/journal/*/*.journal && break; \
             sleep 0.1; done; exec journalctl -D /run/log/journal -f -n all -o json -t gatehouse -t systemd-journald",
        ]);
        let follower = Process::start("journalctl", follow)?;
        follower.wait_for("the first entry", Mark::default(), PATIENCE, |line| {
            line.starts_with('{').then_some(())
        })?;
        journal.follower = Some(follower);
        Ok(journal)
    }

    /// A command for `program` beside the journal.
    pub fn inside(&self, program: &str) -> Command {
        let id = self.journald.id().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &id, "--mount", "--net", "--", program]);
        command
    }

    /// Stops journald, until [`Self::go_on`]: it takes nothing, and its socket fills.
    pub fn stop(&self) -> Result<()> {
        self.journald.signal(Signal::SIGSTOP)
    }

    /// Lets journald go on.
    pub fn go_on(&self) -> Result<()> {
        self.journald.signal(Signal::SIGCONT)
    }

    /// How many entries there are with this field.
    pub fn count(&self, field: &str) -> Result<u64> {
        let mut command = self.inside("journalctl");
        let output = command.args(["-D", "/run/log/journal", "--output=json", "--quiet", field]).output()?;
        Ok(u64::try_from(String::from_utf8(output.stdout)?.lines().count())?)
    }

    /// The first entry that is `wanted`.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let follower = self.follower.as_ref().context("the journal is followed")?;
        follower.wait_for(what, Mark::default(), PATIENCE, |line| {
            serde_json::from_str(line).ok().filter(|entry| wanted(entry))
        })
    }
}
