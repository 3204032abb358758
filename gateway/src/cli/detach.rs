//! `gatehouse detach`: nothing of the firewall stays in force.

use std::process::ExitCode;

use clap::Args;

use super::{ConfigFile, failed};
use crate::nic;

/// Remove the firewall that stays in force without the daemon
///
/// Detaches the program from every interface, and removes it with its tables and counters. While
/// a daemon runs, it refuses: stop that one first.
///
/// Exit code 0: nothing of it is left; 1: it could not be removed.
#[derive(Args, Debug)]
pub(super) struct Detach {
    #[command(flatten)]
    config: ConfigFile,
}

impl Detach {
    pub(super) fn run(&self) -> ExitCode {
        let config = match self.config.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let Some(folder) = config.firewall.and_then(|firewall| firewall.pins) else {
            out!("nothing to remove: {} has no pins, so nothing outlives the daemon", config.file.display());
            return ExitCode::SUCCESS;
        };
        match nic::detach(&folder) {
            Ok(Some(interfaces)) => {
                for interface in interfaces {
                    out!("detached from {interface}");
                }
                out!("removed {}", folder.display());
            }
            Ok(None) => out!("nothing to remove: there is no {}", folder.display()),
            Err(error) => return failed(&error),
        }
        ExitCode::SUCCESS
    }
}
