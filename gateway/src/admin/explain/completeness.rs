//! What holds for every reason of the registry, and for every member of the JSON form.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::ends::tests::session;
use super::tests::{Site, token};
use super::words::reason;
use super::*;
use crate::audit::query::Found;
use crate::audit::{Entry, HandshakeId, Record};
use crate::config::Limits;
use crate::rejection::Reason;

/// What the trail takes down when a client is turned away, and when its session is ended.
fn entries(reason: Reason) -> [Entry; 2] {
    let rejection = || Box::new(Rejection::new(reason).note("a note"));
    let (id, client) = (HandshakeId::new([7; 10]), ([192, 0, 2, 7], 4000).into());
    [
        Entry::Rejected { id, client, route: Some("/chat".to_owned()), rejection: rejection() },
        Entry::Ended {
            id,
            client,
            route: "/chat".to_owned(),
            subject: "alice".to_owned(),
            why: reason.to_string(),
            rejection: Some(rejection()),
            duration: Duration::ZERO,
            bytes_up: 0,
            bytes_down: 0,
            messages_up: 0,
            messages_down: 0,
        },
    ]
}

/// The line that `journalctl --output=json` prints for `record`.
fn journal_line(record: &Record) -> Vec<u8> {
    let mut line = Map::new();
    line.insert("__REALTIME_TIMESTAMP".to_owned(), "1795434368123456".into());
    line.insert("MESSAGE".to_owned(), record.message.clone().into());
    for (name, value) in record.fields.iter() {
        line.insert(name.to_owned(), value.into());
    }
    serde_json::to_vec(&line).expect("JSON")
}

fn past(entry: &Entry) -> Past {
    Found::parse(&journal_line(&Record::from(entry))).expect("an entry of the trail").past()
}

#[test]
fn every_reason_is_explained_by_the_id_of_its_handshake() {
    for expected in Reason::ALL {
        for entry in &entries(*expected) {
            let past = past(entry);
            assert_eq!(reason(&past), Some(*expected));
            assert_eq!(past.field("ID"), Some("07070707070707070707"));
            let mut query = Query::default();
            query.know(&past);
            assert_eq!(query.address, Some([192, 0, 2, 7].into()));
            assert_eq!(query.path.as_deref(), Some("/chat"));
            let text = Report { past: Some(past), ..Report::default() }.to_string();
            for word in [expected.layer().name(), expected.name(), expected.fix(), expected.operator_fix()] {
                assert!(text.contains(word), "{expected}: {word:?} is missing in\n{text}");
            }
        }
    }
}

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/explain.md");

fn page() -> String {
    std::fs::read_to_string(PAGE).expect("docs/explain.md is there")
}

#[test]
fn the_example_of_the_json_form_is_what_explain_says() {
    let site = Site::new();
    let query =
        Query { address: "192.0.2.7".parse().ok(), path: Some("/chat".to_owned()), ..Query::default() };
    let said = serde_json::to_string_pretty(&site.explain(&query)).expect("JSON");
    let said = said.replace(&*site.folder.path().to_string_lossy(), "/etc/gatehouse");
    let page = page();
    let example = page.split("```json\n").nth(1).and_then(|rest| rest.split("\n```").next());
    assert_eq!(example, Some(said.as_str()), "refresh the example in docs/explain.md:\n{said}");
}

/// The names of all members in `value`, but for what is inside a token.
fn members(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(all) => all.iter().for_each(|(name, value)| {
            found.insert(name.clone());
            if !matches!(name.as_str(), "header" | "claims") {
                members(value, found);
            }
        }),
        Value::Array(all) => all.iter().for_each(|value| members(value, found)),
        _ => {}
    }
}

#[test]
fn the_page_names_every_member_of_the_json_form() {
    let site = Site::new();
    let query = Query {
        address: "192.0.2.7".parse().ok(),
        path: Some("/chat".to_owned()),
        token: Some(token(&site.key(), &[], Duration::ZERO)),
        ..Query::default()
    };
    let session = session();
    let limits = Limits { idle_timeout: Some(Duration::from_secs(60)), ..Limits::default() };
    let report = Report {
        past: Some(past(&entries(Reason::ExpiryExpired)[0])),
        ends: ends(&session, &limits),
        session: Some(session),
        packets: Some(Hits { dropped: 1, passed: 2 }),
        ..site.explain(&query)
    };
    let mut named = BTreeSet::new();
    members(&serde_json::to_value(&report).expect("JSON"), &mut named);
    assert!(named.len() > 30, "{named:?}");
    let page = page();
    for member in named {
        assert!(page.contains(&format!("`{member}`")), "docs/explain.md does not name `{member}`");
    }
}

#[test]
fn a_report_with_times_past_the_calendar_can_be_shown() {
    let session = SessionStatus { expires: u64::MAX, accepted_until: u64::MAX, ..session() };
    let ends = ends(&session, &Limits::default());
    let text = Report { session: Some(session), ends, ..Report::default() }.to_string();
    assert!(text.contains("9999-12-31T23:59:59Z"), "{text}");
}
