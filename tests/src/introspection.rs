//! An introspection endpoint that can be told to behave badly.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use crate::host::Host;
use crate::process::{Mark, PATIENCE, Process};
use crate::tools;

/// Where it listens, in the gate's namespace.
pub const ENDPOINT: &str = "127.0.0.1:8003";

/// A running endpoint.
#[derive(Debug)]
pub struct Endpoint {
    process: Process,
    folder: PathBuf,
}

/// A question that came.
#[derive(Clone, Debug, Deserialize)]
pub struct Question {
    /// How the endpoint was told to behave.
    pub mode: String,
    /// The token that it was asked about.
    pub token: String,
    /// The status of the answer.
    pub status: u16,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Listening,
    Question(Question),
}

impl Endpoint {
    /// An endpoint in the gate's namespace, which keeps its files in `folder` and says `answer` to
    /// everybody.
    pub fn start(host: &Host, folder: &Path, answer: &Value) -> Result<Self> {
        fs::create_dir_all(folder)?;
        for (name, content) in [("mode", "good"), ("secret", ""), ("answer", &*answer.to_string())] {
            fs::write(folder.join(name), content)?;
        }
        let mut command = tools::python("introspection.py")?;
        command.args(ENDPOINT.split(':')).arg(folder);
        let process = Process::start("the introspection endpoint", host.gate.command(&command))?;
        process.wait_for("that it listens", Mark::default(), PATIENCE, |line| {
            matches!(event(line), Some(Event::Listening)).then_some(())
        })?;
        Ok(Self { process, folder: folder.to_owned() })
    }

    /// Says `answer` from now on.
    pub fn say(&self, answer: &Value) -> Result<()> {
        self.replace("answer", &answer.to_string())
    }

    /// Behaves as `mode` says from now on.
    pub fn behave(&self, mode: &str) -> Result<()> {
        self.replace("mode", mode)
    }

    /// Answers only those who show `secret` from now on.
    pub fn trust(&self, secret: &str) -> Result<()> {
        self.replace("secret", secret)
    }

    /// All questions so far.
    pub fn questions(&self) -> Vec<Question> {
        let questions = self.process.printed().into_iter().filter_map(|line| match event(&line) {
            Some(Event::Question(question)) => Some(question),
            _ => None,
        });
        questions.collect()
    }

    fn replace(&self, name: &str, content: &str) -> Result<()> {
        tools::replace(&self.folder, name, content)
    }
}

fn event(line: &str) -> Option<Event> {
    serde_json::from_str(line).ok()
}
