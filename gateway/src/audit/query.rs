//! Entries of the trail read back: what `journalctl --output=json` prints, and which of them are
//! wanted. Pure.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::past::Past;
use super::record::KINDS;
use crate::rejection::{Reason, message_id};

const PREFIX: &str = "GATEHOUSE_";

/// An entry of the trail. The JSON form of `gatehouse audit --json`, one object a line.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Found {
    /// When it was written: RFC 3339, in UTC.
    pub time: String,
    /// `rejected`, `dropped`, `admitted`, `renewed`, `ended`, `observed`, `dropped_unreported` or
    /// `audit_lost`.
    pub event: String,
    /// One line for people.
    pub message: String,
    /// The identifiers of the handshakes that it stands for, that of the last one first.
    pub ids: Vec<String>,
    /// The other fields of the journal by their names in lower case, without `GATEHOUSE_`.
    #[serde(flatten)]
    pub fields: BTreeMap<String, String>,
}

impl Found {
    /// The entry on a line of `journalctl --output=json`; `None` when it is none of the trail.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let Value::Object(entry) = serde_json::from_slice(line).ok()? else { return None };
        let microseconds: u64 = text(entry.get("__REALTIME_TIMESTAMP")?)?.parse().ok()?;
        let event =
            event(&text(entry.get("MESSAGE_ID")?)?, entry.get("GATEHOUSE_POINT").and_then(text).as_deref())?;
        let mut fields = BTreeMap::new();
        let mut ids = Vec::new();
        for (name, value) in &entry {
            match name.strip_prefix(PREFIX) {
                Some("ID") => ids = texts(value),
                Some(name) => {
                    fields.insert(name.to_ascii_lowercase(), text(value)?);
                }
                None => {}
            }
        }
        let time = UNIX_EPOCH.checked_add(Duration::from_micros(microseconds))?;
        if microseconds / 1_000_000 > LAST {
            return None;
        }
        Some(Self {
            time: humantime::format_rfc3339_millis(time).to_string(),
            event: event.to_owned(),
            message: entry.get("MESSAGE").and_then(text).unwrap_or_default(),
            ids,
            fields,
        })
    }

    /// The field `name`.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// The entry as what the daemon remembers of a handshake.
    pub fn past(&self) -> Past {
        let time = humantime::parse_rfc3339(&self.time).map_or(0, crate::auth::revocation::seconds);
        let id = self.ids.first().map(|id| (format!("{PREFIX}ID"), id.clone()));
        let fields = self
            .fields
            .iter()
            .map(|(name, value)| (format!("{PREFIX}{}", name.to_ascii_uppercase()), value.clone()));
        Past { time, message: self.message.clone(), fields: fields.chain(id).collect() }
    }
}

/// The value of a field of which the journal has one: a string, or, where it is no UTF-8 that can be
/// printed, an array of bytes. Of several values, the first.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) if items.iter().all(Value::is_u64) => {
            let bytes: Option<Vec<u8>> = items.iter().map(|item| u8::try_from(item.as_u64()?).ok()).collect();
            Some(String::from_utf8_lossy(&bytes?).into_owned())
        }
        Value::Array(items) => text(items.first()?),
        // journalctl leaves out what is longer than it shows.
        Value::Null => Some(String::new()),
        _ => None,
    }
}

/// All values of a field.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) if !items.iter().all(Value::is_u64) => items.iter().filter_map(text).collect(),
        one => text(one).into_iter().collect(),
    }
}

fn event(id: &str, point: Option<&str>) -> Option<&'static str> {
    // Made once: a journal has millions of entries.
    static NAMES: LazyLock<HashMap<String, &str>> = LazyLock::new(|| {
        let others = KINDS.into_iter().map(|kind| (message_id(kind), kind));
        let rejected = Reason::ALL.iter().map(|reason| (message_id(&reason.to_string()), "rejected"));
        others.chain(rejected).collect()
    });
    match *NAMES.get(id)? {
        "rejected" if point == Some("nic") => Some("dropped"),
        kind => Some(kind),
    }
}

