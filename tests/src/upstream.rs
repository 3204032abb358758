//! The service behind the gate: an echo server that tells what it saw.

use anyhow::{Result, ensure};
use serde::Deserialize;

use crate::host::Host;
use crate::process::{Mark, PATIENCE, Process};
use crate::tools;

/// Where it listens, in the gate's namespace.
pub const UPSTREAM: &str = "127.0.0.1:9000";

/// A running echo server.
#[derive(Debug)]
pub struct Upstream {
    process: Process,
}

/// An opening handshake as it reached the service.
#[derive(Clone, Debug, Deserialize)]
pub struct Seen {
    /// The path, and the query if there was one.
    pub path: String,
    /// Names and values, in the order on the wire.
    pub headers: Vec<(String, String)>,
}

/// A frame (RFC 6455 §5.2), with its payload in hexadecimal.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Frame {
    /// Name of the opcode.
    pub opcode: String,
    /// Whether it is the last of its message.
    pub fin: bool,
    /// The payload.
    pub data: String,
}

/// One side's view of a connection that has ended.
#[derive(Clone, Debug, Deserialize)]
pub struct Conversation {
    /// Every frame that this side received.
    pub frames: Vec<Frame>,
    /// The code of the close frame.
    pub code: Option<u16>,
    /// The reason in the close frame.
    pub reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Listening,
    Request(Seen),
    Closed(Conversation),
}

impl Upstream {
    /// A server that listens in the gate's namespace.
    pub fn start(host: &Host) -> Result<Self> {
        let mut command = tools::python("echo.py")?;
        command.args(UPSTREAM.split(':'));
        let process = Process::start("the upstream", host.gate.command(&command))?;
        process.wait_for("that it listens", Mark::default(), PATIENCE, |line| {
            matches!(event(line), Some(Event::Listening)).then_some(())
        })?;
        Ok(Self { process })
    }

    /// The first opening handshake that came through.
    pub fn request(&self) -> Result<Seen> {
        self.process.wait_for("an opening handshake", Mark::default(), PATIENCE, |line| match event(line) {
            Some(Event::Request(seen)) => Some(seen),
            _ => None,
        })
    }

    /// The first conversation that has ended.
    pub fn conversation(&self) -> Result<Conversation> {
        self.process.wait_for("the end of a session", Mark::default(), PATIENCE, |line| match event(line) {
            Some(Event::Closed(conversation)) => Some(conversation),
            _ => None,
        })
    }

    /// Makes sure that `count` opening handshakes have come through, and no more; they may still be on their
    /// way here.
    pub fn was_asked(&self, count: usize) -> Result<()> {
        let mut left = count;
        if count > 0 {
            self.process.wait_for("all opening handshakes", Mark::default(), PATIENCE, |line| {
                left -= usize::from(left > 0 && matches!(event(line), Some(Event::Request(_))));
                (left == 0).then_some(())
            })?;
        }
        let seen = self.requests();
        ensure!(seen == count, "{seen} handshakes reached the upstream, and not {count}");
        Ok(())
    }

    /// How many opening handshakes have come through so far.
    pub fn requests(&self) -> usize {
        self.process.printed().iter().filter(|line| matches!(event(line), Some(Event::Request(_)))).count()
    }
}

impl Seen {
    /// The values of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }
}

fn event(line: &str) -> Option<Event> {
    serde_json::from_str(line).ok()
}
