//! `gatehouse connect`: a client that says how the gate answered.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::explain::Secret;
use super::{FAILED, failed};
use crate::session::client::{self, ConnectError};

/// Open a session as a client would, and say which layer rejected it
///
/// Exit code 0: admitted; 1: rejected, or no answer.
#[derive(Args, Debug)]
pub(super) struct Connect {
    /// The WebSocket's address, such as ws://127.0.0.1:8080/chat or wss://gate.example/chat
    url: String,
    /// The token to send; `-` reads it from standard input, which keeps it out of the process list
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    token: Option<Secret>,
    /// Connect from this address of this host
    #[arg(long, value_name = "IP")]
    source: Option<IpAddr>,
    /// Trust the authorities in this PEM file instead of the system's (wss:// only)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Send this text and print what comes back
    #[arg(long, value_name = "TEXT")]
    send: Option<String>,
    /// Hold this many sessions open at once
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    sessions: u32,
    /// Wait this long for each answer
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

impl Connect {
    pub(super) fn run(self) -> ExitCode {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(self.connect()),
            Err(error) => failed(&error),
        }
    }

    async fn connect(self) -> ExitCode {
        let token = match self.token.map(Secret::resolve).transpose() {
            Ok(token) => token,
            Err(error) => return failed(&error),
        };
        let mut open = Vec::new();
        for number in 1..=self.sessions {
            match client::connect(&self.url, token.as_deref(), self.source, self.ca.as_deref(), self.timeout)
                .await
            {
                Ok(mut session) => {
                    out!(
                        "admitted{}",
                        if self.sessions > 1 { format!(" ({number})") } else { String::new() }
                    );
                    if let Some(text) = &self.send
                        && let Err(error) = echo(&mut session, text, self.timeout).await
                    {
                        return failed(error.as_ref());
                    }
                    open.push(session);
                }
                Err(error) => return rejected(&error),
            }
        }
        for mut session in open {
            // The answer to a good-bye changes nothing any more.
            let _ = tokio::time::timeout(self.timeout, session.close(None)).await;
        }
        ExitCode::SUCCESS
    }
}

async fn echo(
    session: &mut client::Client,
    text: &str,
    timeout: Duration,
) -> Result<(), Box<dyn std::error::Error>> {
    session.send(Message::Text(Utf8Bytes::from(text))).await?;
    match tokio::time::timeout(timeout, session.next()).await? {
        Some(message) => out!("received: {}", message?),
        None => out!("the service closed the session"),
    }
    Ok(())
}

fn rejected(error: &ConnectError) -> ExitCode {
    match error {
        ConnectError::Rejected(answer) => out!("{answer}"),
        other => return failed(other),
    }
    ExitCode::from(FAILED)
}
