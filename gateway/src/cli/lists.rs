//! `gatehouse lists`: each list of the address policy, and what is held back of it.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde::de::DeserializeOwned;

use super::{CONFIG, ConfigFile, FAILED, UNAVAILABLE};
use crate::admin::control::{self, Request};
use crate::admin::lists::{Accepted, ListsReport};
use crate::config::Config;
use crate::service;

/// Show the lists of the address policy, or accept what is held back of one
///
/// Asks the running daemon where there is one, and else the list files alone. Exit code 69: the daemon cannot be asked.
#[derive(Args, Debug)]
pub(super) struct Lists {
    #[command(flatten)]
    config: ConfigFile,
    /// Put the content of this list in force that is held back: exactly what was reported, not what came
    /// later. The end of the list's path is enough, if only one list has it
    #[arg(long, value_name = "LIST")]
    accept: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Lists {
    pub(super) fn run(&self) -> ExitCode {
        let config = match self.config.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        match &self.accept {
            Some(list) => self.accept(&config, list),
            None => self.show(&config),
        }
    }

    fn accept(&self, config: &Config, list: &str) -> ExitCode {
        let Some(socket) = &config.control else {
            complain!(
                "gatehouse: {} has no [control] socket: add one, and restart the daemon",
                config.file.display()
            );
            return ExitCode::from(FAILED);
        };
        match ask::<Accepted>(socket, &Request::AcceptList { list: list.to_owned() }) {
            Ok(Some(accepted)) if self.json => super::print_json(&accepted),
            Ok(Some(accepted)) if accepted.waits => {
                out!(
                    "{} is accepted with {} entries, and waits as all edits do: `gatehouse apply` puts it in force",
                    accepted.list,
                    accepted.entries
                );
                ExitCode::SUCCESS
            }
            Ok(Some(accepted)) => {
                out!("{} is in force with {} entries", accepted.list, accepted.entries);
                ExitCode::SUCCESS
            }
            Ok(None) => {
                complain!("gatehouse: no daemon answers at {}: it is not running", socket.display());
                ExitCode::from(UNAVAILABLE)
            }
            Err(code) => code,
        }
    }

    fn show(&self, config: &Config) -> ExitCode {
        let live = match &config.control {
            Some(socket) => match ask::<ListsReport>(socket, &Request::Lists) {
                Ok(live) => live,
                Err(code) => return code,
            },
            None => None,
        };
        let report = match live.map_or_else(|| service::lists(config), |live| Ok(Some(live))) {
            Ok(Some(report)) => report,
            Ok(None) => {
                complain!("gatehouse: there is no address policy: the configuration has no [firewall]");
                return ExitCode::from(FAILED);
            }
            Err(faults) => {
                super::print_diagnostics(&faults);
                return ExitCode::from(CONFIG);
            }
        };
        if self.json {
            return super::print_json(&report);
        }
        out!("{report}");
        ExitCode::SUCCESS
    }
}

/// The answer of the daemon at `socket`, `None` when there is none, or the exit code after saying what is wrong.
fn ask<T: DeserializeOwned>(socket: &Path, request: &Request) -> Result<Option<T>, ExitCode> {
    control::ask(socket, request).map_err(|error| {
        if error.kind() == io::ErrorKind::PermissionDenied {
            complain!(
                "gatehouse: the daemon at {} cannot be asked ({error}): run this as the user of the daemon or as root",
                socket.display()
            );
            return ExitCode::from(UNAVAILABLE);
        }
        super::failed(&error)
    })
}
