//! The service behind the gate: dialled, asked, and its answer validated before anything of the
//! client reaches it.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::audit::HandshakeId;
use crate::auth::Identity;
use crate::config;
use crate::edge::head::{Head, HeadError};
use crate::edge::opening::{Opening, extension_names};
use crate::rejection::{Reason, Rejection};

/// Bytes of the upstream's answer; what a service sends is bounded by its operator.
const MAX_ANSWER: usize = 64 * 1024;
/// Headers of the upstream's answer.
const MAX_HEADERS: usize = 128;
/// Interim answers (RFC 9110 §15.2) that are skipped before the final one.
const MAX_INTERIM: usize = 4;

/// Headers that concern one connection only (RFC 9110 §7.6.1), or that the gate answers itself.
const CONNECTION_HEADERS: [&str; 12] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "expect",
    "host",
];

/// What only the gate may say about a client.
const OWN_HEADERS: [&str; 5] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];
const OWN_PREFIX: &str = "gatehouse-";

/// An upstream that accepted the handshake.
#[derive(Debug)]
pub struct Upstream {
    /// The connection, behind the answer.
    pub stream: TcpStream,
    /// The answer.
    pub answer: Answer,
    /// What the upstream sent after it.
    pub rest: Vec<u8>,
}

/// A valid answer to the handshake.
#[derive(Debug)]
pub struct Answer {
    accept: String,
    headers: Vec<(String, Vec<u8>)>,
}

impl Answer {
    /// The answer as the client gets it.
    pub fn accept(&self, id: HandshakeId) -> Vec<u8> {
        let mut answer = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
        push(&mut answer, "Upgrade", b"websocket");
        push(&mut answer, "Connection", b"Upgrade");
        push(&mut answer, "Sec-WebSocket-Accept", self.accept.as_bytes());
        for (name, value) in &self.headers {
            push(&mut answer, name, value);
        }
        push(&mut answer, "Gatehouse-Id", id.to_string().as_bytes());
        answer.extend_from_slice(b"\r\n");
        answer
    }
}

/// Opens a WebSocket to `upstream` for the client that sent `opening`. The caller sets the
/// deadline.
///
/// # Errors
///
/// `upstream/unreachable`, `upstream/refused` or `upstream/bad_handshake`.
pub async fn open(
    upstream: &config::Upstream,
    opening: &Opening,
    identity: &Identity,
    client: SocketAddr,
    id: HandshakeId,
) -> Result<Upstream, Box<Rejection>> {
    let mut stream = TcpStream::connect((upstream.host.as_str(), upstream.port))
        .await
        .map_err(|error| unreachable(upstream, &error))?;
    stream.set_nodelay(true).map_err(|error| unreachable(upstream, &error))?;
    let request = request(upstream, opening, identity, client, id);
    stream.write_all(&request).await.map_err(|error| unreachable(upstream, &error))?;
    let head = read(&stream).await?;
    let answer = validate(head.bytes(), opening)?;
    let rest = head.rest().to_vec();
    Ok(Upstream { stream, answer, rest })
}

fn unreachable(upstream: &config::Upstream, error: &std::io::Error) -> Box<Rejection> {
    let note = format!("{}:{}: {error}", upstream.host, upstream.port);
    Box::new(Rejection::new(Reason::UpstreamUnreachable).note(note))
}

fn bad(note: impl Into<String>) -> Box<Rejection> {
    Box::new(Rejection::new(Reason::UpstreamBadHandshake).note(note))
}

/// The request to the upstream: the client's own, without what concerns its connection to the
/// gate, without its token, and with who it is.
fn request(
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
    let nominated = nominated(opening.headers());
    for (name, value) in opening.headers() {
        if passes(name, &nominated) && name != "authorization" {
            push(&mut request, name, value);
        }
    }
    push(&mut request, "X-Forwarded-For", client.ip().to_canonical().to_string().as_bytes());
    push(&mut request, "X-Forwarded-Host", opening.host().as_bytes());
    push(&mut request, "X-Forwarded-Proto", b"http");
    push(&mut request, "Gatehouse-Issuer", encode(&identity.issuer).as_bytes());
    push(&mut request, "Gatehouse-Subject", encode(&identity.subject).as_bytes());
    push(&mut request, "Gatehouse-Scopes", identity.scopes.join(" ").as_bytes());
    push(&mut request, "Gatehouse-Id", id.to_string().as_bytes());
    request.extend_from_slice(b"\r\n");
    request
}

