//! `gatehouse apply`: put edits in force, on trial if asked to, or say what they would do.

use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::progress::Progress;
use super::{CONFIG, ConfigFile, FAILED, UNAVAILABLE, print_json, rehearse};
use crate::admin::apply::{Order, Outcome, Report, Verdict};
use crate::admin::control::{self, Request};
use crate::admin::status::Status;
use crate::capture::CaptureReport;
use crate::config::Config;

/// How often, and how many times, to look whether the policy before is back.
const RETURNING: (Duration, u32) = (Duration::from_millis(250), 40);

/// Put edits of lists and of the address policy in force, and say what they change
///
/// With --confirm the old policy returns unless the new one is confirmed in time: on the terminal
/// where this waits, or anywhere by `gatehouse apply --confirmed`. Exit code 0: done; 1: refused,
/// or a trial came to nothing; 69: no daemon can be asked; 78: the configuration or a list is
/// faulty, and nothing has changed.
#[derive(Args, Debug)]
pub(super) struct Apply {
    #[command(flatten)]
    config: ConfigFile,
    /// Return to the old policy unless confirmed in this time, such as 60s
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with_all = ["confirmed", "revert", "dry_run"])]
    confirm: Option<Duration>,
    /// Keep the policy that is on trial
    #[arg(long, conflicts_with_all = ["revert", "dry_run"])]
    confirmed: bool,
    /// Return at once to the policy before the one that is on trial
    #[arg(long, conflicts_with = "dry_run")]
    revert: bool,
    /// Change nothing, and say what would change
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: judge the packets of this capture (pcap or pcapng) by the edited policy
    #[arg(long, value_name = "FILE", requires = "dry_run")]
    pcap: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Apply {
    pub(super) fn run(self) -> ExitCode {
        let config = match self.config.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let request = if self.confirmed {
            Request::Trial { verdict: Verdict::Confirm }
        } else if self.revert {
            Request::Trial { verdict: Verdict::Revert }
        } else {
            Request::Apply(Order { dry_run: self.dry_run, confirm: self.confirm, operator: operator() })
        };
        if let Some(file) = &self.pcap {
            return self.rehearse(&config, file, &request);
        }
        let (socket, report) = match ask_daemon_of(&config, &request) {
            Ok(answered) => answered,
            Err(code) => return code,
        };
        if self.json {
            print_json(&report);
        } else if self.confirmed {
            out!("confirmed: generation {} stays in force", report.generation);
        } else if self.revert {
            out!("taken back: generation {} is in force", report.generation);
        } else {
            super::write(std::io::stdout(), format_args!("{report}"));
        }
        match report.confirm_within_s {
            Some(seconds) if std::io::stdin().is_terminal() && !self.json => await_word(socket, seconds),
            _ => ExitCode::SUCCESS,
        }
    }
}

impl Apply {
    /// The difference, where a daemon runs, and what the edited policy does with a capture.
    fn rehearse(&self, config: &Config, file: &Path, request: &Request) -> ExitCode {
        let policy = match config.control.as_deref().map(|socket| ask(socket, request)).transpose() {
            Ok(report) => report.flatten(),
            Err(code) => return code,
        };
        let daemon = config.control.as_deref().filter(|_| policy.is_some());
        let capture = match rehearse::rehearse(config, file, daemon) {
            Ok(capture) => capture,
            Err(code) => return code,
        };
        if self.json {
            return print_json(&Rehearsal { policy, capture });
        }
        match policy {
            Some(report) => super::write(std::io::stdout(), format_args!("{report}")),
            None => out!("no daemon runs: the files are judged alone, and compared with nothing"),
        }
        super::write(std::io::stdout(), format_args!("{capture}"));
        ExitCode::SUCCESS
    }
}

/// What `--json` prints for a capture.
#[derive(Serialize)]
struct Rehearsal {
    /// The difference that the edits make; `None` without a daemon to compare with.
    policy: Option<Report>,
    capture: CaptureReport,
}

