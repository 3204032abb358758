//! `gatehouse status`: how the daemon is.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;

use super::colour::{self, Tone, paint};
use super::sessions::ask;
use super::table::Table;
use super::units::{bytes, span};
use super::{ConfigFile, lists};
use crate::admin::control::Request;
use crate::admin::introspection::IntrospectionStatus;
use crate::admin::status::{FetchStatus, IssuerStatus, NOT_ATTACHED, PolicyStatus, Status as Answer};
use crate::auth::revocation::seconds;

/// Show how the running daemon is
///
/// What is amiss stands in capitals. Exit code 69: no daemon can be asked.
#[derive(Args, Debug)]
pub(super) struct Status {
    #[command(flatten)]
    config: ConfigFile,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(&self) -> ExitCode {
        let status: Answer = match ask(&self.config, &Request::Status) {
            Ok(status) => status,
            Err(code) => return code,
        };
        if self.json {
            return super::print_json(&status);
        }
        out!("{}", show(&status, seconds(SystemTime::now()), colour::wanted()));
        ExitCode::SUCCESS
    }
}

/// What is not known, or is not said of this one.
fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

/// `status` for people, at the second `now` since 1970.
fn show(status: &Answer, now: u64, coloured: bool) -> String {
    let sessions = status.sessions;
    let mut parts = vec![format!(
        "gatehouse {}, process {}, up {}; {sessions} open session{}",
        status.version,
        status.pid,
        span(status.uptime_s),
        if sessions == 1 { "" } else { "s" },
    )];
    parts.push(listeners(status, now, coloured));
    if !status.interfaces.is_empty() {
        parts.push(interfaces(status, coloured));
    }
    if let Some(policy) = &status.policy {
        parts.push(self::policy(policy, now, coloured));
    }
    if !status.issuers.is_empty() {
        parts.push(issuers(&status.issuers, coloured));
    }
    if !status.upstreams.is_empty() {
        parts.push(upstreams(status, coloured));
    }
    if status.audit_lost_total > 0 {
        let alarm = paint("LOST", Tone::Bad, coloured);
        parts.push(format!("{alarm}: {} audit entries since the start", status.audit_lost_total));
    }
    parts.join("\n\n")
}

fn listeners(status: &Answer, now: u64, coloured: bool) -> String {
    let mut table = Table::new(&["LISTENER", "TLS", "CERTIFICATE GOOD FOR"], coloured);
    for listener in &status.listeners {
        let tls = if listener.tls { "yes" } else { "no" };
        let until = listener.certificate_until.map(|until| u64::try_from(until).unwrap_or_default());
        let left = until.map(|until| match until.checked_sub(now) {
            Some(left) => span(left),
            None => "0s".to_owned(),
        });
        table.row(vec![listener.address.clone(), tls.to_owned(), or_dash(left)]);
        if until.is_some_and(|until| until <= now) {
            table.note("EXPIRED", "clients that look at the certificate turn away");
        }
        if let Some(error) = &listener.error {
            table.note("THE NEWEST CERTIFICATE IS NOT IN FORCE", error);
        }
    }
    table.to_string()
}

fn interfaces(status: &Answer, coloured: bool) -> String {
    let mut table = Table::new(&["INTERFACE", "MODE", "DROPPED", "PASSED"], coloured);
    for one in &status.interfaces {
        let [dropped, passed] = [one.dropped, one.passed].map(|count| count.to_string());
        table.row(vec![one.interface.clone(), one.mode.clone(), dropped, passed]);
        let reason = one.reason.as_deref().unwrap_or_default();
        if one.mode == NOT_ATTACHED {
            table.note("NOT GUARDED", reason);
        } else if !reason.is_empty() {
            table.note("NOT AS WANTED", reason);
        }
    }
    let mut text = table.to_string();
    if let Some(packets) = &status.packets {
        let (dropped, passed, malformed) = (packets.dropped, packets.passed, packets.malformed);
        let _ = write!(text, "\npackets in all: {dropped} dropped, {passed} passed, {malformed} malformed");
        if packets.stale {
            let alarm = paint("STALE", Tone::Bad, coloured);
            let _ = write!(text, "\n  {alarm}: the card could not be read just now; these are older");
        }
    }
    text
}

