//! The opening handshake: what is accepted satisfies RFC 6455 §4.2.1 in the eyes of somebody who
//! reads it again in the plainest way.

use std::time::SystemTime;

use gateway::audit::HandshakeId;
use gateway::edge::head::Head;
use gateway::edge::opening::Opening;
use gateway::rejection::http::response;
use gateway::rejection::{Layer, Rejection};

use crate::naive::Naive;

const MAX_HEADERS: usize = 100;

pub(crate) fn run(input: &[u8]) {
    let Some(head) = Head::parse(input.to_vec()) else {
        return;
    };
    let bytes = head.bytes().to_vec();
    assert!(bytes.ends_with(b"\r\n"));
    assert_eq!([bytes.as_slice(), head.rest()].concat(), input);
    match Opening::judge(head, MAX_HEADERS) {
        Ok(mut opening) => {
            is_an_opening_handshake(&Naive::read(&bytes), &opening);
            assert_eq!(opening.take_early(), &input[bytes.len()..], "what came early is kept");
        }
        Err(rejection) => {
            assert_eq!(rejection.reason.layer(), Layer::Handshake, "{rejection:?}");
            is_one_answer(&rejection);
        }
    }
}

/// RFC 6455 §4.2.1, item by item, and what makes a request safe to pass on.
fn is_an_opening_handshake(request: &Naive, opening: &Opening) {
    // 1: GET, HTTP/1.1 or higher, and a target.
    let parts: Vec<&str> = request.start.split(' ').collect();
    assert!(matches!(parts[..], ["GET", _, "HTTP/1.1"]), "{:?}", request.start);
    let target = parts[1];
    assert!(target.contains(opening.path()) || opening.path() == "/", "{target:?}");
    assert!(opening.path().starts_with('/') && !opening.path().contains(['?', '#', ' ']));
    // 2: Host.
    assert_eq!(request.all("host"), [opening.host()]);
    // 3 and 4: Upgrade and Connection.
    assert!(request.lists("upgrade", "websocket") && request.lists("connection", "upgrade"));
    // 5: a key of 16 bytes in base64, which is 22 characters and two of padding.
    let [key] = request.all("sec-websocket-key")[..] else { unreachable!("not one key") };
    assert_eq!(key, opening.key());
    let (digits, padding) = key.split_at(22);
    assert!(digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte)), "{key}");
    assert!(padding == "==" && digits.ends_with(['A', 'Q', 'g', 'w']), "{key}");
    // 6: the version.
    assert_eq!(request.all("sec-websocket-version"), ["13"]);
    // 7: the origin.
    let origin = opening.origin().map(|origin| origin.bytes().map(char::from).collect::<String>());
    assert_eq!(request.all("origin"), origin.iter().collect::<Vec<_>>());
    // 8: subprotocols; each is a token (RFC 9110 §5.6.2), which is what they are matched by. Padding is only for the
    // route to allow.
    let is_token = |text: &String| {
        let marks = b"!#$%&'*+-.^_`|~";
        let text = text.trim_end_matches('=');
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || marks.contains(&byte))
    };
    assert!(opening.protocols().iter().all(is_token), "{:?}", opening.protocols());
    // A body would be taken for frames (RFC 9112 §6).
    assert!(request.all("transfer-encoding").is_empty());
    assert!(request.all("content-length").iter().all(|length| *length == "0"));
    // A header with a line end in it could become two where it is passed on.
    let ends_line = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
    assert!(!opening.headers().iter().any(|(_, value)| value.iter().any(ends_line)));
}

/// A rejection is rendered as one answer with one header that names it, whatever was in the
/// request.
fn is_one_answer(rejection: &Rejection) {
    let answer = response(rejection, HandshakeId::new([7; 10]), SystemTime::UNIX_EPOCH);
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut parsed = httparse::Response::new(&mut headers);
    let complete = parsed.parse(answer.bytes()).is_ok_and(|status| status.is_complete());
    assert!(complete && parsed.code == Some(rejection.reason.status()), "{rejection:?}");
    let naive = Naive::read(answer.head());
    assert_eq!(naive.all("gatehouse-rejection").len(), 1);
    assert!(crate::is_one_plain_line(rejection.detail.as_deref().unwrap_or("-")), "{rejection:?}");
}
