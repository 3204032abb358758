//! From an entry to what stands in the journal: level, message and fields. Pure.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::sync::LazyLock;

use log::Level;

use super::entry::{Dropped, Entry, Point};
use super::fold::Repeats;
use crate::auth::sources::Source;
use crate::policy::MatchedRule;
use crate::rejection::{Layer, Reason, Rejection, message_id};

/// One entry, rendered. The journal gets it as native fields, standard error as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// How urgent it is.
    pub level: Level,
    /// One line for people.
    pub message: String,
    /// Journal fields in the order in which they are printed.
    pub fields: Fields,
}

/// Names and values. All values stand in one piece of memory: an entry has a dozen of them, and each
/// admission makes two entries (`cargo xtask bench handshake`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    text: String,
    /// Each name, and where its value ends.
    ends: Vec<(&'static str, usize)>,
}

impl Fields {
    /// Room for most entries.
    fn with_room() -> Self {
        Self { text: String::with_capacity(256), ends: Vec::with_capacity(16) }
    }

    /// Adds a field.
    pub(super) fn push(&mut self, name: &'static str, value: impl fmt::Display) {
        // Writing to a string does not fail.
        let _ = write!(self.text, "{value}");
        self.ends.push((name, self.text.len()));
    }

    /// The names and values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        self.ends.iter().zip(starts).map(|((name, end), start)| (*name, &self.text[start..*end]))
    }
}

/// The message id of each reason and kind: made once, because each is a hash.
static MESSAGE_IDS: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let reasons = Reason::ALL.iter().map(ToString::to_string);
    let kinds = reasons.chain(KINDS.map(str::to_owned));
    kinds.map(|kind| (kind.clone(), message_id(&kind))).collect()
});

/// The kinds of entries that are no rejections.
pub(super) const KINDS: [&str; 6] =
    ["audit_lost", "admitted", "renewed", "ended", "dropped_unreported", "observed"];

impl Record {
    /// What is written once the journal takes entries again.
    pub(super) fn losses(entries: u64) -> Self {
        let message = format!("{entries} audit entries were lost: the journal did not take them in time");
        Self::new(Level::Error, "audit_lost", message).with("GATEHOUSE_LOST", entries)
    }

    fn new(level: Level, kind: &str, message: String) -> Self {
        let mut fields = Fields::with_room();
        match MESSAGE_IDS.get(kind) {
            Some(id) => fields.push("MESSAGE_ID", id),
            None => fields.push("MESSAGE_ID", message_id(kind)),
        }
        Self { level, message, fields }
    }

    fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.fields.push(name, value);
        self
    }

    fn maybe(self, name: &'static str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    fn rule(self, rule: &MatchedRule) -> Self {
        self.with("GATEHOUSE_TIER", rule.tier.name())
            .maybe("GATEHOUSE_PREFIX", rule.prefix)
            .maybe("GATEHOUSE_LIST", rule.list.as_ref())
            .maybe("GATEHOUSE_LINE", (rule.line > 0).then_some(rule.line))
            .with("GATEHOUSE_GENERATION", rule.generation)
    }

    /// What was seen of a client at the card.
    fn traffic(self, seen: &Dropped) -> Self {
        let (protocol, port) = seen.sample.map_or((None, None), |(protocol, port)| (Some(protocol), port));
        self.with("GATEHOUSE_INTERFACE", &seen.interface)
            .with("GATEHOUSE_PACKETS", seen.packets)
            .maybe("GATEHOUSE_PROTOCOL", protocol)
            .maybe("GATEHOUSE_PORT", port)
    }

    fn rejection(self, rejection: &Rejection, point: Point, client: IpAddr) -> Self {
        let record = self
            .with("GATEHOUSE_LAYER", rejection.reason.layer())
            .with("GATEHOUSE_REASON", rejection.reason.name())
            .with("GATEHOUSE_POINT", point.name())
            .with("GATEHOUSE_CLIENT", client)
            .maybe("GATEHOUSE_ISSUER", rejection.issuer.as_ref())
            .maybe("GATEHOUSE_SUBJECT", rejection.subject.as_ref())
            .maybe("GATEHOUSE_TOKEN_SOURCE", rejection.source.map(Source::name))
            .maybe("GATEHOUSE_NOTE", rejection.note.as_ref());
        match &rejection.rule {
            Some(rule) => record.rule(rule),
            None => record,
        }
    }
}