fn policy(policy: &PolicyStatus, now: u64, coloured: bool) -> String {
    let alarm = |words: &str| paint(words, Tone::Bad, coloured);
    let mut text = format!("policy: generation {}", policy.generation);
    if let Some(compiled) = policy.compiled {
        let _ = write!(text, ", compiled {} ago", span(now.saturating_sub(compiled)));
    }
    let memory = bytes(policy.memory.try_into().unwrap_or(u64::MAX));
    let _ = writeln!(text, ", {} prefixes in {memory}", policy.prefixes);
    if let Some(error) = &policy.error {
        let _ = writeln!(text, "  {}: {error}", alarm("THE NEWEST LISTS ARE NOT IN FORCE"));
    }
    if let Some(seconds) = policy.trial_s {
        let when = format!("the policy before returns in {seconds} s");
        let _ =
            writeln!(text, "  {}: {when}, unless `gatehouse apply --confirmed` is run", alarm("ON TRIAL"));
    }
    if let Some(reverted) = &policy.reverted {
        let _ = writeln!(text, "  {}: {reverted}", alarm("TAKEN BACK"));
    }
    if policy.edits_wait {
        let _ = writeln!(text, "  {}: `gatehouse apply` puts edits of lists in force", alarm("EDITS WAIT"));
    }
    let mut table = Table::new(&["TIER", "PREFIXES", "PACKETS", "LIST"], coloured);
    for list in &policy.lists {
        let [prefixes, packets] = [list.prefixes as u64, list.packets].map(|count| count.to_string());
        // Said of a list that drops nothing, so that nobody takes its count for drops.
        let observed = if list.tier == "observe" { " (passed what it would drop)" } else { "" };
        table.row(vec![list.tier.clone(), prefixes, packets, format!("{}{observed}", list.list)]);
        lists::amiss(&mut table, &list.source, list.held_back, list.remote.as_ref(), list.error.as_deref());
    }
    text + &table.to_string()
}

fn issuers(issuers: &[IssuerStatus], coloured: bool) -> String {
    let headings = ["ISSUER", "KEYS", "FROM", "CONFIRMED", "ASKED AGAIN"];
    let mut table = Table::new(&headings, coloured);
    for issuer in issuers {
        let (from, age, next) = match &issuer.fetched {
            None => ("its files".to_owned(), None, None),
            Some(FetchStatus { source, age_s, next_s, .. }) => (
                source.clone(),
                Some(age_s.map_or_else(|| "never yet".to_owned(), |age| format!("{} ago", span(age)))),
                Some(next_s.map_or_else(|| "now".to_owned(), |next| format!("in {}", span(next)))),
            ),
        };
        let from = if issuer.fetched.is_none() && issuer.introspection.is_some() {
            "nowhere".to_owned()
        } else {
            from
        };
        let keys = issuer.keys.to_string();
        table.row(vec![issuer.issuer.clone(), keys, from, or_dash(age), or_dash(next)]);
        if let Some(error) = &issuer.error {
            table.note("NOT IN FORCE", format!("as it is now: {error}"));
        }
        if let Some(fetched) = &issuer.fetched {
            if fetched.stale {
                table.note("TOO OLD", "tokens of this issuer get 503");
            }
            if fetched.going > 0 {
                let text = format!(
                    "{} keys that the issuer has no more; they go when it says so again",
                    fetched.going
                );
                table.note("GOING", text);
            }
            if let Some(error) = &fetched.error {
                table.note("NOT FETCHED", error);
            }
        }
        if let Some(asked) = &issuer.introspection {
            introspection(&mut table, asked);
        }
    }
    table.to_string()
}

fn introspection(table: &mut Table, asked: &IntrospectionStatus) {
    let at = asked.endpoint.as_deref().unwrap_or("where its metadata will say");
    let answered =
        asked.age_s.map_or_else(|| "no answer yet".to_owned(), |age| format!("answered {} ago", span(age)));
    table.remark(format!("asked about tokens: {at}, {answered}"));
    if let Some(error) = &asked.error {
        let times = if asked.failures > 1 { format!(" ({} times)", asked.failures) } else { String::new() };
        table.note("NOT ANSWERED", format!("{error}{times}"));
    }
    if asked.resting {
        let rest = span(asked.rest_s.unwrap_or_default());
        table.note("LEFT ALONE", format!("for {rest}: tokens that it has to be asked about get 503"));
    }
    if let Some(error) = &asked.file_error {
        table.note("NOT IN FORCE", format!("as it is now: {error}"));
    }
}

