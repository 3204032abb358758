//! The built-in echo upstream: a WebSocket service to try the gate with.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::socket;

/// Sessions at once; more wait to be accepted.
const SESSIONS: usize = 16 * 1024;
/// Bytes of a message, and of what waits to be sent.
const MESSAGE: usize = 1024 * 1024;
/// For the opening handshake.
const DEADLINE: Duration = Duration::from_secs(10);
/// For the close frame at the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// Echoes text and binary messages to whoever connects to `listener`, until `stop`. Then open
/// sessions are closed as going away (RFC 6455 §7.4.1).
pub async fn echo(listener: TcpListener, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(SESSIONS));
    let sessions = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = async {
                let permit = Arc::clone(&room).acquire_owned().await;
                (permit, listener.accept().await)
            } => accepted,
        };
        let (permit, Ok((stream, _))) = accepted else {
            // Out of files, for instance: not at full speed.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let stop = stop.clone();
        sessions.spawn(async move {
            let _permit = permit;
            // How a guest leaves is its own business.
            let _ = session(stream, stop).await;
        });
    }
    sessions.close();
    sessions.wait().await;
}

async fn session(stream: TcpStream, stop: CancellationToken) -> Result<(), Error> {
    socket::prepare(&stream);
    // The defaults allow 64 MiB messages, an unlimited write buffer, and 128 KiB to read into.
    let config = WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * MESSAGE)
        .max_message_size(Some(MESSAGE))
        .max_frame_size(Some(MESSAGE));
    let mut socket = tokio::select! {
        accepted = timeout(DEADLINE, accept_async_with_config(stream, Some(config))) => match accepted {
            Ok(socket) => socket?,
            Err(_) => return Ok(()),
        },
        () = stop.cancelled() => return Ok(()),
    };
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            () = stop.cancelled() => {
                let away = CloseFrame { code: CloseCode::Away, reason: "".into() };
                // Whoever does not take it gets the end of the connection.
                let _ = timeout(FAREWELL, socket.close(Some(away))).await;
                return Ok(());
            }
        };
        let Some(message) = message else {
            return Ok(());
        };
        let message = message?;
        // Pings and closes are answered by the library.
        if message.is_text() || message.is_binary() {
            tokio::select! {
                sent = socket.send(message) => sent?,
                () = stop.cancelled() => return Ok(()),
            }
        }
    }
}