impl Record {
    /// The same for `repeats`, of which this is the last one.
    pub(super) fn standing_for(mut self, repeats: &Repeats) -> Self {
        let over = repeats.over.as_secs();
        let whose =
            repeats.network.map_or_else(String::new, |network| format!(", from addresses in {network}"));
        self.message.push_str(&format!(" ({} times in {over} s{whose})", repeats.count));
        let named = repeats.ids.len() as u64 + 1;
        let record =
            self.with("GATEHOUSE_REPEATS", repeats.count).maybe("GATEHOUSE_NETWORK", repeats.network);
        let record =
            record.maybe("GATEHOUSE_IDS_LEFT_OUT", repeats.count.checked_sub(named).filter(|left| *left > 0));
        // The journal takes a field several times, and finds the entry by each of its values.
        repeats.ids.iter().fold(record, |record, id| record.with("GATEHOUSE_ID", id))
    }
}

impl From<&Entry> for Record {
    fn from(entry: &Entry) -> Self {
        match entry {
            Entry::Rejected { id, client, route, rejection } => rejected(rejection, client.ip())
                .maybe("GATEHOUSE_ROUTE", route.as_ref())
                .with("GATEHOUSE_CLIENT_PORT", client.port())
                .with("GATEHOUSE_ID", id),
            Entry::Admitted { id, client, route, subject, issuer, source } => {
                Self::new(Level::Info, "admitted", format!("admitted {client} to {route}"))
                    .with("GATEHOUSE_CLIENT", client.ip())
                    .with("GATEHOUSE_CLIENT_PORT", client.port())
                    .with("GATEHOUSE_ROUTE", route)
                    .with("GATEHOUSE_SUBJECT", subject)
                    .with("GATEHOUSE_ISSUER", issuer)
                    .with("GATEHOUSE_TOKEN_SOURCE", source.name())
                    .with("GATEHOUSE_ID", id)
            }
            Entry::Renewed { id, client, route, subject, issuer, expires } => {
                Self::new(Level::Info, "renewed", format!("session of {client} on {route} renewed"))
                    .with("GATEHOUSE_CLIENT", client.ip())
                    .with("GATEHOUSE_CLIENT_PORT", client.port())
                    .with("GATEHOUSE_ROUTE", route)
                    .with("GATEHOUSE_SUBJECT", subject)
                    .with("GATEHOUSE_ISSUER", issuer)
                    .with("GATEHOUSE_EXPIRES", expires)
                    .with("GATEHOUSE_ID", id)
            }
            Entry::Ended {
                id,
                client,
                route,
                subject,
                why,
                rejection,
                duration,
                bytes_up,
                bytes_down,
                messages_up,
                messages_down,
            } => {
                let message = format!("session of {client} on {route} ended: {why}");
                let record = Self::new(Level::Info, "ended", message);
                let record = match rejection {
                    Some(rejection) => record.rejection(rejection, Point::Gateway, client.ip()),
                    None => record.with("GATEHOUSE_CLIENT", client.ip()),
                };
                record
                    .with("GATEHOUSE_CLIENT_PORT", client.port())
                    .with("GATEHOUSE_ROUTE", route)
                    .with("GATEHOUSE_SUBJECT", subject)
                    .with("GATEHOUSE_DURATION_MS", duration.as_millis())
                    .with("GATEHOUSE_BYTES_UP", bytes_up)
                    .with("GATEHOUSE_BYTES_DOWN", bytes_down)
                    .with("GATEHOUSE_MESSAGES_UP", messages_up)
                    .with("GATEHOUSE_MESSAGES_DOWN", messages_down)
                    .with("GATEHOUSE_ID", id)
            }
            Entry::Dropped(dropped) => self::dropped(dropped),
            Entry::ObservedAtCard(dropped) => {
                let packets = packets(dropped.packets);
                observed(&dropped.rule, dropped.client, Point::Nic, &format!("{packets} at the card"))
                    .traffic(dropped)
            }
            Entry::ObservedAtGateway { id, client, rule } => {
                observed(rule, client.ip(), Point::Gateway, "a handshake at the gateway")
                    .with("GATEHOUSE_CLIENT_PORT", client.port())
                    .with("GATEHOUSE_ID", id)
            }
            Entry::DroppedUnreported { reports, packets } => {
                let message = format!(
                    "{packets} more packets were dropped at the card, left out in {reports} reports to spare the log"
                );
                Self::new(Level::Warn, "dropped_unreported", message)
                    .with("GATEHOUSE_LAYER", "firewall")
                    .with("GATEHOUSE_POINT", Point::Nic.name())
                    .with("GATEHOUSE_REPORTS", reports)
                    .with("GATEHOUSE_PACKETS", packets)
            }
        }
    }
}

