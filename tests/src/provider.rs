//! A real OpenID provider of other people's making.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::host::Host;
use crate::plan::{AUDIENCE, SCOPE};
use crate::process::{Mark, PATIENCE, Process};
use crate::tools;

/// Where it listens, in the gate's namespace.
pub const PROVIDER: &str = "127.0.0.1:8002";
/// The secret by which the gate introspects: it needs the encoding of RFC 6749 §2.3.1.
pub const GATE_SECRET: &str = "the gate's: secret+";

/// Who the client of its tokens is, as a form has it: name and secret.
const MACHINE: &str = "machine:the%20machine%27s%20secret";

/// A running provider.
#[derive(Debug)]
pub struct Provider {
    process: Process,
}

impl Provider {
    /// A provider in the gate's namespace with a new key of this name, whose tokens live so many
    /// seconds.
    pub fn start(host: &Host, key: &str, life: u32) -> Result<Self> {
        let (_, port) = PROVIDER.split_once(':').context("a port")?;
        let arguments = serde_json::json!({
            "port": port.parse::<u16>()?,
            "key": key,
            "audience": AUDIENCE,
            "life": life,
        });
        let mut command = tools::node("provider.mjs")?;
        command.arg(arguments.to_string());
        let process = Process::start("oidc-provider", host.gate.command(&command))?;
        process.wait_for("that it is ready", Mark::default(), PATIENCE, |line| {
            (line == "ready").then_some(())
        })?;
        Ok(Self { process })
    }

    /// A new JWT access token.
    pub fn jwt(&self, host: &Host) -> Result<String> {
        token(host, SCOPE, AUDIENCE)
    }

    /// A new opaque access token with this scope.
    pub fn opaque(&self, host: &Host, scope: &str) -> Result<String> {
        token(host, scope, &format!("{AUDIENCE}/opaque"))
    }

    /// Revokes `token` (RFC 7009).
    pub fn revoke(&self, host: &Host, token: &str) -> Result<()> {
        let (status, body) = post(host, "/token/revocation", &format!("token={token}"))?;
        ensure!(status == 200, "{status}: {body}");
        Ok(())
    }

    /// Has `keys` from now on, and signs with the one called `signing`. A key that it had before under
    /// a name is the same one.
    pub fn rotate(&self, host: &Host, keys: &[&str], signing: &str) -> Result<()> {
        let (status, body) = post(host, &format!("/rotate?keys={}&signing={signing}", keys.join(",")), "")?;
        ensure!(status == 200 && body.contains("rotated"), "{status}: {body}");
        Ok(())
    }

    /// Ends it without a word.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill()
    }
}

fn token(host: &Host, scope: &str, resource: &str) -> Result<String> {
    let form = format!("grant_type=client_credentials&scope={scope}&resource={resource}");
    let (status, body) = post(host, "/token", &form)?;
    ensure!(status == 200, "{status}: {body}");
    let answer: Value = serde_json::from_str(&body)?;
    Ok(answer["access_token"].as_str().context("a token")?.to_owned())
}

/// Sends a form as the machine; status and body of the answer.
fn post(host: &Host, path: &str, form: &str) -> Result<(u16, String)> {
    use base64::Engine as _;
    let machine = base64::engine::general_purpose::STANDARD.encode(MACHINE);
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {PROVIDER}\r\nAuthorization: Basic {machine}\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    host.gate.enter(|| {
        let mut stream = TcpStream::connect(PROVIDER)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
        Ok((head.get(9..12).context("a status")?.parse()?, body.to_owned()))
    })
}
