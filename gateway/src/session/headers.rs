//! Which headers cross the gate.

use std::fmt::Write as _;

/// Names, in lower case, and values of a message.
pub type Headers = Vec<(String, Vec<u8>)>;

/// Headers that concern one connection only (RFC 9110 §7.6.1), frame a body that no handshake has,
/// or are made anew by the gate.
const OF_ONE_CONNECTION: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What only the gate may say about a client; and the token, which stays at the gate.
const OF_THE_GATE: [&str; 3] = ["authorization", "forwarded", "x-real-ip"];
const OF_THE_GATE_PREFIXES: [&str; 2] = ["gatehouse-", "x-forwarded-"];

/// The headers that are sent on to the other side.
pub fn crossing(headers: &Headers) -> impl Iterator<Item = (&str, &[u8])> {
    let nominated = nominated(headers);
    headers.iter().filter_map(move |(name, value)| {
        // Some services take `-` and `_` for the same (RFC 3875 §4.1.18).
        let plain = name.replace('_', "-");
        let stays = OF_ONE_CONNECTION.contains(&plain.as_str())
            || OF_THE_GATE.contains(&plain.as_str())
            || OF_THE_GATE_PREFIXES.iter().any(|prefix| plain.starts_with(prefix))
            || nominated.contains(&plain);
        (!stays).then_some((name.as_str(), value.as_slice()))
    })
}

/// The headers that `Connection` says to be of one connection too. Those of the handshake itself
/// are not, whatever it says.
fn nominated(headers: &Headers) -> Vec<String> {
    values(headers, "connection")
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(|token| String::from_utf8_lossy(token.trim_ascii()).to_ascii_lowercase().replace('_', "-"))
        .filter(|name| !name.starts_with("sec-websocket-"))
        .collect()
}

/// The values of all headers with this name, which is in lower case.
pub fn values<'a>(headers: &'a Headers, name: &str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.trim_ascii())
}

/// Whether a list (RFC 9110 §5.6.1) has `token`, in whatever case.
pub fn has_token(headers: &Headers, name: &str, token: &str) -> bool {
    lists_token(values(headers, name), token)
}

/// Whether one of the lists `values` (RFC 9110 §5.6.1) holds `token`, in upper or lower case.
pub fn lists_token<'a>(values: impl Iterator<Item = &'a [u8]>, token: &str) -> bool {
    let mut tokens = values.flat_map(|value| value.split(|byte| *byte == b','));
    tokens.any(|one| one.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Keeps those items of the lists in all headers called `name` that `keep` wants, byte for byte; a
/// header that loses its last item goes. Headers that lose nothing stay as they are.
pub fn keep_items(headers: &mut Headers, name: &str, separator: u8, mut keep: impl FnMut(&[u8]) -> bool) {
    headers.retain_mut(|(own, value)| {
        if own != name {
            return true;
        }
        let items: Vec<&[u8]> = value.split(|byte| *byte == separator).collect();
        let kept: Vec<&[u8]> = items.iter().copied().filter(|item| keep(item)).collect();
        if kept.len() == items.len() {
            return true;
        }
        let rest = kept.join(&separator).trim_ascii().to_vec();
        let empty = rest.iter().all(|byte| *byte == separator || byte.is_ascii_whitespace());
        *value = rest;
        !empty
    });
}

/// Adds a header to `message`.
pub fn push(message: &mut Vec<u8>, name: &str, value: &[u8]) {
    message.extend_from_slice(name.as_bytes());
    message.extend_from_slice(b": ");
    message.extend_from_slice(value);
    message.extend_from_slice(b"\r\n");
}

/// `text` as it can stand in a header: visible ASCII stays, everything else and `%` is
/// percent-encoded as UTF-8 (RFC 3986 §2.1).
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
    }

    fn names(headers: &Headers) -> Vec<&str> {
        crossing(headers).map(|(name, _)| name).collect()
    }

    #[test]
    fn headers_of_one_connection_do_not_cross_and_neither_do_those_it_nominates() {
        let all = headers(&[
            ("connection", "Upgrade, X-Private ,close"),
            ("te", "trailers"),
            ("x-private", "1"),
            ("x_private", "2"),
            ("x-public", "3"),
            ("connection", "keep-alive"),
            ("keep-alive", "5"),
            ("proxy-authorization", "Basic x"),
        ]);
        assert_eq!(names(&all), ["x-public"]);
    }

    #[test]
    fn nobody_but_the_gate_says_who_a_client_is() {
        let all = headers(&[
            ("gatehouse-subject", "mallory"),
            ("gatehouse_subject", "mallory"),
            ("gatehouse-anything", "mallory"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-user", "mallory"),
            ("x_real_ip", "127.0.0.1"),
            ("forwarded", "for=127.0.0.1"),
            ("authorization", "Bearer secret"),
        ]);
        assert_eq!(names(&all), Vec::<&str>::new());
    }

    #[test]
    fn a_client_cannot_nominate_the_handshake_away() {
        let all = headers(&[("connection", "sec-websocket-protocol"), ("sec-websocket-protocol", "chat")]);
        assert_eq!(names(&all), ["sec-websocket-protocol"]);
    }

    #[test]
    fn a_value_is_encoded_so_that_it_cannot_become_another_header_or_another_value() {
        assert_eq!(encode("alice@example.org"), "alice@example.org");
        assert_eq!(encode("a\r\nGatehouse-Subject: root"), "a%0D%0AGatehouse-Subject:%20root");
        assert_eq!(encode("100%"), "100%25");
        assert_eq!(encode("ä"), "%C3%A4");
    }
}
