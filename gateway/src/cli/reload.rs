//! `gatehouse reload`: read the whole configuration anew.

use std::process::ExitCode;

use clap::Args;

use super::{ConfigFile, apply, print_json};
use crate::admin::control::Request;

/// Read the configuration and all files that it names anew, and put them in force as a whole
///
/// Sessions stay open, unless they have no right to be there any more. Exit code 0: done; 1: refused;
/// 69: no daemon can be asked; 78: something is faulty, and nothing has changed.
#[derive(Args, Debug)]
pub(super) struct Reload {
    #[command(flatten)]
    config: ConfigFile,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Reload {
    pub(super) fn run(self) -> ExitCode {
        let config = match self.config.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let (_, report) = match apply::ask_daemon_of(&config, &Request::Reload) {
            Ok(answered) => answered,
            Err(code) => return code,
        };
        if self.json {
            print_json(&report);
            return ExitCode::SUCCESS;
        }
        out!("reloaded: generation {} is in force", report.generation);
        for what in &report.restart_needed {
            out!("{what} differs, and is in force after a restart");
        }
        for warning in &report.warnings {
            complain!("{warning}");
        }
        ExitCode::SUCCESS
    }
}
