//! Answers a client that is rejected, so that it can read the answer.

use std::borrow::Cow;
use std::io;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::telling::Upgrade;
use crate::audit::HandshakeId;
use crate::auth::revocation::seconds;
use crate::rejection::close::close;
use crate::rejection::{Rejection, http};
use crate::session::headers::push;
use crate::session::messages;
use crate::session::stream::Stream;

/// How long the client may take to read the answer and close.
const LINGER: Duration = Duration::from_secs(2);
/// What a client may send while it does.
const LINGER_BYTES: usize = 256 * 1024;

/// Sends the answer, without its body when it is for a HEAD request, and waits for the client to
/// close. Closing at once would reset the connection if the client has sent more than was read, and
/// a reset can overtake the answer (RFC 9112 §9.6).
pub(super) async fn send(
    stream: &mut Stream,
    rejection: &Rejection,
    id: HandshakeId,
    head_only: bool,
    now: SystemTime,
) {
    let mut rejection = Cow::Borrowed(rejection);
    if let Some(until) = rejection.until {
        let left = until.saturating_sub(seconds(now)).max(1);
        rejection.to_mut().retry_after = Some(Duration::from_secs(left));
    }
    let answer = http::response(&rejection, id, now);
    deliver(stream, if head_only { answer.head() } else { answer.bytes() }).await;
}

/// Tells a client whose session is open why it ends, and waits likewise.
pub(super) async fn send_close(stream: &mut Stream, rejection: &Rejection, id: HandshakeId) {
    let (code, reason) = close(rejection, id);
    deliver(stream, &messages::close(code, &reason)).await;
}

/// Opens the session of a client for nothing else than telling it why it gets none, and waits likewise.
pub(super) async fn send_session(
    stream: &mut Stream,
    upgrade: &Upgrade,
    rejection: &Rejection,
    id: HandshakeId,
) {
    let (code, reason) = close(rejection, id);
    let mut last = accept(&upgrade.key, upgrade.protocol.as_deref(), id, Some(rejection));
    last.extend(messages::close(code, &reason));
    deliver(stream, &last).await;
}

/// The answer that opens a session (RFC 6455 §4.2.2), be it to tell a `rejection` in it.
pub(super) fn accept(
    key: &str,
    protocol: Option<&str>,
    id: HandshakeId,
    rejection: Option<&Rejection>,
) -> Vec<u8> {
    let mut answer = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
    push(&mut answer, "Upgrade", b"websocket");
    push(&mut answer, "Connection", b"Upgrade");
    push(&mut answer, "Sec-WebSocket-Accept", derive_accept_key(key.as_bytes()).as_bytes());
    if let Some(protocol) = protocol {
        push(&mut answer, "Sec-WebSocket-Protocol", protocol.as_bytes());
    }
    push(&mut answer, "Gatehouse-Id", id.to_string().as_bytes());
    if let Some(rejection) = rejection {
        push(&mut answer, http::HEADER, close(rejection, id).1.as_bytes());
    }
    answer.extend_from_slice(b"\r\n");
    answer
}

/// Sends the last that the client gets, and waits for it to close.
pub(super) async fn deliver(stream: &mut Stream, last: &[u8]) {
    let linger = async {
        stream.write_all(last).await?;
        stream.shutdown().await?;
        // The end of one stream of several cannot overtake what was sent on it (RFC 9113 §8.1).
        if stream.is_shared() {
            return Ok(());
        }
        discard(stream, LINGER_BYTES).await
    };
    // A client that does not want its answer goes without.
    let _ = timeout(LINGER, linger).await;
}

/// Reads until the end, or until `most` bytes have come.
async fn discard(stream: &mut Stream, most: usize) -> io::Result<()> {
    let mut left = most;
    let mut sink = [0; 1024];
    while left > 0 {
        match stream.read(&mut sink).await? {
            0 => break,
            count => left = left.saturating_sub(count),
        }
    }
    Ok(())
}
