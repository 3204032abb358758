//! Where tokens stand in a request: what is found is taken out, and everything else stays.

use std::collections::BTreeSet;

use gateway::auth::sources::take;
use gateway::config::{SUBPROTOCOL_PREFIX, TokenSources};
use gateway::edge::head::Head;
use gateway::edge::opening::Opening;
use gateway::rejection::{Layer, Reason};

pub(crate) fn run(input: &[u8]) {
    let opening = Head::parse(input.to_vec()).and_then(|head| Opening::judge(head, 100).ok());
    let Some(mut opening) = opening else {
        return;
    };
    let sources = TokenSources {
        cookie: Some("session".to_owned()),
        tickets: true,
        query: true,
        ..TokenSources::default()
    };
    let before = pieces(&opening);
    let outcome = take(opening.carriers(), &sources).map(|found| found.map(|(source, _)| source));
    if let Err(rejection) = &outcome {
        let expected = [Reason::HandshakeMalformed, Reason::HandshakeSubprotocol].contains(&rejection.reason)
            || rejection.reason.layer() == Layer::Credentials;
        assert!(expected && rejection.reason.status() < 500, "{rejection:?}");
        assert!(crate::is_one_plain_line(rejection.detail.as_deref().unwrap_or("-")), "{rejection:?}");
    }
    // Nothing is there any more, neither for the gate nor for the upstream.
    let after = pieces(&opening);
    let again = take(opening.carriers(), &sources).map(|found| found.is_some());
    let unanswerable = matches!(&again, Err(rejection) if rejection.reason == Reason::HandshakeMalformed);
    assert!(unanswerable || matches!(again, Ok(false)), "something was left: {again:?}");
    assert!(!opening.headers().iter().any(|(name, _)| name == "authorization"));
    assert!(!opening.protocols().iter().any(|protocol| protocol.starts_with(SUBPROTOCOL_PREFIX)));
    // What is left was there before; without a token all of it.
    assert!(after.is_subset(&before), "{after:?} came from {before:?}");
    if matches!(outcome, Ok(None)) {
        let unscheme = |all: BTreeSet<Vec<u8>>| -> BTreeSet<Vec<u8>> {
            all.into_iter().filter(|piece| !piece.starts_with(b"authorization:")).collect()
        };
        assert_eq!(unscheme(after), unscheme(before));
    }
}

/// Every header, cookie, subprotocol and parameter for itself.
fn pieces(opening: &Opening) -> BTreeSet<Vec<u8>> {
    let mut pieces = BTreeSet::new();
    for (name, value) in opening.headers() {
        let separator = match name.as_str() {
            "cookie" => b';',
            "sec-websocket-protocol" => b',',
            _ => b'\n',
        };
        for item in value.split(|byte| *byte == separator) {
            pieces.insert([name.as_bytes(), b":", item.trim_ascii()].concat());
        }
    }
    let parameters = opening.query().into_iter().flat_map(|query| query.split('&'));
    pieces.extend(parameters.map(|parameter| format!("?{parameter}").into_bytes()));
    pieces
}
