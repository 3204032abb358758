//! The built-in echo upstream: a WebSocket service to try the gate with.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::sync::CancellationToken;

/// Sessions at once; more wait to be accepted.
const SESSIONS: usize = 1024;
/// Bytes of a message, and of what waits to be sent.
const MESSAGE: usize = 1024 * 1024;
/// For the opening handshake.
const DEADLINE: Duration = Duration::from_secs(10);

/// Echoes text and binary messages to whoever connects to `listener`, until `stop`.
pub async fn echo(listener: TcpListener, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(SESSIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
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
        tokio::spawn(async move {
            let _permit = permit;
            tokio::select! {
                // How a guest leaves is its own business.
                _ = session(stream) => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

async fn session(stream: TcpStream) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    // The defaults allow 64 MiB messages, an unlimited write buffer, and 128 KiB to read into.
    let config = WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * MESSAGE)
        .max_message_size(Some(MESSAGE))
        .max_frame_size(Some(MESSAGE));
    let Ok(socket) = tokio::time::timeout(DEADLINE, accept_async_with_config(stream, Some(config))).await
    else {
        return Ok(());
    };
    let mut socket = socket?;
    while let Some(message) = socket.next().await {
        let message = message?;
        // Pings and closes are answered by the library.
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}
