//! A web server with the keys of an issuer, which can be told to behave badly.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Deserialize;
use serde_json::json;

use crate::host::Host;
use crate::process::{Mark, PATIENCE, Process};
use crate::token::{Key, jwk_set};
use crate::tools;

/// Where it listens, in the gate's namespace.
pub const KEYS: &str = "127.0.0.1:8001";

/// A running web server.
#[derive(Debug)]
pub struct IssuerServer {
    process: Process,
    folder: PathBuf,
}

/// A request that came.
#[derive(Clone, Debug, Deserialize)]
pub struct Asked {
    /// How the server was told to behave.
    pub mode: String,
    /// What was asked for.
    pub path: String,
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

impl IssuerServer {
    /// A server of `keys` in the gate's namespace, which keeps its files in `folder`. With the files
    /// of a certificate and its key it speaks TLS. There is no metadata yet.
    pub fn start(host: &Host, folder: &Path, keys: &[&Key], tls: Option<(&Path, &Path)>) -> Result<Self> {
        fs::create_dir_all(folder)?;
        for (name, content) in [("mode", "good"), ("metadata", ""), ("headers", "[]")] {
            fs::write(folder.join(name), content)?;
        }
        fs::write(folder.join("keys"), jwk_set(keys))?;
        Self::again(host, folder, tls)
    }

    /// A server that has in `folder` what an earlier one had.
    pub fn again(host: &Host, folder: &Path, tls: Option<(&Path, &Path)>) -> Result<Self> {
        let mut command = tools::python("issuer.py")?;
        command.args(KEYS.split(':')).arg(folder);
        if let Some((certificate, key)) = tls {
            command.arg(certificate).arg(key);
        }
        let process = Process::start("the issuer", host.gate.command(&command))?;
        process.wait_for("that it listens", Mark::default(), PATIENCE, |line| {
            matches!(event(line), Some(Event::Listening)).then_some(())
        })?;
        Ok(Self { process, folder: folder.to_owned() })
    }

    /// Has `keys` from now on.
    pub fn publish(&self, keys: &[&Key]) -> Result<()> {
        self.serve(&jwk_set(keys))
    }

    /// Serves `set` where its keys are, from now on.
    pub fn serve(&self, set: &str) -> Result<()> {
        self.replace("keys", set)
    }

    /// Says that its name is `issuer` and its keys are at `keys`, from now on.
    pub fn describe(&self, issuer: &str, keys: &str) -> Result<()> {
        self.replace("metadata", &json!({"issuer": issuer, "jwks_uri": keys}).to_string())
    }

    /// Says `headers` with its keys from now on.
    pub fn say(&self, headers: &[(&str, &str)]) -> Result<()> {
        self.replace("headers", &json!(headers).to_string())
    }

    /// Behaves as `mode` says from now on.
    pub fn behave(&self, mode: &str) -> Result<()> {
        self.replace("mode", mode)
    }

    /// The requests so far.
    pub fn mark(&self) -> Mark {
        self.process.mark()
    }

    /// The first request after `mark` that is `wanted`.
    pub fn wait_after(&self, mark: Mark, what: &str, wanted: impl Fn(&Asked) -> bool) -> Result<Asked> {
        self.process.wait_for(what, mark, PATIENCE, |line| match event(line) {
            Some(Event::Request(asked)) if wanted(&asked) => Some(asked),
            _ => None,
        })
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        let asked = self.process.printed().into_iter().filter_map(|line| match event(&line) {
            Some(Event::Request(asked)) => Some(asked),
            _ => None,
        });
        asked.collect()
    }

    fn replace(&self, name: &str, content: &str) -> Result<()> {
        tools::replace(&self.folder, name, content)
    }
}

fn event(line: &str) -> Option<Event> {
    serde_json::from_str(line).ok()
}