/// The report of the daemon that runs on `config`, and its socket; or the exit code after saying why there is none.
pub(super) fn ask_daemon_of<'a>(
    config: &'a Config,
    request: &Request,
) -> Result<(&'a Path, Report), ExitCode> {
    let Some(socket) = config.control.as_deref() else {
        complain!("gatehouse: a daemon is asked over its control socket: add [control] to the configuration");
        return Err(ExitCode::from(UNAVAILABLE));
    };
    match ask(socket, request)? {
        Some(report) => Ok((socket, report)),
        None => {
            complain!("gatehouse: no daemon answers at {}: start it first", socket.display());
            Err(ExitCode::from(UNAVAILABLE))
        }
    }
}

/// The daemon's report, `None` without a daemon, or the exit code after saying why there is none.
fn ask(socket: &Path, request: &Request) -> Result<Option<Report>, ExitCode> {
    let progress = Progress::of("asking the daemon");
    let answer = control::ask(socket, request);
    drop(progress);
    match answer {
        Ok(Some(Outcome::Done(report))) => Ok(Some(*report)),
        Ok(Some(Outcome::Faulty { diagnostics })) => {
            for diagnostic in diagnostics {
                complain!("{diagnostic}");
            }
            complain!("gatehouse: nothing has changed");
            Err(ExitCode::from(CONFIG))
        }
        Ok(Some(Outcome::Refused { message })) => {
            complain!("gatehouse: {message}");
            Err(ExitCode::from(FAILED))
        }
        Ok(None) => Ok(None),
        Err(error) => {
            complain!("gatehouse: the daemon at {} cannot be asked: {error}", socket.display());
            Err(ExitCode::from(UNAVAILABLE))
        }
    }
}

/// Waits for the operator's word. The clock that counts is the daemon's, which goes on when this
/// process, its terminal or its connection dies.
fn await_word(socket: &Path, seconds: u64) -> ExitCode {
    out!("Press Enter or y to keep it, n to take it back.");
    let (sender, words) = channel();
    std::thread::spawn(move || {
        let mut word = String::new();
        // An end of input is no word.
        if std::io::stdin().read_line(&mut word).is_ok_and(|read| read > 0) {
            // Nobody may be waiting any more.
            let _ = sender.send(word);
        }
    });
    let verdict = match words.recv_timeout(Duration::from_secs(seconds)) {
        Ok(word) if matches!(word.trim(), "" | "y" | "yes") => Verdict::Confirm,
        Ok(_) => Verdict::Revert,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return overdue(socket),
    };
    match (ask(socket, &Request::Trial { verdict }), verdict) {
        (Err(code), _) => code,
        (Ok(None), _) => {
            complain!("gatehouse: the daemon has ended: the next one starts with what the files say");
            ExitCode::from(UNAVAILABLE)
        }
        (Ok(Some(report)), Verdict::Confirm) => {
            out!("confirmed: generation {} stays in force", report.generation);
            ExitCode::SUCCESS
        }
        (Ok(Some(report)), Verdict::Revert) => {
            out!("taken back: generation {} is in force", report.generation);
            ExitCode::from(FAILED)
        }
    }
}

/// Nobody said a word here: what has the daemon done?
fn overdue(socket: &Path) -> ExitCode {
    let ask = || control::ask::<Status>(socket, &Request::Status).ok().flatten()?.policy;
    let mut policy = ask();
    // The policy before is just being compiled.
    for _ in 0..RETURNING.1 {
        if policy.as_ref().is_none_or(|policy| policy.trial_s != Some(0)) {
            break;
        }
        std::thread::sleep(RETURNING.0);
        policy = ask();
    }
    let Some(policy) = policy else {
        complain!("gatehouse: the daemon cannot be asked what became of the trial: see `gatehouse status`");
        return ExitCode::from(UNAVAILABLE);
    };
    match (policy.trial_s, policy.reverted) {
        (Some(seconds), _) => {
            out!("still on trial for {seconds} s: see `gatehouse status`");
            ExitCode::from(FAILED)
        }
        (None, Some(reverted)) => {
            out!("{reverted}");
            ExitCode::from(FAILED)
        }
        (None, None) => {
            out!("confirmed from elsewhere: generation {} stays in force", policy.generation);
            ExitCode::SUCCESS
        }
    }
}

/// The address from which the operator is logged in by ssh, when the environment tells.
fn operator() -> Option<IpAddr> {
    let connection = std::env::var("SSH_CONNECTION").or_else(|_| std::env::var("SSH_CLIENT")).ok()?;
    connection.split_whitespace().next()?.parse().ok()
}
