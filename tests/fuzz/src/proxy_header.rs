//! The PROXY header: whom it names stands in it, where the protocol says.

use std::net::{IpAddr, SocketAddr};

use gateway::edge::proxy_header::parse;

pub(crate) fn run(input: &[u8]) {
    match parse(input) {
        Ok(Some(found)) if input.starts_with(b"PROXY") => assert_eq!(line(input), Some(found.client)),
        Ok(Some(found)) => assert_eq!(binary(input), Some(found.client)),
        Ok(None) if input.starts_with(b"PROXY") => assert!(input.starts_with(b"PROXY UNKNOWN")),
        // LOCAL, or another family than those of IP (§2.2).
        Ok(None) => assert!(input[12] == 0x20 || !matches!(input[13] >> 4, 1 | 2)),
        Err(error) => assert!(crate::is_one_plain_line(&error.to_string()), "{error:?}"),
    }
}

/// §2.1
fn line(input: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(input).ok()?;
    let words: Vec<&str> = text.strip_suffix("\r\n")?.split(' ').collect();
    let ["PROXY", family, source, target, port, target_port] = words[..] else { return None };
    let (source, target): (IpAddr, IpAddr) = (source.parse().ok()?, target.parse().ok()?);
    assert!(source.is_ipv4() == (family == "TCP4") && target.is_ipv4() == source.is_ipv4(), "{text:?}");
    target_port.parse::<u16>().ok()?;
    Some(SocketAddr::new(source, port.parse().ok()?))
}

/// §2.2
fn binary(input: &[u8]) -> Option<SocketAddr> {
    assert!(input.starts_with(b"\r\n\r\n\0\r\nQUIT\n") && input[12] == 0x21);
    assert_eq!(usize::from(u16::from_be_bytes([input[14], input[15]])), input.len() - 16);
    let port = |at: usize| u16::from_be_bytes([input[at], input[at + 1]]);
    match input[13] >> 4 {
        1 => Some((<[u8; 4]>::try_from(&input[16..20]).ok()?, port(24)).into()),
        2 => Some((<[u8; 16]>::try_from(&input[16..32]).ok()?, port(48)).into()),
        _ => None,
    }
}
