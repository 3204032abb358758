//! `gatehouse lists`: each list of the address policy, and what is held back of it.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde::de::DeserializeOwned;

use super::colour::{self, Tone, paint};
use super::table::Table;
use super::units::span;
use super::{CONFIG, ConfigFile, FAILED, UNAVAILABLE};
use crate::admin::control::{self, Request};
use crate::admin::lists::{Accepted, ListsReport};
use crate::admin::status::{HeldBack, LAST_GOOD_COPY, RemoteStatus};
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
        out!("{}", table(&report, colour::wanted()));
        ExitCode::SUCCESS
    }
}

/// `report` for people.
fn table(report: &ListsReport, coloured: bool) -> String {
    let mut text = if report.live {
        format!("asked: the running daemon, generation {}\n", report.generation)
    } else {
        "asked: the list files alone, no daemon running: nothing is counted or held back\n".to_owned()
    };
    if let Some(error) = &report.error {
        let alarm = paint("THE NEWEST LISTS ARE NOT IN FORCE", Tone::Bad, coloured);
        let _ = writeln!(text, "{alarm}: {error}");
    }
    let mut table = Table::new(&["TIER", "ENTRIES", "OVERLAPS", "PACKETS", "AGE", "LIST"], coloured);
    for list in &report.lists {
        let age = list.age_s.map_or_else(|| "-".to_owned(), span);
        let [entries, overlaps] = [list.entries, list.overlaps].map(|count| count.to_string());
        let packets = list.packets.to_string();
        table.row(vec![list.tier.clone(), entries, overlaps, packets, age, list.list.clone()]);
        amiss(&mut table, &list.source, list.held_back, list.remote.as_ref(), list.error.as_deref());
    }
    text + &table.to_string()
}

/// Says below the row of a list what is amiss with it.
pub(super) fn amiss(
    table: &mut Table,
    source: &str,
    held_back: Option<HeldBack>,
    remote: Option<&RemoteStatus>,
    error: Option<&str>,
) {
    if source == LAST_GOOD_COPY {
        table.note("THE LAST GOOD COPY IS IN FORCE", "the file cannot be used");
    }
    if let Some(held) = held_back {
        let text = format!("{} entries in the file, {} in force", held.entries, held.in_force);
        table.note("HELD BACK", text);
    }
    if let Some(error) = remote.and_then(|remote| remote.error.as_ref()) {
        table.note("NOT FETCHED", error);
    }
    if let Some(error) = error {
        table.note("NOT IN FORCE", format!("as it is now: {error}"));
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
