//! `gatehouse status`: how the daemon is.

use std::process::ExitCode;

use clap::Args;

use super::{ConfigFile, FAILED, UNAVAILABLE, failed};
use crate::admin::control::{self, Request};
use crate::admin::status::Status as Answer;

/// Show how the running daemon is
#[derive(Args, Debug)]
pub(super) struct Status {
    #[command(flatten)]
    config: ConfigFile,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(&self) -> ExitCode {
        let config = match self.config.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let Some(socket) = config.control else {
            complain!(
                "gatehouse: {} has no [control] socket: add one, and restart the daemon",
                config.file.display()
            );
            return ExitCode::from(FAILED);
        };
        match control::ask::<Answer>(&socket, &Request::Status) {
            Ok(Some(status)) if self.json => super::print_json(&status),
            Ok(Some(status)) => {
                out!("{status}");
                ExitCode::SUCCESS
            }
            Ok(None) => {
                complain!("gatehouse: no daemon answers at {}: it is not running", socket.display());
                ExitCode::from(UNAVAILABLE)
            }
            Err(error) => failed(&error),
        }
    }
}
