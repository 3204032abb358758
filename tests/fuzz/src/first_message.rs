//! Sessions that open without a token: however the bytes arrive, the same is made of them, no byte
//! behind the first message is lost, and no token goes on to the upstream.

use gateway::auth::sources::first_message::parse;
use gateway::rejection::{Layer, Reason};
use gateway::session::messages::{Event, MessageError, Messages, masked_text};

/// Bytes of a message.
const LIMIT: usize = 2048;

pub(crate) fn run(input: &[u8]) {
    let (events, error, rest) = read(input, input.len().max(1));
    assert!(input.ends_with(&rest), "what came behind is changed");
    if error.is_none() {
        for step in [1, 7] {
            let cut = read(input, step);
            assert_eq!((&cut.0, cut.1), (&events, error), "in steps of {step}");
            assert_eq!(cut.2, rest, "in steps of {step}");
        }
    }
    if let Some(Event::Text(text)) = events.last() {
        assert!(text.len() <= LIMIT);
        authenticates(text);
    }
    // Without frames around it, mutations reach further into a message.
    if let Ok(text) = std::str::from_utf8(input) {
        authenticates(text);
    }
}

/// Everything up to the first message or the end of the session, what is wrong, and what is left.
fn read(input: &[u8], step: usize) -> (Vec<Event>, Option<MessageError>, Vec<u8>) {
    let mut frames = Messages::new(Vec::new(), LIMIT);
    let mut events = Vec::new();
    let mut unread = input;
    let error = loop {
        match frames.event() {
            Ok(Some(event)) => {
                let last = !matches!(event, Event::Ping(_));
                events.push(event);
                if last {
                    break None;
                }
            }
            Ok(None) if unread.is_empty() => break None,
            Ok(None) => {
                let (next, later) = unread.split_at(step.min(unread.len()));
                frames.buffer().extend_from_slice(next);
                unread = later;
            }
            Err(error) => break Some(error),
        }
    };
    (events, error, [frames.into_rest().as_slice(), unread].concat())
}

fn authenticates(text: &str) {
    for protocol in [None, Some("graphql-ws")] {
        match parse(text, protocol) {
            Ok(message) => {
                let Some(forward) = message.forward else { continue };
                let text = forward.text();
                // Only a good connection_init can miss a token.
                let again = parse(text, protocol).map_err(|rejection| rejection.reason);
                assert!(matches!(again, Err(Reason::CredentialsMissing)), "a token is left in {text}");
                let sent = masked_text(text, [1, 2, 3, 4]);
                assert_eq!(Messages::new(sent, usize::MAX).event(), Ok(Some(Event::Text(text.to_owned()))));
            }
            Err(rejection) => {
                assert_eq!(rejection.reason.layer(), Layer::Credentials);
                let said = rejection.detail.unwrap_or_default();
                assert!(crate::is_one_plain_line(&said), "{said}");
            }
        }
    }
}
