//! `gatehouse ban`, `unban` and `bans`: addresses that are blocked for a while.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use ipnet::IpNet;

use super::ConfigFile;
use super::audit::net;
use super::colour;
use super::sessions::ask;
use super::table::Table;
use super::units::span;
use crate::admin::bans::{Order, Report};
use crate::admin::control::Request;
use crate::auth::revocation::seconds;

/// Block an address or a network for a while, at the card and at the gateway
///
/// In force when this returns; open sessions from there end. What is never blocked stays so. Exit code 69: no
/// daemon can be asked.
#[derive(Args, Debug)]
pub(super) struct Ban {
    #[command(flatten)]
    config: ConfigFile,
    /// Whom
    #[arg(value_name = "IP|NET", value_parser = net)]
    prefix: IpNet,
    /// For how long
    #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Why, for those who look later
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Lift a ban before its time
///
/// Exit code 1: there is no such ban; 69: no daemon can be asked.
#[derive(Args, Debug)]
pub(super) struct Unban {
    #[command(flatten)]
    config: ConfigFile,
    /// Whose: exactly the prefix that is banned
    #[arg(value_name = "IP|NET", value_parser = net)]
    prefix: IpNet,
}

/// Show who is banned, by whom, why, and until when
///
/// Exit code 69: no daemon can be asked.
#[derive(Args, Debug)]
pub(super) struct Bans {
    #[command(flatten)]
    config: ConfigFile,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Ban {
    pub(super) fn run(&self) -> ExitCode {
        let order =
            Order::Ban { prefix: self.prefix, seconds: self.duration.as_secs(), reason: self.reason.clone() };
        done(&self.config, order, || {
            out!("{} is banned for {}", self.prefix.trunc(), humantime::format_duration(self.duration));
        })
    }
}

impl Unban {
    pub(super) fn run(&self) -> ExitCode {
        done(&self.config, Order::Lift { prefix: self.prefix }, || {
            out!("the ban of {} is lifted", self.prefix.trunc());
        })
    }
}

fn done(config: &ConfigFile, order: Order, say: impl FnOnce()) -> ExitCode {
    match ask::<Report>(config, &Request::Bans(order)) {
        Ok(report) => {
            say();
            for warning in &report.warnings {
                complain!("warning: {warning}");
            }
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

impl Bans {
    pub(super) fn run(&self) -> ExitCode {
        let report: Report = match ask(&self.config, &Request::Bans(Order::List)) {
            Ok(report) => report,
            Err(code) => return code,
        };
        if self.json {
            return super::print_json(&report);
        }
        let now = seconds(SystemTime::now());
        let mut table = Table::new(&["PREFIX", "BY", "SINCE", "LEFT", "REASON"], colour::wanted());
        for ban in &report.bans {
            table.row(vec![
                ban.prefix.to_string(),
                ban.origin.to_string(),
                span(now.saturating_sub(ban.since)),
                span(ban.until.saturating_sub(now)),
                ban.reason.clone(),
            ]);
        }
        out!("{table}");
        let dropped =
            report.dropped.map_or_else(String::new, |count| format!(", {count} packets dropped at the card"));
        out!("{} banned{dropped}", report.bans.len());
        ExitCode::SUCCESS
    }
}
