//! `gatehouse check`: validates everything without binding or attaching.

use std::process::ExitCode;

use clap::Args;

use super::progress::Progress;
use super::{CONFIG, ConfigFile, print_diagnostics};
use crate::service;

/// Validate the configuration, its lists and its keys, without binding or attaching anything
#[derive(Args, Debug)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigFile,
}

impl Check {
    pub(super) fn run(&self) -> ExitCode {
        let config = match self.config.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let progress = Progress::of("reading lists and keys");
        let checked = service::check(&config);
        drop(progress);
        match checked {
            Ok(summary) => {
                print_diagnostics(&summary.warnings);
                out!("{summary}");
                ExitCode::SUCCESS
            }
            Err(faults) => {
                print_diagnostics(&faults);
                ExitCode::from(CONFIG)
            }
        }
    }
}
