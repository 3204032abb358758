//! `gatehouse revoke`: tokens that are not accepted any more.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{ArgGroup, Args};

use super::{ConfigFile, FAILED, UNAVAILABLE};
use crate::admin::control::{self, Request};
use crate::admin::revocations::{Order, Report};
use crate::auth::revocation::{Revocation, Revoked, print, seconds};
use crate::config::Config;
use crate::service;

/// Revoke tokens, show what is revoked, or take a revocation back
///
/// In force at once, for new handshakes and open sessions, and kept across restarts. Without a running
/// daemon it is in force from its next start on.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("what").required(true).args(["jti", "subject", "sid", "key", "issued_before", "list", "undo"])))]
pub(super) struct Revoke {
    #[command(flatten)]
    config: ConfigFile,
    /// Revoke the token with this `jti`
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    jti: Option<String>,
    /// Revoke all tokens of this `sub`
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    subject: Option<String>,
    /// Revoke the tokens of the sign-in with this `sid`
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    sid: Option<String>,
    /// Revoke the tokens signed with the key of this `kid`
    #[arg(long, value_name = "KID", allow_hyphen_values = true)]
    key: Option<String>,
    /// Revoke the tokens issued before this time, `now` or as 2026-12-31T23:59:59Z, and those that do not
    /// say when they were issued
    #[arg(long, value_name = "TIME", value_parser = time)]
    issued_before: Option<SystemTime>,
    /// Only tokens of this issuer, by its name in the configuration; may be left out where there is one
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Forget the revocation after this time; no token may be good for longer (default: the issuer's
    /// max_lifetime and leeways, or [revocation] keep; never for --key)
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    span: Option<Duration>,
    /// Forget the revocation at this time, as 2026-12-31T23:59:59Z; no token may be good for longer
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_rfc3339_weak, conflicts_with = "span")]
    until: Option<SystemTime>,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Show what is revoked
    #[arg(long)]
    list: bool,
    /// Take the revocation with this name back
    #[arg(long, value_name = "ID")]
    undo: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn time(text: &str) -> Result<SystemTime, humantime::TimestampError> {
    if text == "now" { Ok(SystemTime::now()) } else { humantime::parse_rfc3339_weak(text) }
}

impl Revoke {
    pub(super) fn run(self) -> ExitCode {
        let config = match self.config.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let order = match self.order(&config, SystemTime::now()) {
            Ok(order) => order,
            Err(message) => {
                complain!("gatehouse: {message}");
                return ExitCode::from(FAILED);
            }
        };
        let report = match carry_out(&config, &order) {
            Ok(report) => report,
            Err((code, message)) => {
                complain!("gatehouse: {message}");
                return ExitCode::from(code);
            }
        };
        if self.json { super::print_json(&report) } else { say(&order, &report) }
    }

    fn order(&self, config: &Config, now: SystemTime) -> Result<Order, String> {
        if self.list {
            return Ok(Order::List);
        }
        if let Some(id) = &self.undo {
            return Ok(Order::Undo { id: id.clone() });
        }
        let issuer = self.issuer(config)?;
        let text = |text: &Option<String>, what: fn(String) -> Revoked| text.clone().map(what);
        let revoked = text(&self.jti, Revoked::Token)
            .or_else(|| text(&self.subject, Revoked::Subject))
            .or_else(|| text(&self.sid, Revoked::Session))
            .or_else(|| text(&self.key, Revoked::Key))
            .or_else(|| self.issued_before.map(|time| Revoked::IssuedBefore(seconds(time))))
            .ok_or("say what to revoke")?;
        // A token can be issued a leeway ahead of time, and is accepted for one after its end.
        let longest = issuer.and_then(|issuer| Some(issuer.max_lifetime? + 2 * issuer.leeway));
        let span = self.span.or(longest).unwrap_or(config.revocation.keep);
        // Tokens that are issued in the time to come are revoked, too.
        let start = self.issued_before.map_or(now, |time| time.max(now));
        let until = match (self.until, &revoked) {
            (Some(until), _) if until <= now => {
                return Err(format!(
                    "{} is over already, and nothing would be revoked: name a time to come with --until",
                    humantime::format_rfc3339_seconds(until)
                ));
            }
            (Some(until), _) => Some(seconds(until)),
            // Whoever has stolen a key can make tokens with it for ever.
            (None, Revoked::Key(_)) if self.span.is_none() => None,
            (None, _) => start.checked_add(span).map(seconds),
        };
        let revocation = Revocation {
            revoked,
            issuer: issuer.map(|issuer| issuer.issuer.clone()),
            until,
            note: self.note.clone(),
        };
        Ok(Order::Add { line: print(&revocation) })
    }

    fn issuer<'a>(&self, config: &'a Config) -> Result<Option<&'a crate::config::Issuer>, String> {
        match (&self.issuer, config.issuers.as_slice()) {
            (Some(name), all) => match all.iter().find(|issuer| issuer.name == *name) {
                Some(issuer) => Ok(Some(issuer)),
                None => Err(format!("there is no issuer `{name}` in {}", config.file.display())),
            },
            (None, [only]) => Ok(Some(only)),
            (None, _) if self.subject.is_some() => {
                Err("others may have the same subject: say of which issuer, with --issuer".to_owned())
            }
            (None, _) => Ok(None),
        }
    }
}

fn carry_out(config: &Config, order: &Order) -> Result<Report, (u8, String)> {
    if let Some(socket) = &config.control {
        match control::ask(socket, &Request::Revoke(order.clone())) {
            Ok(Some(report)) => return Ok(report),
            Ok(None) => {}
            Err(error) => return Err((UNAVAILABLE, format!("the daemon at {}: {error}", socket.display()))),
        }
    }
    service::revoke(config, order).map_err(|message| (FAILED, message))
}

fn say(order: &Order, report: &Report) -> ExitCode {
    match order {
        Order::List => out!("{report}"),
        Order::Add { .. } => {
            if let Some(last) = report.revocations.iter().rfind(|kept| kept.kept) {
                out!("revoked: {}  {}", last.id, last.line);
            }
        }
        Order::Undo { id } => out!("taken back: {id}"),
    }
    ExitCode::SUCCESS
}
