//! One stream of a connection of HTTP/2, as if it were a connection of HTTP/1.1 (RFC 8441, RFC 9113).
//!
//! The request is read and the answer written in the form of HTTP/1.1, so that one judgement, and one
//! relay, serve both. What is lost on the way concerns the connection alone: `CONNECT` becomes the
//! `GET` of RFC 6455 with a key of our own, and 101 becomes 200.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use super::headers::push;

/// Bytes of the head of an answer; those of the gate have a few hundred, and of an upstream's there is
/// a limit before.
const MAX_HEAD: usize = 128 * 1024;
/// Headers of an answer.
const MAX_HEADERS: usize = 192;

/// Headers of an answer that HTTP/2 does not have (RFC 9113 §8.2.2), and what RFC 8441 §5 leaves out.
const OF_HTTP1: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "sec-websocket-accept",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// One request, and its answer or session.
pub struct Http2Stream {
    /// What is not read yet of the head.
    head: Bytes,
    body: RecvStream,
    /// What is not read yet of the last piece of the body.
    unread: Bytes,
    sending: Sending,
}

enum Sending {
    /// The head of the answer, as far as it is written.
    Head(SendResponse<Bytes>, Vec<u8>),
    Body(SendStream<Bytes>),
    Over,
}

impl fmt::Debug for Http2Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The head holds tokens.
        f.debug_struct("Http2Stream").field("stream", &self.body.stream_id()).finish_non_exhaustive()
    }
}

impl Http2Stream {
    /// The stream on which `request` came, to be answered by `respond`.
    pub fn new(request: Request<RecvStream>, respond: SendResponse<Bytes>) -> Self {
        let (parts, body) = request.into_parts();
        let websocket = parts.extensions.get::<Protocol>().is_some_and(|name| name.as_str() == "websocket");
        let key = websocket.then(generate_key);
        let head = head(&parts, key.as_deref()).into();
        Self { head, body, unread: Bytes::new(), sending: Sending::Head(respond, Vec::new()) }
    }

    /// Ends it at once, whatever is not sent yet.
    pub fn cancel(&mut self) {
        match std::mem::replace(&mut self.sending, Sending::Over) {
            Sending::Head(mut respond, _) => respond.send_reset(Reason::CANCEL),
            Sending::Body(mut send) => send.send_reset(Reason::CANCEL),
            Sending::Over => {}
        }
    }
}

/// The request in the form of HTTP/1.1; with a `key`, as an opening handshake (RFC 8441 §5).
fn head(parts: &http::request::Parts, key: Option<&str>) -> Vec<u8> {
    let uri = &parts.uri;
    let method = if key.is_some() { &Method::GET } else { &parts.method };
    let target = match uri.path_and_query() {
        Some(target) if *method != Method::CONNECT => target.as_str(),
        _ => uri.authority().map_or("/", http::uri::Authority::as_str),
    };
    let mut head = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    if let Some(authority) = uri.authority() {
        push(&mut head, "Host", authority.as_str().as_bytes());
    }
    if let Some(key) = key {
        push(&mut head, "Connection", b"Upgrade");
        push(&mut head, "Upgrade", b"websocket");
        push(&mut head, "Sec-WebSocket-Key", key.as_bytes());
    }
    for (name, value) in &parts.headers {
        let name = name.as_str();
        // A second one that says the same says nothing (RFC 9113 §8.3.1).
        let same = name == "host" && uri.authority().is_some_and(|own| own.as_str().as_bytes() == value);
        if !same && name != "cookie" && name != "sec-websocket-key" {
            push(&mut head, name, value.as_bytes());
        }
    }
    // Sent in pieces, it is still one header (RFC 9113 §8.2.3).
    let cookies: Vec<&[u8]> = parts.headers.get_all("cookie").iter().map(HeaderValue::as_bytes).collect();
    if !cookies.is_empty() {
        push(&mut head, "Cookie", &cookies.join(&b"; "[..]));
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// The answer whose head in HTTP/1.1 is `head`.
fn answer(head: &[u8]) -> io::Result<Response<()>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    parsed.parse(head).map_err(io::Error::other)?;
    let status = match parsed.code {
        Some(101) => 200,
        code => code.unwrap_or_default(),
    };
    let mut answer = Response::new(());
    *answer.status_mut() = StatusCode::from_u16(status).map_err(io::Error::other)?;
    let mut map = HeaderMap::new();
    for header in parsed.headers.iter() {
        if OF_HTTP1.iter().any(|name| header.name.eq_ignore_ascii_case(name)) {
            continue;
        }
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(io::Error::other)?;
        map.append(name, HeaderValue::from_bytes(header.value).map_err(io::Error::other)?);
    }
    *answer.headers_mut() = map;
    Ok(answer)
}

fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into());
    }
    io::Error::new(io::ErrorKind::ConnectionReset, error.to_string())
}