/// This many seconds since 1970, as RFC 3339 has it; what lies behind the year 9999 is its end.
pub fn rfc3339(seconds: u64) -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds.min(LAST)))
}

/// The last second of the year 9999, behind which no time can be written.
const LAST: u64 = 253_402_300_799;

/// Which entries are wanted; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Of clients with these addresses.
    pub client: Option<IpNet>,
    /// Of this subject.
    pub subject: Option<String>,
    /// Of this layer.
    pub layer: Option<String>,
    /// For this reason; `layer/reason` names both.
    pub reason: Option<String>,
    /// At this point.
    pub point: Option<String>,
    /// On this route.
    pub route: Option<String>,
    /// Of this handshake.
    pub id: Option<String>,
    /// Written by this unit of systemd, which the journal itself knows.
    pub unit: Option<String>,
}

impl Wanted {
    /// What `journalctl` can look for by itself: fields and their values.
    pub fn matches(&self) -> Vec<String> {
        let (layer, reason) = match self.reason.as_deref().map(|reason| reason.split_once('/')) {
            Some(Some((layer, reason))) => (Some(layer), Some(reason)),
            Some(None) => (self.layer.as_deref(), self.reason.as_deref()),
            None => (self.layer.as_deref(), None),
        };
        let fields = [
            ("SUBJECT", self.subject.as_deref()),
            ("LAYER", layer),
            ("REASON", reason),
            ("POINT", self.point.as_deref()),
            ("ROUTE", self.route.as_deref()),
            ("ID", self.id.as_deref()),
        ];
        let known = fields.into_iter().filter_map(|(name, value)| Some(format!("{PREFIX}{name}={}", value?)));
        let unit = self.unit.as_ref().map(|unit| format!("_SYSTEMD_UNIT={unit}"));
        let all: Vec<String> =
            std::iter::once("SYSLOG_IDENTIFIER=gatehouse".to_owned()).chain(unit).chain(known).collect();
        let Some(one) = self.client.filter(|net| net.prefix_len() == net.max_prefix_len()) else {
            return all;
        };
        let its = |field: String| all.iter().cloned().chain([field]).collect::<Vec<_>>();
        let client = its(format!("{PREFIX}CLIENT={}", one.addr()));
        let IpNet::V6(net) = one else { return client };
        // Or it is one of several for which an entry stands.
        let crowd = Ipv6Net::new_assert(net.addr(), 64).trunc();
        [client, vec!["+".to_owned()], its(format!("{PREFIX}NETWORK={crowd}"))].concat()
    }

    /// Whether `found` is wanted, as far as `journalctl` cannot look for it.
    pub fn keeps(&self, found: &Found) -> bool {
        let Some(net) = self.client else { return true };
        let address = found.field("client").and_then(|client| client.parse::<IpAddr>().ok());
        let crowd = found.field("network").and_then(|crowd| crowd.parse::<IpNet>().ok());
        address.is_some_and(|address| net.contains(&address))
            || crowd.is_some_and(|crowd| crowd.contains(&net) || net.contains(&crowd))
    }
}

