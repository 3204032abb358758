//! Requests to endpoints: whoever reads them in the plainest way finds the same, and none of them can
//! be read in two ways.

use gateway::edge::endpoints::request::Request;
use gateway::edge::head::Head;
use gateway::edge::opening::Opening;

use crate::naive::Naive;

const MAX_HEADERS: usize = 100;

pub(crate) fn run(input: &[u8]) {
    let Some(head) = Head::parse(input.to_vec()) else { return };
    let Some(request) = Request::parse(&head, MAX_HEADERS) else { return };
    let naive = Naive::read(head.bytes());
    let parts: Vec<&str> = naive.start.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else { unreachable!("{:?}", naive.start) };
    assert_eq!((method, target.split('?').next()), (&*request.method, Some(latin1(&request.path).as_str())));
    assert!(request.path.starts_with('/') && !request.path.chars().any(char::is_control));
    assert!(matches!(naive.all("host")[..], [host] if !host.is_empty()), "not one host");
    // A body has one length (RFC 9112 §6.3), and nobody asks for anything else.
    assert!(naive.all("transfer-encoding").is_empty() && naive.all("upgrade").is_empty());
    match (naive.all("content-length")[..].as_ref(), request.length) {
        ([], None) => {}
        ([text], Some(length)) => assert_eq!(text.parse(), Ok(length)),
        (found, read) => unreachable!("{found:?} was read as {read:?}"),
    }
    let origin = request.origin.as_deref().map(latin1);
    assert_eq!(naive.all("origin"), origin.iter().map(String::as_str).collect::<Vec<_>>());
    let tokens = request.authorization().map(|value| value.iter().copied().map(char::from).collect());
    assert_eq!(naive.all("authorization"), tokens.collect::<Vec<String>>());
    assert!(Opening::judge(head, MAX_HEADERS).is_err(), "it is an opening handshake as well");
    let shown = format!("{request:?}");
    assert!(request.authorization().all(|value| value.len() < 32 || !shown.as_bytes().windows(value.len()).any(|part| part == value)));
}

/// Text as [`Naive`] has it, every byte a character.
fn latin1(text: &str) -> String {
    text.bytes().map(char::from).collect()
}
