//! Whose request a proxy passes on, by what it writes into the head. Pure.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::config::ClientAddress;

/// Hops that are looked at. More than a few proxies in a row are a loop, or an attack.
const MOST: usize = 32;

/// The header does not say who the client is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardedError {
    /// It is there, but not understood.
    #[error("the header cannot be read")]
    Malformed,
    /// The proxy does not know, or does not tell (RFC 7239 §6.2, §6.3).
    #[error("the proxy hides the address of the client")]
    Hidden,
    /// There are more hops than can be meant.
    #[error("the header names more than {MOST} hops")]
    TooLong,
}

/// Reads the address out of one hop.
type Node = fn(&str) -> Result<SocketAddr, ForwardedError>;

/// The client of a request with these headers that came over a connection of `peer`, which is one of
/// the `trusted` proxies.
///
/// Each proxy adds the address that it sees at the end. Read from there, the first that is no trusted
/// proxy is the client: what stands before it, the client may have written itself. Without the header,
/// or when all are proxies, the first of them asks for itself.
///
/// # Errors
///
/// See [`ForwardedError`].
pub fn client<'a>(
    headers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    source: ClientAddress,
    trusted: &[IpNet],
    peer: SocketAddr,
) -> Result<SocketAddr, ForwardedError> {
    let (name, node): (_, Node) = match source {
        ClientAddress::XForwardedFor => ("x-forwarded-for", address),
        ClientAddress::Forwarded => ("forwarded", element),
        ClientAddress::Connection | ClientAddress::ProxyProtocol => return Ok(peer),
    };
    let own = headers.filter(|(own, _)| own.eq_ignore_ascii_case(name.as_bytes()));
    // Several headers are one list (RFC 9110 §5.2).
    let mut hops: Vec<&str> = Vec::new();
    for (_, value) in own {
        let value = std::str::from_utf8(value).map_err(|_| ForwardedError::Malformed)?;
        hops.extend(items(value)?);
    }
    let mut client = peer;
    for (count, hop) in hops.iter().rev().enumerate() {
        if count == MOST {
            return Err(ForwardedError::TooLong);
        }
        client = node(hop)?;
        client.set_ip(client.ip().to_canonical());
        if !trusts(trusted, client.ip()) {
            return Ok(client);
        }
    }
    Ok(client)
}

/// Whether the proxy in front, which is a trusted one, took the request over TLS.
pub fn is_secure<'a>(headers: impl Iterator<Item = (&'a [u8], &'a [u8])>, source: ClientAddress) -> bool {
    match source {
        ClientAddress::XForwardedFor => last(headers, b"x-forwarded-proto")
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss")),
        ClientAddress::Forwarded => last(headers, b"forwarded").is_some_and(|element| {
            let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
            pairs.any(|(name, value)| {
                name.eq_ignore_ascii_case("proto") && value.trim_matches('"').eq_ignore_ascii_case("https")
            })
        }),
        ClientAddress::Connection | ClientAddress::ProxyProtocol => false,
    }
}

/// The last item of the list in the headers called `name`: what the proxy in front has added.
fn last<'a>(headers: impl Iterator<Item = (&'a [u8], &'a [u8])>, name: &[u8]) -> Option<&'a str> {
    let value = headers.filter(|(own, _)| own.eq_ignore_ascii_case(name)).last()?.1;
    items(std::str::from_utf8(value).ok()?).ok()?.pop()
}

/// Whether `address` is that of a trusted proxy.
pub(super) fn trusts(trusted: &[IpNet], address: IpAddr) -> bool {
    trusted.iter().any(|prefix| prefix.contains(&address))
}

