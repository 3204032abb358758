//! `gatehouse sessions` and `gatehouse close`: the open sessions, and an end to one of them.

use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use ipnet::IpNet;
use serde::de::DeserializeOwned;

use super::audit::net;
use super::colour;
use super::table::Table;
use super::units::{bytes, span};
use super::{ConfigFile, FAILED, UNAVAILABLE};
use crate::admin::control::{self, Request};
use crate::admin::sessions::{SessionFilter, SessionList, SessionStatus};
use crate::auth::revocation::seconds;

/// Show the open sessions, the newest first
///
/// Exit code 69: no daemon can be asked.
#[derive(Args, Debug)]
pub(super) struct Sessions {
    #[command(flatten)]
    config: ConfigFile,
    /// Of clients with this address, or in this network
    #[arg(long, value_name = "IP|NET", value_parser = net)]
    client: Option<IpNet>,
    /// Of this subject of a token
    #[arg(long)]
    subject: Option<String>,
    /// On this route
    #[arg(long, value_name = "PATH")]
    route: Option<String>,
    /// At most so many
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Close an open session, as the gate's own end of it
///
/// Its client hears the close code 1001, and may connect again: what is to stay away is revoked or denied.
/// Exit code 1: there is no such session; 69: no daemon can be asked.
#[derive(Args, Debug)]
pub(super) struct Close {
    #[command(flatten)]
    config: ConfigFile,
    /// The identifier of the session, as `gatehouse sessions` shows it
    id: String,
}

impl Sessions {
    pub(super) fn run(&self) -> ExitCode {
        let filter = SessionFilter {
            client: self.client.map(|net| net.trunc()),
            subject: self.subject.clone(),
            route: self.route.clone(),
            id: None,
            limit: Some(self.limit),
        };
        let list: SessionList = match ask(&self.config, &Request::Sessions(filter)) {
            Ok(list) => list,
            Err(code) => return code,
        };
        if self.json {
            return super::print_json(&list);
        }
        let now = seconds(SystemTime::now());
        let mut table = Table::new(
            &["ID", "CLIENT", "SUBJECT", "ROUTE", "OPEN", "EXPIRES IN", "UP", "DOWN"],
            colour::wanted(),
        );
        for session in &list.sessions {
            table.row(row(session, now));
        }
        out!("{table}");
        out!("{} open, {} found, {} shown", list.open, list.found, list.sessions.len());
        ExitCode::SUCCESS
    }
}

fn row(session: &SessionStatus, now: u64) -> Vec<String> {
    vec![
        session.id.clone(),
        session.client.to_string(),
        session.subject.clone(),
        session.route.clone(),
        span(now.saturating_sub(session.since)),
        session.expires.checked_sub(now).map_or_else(|| "over".to_owned(), span),
        bytes(session.bytes_up),
        bytes(session.bytes_down),
    ]
}

impl Close {
    pub(super) fn run(&self) -> ExitCode {
        match ask::<bool>(&self.config, &Request::CloseSession { id: self.id.clone() }) {
            Ok(_) => {
                out!("closed");
                ExitCode::SUCCESS
            }
            Err(code) => code,
        }
    }
}

/// What the running daemon answers to `request`.
pub(super) fn ask<T: DeserializeOwned>(config: &ConfigFile, request: &Request) -> Result<T, ExitCode> {
    let config = config.load()?;
    let Some(socket) = &config.control else {
        complain!(
            "gatehouse: {} has no [control] socket: add one, and restart the daemon",
            config.file.display()
        );
        return Err(ExitCode::from(UNAVAILABLE));
    };
    match control::ask(socket, request) {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => {
            complain!("gatehouse: no daemon answers at {}", socket.display());
            Err(ExitCode::from(UNAVAILABLE))
        }
        Err(error) => {
            complain!("gatehouse: {error}");
            Err(ExitCode::from(FAILED))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_bytes_are_short() {
        assert_eq!(
            (span(59), span(3_725), span(90_061)),
            ("59s".to_owned(), "1h 2m".to_owned(), "1day 1h".to_owned())
        );
        assert_eq!(
            (bytes(999), bytes(20_480), bytes(u64::MAX)),
            ("999 B".to_owned(), "20 KiB".to_owned(), "17592186044415 MiB".to_owned())
        );
    }
}
