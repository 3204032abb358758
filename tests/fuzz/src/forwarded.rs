//! `Forwarded` and `X-Forwarded-For`: nothing that a client writes there makes it somebody else.

use std::net::{IpAddr, SocketAddr};

use gateway::config::ClientAddress;
use gateway::edge::forwarded::{client, is_secure};
use ipnet::IpNet;

const PROXY: [u8; 4] = [10, 0, 0, 7];
const CLIENT: [u8; 4] = [192, 0, 2, 7];

pub(crate) fn run(input: &[u8]) {
    let trusted: Vec<IpNet> = "10.0.0.0/24".parse().into_iter().collect();
    let peer: SocketAddr = (PROXY, 50_000).into();
    for (source, name, own) in [
        (ClientAddress::XForwardedFor, &b"x-forwarded-for"[..], &b"192.0.2.7"[..]),
        (ClientAddress::Forwarded, b"forwarded", b"proto=http;for=192.0.2.7"),
    ] {
        // By the client, before that of the proxy; in its header or in one of its own.
        let joined = [input, b", ", own].concat();
        let shapes = [vec![(name, &joined[..])], vec![(name, input), (name, own)]];
        for headers in shapes {
            match client(headers.iter().copied(), source, &trusted, peer) {
                Ok(found) => assert_eq!(found.ip(), IpAddr::from(CLIENT), "{:?}", input.escape_ascii()),
                Err(error) => assert!(crate::is_one_plain_line(&error.to_string())),
            }
            assert!(!is_secure(headers.iter().copied(), source) || source == ClientAddress::XForwardedFor);
        }
        // Alone, it names the proxy, or somebody who is none.
        if let Ok(found) = client([(name, input)].into_iter(), source, &trusted, peer) {
            let shown = |letter: char| letter.is_ascii_hexdigit() || letter == ':';
            let named = String::from_utf8_lossy(input).contains(shown);
            assert!(found == peer || named, "{found} is nowhere in {:?}", input.escape_ascii());
        }
    }
}
