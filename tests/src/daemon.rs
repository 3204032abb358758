//! The daemon under test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::host::Host;
use crate::log::Entry;
use crate::process::{Mark, PATIENCE, Process};
use crate::tools;

/// A running daemon in the gate's namespace.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    config: PathBuf,
}

impl Daemon {
    /// Starts the daemon without waiting for it.
    pub fn launch(host: &Host, config: &Path) -> Result<Self> {
        let mut command = verb("run", config)?;
        command.args(["--log", "stderr"]).env_remove("RUST_LOG");
        let process = Process::start("gatehouse", host.gate.command(&command))?;
        Ok(Self { process, config: config.to_owned() })
    }

    /// Starts the daemon and waits until it is ready.
    pub fn start(host: &Host, config: &Path) -> Result<Self> {
        let daemon = Self::launch(host, config)?;
        daemon.wait_for("that it is ready", PATIENCE, |entry| entry.says("ready"))?;
        Ok(daemon)
    }

    /// The end of the log as it is now.
    pub fn mark(&self) -> Mark {
        self.process.mark()
    }

    /// The first entry of the whole log that is `wanted`, awaited for `patience` at most.
    pub fn wait_for(
        &self,
        what: &str,
        patience: Duration,
        wanted: impl FnMut(&Entry) -> bool,
    ) -> Result<Entry> {
        self.wait_after(Mark::default(), what, patience, wanted)
    }

    /// The first entry after `mark` that is `wanted`, awaited for `patience` at most.
    pub fn wait_after(
        &self,
        mark: Mark,
        what: &str,
        patience: Duration,
        mut wanted: impl FnMut(&Entry) -> bool,
    ) -> Result<Entry> {
        self.process.wait_for(what, mark, patience, |line| Some(Entry::parse(line)).filter(&mut wanted))
    }

    /// Every entry so far.
    pub fn log(&self) -> Vec<Entry> {
        self.process.printed().iter().map(|line| Entry::parse(line)).collect()
    }

    /// The answer of `gatehouse status --json`.
    pub fn status(&self) -> Result<serde_json::Value> {
        let Output { status, stdout, stderr } = verb("status", &self.config)?.arg("--json").output()?;
        ensure!(status.success(), "gatehouse status: {}", String::from_utf8_lossy(&stderr));
        Ok(serde_json::from_slice(&stdout)?)
    }

    /// Stops the daemon with SIGTERM. Anything but a clean exit is an error.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.process.terminate()?;
        ensure!(
            status.success(),
            "gatehouse ended with {status}; its log:\n{}",
            self.process.printed().join("\n")
        );
        Ok(())
    }

    /// Kills the daemon with SIGKILL, and waits until it has ended.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Waits until the daemon has ended by itself; its exit code.
    pub fn exit_code(&mut self) -> Result<Option<i32>> {
        Ok(self.process.finish()?.code())
    }
}

/// A command for one verb of the daemon's binary.
pub fn verb(verb: &str, config: &Path) -> Result<Command> {
    let mut command = Command::new(tools::gatehouse()?);
    command.arg(verb).arg("--config").arg(config);
    Ok(command)
}