/// `text` with control characters escaped: what a client sends must not steer a terminal or forge
/// a line.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        // The marks that turn the direction of writing around are no control characters by their kind.
        if character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            // Writing to a string does not fail.
            let _ = write!(out, "{}", character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(more: &str) -> String {
        let id = message_id("expiry/expired");
        format!(
            r#"{{"__REALTIME_TIMESTAMP":"1795434368123456","MESSAGE_ID":"{id}","MESSAGE":"rejected 192.0.2.7","GATEHOUSE_CLIENT":"192.0.2.7"{more}}}"#
        )
    }

    #[test]
    fn an_entry_for_several_handshakes_has_all_their_identifiers() {
        let found = Found::parse(line(r#","GATEHOUSE_ID":["aa","bb"],"GATEHOUSE_REPEATS":"3""#).as_bytes())
            .expect("an entry");
        assert_eq!(
            (found.event.as_str(), found.ids.as_slice()),
            ("rejected", &["aa".to_owned(), "bb".to_owned()][..])
        );
        assert_eq!((found.field("client"), found.field("repeats")), (Some("192.0.2.7"), Some("3")));
        assert_eq!(found.time, "2026-11-23T11:46:08.123Z");
        assert_eq!(found.past().field("ID"), Some("aa"));
    }

    #[test]
    fn a_field_that_is_no_text_is_an_array_of_bytes_and_moves_no_cursor() {
        let found =
            Found::parse(line(r#","GATEHOUSE_SUBJECT":[97,27,91,50,74]"#).as_bytes()).expect("an entry");
        assert_eq!(printable(found.field("subject").expect("a subject")), "a\\u{1b}[2J");
        assert_eq!(printable("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn what_is_no_entry_of_the_trail_is_left_out() {
        for line in [
            "",
            "{}",
            "[]",
            "not json",
            r#"{"__REALTIME_TIMESTAMP":"x","MESSAGE_ID":"y"}"#,
            r#"{"__REALTIME_TIMESTAMP":"1","MESSAGE_ID":"00000000000000000000000000000000"}"#,
            &line("").replace("1795434368123456", "18446744073709551615"),
        ] {
            assert_eq!(Found::parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn drops_are_told_apart_from_rejections_by_their_point() {
        let found = Found::parse(line(r#","GATEHOUSE_POINT":"nic""#).as_bytes()).expect("an entry");
        assert_eq!(found.event, "dropped");
    }

    #[test]
    fn an_address_is_found_in_the_entry_for_its_network_too() {
        let wanted = |client: &str| Wanted { client: client.parse().ok(), ..Wanted::default() };
        let found =
            Found::parse(line(r#","GATEHOUSE_NETWORK":"2001:db8::/64""#).as_bytes()).expect("an entry");
        for (client, kept) in [
            ("2001:db8::9/128", true),
            ("2001:db8::/32", true),
            ("2001:db8:0:1::9/128", false),
            ("192.0.2.7/32", true),
        ] {
            assert_eq!(wanted(client).keeps(&found), kept, "{client}");
        }
        assert_eq!(
            wanted("2001:db8::9/128").matches(),
            [
                "SYSLOG_IDENTIFIER=gatehouse",
                "GATEHOUSE_CLIENT=2001:db8::9",
                "+",
                "SYSLOG_IDENTIFIER=gatehouse",
                "GATEHOUSE_NETWORK=2001:db8::/64"
            ]
        );
    }

    #[test]
    fn the_journal_looks_for_single_addresses_and_we_for_networks() {
        let wanted = |client: &str| Wanted {
            client: client.parse().ok(),
            reason: Some("expiry/expired".to_owned()),
            ..Wanted::default()
        };
        let found = Found::parse(line("").as_bytes()).expect("an entry");
        assert!(wanted("192.0.2.0/24").keeps(&found) && !wanted("198.51.100.0/24").keeps(&found));
        assert_eq!(
            wanted("192.0.2.7/32").matches(),
            [
                "SYSLOG_IDENTIFIER=gatehouse",
                "GATEHOUSE_LAYER=expiry",
                "GATEHOUSE_REASON=expired",
                "GATEHOUSE_CLIENT=192.0.2.7"
            ]
        );
        assert!(!wanted("192.0.2.0/24").matches().iter().any(|one| one.contains("CLIENT")));
        let ours = Wanted { unit: Some("gatehouse.service".to_owned()), ..Wanted::default() };
        assert_eq!(ours.matches(), ["SYSLOG_IDENTIFIER=gatehouse", "_SYSTEMD_UNIT=gatehouse.service"]);
    }
}