fn rejected(rejection: &Rejection, client: IpAddr) -> Record {
    let reason = rejection.reason;
    let mut message = format!("rejected {client}: {reason}: {}", reason.title());
    if let Some(more) = rejection.note.as_ref().or(rejection.detail.as_ref()) {
        message.push_str(": ");
        message.push_str(more);
    }
    // Our own outages are errors: the operator has to act. The rest is the guard doing its work.
    let level = match reason.layer() {
        Layer::AuthSystem | Layer::Upstream => Level::Error,
        _ => Level::Warn,
    };
    Record::new(level, &reason.to_string(), message).rejection(rejection, Point::Gateway, client)
}

fn dropped(dropped: &Dropped) -> Record {
    // The rule may have gone since; the packet was dropped all the same.
    let mut rejection = Rejection::new(dropped.rule.reason().unwrap_or(Reason::FirewallDeniedRange));
    rejection.rule = Some(dropped.rule.clone());
    let reason = rejection.reason;
    let message = format!(
        "dropped {} at the card: {reason}: {}: {}; {}",
        dropped.client,
        reason.title(),
        place(&dropped.rule),
        packets(dropped.packets)
    );
    Record::new(Level::Warn, &reason.to_string(), message)
        .rejection(&rejection, Point::Nic, dropped.client)
        .traffic(dropped)
}

/// No rejection, and nothing that could be taken for one: the client has passed.
fn observed(rule: &MatchedRule, client: IpAddr, point: Point, what: &str) -> Record {
    let message = format!("observed {client}: {what}, passed; it would be turned away by {}", place(rule));
    Record::new(Level::Info, "observed", message)
        .with("GATEHOUSE_OBSERVED", 1)
        .with("GATEHOUSE_POINT", point.name())
        .with("GATEHOUSE_CLIENT", client)
        .rule(rule)
}

fn place(rule: &MatchedRule) -> String {
    match (&rule.prefix, &rule.list) {
        (Some(prefix), Some(list)) if rule.line > 0 => format!("{prefix} in {list} line {}", rule.line),
        (Some(prefix), Some(list)) => format!("{prefix} in {list}"),
        (Some(prefix), None) => prefix.to_string(),
        (None, _) => "the default".to_owned(),
    }
}

fn packets(count: u64) -> String {
    format!("{count} {}", if count == 1 { "packet" } else { "packets" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::HandshakeId;

    fn field<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
        record.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    #[test]
    fn a_rejection_names_layer_reason_point_client_and_id() {
        let rejection = Rejection::new(Reason::ScopeInsufficient).note("needs chat:read");
        let record = Record::from(&Entry::Rejected {
            id: HandshakeId::new([7; 10]),
            client: "192.0.2.7:4711".parse().expect("an address"),
            route: Some("/chat".to_owned()),
            rejection: Box::new(rejection),
        });
        assert_eq!(field(&record, "GATEHOUSE_LAYER"), Some("scope"));
        assert_eq!(field(&record, "GATEHOUSE_REASON"), Some("insufficient_scope"));
        assert_eq!(field(&record, "GATEHOUSE_POINT"), Some("gateway"));
        assert_eq!(field(&record, "GATEHOUSE_CLIENT"), Some("192.0.2.7"));
        assert_eq!(field(&record, "GATEHOUSE_ROUTE"), Some("/chat"));
        assert_eq!(field(&record, "GATEHOUSE_ID"), Some("07070707070707070707"));
        assert!(record.message.ends_with("needs chat:read"), "{}", record.message);
    }

    #[test]
    fn an_outage_of_ours_is_an_error_and_a_clients_fault_is_not() {
        let level = |reason| rejected(&Rejection::new(reason), IpAddr::from([192, 0, 2, 7])).level;
        assert_eq!(level(Reason::AuthSystemKeysUnavailable), Level::Error);
        assert_eq!(level(Reason::UpstreamUnreachable), Level::Error);
        assert_eq!(level(Reason::CredentialsBadSignature), Level::Warn);
    }
}
