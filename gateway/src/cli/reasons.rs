//! `gatehouse reasons`: the manual of layers and reasons.

use std::process::ExitCode;

use clap::Args;

use crate::rejection::{catalog, manual};

/// Print every layer and reason with its remedies
#[derive(Args, Debug)]
pub(super) struct Reasons {
    /// Print them as a journal catalog instead, for `journalctl -x`
    #[arg(long)]
    catalog: bool,
}

impl Reasons {
    pub(super) fn run(&self) -> ExitCode {
        out!("{}", if self.catalog { catalog() } else { manual() }.trim_end());
        ExitCode::SUCCESS
    }
}
