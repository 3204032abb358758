//! The command line: one file per verb.
#![allow(clippy::print_stdout, reason = "answers of a command go to standard output")]

mod check;
mod connect;
mod explain;
mod reasons;
mod run;
mod status;
mod token;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, Diagnostic};

/// Everything is fine.
const OK: u8 = 0;
/// The verb did its work and the answer is no, or it could not do its work.
const FAILED: u8 = 1;
/// `EX_USAGE` of sysexits(3).
const USAGE: u8 = 64;
/// `EX_CONFIG` of sysexits(3).
const CONFIG: u8 = 78;

/// Guards a WebSocket service at the network card and at the handshake, and names the layer that
/// rejected each client.
#[derive(Debug, Parser)]
#[command(name = "gatehouse", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Run),
    Check(check::Check),
    Explain(explain::Explain),
    Status(status::Status),
    Reasons(reasons::Reasons),
    Token(token::Token),
    Connect(connect::Connect),
}

/// Where the configuration is.
#[derive(Args, Debug)]
struct ConfigFile {
    /// The configuration file
    #[arg(
        long = "config",
        value_name = "FILE",
        env = "GATEHOUSE_CONFIG",
        default_value = "/etc/gatehouse/gatehouse.toml"
    )]
    file: PathBuf,
}

impl ConfigFile {
    /// The configuration, or the exit code after printing what is wrong with it.
    fn load(&self) -> Result<Config, ExitCode> {
        load(&self.file)
    }
}

/// Runs the verb named on the command line.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be done about a closed terminal.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { OK });
        }
    };
    match cli.verb {
        Verb::Run(run) => run.run(),
        Verb::Check(check) => check.run(),
        Verb::Explain(explain) => explain.run(),
        Verb::Status(status) => status.run(),
        Verb::Reasons(reasons) => reasons.run(),
        Verb::Token(token) => token.run(),
        Verb::Connect(connect) => connect.run(),
    }
}

fn load(file: &Path) -> Result<Config, ExitCode> {
    match config::load(file) {
        Ok((config, warnings)) => {
            print_diagnostics(&warnings);
            Ok(config)
        }
        Err(faults) => {
            print_diagnostics(&faults);
            Err(ExitCode::from(CONFIG))
        }
    }
}

fn print_diagnostics(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        eprintln!("{diagnostic}");
    }
}

/// Prints `error` with its causes, and the exit code for it.
fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprint!("gatehouse: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprint!(": {error}");
        cause = error.source();
    }
    eprintln!();
    ExitCode::from(FAILED)
}

/// Prints `value` as JSON for scripts.
fn print_json(value: &impl serde::Serialize) -> ExitCode {
    match serde_json::to_string_pretty(value) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}
