//! The `gatehouse` binary: arguments to exit code, nothing else.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    gateway::cli::main()
}
