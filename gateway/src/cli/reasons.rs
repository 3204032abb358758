//! `gatehouse reasons`: the manual of layers and reasons.

use std::process::ExitCode;

use clap::Args;

use crate::rejection::manual;

/// Print every layer and reason with its remedies
#[derive(Args, Debug)]
pub(super) struct Reasons {}

impl Reasons {
    pub(super) fn run(&self) -> ExitCode {
        out!("{}", manual().trim_end());
        ExitCode::SUCCESS
    }
}
