//! Answers a client that is rejected, so that it can read the answer.

use std::io;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::audit::HandshakeId;
use crate::rejection::close::close;
use crate::rejection::{Rejection, http};
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
    let answer = http::response(rejection, id, now);
    deliver(stream, if head_only { answer.head() } else { answer.bytes() }).await;
}

/// Tells a client whose session is open why it ends, and waits likewise.
pub(super) async fn send_close(stream: &mut Stream, rejection: &Rejection, id: HandshakeId) {
    let (code, reason) = close(rejection, id);
    deliver(stream, &messages::close(code, &reason)).await;
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