fn upstreams(status: &Answer, coloured: bool) -> String {
    let mut table = Table::new(&["UPSTREAM", "SESSIONS"], coloured);
    for upstream in &status.upstreams {
        table.row(vec![upstream.upstream.clone(), upstream.sessions.to_string()]);
        if !upstream.reachable {
            table.note("NOT REACHABLE", "the last attempt to connect failed; the log says why");
        }
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status() -> Answer {
        serde_json::from_value(json!({
            "version": "0.1.0", "pid": 7, "uptime_s": 3_700, "sessions": 1, "audit_lost": 0, "audit_lost_total": 3,
            "listen": ["192.0.2.1:443"],
            "listeners": [{"address": "192.0.2.1:443", "tls": true, "certificate_until": 900, "error": "no key fits"}],
            "interfaces": [
                {"interface": "eth0", "mode": "native", "reason": null, "dropped": 12, "passed": 3},
                {"interface": "eth1", "mode": "none", "reason": "it is not there"},
            ],
            "packets": {"dropped": 12, "passed": 3, "malformed": 0, "stale": true},
            "policy": {"generation": 4, "compiled": 940, "prefixes": 2, "memory": 2048, "error": "a.list:1:1: no", "edits_wait": true,
                       "trial_s": 9, "reverted": "it shut the operator out",
                       "lists": [{"tier": "deny", "list": "a.list", "prefixes": 2, "packets": 12, "source": "last good copy", "changed": 1,
                                  "held_back": {"entries": 1, "in_force": 2}, "error": "a.list:1:1: no",
                                  "remote": {"error": "404"}}]},
            "issuers": [
                {"issuer": "main", "keys": 1, "error": null,
                 "fetched": {"source": "https://i.example/jwks", "age_s": 90_000, "next_s": 5, "stale": true, "going": 1, "error": "500"}},
                {"issuer": "asked", "keys": 0, "error": null,
                 "introspection": {"resting": true, "rest_s": 4, "failures": 2, "error": "stalled", "file_error": "b.secret: no"}},
            ],
            "upstreams": [{"upstream": "127.0.0.1:9", "sessions": 1, "reachable": false}],
        }))
        .expect("a status")
    }

    #[test]
    fn whatever_is_amiss_stands_in_capitals_with_its_cause() {
        let text = show(&status(), 1000, false);
        for expected in [
            "up 1h 1m; 1 open session\n",
            "EXPIRED: ",
            "THE NEWEST CERTIFICATE IS NOT IN FORCE: no key fits",
            "eth0       native       12       3\n",
            "NOT GUARDED: it is not there",
            "STALE: ",
            "policy: generation 4, compiled 1m ago, 2 prefixes in 2048 B\n",
            "THE NEWEST LISTS ARE NOT IN FORCE: a.list:1:1: no",
            "ON TRIAL: the policy before returns in 9 s",
            "TAKEN BACK: it shut the operator out",
            "EDITS WAIT: ",
            "THE LAST GOOD COPY IS IN FORCE",
            "HELD BACK: 1 entries in the file, 2 in force",
            "NOT IN FORCE: as it is now: a.list:1:1: no",
            "NOT FETCHED: 404",
            "main       1  https://i.example/jwks  1day 1h ago  in 5s\n",
            "TOO OLD: ",
            "GOING: 1 keys",
            "NOT FETCHED: 500",
            "asked about tokens: where its metadata will say, no answer yet",
            "NOT ANSWERED: stalled (2 times)",
            "LEFT ALONE: for 4s",
            "NOT IN FORCE: as it is now: b.secret: no",
            "NOT REACHABLE: ",
            "LOST: 3 audit entries",
        ] {
            assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
        }
        assert!(!text.contains('\u{1b}') && show(&status(), 1000, true).contains("\u{1b}[31mSTALE\u{1b}[0m"));
    }

    #[test]
    fn of_a_gate_that_is_in_order_nothing_is_in_capitals_but_headings() {
        let mut status = status();
        status.listeners[0].error = None;
        status.interfaces.truncate(1);
        status.packets = None;
        status.policy = None;
        status.issuers.clear();
        status.upstreams[0].reachable = true;
        status.audit_lost_total = 0;
        let text = show(&status, 0, false);
        assert_eq!(
            text,
            "gatehouse 0.1.0, process 7, up 1h 1m; 1 open session\n\n\
             LISTENER       TLS  CERTIFICATE GOOD FOR\n192.0.2.1:443  yes  15m\n\n\
             INTERFACE  MODE    DROPPED  PASSED\neth0       native       12       3\n\n\
             UPSTREAM     SESSIONS\n127.0.0.1:9         1"
        );
    }
}
