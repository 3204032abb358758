//! Answers a client that is rejected, so that it can read the answer.

use std::time::{Duration, SystemTime};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::audit::HandshakeId;
use crate::rejection::{Rejection, http};

/// When a client should come back after a limit or an outage.
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// How long the client may take to read the answer and close.
const LINGER: Duration = Duration::from_secs(2);
/// What a client may send while it does.
const LINGER_BYTES: usize = 256 * 1024;

/// Sends the answer and waits for the client to close. Closing at once would reset the connection
/// if the client has sent more than was read, and a reset can overtake the answer (RFC 9112 §9.6).
pub(super) async fn reject(stream: &mut TcpStream, rejection: &Rejection, id: HandshakeId, now: SystemTime) {
    let answer = http::response(rejection, id, now);
    let linger = async {
        stream.write_all(&answer).await?;
        stream.shutdown().await?;
        let mut left = LINGER_BYTES;
        let mut sink = [0; 1024];
        while left > 0 {
            stream.readable().await?;
            match stream.try_read(&mut sink) {
                Ok(0) => break,
                Ok(count) => left = left.saturating_sub(count),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        std::io::Result::Ok(())
    };
    // A client that does not want its answer goes without.
    let _ = tokio::time::timeout(LINGER, linger).await;
}