impl AsyncRead for Http2Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.head.has_remaining() {
            let count = this.head.len().min(buffer.remaining());
            buffer.put_slice(&this.head.split_to(count));
            return Poll::Ready(Ok(()));
        }
        while this.unread.is_empty() {
            match ready!(this.body.poll_data(context)) {
                Some(bytes) => this.unread = bytes.map_err(broken)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = this.unread.len().min(buffer.remaining());
        buffer.put_slice(&this.unread.split_to(count));
        if this.unread.is_empty() {
            // An idle session holds no piece of what was received.
            this.unread = Bytes::new();
        }
        // Only what has been taken makes room for more.
        let _ = this.body.flow_control().release_capacity(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Http2Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        match &mut this.sending {
            Sending::Over => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Sending::Head(respond, head) => {
                let before = head.len();
                head.extend_from_slice(bytes);
                // The end of the head can stand across two pieces.
                let from = before.saturating_sub(3);
                let Some(end) = head[from..].windows(4).position(|four| four == b"\r\n\r\n") else {
                    if head.len() > MAX_HEAD {
                        return Poll::Ready(Err(io::Error::other("the head of the answer is too long")));
                    }
                    return Poll::Ready(Ok(bytes.len()));
                };
                let end = from + end + 4;
                let answer = answer(&head[..end])?;
                this.sending = Sending::Body(respond.send_response(answer, false).map_err(broken)?);
                Poll::Ready(Ok(end - before))
            }
            Sending::Body(send) => {
                send.reserve_capacity(bytes.len());
                while send.capacity() == 0 && !bytes.is_empty() {
                    match ready!(send.poll_capacity(context)) {
                        Some(capacity) => capacity.map_err(broken)?,
                        None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                    };
                }
                let count = send.capacity().min(bytes.len());
                send.send_data(Bytes::copy_from_slice(&bytes[..count]), false).map_err(broken)?;
                Poll::Ready(Ok(count))
            }
        }
    }

    /// The connection sends by itself.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match std::mem::replace(&mut self.sending, Sending::Over) {
            Sending::Head(mut respond, _) => respond.send_reset(Reason::INTERNAL_ERROR),
            // What has been reset already has ended, too.
            Sending::Body(mut send) => drop(send.send_data(Bytes::new(), true)),
            Sending::Over => {}
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(request: Request<()>, key: Option<&str>) -> String {
        String::from_utf8(head(&request.into_parts().0, key)).expect("ASCII")
    }

    #[test]
    fn a_connect_for_a_websocket_is_the_opening_handshake_that_it_stands_for() {
        let request = Request::builder()
            .method("CONNECT")
            .uri("https://gate.test/chat?x=1")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "forged")
            .header("cookie", "a=1")
            .header("host", "gate.test")
            .header("cookie", "b=2");
        assert_eq!(
            text(request.body(()).expect("valid"), Some("KEY")),
            "GET /chat?x=1 HTTP/1.1\r\nHost: gate.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: KEY\r\nsec-websocket-version: 13\r\nCookie: a=1; b=2\r\n\r\n"
        );
        let other = Request::builder().uri("https://a/b").header("host", "c").body(()).expect("valid");
        assert_eq!(text(other, None), "GET /b HTTP/1.1\r\nHost: a\r\nhost: c\r\n\r\n");
        let tunnel = Request::builder().method("CONNECT").uri("other.test:443").body(()).expect("valid");
        assert!(text(tunnel, None).starts_with("CONNECT other.test:443 HTTP/1.1\r\n"));
    }

    #[test]
    fn an_answer_loses_what_http2_does_not_have() {
        let opened = answer(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
        );
        let opened = opened.expect("valid");
        assert_eq!((opened.status().as_u16(), opened.headers().len()), (200, 1));
        assert_eq!(opened.headers()["sec-websocket-protocol"], "chat");
        let refused = answer(b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nGatehouse-Id: 1\r\n\r\n");
        let refused = refused.expect("valid");
        assert_eq!((refused.status().as_u16(), refused.headers().len()), (401, 1));
    }
}