/// Whether a header of the other side is sent on.
fn passes(name: &str, nominated: &[String]) -> bool {
    // Some servers take `-` and `_` for the same (RFC 3875 §4.1.18).
    let name = name.replace('_', "-");
    !(CONNECTION_HEADERS.contains(&name.as_str())
        || OWN_HEADERS.contains(&name.as_str())
        || name.starts_with(OWN_PREFIX)
        || name == "authorization"
        || nominated.contains(&name))
}

/// The headers that `Connection` names as its own.
fn nominated(headers: &[(String, Vec<u8>)]) -> Vec<String> {
    let connection = headers.iter().filter(|(name, _)| name == "connection");
    connection
        .flat_map(|(_, value)| value.split(|byte| *byte == b','))
        .map(|token| String::from_utf8_lossy(token.trim_ascii()).to_ascii_lowercase())
        // What the handshake itself needs cannot be nominated away.
        .filter(|name| !name.starts_with("sec-websocket-"))
        .collect()
}

fn push(message: &mut Vec<u8>, name: &str, value: &[u8]) {
    message.extend_from_slice(name.as_bytes());
    message.extend_from_slice(b": ");
    message.extend_from_slice(value);
    message.extend_from_slice(b"\r\n");
}

/// `text` as it can stand in a header: visible ASCII stays, everything else and `%` is
/// percent-encoded as UTF-8.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The head of the final answer.
async fn read(stream: &TcpStream) -> Result<Head, Box<Rejection>> {
    let mut head = Head::read(stream, MAX_ANSWER).await;
    for _ in 0..MAX_INTERIM {
        match head {
            // "HTTP/1.1 1xx", but not 101
            Ok(interim) if is_interim(interim.bytes()) => {
                let rest = interim.rest().to_vec();
                head = match Head::parse(rest) {
                    Ok(next) => Ok(next),
                    Err(start) => Head::read_on(stream, MAX_ANSWER, start).await,
                };
            }
            other => {
                head = other;
                break;
            }
        }
    }
    head.map_err(|error| match error {
        HeadError::Closed(_) => bad("it closed the connection instead of answering"),
        other => bad(format!("its answer cannot be read: {other}")),
    })
}

fn is_interim(head: &[u8]) -> bool {
    head.get(9..12).is_some_and(|status| status[0] == b'1' && status != b"101")
}

/// Whether the answer accepts exactly what the client offered (RFC 6455 §4.1, client requirements
/// 1 to 6).
fn validate(head: &[u8], opening: &Opening) -> Result<Answer, Box<Rejection>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(bad("its answer is incomplete")),
        Err(error) => return Err(bad(format!("its answer cannot be parsed: {error}"))),
    }
    let status = response.code.unwrap_or(0);
    if (400..600).contains(&status) {
        let mut rejection = Rejection::new(Reason::UpstreamRefused)
            .detail(format!("The service answered with status {status}."))
            .note(format!("it answered with status {status}"));
        rejection.upstream_status = Some(status);
        return Err(Box::new(rejection));
    }
    if status != 101 {
        return Err(bad(format!("its status is {status} instead of 101")));
    }
    let values = |name: &str| -> Vec<&[u8]> {
        let own = response.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        own.map(|header| header.value.trim_ascii()).collect()
    };
    let has_token = |name: &str, token: &[u8]| {
        let mut tokens = values(name).into_iter().flat_map(|value| value.split(|byte| *byte == b','));
        tokens.any(|one| one.trim_ascii().eq_ignore_ascii_case(token))
    };
    if !has_token("upgrade", b"websocket") {
        return Err(bad("its answer lacks Upgrade: websocket"));
    }
    if !has_token("connection", b"upgrade") {
        return Err(bad("its answer lacks Connection: Upgrade"));
    }
    let accept = derive_accept_key(opening.key().as_bytes());
    if values("sec-websocket-accept") != [accept.as_bytes()] {
        return Err(bad("its Sec-WebSocket-Accept does not fit the key"));
    }
    match values("sec-websocket-protocol")[..] {
        [] => {}
        [chosen] if opening.protocols().iter().any(|offered| offered.as_bytes() == chosen) => {}
        _ => return Err(bad("it chose a subprotocol that the client did not offer")),
    }
    for name in values("sec-websocket-extensions").into_iter().flat_map(extension_names) {
        if !opening.extensions().contains(&name) {
            return Err(bad("it chose an extension that the client did not offer"));
        }
    }
    let all: Vec<(String, Vec<u8>)> = response
        .headers
        .iter()
        .map(|header| (header.name.to_ascii_lowercase(), header.value.to_vec()))
        .collect();
    let nominated = nominated(&all);
    let headers = all
        .into_iter()
        .filter(|(name, _)| passes(name, &nominated) && name != "sec-websocket-accept")
        .collect();
    Ok(Answer { accept, headers })
}
