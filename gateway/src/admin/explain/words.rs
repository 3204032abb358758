//! The report in words.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};

use super::{End, Hits, Report};
use crate::admin::sessions::SessionStatus;
use crate::audit::Past;
use crate::audit::query::{printable, rfc3339};
use crate::policy::{MatchedRule, Tier};
use crate::rejection::Reason;

/// `rule` in words: which prefix of which list, and where.
pub fn words(rule: &MatchedRule) -> String {
    let verdict = match rule.verdict {
        crate::policy::Verdict::Pass if rule.tier == Tier::Observe => {
            "passes, and would be dropped if its list were enforced"
        }
        crate::policy::Verdict::Pass => "passes",
        crate::policy::Verdict::Drop => "is dropped",
    };
    let place = match (&rule.prefix, &rule.list) {
        (Some(prefix), Some(list)) if rule.line > 0 => {
            format!("tier {}, {prefix} at {list}:{}", rule.tier.name(), rule.line)
        }
        (Some(prefix), Some(list)) => format!("tier {}, {prefix} in {list}", rule.tier.name()),
        (Some(prefix), None) => format!("tier {}, {prefix}", rule.tier.name()),
        (None, _) => "in no list, so the default decides".to_owned(),
    };
    format!("the address {verdict}: {place} (generation {})", rule.generation)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(past) = &self.past {
            write_past(f, past)?;
        }
        if let Some(session) = &self.session {
            write_session(f, session, &self.ends)?;
        }
        let source = if self.live {
            "the running daemon"
        } else {
            "the configuration and its files alone, no daemon running"
        };
        writeln!(f, "asked: {source}")?;
        for step in &self.steps {
            let mark = match step.passed {
                Some(true) => "pass  ",
                Some(false) => "REJECT",
                None => "  -   ",
            };
            match &step.check {
                Some(check) => writeln!(f, "{mark} {:12} {check}: {}", step.layer, step.text)?,
                None => writeln!(f, "{mark} {:12} {}", step.layer, step.text)?,
            }
        }
        if let Some(token) = &self.token {
            let verified =
                if token.verified { "verified" } else { "NOT verified: anybody can have written it" };
            writeln!(f, "token header ({verified}):\n{}", pretty(&token.header))?;
            writeln!(f, "token claims ({verified}):\n{}", pretty(&token.claims))?;
        }
        if let Some(Hits { dropped, passed }) = self.packets {
            writeln!(
                f,
                "what decided about the address has dropped {dropped} and passed {passed} packets so far"
            )?;
        }
        match &self.rejection {
            None => write!(f, "\nadmitted, as far as was asked"),
            Some(verdict) => {
                writeln!(f, "\nrejected by {}: {} (HTTP {})", verdict.layer, verdict.reason, verdict.status)?;
                writeln!(f, "  client:   {}", verdict.client_fix)?;
                write!(f, "  operator: {}", verdict.operator_fix)?;
                let later: Vec<&str> = self.later().collect();
                if !later.is_empty() {
                    write!(f, "\nlater it would be rejected by: {}", later.join(", "))?;
                }
                Ok(())
            }
        }
    }
}

/// What is recorded, and the remedies of its reason.
fn write_past(f: &mut fmt::Formatter<'_>, past: &Past) -> fmt::Result {
    writeln!(f, "recorded at {}: {}", rfc3339(past.time), printable(&past.message))?;
    for (name, value) in past.fields.iter().filter(|(name, _)| name != "MESSAGE_ID") {
        writeln!(
            f,
            "  {:12} {}",
            printable(name.trim_start_matches("GATEHOUSE_").to_lowercase().as_str()),
            printable(value)
        )?;
    }
    if let Some(reason) = reason(past) {
        writeln!(f, "  client:   {}\n  operator: {}", reason.fix(), reason.operator_fix())?;
    }
    writeln!(
        f,
        "\nHow such a client would fare now; its token is not recorded, so it is not judged unless it is given:"
    )
}

/// The reason that is recorded.
pub(super) fn reason(past: &Past) -> Option<Reason> {
    let (layer, name) = (past.field("LAYER")?, past.field("REASON")?);
    Reason::ALL.iter().copied().find(|reason| reason.layer().name() == layer && reason.name() == name)
}

fn write_session(f: &mut fmt::Formatter<'_>, session: &SessionStatus, ends: &[End]) -> fmt::Result {
    writeln!(
        f,
        "open since {}: {} of the issuer {} from {} on {}; its token expires at {}; {} bytes from the client, {} to it",
        rfc3339(session.since),
        printable(&session.subject),
        session.issuer,
        session.client,
        session.route,
        rfc3339(session.expires),
        session.bytes_up,
        session.bytes_down,
    )?;
    ends.iter().try_for_each(|end| writeln!(f, "  ends by {end}"))?;
    writeln!(f, "`gatehouse close {}` ends it.\n\nHow its client would fare now:", session.id)
}

/// What a stranger wrote, so that it moves no cursor and hides nothing: whatever is no letter, digit or
/// visible ASCII is escaped.
fn pretty(members: &Map<String, Value>) -> String {
    // Members of a JSON object can always be written.
    let text = serde_json::to_string_pretty(members).unwrap_or_default();
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, ' '..='~' | '\n') || character.is_alphanumeric() {
            shown.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                // Writing to a string does not fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        }
    }
    shown
}
