//! The command line: one file per verb.

use std::process::ExitCode;

/// Runs the verb named on the command line.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
