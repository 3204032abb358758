//! The opening handshake that an upstream gets.

use std::net::SocketAddr;

use super::headers::{crossing, encode, push};
use crate::audit::HandshakeId;
use crate::auth::Identity;
use crate::config;
use crate::edge::opening::Opening;

/// The client's own request, without what concerns its connection to the gate and without its
/// token, and with who it is:
///
/// - `Gatehouse-Issuer` and `Gatehouse-Subject`, percent-encoded where they are not visible ASCII;
///   `Gatehouse-Scopes`, separated by spaces; `Gatehouse-Id`, the name of this handshake in the
///   journal;
/// - `X-Forwarded-For`, `-Host` and `-Proto`, the gate's own and nobody else's.
///
/// `Host` and `Sec-WebSocket-Key` are the client's: services compare the first with `Origin`, and
/// who answers the second has read this very request.
pub fn request(
    upstream: &config::Upstream,
    opening: &Opening,
    identity: &Identity,
    client: SocketAddr,
    id: HandshakeId,
) -> Vec<u8> {
    let mut request = b"GET ".to_vec();
    request.extend_from_slice(upstream.path.as_deref().unwrap_or(opening.path()).as_bytes());
    if let Some(query) = opening.query() {
        request.push(b'?');
        request.extend_from_slice(query.as_bytes());
    }
    request.extend_from_slice(b" HTTP/1.1\r\n");
    push(&mut request, "Host", opening.host().as_bytes());
    push(&mut request, "Connection", b"Upgrade");
    push(&mut request, "Upgrade", b"websocket");
    for (name, value) in crossing(opening.headers()) {
        push(&mut request, name, value);
    }
    push(&mut request, "X-Forwarded-For", client.ip().to_canonical().to_string().as_bytes());
    push(&mut request, "X-Forwarded-Host", opening.host().as_bytes());
    push(&mut request, "X-Forwarded-Proto", if opening.is_secure() { b"https" } else { b"http" });
    push(&mut request, "Gatehouse-Issuer", encode(&identity.issuer).as_bytes());
    push(&mut request, "Gatehouse-Subject", encode(&identity.subject).as_bytes());
    // Scope tokens are visible ASCII already (RFC 6749 §3.3).
    push(&mut request, "Gatehouse-Scopes", identity.scopes.join(" ").as_bytes());
    push(&mut request, "Gatehouse-Id", id.to_string().as_bytes());
    request.extend_from_slice(b"\r\n");
    request
}
