//! The clients: one attempt to open a WebSocket and echo a message, by three implementations.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::answer::{Answer, Rejection};
use crate::host::{CLIENT_V4, Host, gate_address};
use crate::{raw, tools};

/// Port of the gate in every test.
pub const GATE_PORT: u16 = 8080;

/// Between one look and the next, for who looks by handshakes: well below the rate of them that one address has.
pub const PACE: Duration = Duration::from_millis(20);

/// Which implementation connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Our own, which writes the request and reads the answer byte by byte.
    Raw,
    /// The Python package `websockets`.
    Python,
    /// The npm package `ws`.
    Node,
}

impl Client {
    /// Every implementation.
    pub const ALL: [Self; 3] = [Self::Raw, Self::Python, Self::Node];
}

/// What a client tries.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Where the client is; decides the family.
    pub source: IpAddr,
    /// The path, and the query if there is one.
    pub path: String,
    /// Headers besides those of every opening handshake.
    pub headers: Vec<(String, String)>,
    /// How long the client waits for an answer.
    pub timeout: Duration,
    /// Whether it waits until the other side ends the session.
    pub stay: bool,
    /// The files for TLS, where it is spoken.
    pub tls: Option<Tls>,
}

/// How a client speaks TLS.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Tls {
    /// The authority that it trusts.
    pub ca: PathBuf,
    /// Its own certificate.
    pub certificate: Option<PathBuf>,
    /// The key of that.
    pub key: Option<PathBuf>,
}

/// How it went.
#[derive(Debug, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The session opened, and a message came back.
    Admitted {
        /// The message.
        sent: String,
        /// What came back.
        echo: String,
    },
    /// There was another answer than 101.
    Rejected(Answer),
    /// There was no answer at all.
    Unanswered,
    /// The session opened, and the other side ended it.
    Closed {
        /// The close code.
        code: u16,
        /// The reason.
        reason: String,
    },
}

impl Attempt {
    /// An attempt on `path` from [`CLIENT_V4`], without a token.
    pub fn on(path: &str) -> Self {
        Self {
            source: CLIENT_V4,
            path: path.to_owned(),
            headers: Vec::new(),
            timeout: Duration::from_secs(10),
            stay: false,
            tls: None,
        }
    }

    /// The same with a bearer token.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same from another address.
    #[must_use]
    pub fn from(mut self, source: IpAddr) -> Self {
        self.source = source;
        self
    }

    /// The same by a client that gives up after `timeout`.
    #[must_use]
    pub fn patient_for(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same by a client that stays until the other side ends the session.
    #[must_use]
    pub fn staying(mut self) -> Self {
        self.stay = true;
        self
    }

    /// The same over TLS.
    #[must_use]
    pub fn over(mut self, tls: &Tls) -> Self {
        self.tls = Some(tls.clone());
        self
    }

    /// The arguments of the scripts in `clients`.
    pub fn arguments(&self) -> serde_json::Value {
        let scheme = if self.tls.is_some() { "wss" } else { "ws" };
        serde_json::json!({
            "url": format!("{scheme}://{}{}", authority(self.source), self.path),
            "source": self.source.to_string(),
            "headers": self.headers,
        })
    }

    /// Makes the attempt with `client`, in the clients' namespace of `host`.
    pub fn by(&self, client: Client, host: &Host) -> Result<Outcome> {
        let command = match client {
            Client::Raw if self.tls.is_some() => bail!("our own client speaks no TLS"),
            Client::Raw => return host.client.enter(|| raw::attempt(self)),
            Client::Python => tools::python("client.py")?,
            Client::Node => tools::node("client.mjs")?,
        };
        let mut arguments = self.arguments();
        arguments["timeout"] = self.timeout.as_secs_f64().into();
        arguments["stay"] = self.stay.into();
        arguments["tls"] = serde_json::to_value(&self.tls)?;
        let line = answer_of(host, command, &arguments)?;
        serde_json::from_str(&line).with_context(|| format!("the {client:?} client printed {line}"))
    }
}

impl Outcome {
    /// Succeeds when the session opened and the message came back unchanged.
    pub fn admitted(self) -> Result<()> {
        match self {
            Self::Admitted { sent, echo } => {
                ensure!(sent == echo && !sent.is_empty(), "{sent:?} came back as {echo:?}");
                Ok(())
            }
            other => bail!("the client was not admitted: {other:#?}"),
        }
    }

    /// The rejection, when there was one.
    pub fn rejected(self) -> Result<Rejection> {
        match self {
            Self::Rejected(answer) => answer.rejection(),
            other => bail!("the client was not rejected: {other:?}"),
        }
    }

    /// The layer and the id that the Close frame named, which ended the session with `code`.
    pub fn closed(self, code: u16) -> Result<String> {
        match self {
            Self::Closed { code: found, reason } if found == code => Ok(reason),
            other => bail!("the session was not ended with {code}: {other:?}"),
        }
    }

    /// Succeeds when nothing answered.
    pub fn unanswered(self) -> Result<()> {
        match self {
            Self::Unanswered => Ok(()),
            other => bail!("the client was answered: {other:#?}"),
        }
    }
}

/// Runs a script in the clients' namespace with `arguments`; the line that it printed.
pub fn answer_of(host: &Host, mut command: Command, arguments: &serde_json::Value) -> Result<String> {
    command.arg(arguments.to_string());
    let output = host.client.command(&command).output()?;
    let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(
        output.status.success() && !printed.is_empty(),
        "{command:?} failed:\n{printed}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(printed)
}

/// The gate as clients at `source` name it.
pub(crate) fn authority(source: IpAddr) -> String {
    std::net::SocketAddr::new(gate_address(source), GATE_PORT).to_string()
}