/// The items of a list in which quoted strings can hold commas (RFC 9110 §5.6.1).
fn items(value: &str) -> Result<Vec<&str>, ForwardedError> {
    let (mut items, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (index, byte) in value.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                items.push(&value[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    if quoted {
        return Err(ForwardedError::Malformed);
    }
    items.push(&value[start..]);
    Ok(items.into_iter().map(|item| item.trim_matches([' ', '\t'])).filter(|item| !item.is_empty()).collect())
}

/// The `for` of one element of `Forwarded` (RFC 7239 §4).
fn element(element: &str) -> Result<SocketAddr, ForwardedError> {
    let mut found = None;
    for pair in element.split(';') {
        let (name, value) = pair.trim().split_once('=').ok_or(ForwardedError::Malformed)?;
        if !name.eq_ignore_ascii_case("for") {
            continue;
        }
        let plain = match value.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"').ok_or(ForwardedError::Malformed)?,
            None => value,
        };
        if found.replace(plain).is_some() {
            return Err(ForwardedError::Malformed);
        }
    }
    address(found.ok_or(ForwardedError::Hidden)?)
}

/// An address, with or without a port; IPv6 with a port in brackets.
fn address(text: &str) -> Result<SocketAddr, ForwardedError> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, 0));
    }
    // `unknown`, and what proxies make up instead of an address; with or without a made-up port.
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    if text.eq_ignore_ascii_case("unknown") || host.starts_with('_') || host.eq_ignore_ascii_case("unknown") {
        return Err(ForwardedError::Hidden);
    }
    // 192.0.2.1:_port
    let port = text.rsplit_once(':').filter(|(_, port)| port.starts_with('_'));
    match port.and_then(|(host, _)| host.trim_matches(['[', ']']).parse().ok()) {
        Some(address) => Ok(SocketAddr::new(address, 0)),
        None => Err(ForwardedError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "10.0.0.7:50000";

    fn found(source: ClientAddress, values: &[&str]) -> Result<String, ForwardedError> {
        let name: &[u8] = match source {
            ClientAddress::Forwarded => b"Forwarded",
            _ => b"X-Forwarded-For",
        };
        let trusted = ["10.0.0.0/24".parse().unwrap(), "2001:db8:f::/48".parse().unwrap()];
        let headers = values.iter().map(|value| (name, value.as_bytes()));
        client(headers, source, &trusted, PEER.parse().unwrap()).map(|address| address.ip().to_string())
    }

    #[test]
    fn the_client_is_the_last_that_is_no_trusted_proxy_whatever_it_wrote_itself() {
        use ClientAddress::XForwardedFor;
        for (values, expected) in [
            (&["192.0.2.1"][..], "192.0.2.1"),
            (&["127.0.0.1, 192.0.2.1"], "192.0.2.1"),
            (&["127.0.0.1, 192.0.2.1, 10.0.0.9"], "192.0.2.1"),
            (&["127.0.0.1", "192.0.2.1 , 10.0.0.9"], "192.0.2.1"),
            (&["garbage, 192.0.2.1:4711, 10.0.0.9"], "192.0.2.1"),
            (&["::ffff:192.0.2.1"], "192.0.2.1"),
            (&["[2001:db8::1]:443, 2001:db8:f::1"], "2001:db8::1"),
            (&["2001:db8::1"], "2001:db8::1"),
            (&[], "10.0.0.7"),
            (&[""], "10.0.0.7"),
            (&["10.0.0.9, 10.0.0.8"], "10.0.0.9"),
        ] {
            assert_eq!(found(XForwardedFor, values).as_deref(), Ok(expected), "{values:?}");
        }
    }

    #[test]
    fn the_standard_header_is_read_with_its_quotes_and_parameters() {
        use ClientAddress::Forwarded;
        for (values, expected) in [
            (&["for=192.0.2.1"][..], "192.0.2.1"),
            (&["For=\"[2001:db8::1]:4711\";proto=https;by=10.0.0.7"], "2001:db8::1"),
            (&["for=127.0.0.1, for=192.0.2.1;host=\"a,b\", proto=http;for=10.0.0.9"], "192.0.2.1"),
            (&["for=\"192.0.2.1:_gazonk\""], "192.0.2.1"),
        ] {
            assert_eq!(found(Forwarded, values).as_deref(), Ok(expected), "{values:?}");
        }
    }

    #[test]
    fn whether_the_client_came_over_tls_is_what_the_proxy_in_front_says() {
        use ClientAddress::{Connection, Forwarded, XForwardedFor};
        for (source, name, value, secure) in [
            (XForwardedFor, "X-Forwarded-Proto", "https", true),
            (XForwardedFor, "X-Forwarded-Proto", "https, http", false),
            (XForwardedFor, "Forwarded", "proto=https", false),
            (Forwarded, "forwarded", "for=1.2.3.4;proto=https", true),
            (Forwarded, "forwarded", "for=1.2.3.4;proto=https, for=1.2.3.5;proto=http", false),
            (Connection, "X-Forwarded-Proto", "https", false),
        ] {
            let headers = [(name.as_bytes(), value.as_bytes())];
            assert_eq!(is_secure(headers.into_iter(), source), secure, "{name}: {value}");
        }
    }

    #[test]
    fn an_address_that_is_hidden_or_not_understood_is_no_address() {
        use ClientAddress::{Forwarded, XForwardedFor};
        for value in ["for=unknown", "for=_hidden", "for=\"_gazonk:80\"", "proto=http", "for=\"unknown:80\""]
        {
            assert_eq!(found(Forwarded, &[value]), Err(ForwardedError::Hidden), "{value}");
        }
        for value in ["for", "for=1.2.3", "for=1.2.3.4;for=1.2.3.4", "for=\"1.2.3.4", "for=\"[::1\""] {
            assert_eq!(found(Forwarded, &[value]), Err(ForwardedError::Malformed), "{value}");
        }
        for value in ["1.2.3.4.5", "192.0.2.01", "localhost", "192.0.2.1;", "\"192.0.2.1\"", "192.0.2.1, x"] {
            assert_eq!(found(XForwardedFor, &[value]), Err(ForwardedError::Malformed), "{value}");
        }
        assert_eq!(found(XForwardedFor, &["unknown"]), Err(ForwardedError::Hidden));
        let loops = vec!["10.0.0.9"; 40].join(",");
        assert_eq!(found(XForwardedFor, &[&loops]), Err(ForwardedError::TooLong));
    }
}
