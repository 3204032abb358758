//! `gatehouse explain`: which layer would reject a client, why, and what would fix it.

use std::io::Read;
use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args;

use super::progress::Progress;
use super::{ConfigFile, FAILED, NO_INPUT, UNAVAILABLE, failed};
use crate::admin::control::{self, Request};
use crate::admin::explain::{Query, Report};
use crate::audit::query::printable;
use crate::config::Config;
use crate::service;

/// Bytes of a token read from standard input; more is no token.
const MAX_TOKEN: u64 = 64 * 1024;

/// Say which layer would reject a client, why, and what would fix it
///
/// Asks the running daemon where there is one, and else the configuration and its files alone. Exit code 0:
/// admitted as far as was asked; 1: rejected; 66: nobody knows the identifier; 69: the
/// daemon or the journal cannot be asked.
#[derive(Args, Debug)]
pub(super) struct Explain {
    #[command(flatten)]
    config: ConfigFile,
    /// The client's address
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// The client's token; `-` reads it from standard input, which keeps it out of the process list
    #[arg(long, value_name = "TOKEN", hide_default_value = true, allow_hyphen_values = true)]
    token: Option<Secret>,
    /// The path that the client requests
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// The origin of the page that connects
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// The identifier that a client was told, of its handshake or of its open session: what is recorded
    /// of it, and how its client would fare now
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// An argument that `Debug` does not show.
#[derive(Clone)]
pub(super) struct Secret(String);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl Secret {
    /// The token itself, from standard input when the argument was `-`.
    pub(super) fn resolve(self) -> std::io::Result<String> {
        if self.0 != "-" {
            return Ok(self.0);
        }
        let mut token = String::new();
        std::io::stdin().take(MAX_TOKEN).read_to_string(&mut token)?;
        Ok(token.trim_end_matches(['\r', '\n']).to_owned())
    }
}

impl Explain {
    pub(super) fn run(self) -> ExitCode {
        let config = match self.config.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let token = match self.token.map(Secret::resolve).transpose() {
            Ok(token) => token,
            Err(error) => return failed(&error),
        };
        let query = Query { address: self.address, token, path: self.path, origin: self.origin, id: self.id };
        let report = match ask(&config, &query).and_then(|report| recorded(&config, query, report)) {
            Ok(report) => report,
            Err(code) => return code,
        };
        if self.json {
            let printed = super::print_json(&report);
            if printed != ExitCode::SUCCESS {
                return printed;
            }
        } else {
            out!("{report}");
        }
        if report.rejection.is_some() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS }
    }
}

/// The same, from the journal where the daemon does not know the handshake any more.
fn recorded(config: &Config, mut query: Query, report: Report) -> Result<Report, ExitCode> {
    let Some(id) = query.id.take() else { return Ok(report) };
    if report.past.is_some() || report.session.is_some() {
        return Ok(report);
    }
    let past = super::audit::past(&id)?;
    let Some(past) = past else {
        complain!(
            "gatehouse: neither a running daemon nor the journal knows the handshake {}",
            printable(&id)
        );
        return Err(ExitCode::from(NO_INPUT));
    };
    query.know(&past);
    Ok(Report { past: Some(past), ..ask(config, &query)? })
}

fn ask(config: &Config, query: &Query) -> Result<Report, ExitCode> {
    if let Some(socket) = &config.control {
        // It may have to ask an issuer for that.
        let progress = Progress::of("asking the daemon");
        let answer = control::ask(socket, &Request::Explain(query.clone()));
        drop(progress);
        match answer {
            Ok(Some(report)) => return Ok(report),
            Ok(None) => {}
            Err(error) => {
                complain!(
                    "gatehouse: the daemon at {} cannot be asked ({error}): run this as the user of the daemon or as root",
                    socket.display()
                );
                return Err(ExitCode::from(UNAVAILABLE));
            }
        }
    }
    service::explain(config, query).map_err(|faults| {
        super::print_diagnostics(&faults);
        ExitCode::from(super::CONFIG)
    })
}
