//! A web server with one list, which can be told to behave badly.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Deserialize;

use crate::host::Host;
use crate::process::{Mark, PATIENCE, Process};
use crate::tools;

/// Where it listens, in the gate's namespace.
pub const LISTS: &str = "127.0.0.1:8000";

/// A running web server.
#[derive(Debug)]
pub struct ListServer {
    process: Process,
    folder: PathBuf,
}

/// A request that it answered.
#[derive(Clone, Debug, Deserialize)]
pub struct Asked {
    /// How it was told to behave.
    pub mode: String,
    /// The validator that came with the request.
    pub known: Option<String>,
    /// The status of the answer.
    pub status: u16,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Listening,
    Request(Asked),
}

impl ListServer {
    /// A server of `content` in the gate's namespace, which keeps its files in `folder`. With the
    /// files of a certificate and its key it speaks TLS.
    pub fn start(host: &Host, folder: &Path, content: &str, tls: Option<(&Path, &Path)>) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let mut command = tools::python("lists.py")?;
        command.args(LISTS.split(':')).arg(folder);
        if let Some((certificate, key)) = tls {
            command.arg(certificate).arg(key);
        }
        fs::write(folder.join("mode"), "good")?;
        fs::write(folder.join("list"), content)?;
        let process = Process::start("the server of lists", host.gate.command(&command))?;
        process.wait_for("that it listens", Mark::default(), PATIENCE, |line| {
            matches!(event(line), Some(Event::Listening)).then_some(())
        })?;
        Ok(Self { process, folder: folder.to_owned() })
    }

    /// Serves `content` from now on.
    pub fn serve(&self, content: &str) -> Result<()> {
        self.replace("list", content)
    }

    /// Behaves as `mode` says from now on.
    pub fn behave(&self, mode: &str) -> Result<()> {
        self.replace("mode", mode)
    }

    /// The requests so far.
    pub fn mark(&self) -> Mark {
        self.process.mark()
    }

    /// The first answered request after `mark` that is `wanted`.
    pub fn wait_after(&self, mark: Mark, what: &str, wanted: impl Fn(&Asked) -> bool) -> Result<Asked> {
        self.process.wait_for(what, mark, PATIENCE, |line| match event(line) {
            Some(Event::Request(asked)) if wanted(&asked) => Some(asked),
            _ => None,
        })
    }

    fn replace(&self, name: &str, content: &str) -> Result<()> {
        tools::replace(&self.folder, name, content)
    }
}

fn event(line: &str) -> Option<Event> {
    serde_json::from_str(line).ok()
}
