//! The command line: one file per verb.

/// Prints a line of the answer.
macro_rules! out {
    ($($text:tt)*) => { $crate::cli::write(std::io::stdout(), format_args!("{}\n", format_args!($($text)*))) };
}

/// Prints a line that is not part of the answer.
macro_rules! complain {
    ($($text:tt)*) => { $crate::cli::write(std::io::stderr(), format_args!("{}\n", format_args!($($text)*))) };
}

mod apply;
mod audit;
mod bans;
mod check;
mod colour;
mod connect;
mod detach;
mod explain;
mod key;
mod lists;
mod progress;
mod reasons;
mod rehearse;
mod reload;
mod revoke;
mod run;
mod sessions;
mod status;
mod table;
mod token;
mod top;
mod units;

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, Diagnostic};

/// Everything is fine.
const OK: u8 = 0;
/// The verb did its work and the answer is no, or it could not do its work.
const FAILED: u8 = 1;
/// `EX_NOINPUT` of sysexits(3): what was named is not there.
const NO_INPUT: u8 = 66;
/// `EX_UNAVAILABLE` of sysexits(3): there is no answer.
const UNAVAILABLE: u8 = 69;
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
    Audit(audit::Audit),
    Sessions(sessions::Sessions),
    Close(sessions::Close),
    Ban(bans::Ban),
    Unban(bans::Unban),
    Bans(bans::Bans),
    Status(status::Status),
    Top(top::Top),
    Apply(apply::Apply),
    Reload(reload::Reload),
    Lists(lists::Lists),
    Reasons(reasons::Reasons),
    Revoke(revoke::Revoke),
    Token(token::Token),
    Key(key::Key),
    Connect(connect::Connect),
    Detach(detach::Detach),
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
        Verb::Audit(audit) => audit.run(),
        Verb::Sessions(sessions) => sessions.run(),
        Verb::Close(close) => close.run(),
        Verb::Ban(ban) => ban.run(),
        Verb::Unban(unban) => unban.run(),
        Verb::Bans(bans) => bans.run(),
        Verb::Status(status) => status.run(),
        Verb::Top(top) => top.run(),
        Verb::Apply(apply) => apply.run(),
        Verb::Reload(reload) => reload.run(),
        Verb::Lists(lists) => lists.run(),
        Verb::Reasons(reasons) => reasons.run(),
        Verb::Revoke(revoke) => revoke.run(),
        Verb::Token(token) => token.run(),
        Verb::Key(key) => key.run(),
        Verb::Connect(connect) => connect.run(),
        Verb::Detach(detach) => detach.run(),
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
        complain!("{diagnostic}");
    }
}

/// Prints `error` with its causes, and the exit code for it.
fn failed(error: &dyn std::error::Error) -> ExitCode {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    complain!("gatehouse: {text}");
    ExitCode::from(FAILED)
}

/// Prints `value` as JSON for scripts.
fn print_json(value: &impl serde::Serialize) -> ExitCode {
    match serde_json::to_string_pretty(value) {
        Ok(text) => {
            out!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

/// Writes `text`. A reader that went away has read enough; any other fault ends the command, for
/// an answer that is not there must not look like one.
fn write(mut to: impl Write, text: fmt::Arguments<'_>) {
    if let Err(error) = to.write_fmt(text).and_then(|()| to.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        // Where standard error is at fault, there is nobody left to tell.
        let _ = writeln!(io::stderr(), "gatehouse: the answer cannot be written: {error}");
        std::process::exit(FAILED.into());
    }
}
