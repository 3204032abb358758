//! How the gate ends a session: a Close frame (RFC 6455 §5.5.1) where no message is under way, then
//! the end of both connections.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;

use super::direction::{CHUNK, Direction, Inbound};
use super::relay::Pair;
use super::stream::Stream;
use crate::rejection::Rejection;

/// What the gate says at the end of a session.
#[derive(Debug)]
pub struct Farewell {
    /// The close code: of a layer, or 1001 when the gate goes away (RFC 6455 §7.4.1).
    pub code: u16,
    /// For machines and people; at most [`crate::rejection::close::MAX_REASON`] bytes.
    pub reason: String,
    /// Which layer ended it; `None`: the gate goes away.
    pub rejection: Option<Box<Rejection>>,
    /// The masking key of what the upstream is told.
    pub mask: [u8; 4],
}

impl Farewell {
    fn frame(&self) -> Frame {
        Frame::close(Some(CloseFrame { code: self.code.into(), reason: self.reason.as_str().into() }))
    }

    /// What the client is told.
    fn to_client(&self) -> Vec<u8> {
        bytes(self.frame())
    }

    /// What the upstream is told. Its client would mask it (RFC 6455 §5.3), and so does the gate in
    /// its place.
    fn to_upstream(&self) -> Vec<u8> {
        let mut frame = self.frame();
        frame.header_mut().mask = Some(self.mask);
        bytes(frame)
    }
}

fn bytes(frame: Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to memory does not fail.
    let _ = frame.format(&mut bytes);
    bytes
}

/// Tells both sides the farewell and waits for the client's own, within `patience`. The message that
/// is under way to the client is completed before; what the client is still sending is not.
///
/// Where no message ends in time, or what was relayed were no frames, nothing is put in: the
/// connections end without a farewell. A client that has not closed in time is reset.
pub(super) async fn tell(farewell: &Farewell, pair: &mut Pair<'_>, patience: Duration) {
    let Pair { client, upstream, up, down, moved, inbound, .. } = pair;
    // The upstream hears it at once where its stream can take it, and is not waited for.
    if !up.frames.is_closed()
        && let Some(whole) = up.frames.boundary_within(up.waiting().len())
    {
        let last = [&up.waiting()[..whole], &farewell.to_upstream()].concat();
        let told = async {
            upstream.write_all(&last).await?;
            upstream.flush().await
        };
        let _ = pin!(told).now_or_never();
    }
    if let Some(Inbound { controls: Some(controls), .. }) = inbound.as_deref_mut() {
        // The start of a message that nobody hears any more: what follows is read as its rest.
        up.frames.follow(&controls.release());
    }
    let told = timeout(patience, async {
        if complete(client, upstream, down, &moved.down).await? {
            if !down.frames.is_closed() {
                client.write_all(&farewell.to_client()).await?;
                client.flush().await?;
            }
            // RFC 6455 §7.1.1: the server closes first, and after both Close frames.
            until_closed(client, up).await?;
        }
        client.shutdown().await
    })
    .await;
    if told.is_err() {
        // The end of a connection waits behind what is not acknowledged, and of a client that the
        // card drops nothing ever is: a reset does not wait.
        client.reset_at_end();
    }
}

/// Sends the client the rest of the message that is under way; whether a frame can be put in then.
async fn complete(
    client: &mut Stream,
    upstream: &mut Stream,
    down: &mut Direction,
    moved: &AtomicU64,
) -> io::Result<bool> {
    let waiting = down.waiting();
    if let Some(whole) = down.frames.boundary_within(waiting.len()) {
        client.write_all(&waiting[..whole]).await?;
        moved.fetch_add(whole as u64, Ordering::Relaxed);
        return Ok(true);
    }
    if down.frames.is_lost() {
        return Ok(false);
    }
    client.write_all(waiting).await?;
    moved.fetch_add(waiting.len() as u64, Ordering::Relaxed);
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = upstream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(false);
        }
        let whole = down.frames.follow_to_boundary(&buffer[..count]);
        let sent = &buffer[..whole.unwrap_or(count)];
        client.write_all(sent).await?;
        moved.fetch_add(sent.len() as u64, Ordering::Relaxed);
        if whole.is_some() || down.frames.is_lost() {
            return Ok(whole.is_some());
        }
    }
}

/// Reads on until the client has closed too: a connection that ends with unread bytes is reset
/// (RFC 2525 §2.17), and the farewell lost with it.
async fn until_closed(client: &mut Stream, up: &mut Direction) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    while !up.frames.is_closed() {
        let count = client.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        up.frames.follow(&buffer[..count]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_gets_it_plain_and_the_upstream_masked() {
        let farewell =
            Farewell { code: 4419, reason: "enough".to_owned(), rejection: None, mask: [1, 2, 3, 4] };
        assert_eq!(farewell.to_client(), b"\x88\x08\x11\x43enough");
        let masked = farewell.to_upstream();
        assert_eq!(masked[..6], [0x88, 0x88, 1, 2, 3, 4]);
        let plain: Vec<u8> =
            masked[6..].iter().zip([1, 2, 3, 4].iter().cycle()).map(|(a, b)| a ^ b).collect();
        assert_eq!(plain, b"\x11\x43enough");
    }
}
