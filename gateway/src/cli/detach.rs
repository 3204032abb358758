//! `gatehouse detach`: nothing of the firewall stays in force.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{ConfigFile, FAILED, failed};
use crate::config::PINS;
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
    /// Folder of the pins, instead of the one in the configuration
    #[arg(long, value_name = "FOLDER")]
    pins: Option<PathBuf>,
}

impl Detach {
    pub(super) fn run(&self) -> ExitCode {
        let folder = match &self.pins {
            Some(folder) => folder.clone(),
            None => match self.configured() {
                Ok(folder) => folder,
                Err(code) => return code,
            },
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

    /// The folder in the configuration, or the exit code when there is none.
    fn configured(&self) -> Result<PathBuf, ExitCode> {
        let config = self.config.load()?;
        if let Some(folder) = config.firewall.and_then(|firewall| firewall.pins) {
            return Ok(folder);
        }
        let file = config.file.display();
        if Path::new(PINS).exists() {
            complain!(
                "{file} has no pins, but a daemon with another configuration has left a firewall in force: \
                 `gatehouse detach --pins {PINS}` removes it"
            );
            return Err(ExitCode::from(FAILED));
        }
        out!("nothing to remove: {file} has no pins, so nothing outlives the daemon");
        Err(ExitCode::SUCCESS)
    }
}
