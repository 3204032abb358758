//! The opening handshake (RFC 6455 §4), on both sides of a gateway.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::Outcome;

/// Bytes of the longest head that is read.
const HEAD: usize = 16 * 1024;

/// Reads an opening handshake and accepts it, as the service behind a gateway.
pub(crate) async fn accept(stream: &mut TcpStream) -> Outcome<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::with_capacity(2048);
    read_head(stream, &mut head).await?;
    let text = String::from_utf8_lossy(&head);
    let key = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(name, value)| name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim()))
        .ok_or("a request without a key came through")?;
    let reply = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(reply.as_bytes()).await?;
    Ok(())
}

/// Sends `request`, and checks that the answer begins with `expected`.
pub(crate) async fn open(gate: SocketAddr, request: &str, expected: &str) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect(gate).await?;
    stream.set_nodelay(true)?;
    ask(&mut stream, request, expected).await.map_err(|error| format!("{gate}: {error}"))?;
    Ok(stream)
}

/// The same, once there is a connection.
pub(crate) async fn ask<S>(stream: &mut S, request: &str, expected: &str) -> Outcome<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::with_capacity(1024);
    read_head(stream, &mut head).await?;
    if !head.starts_with(expected.as_bytes()) {
        let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
        return Err(format!("the answer is `{line}` where {expected} is right").into());
    }
    Ok(())
}

/// An opening handshake with `token`.
pub(crate) fn request(path: &str, token: &str) -> String {
    format!(
        "GET /{path} HTTP/1.1\r\nHost: gw.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    )
}

async fn read_head<S: AsyncRead + Unpin>(stream: &mut S, head: &mut Vec<u8>) -> Outcome<()> {
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(head).await? == 0 || head.len() > HEAD {
            return Err("the connection ended inside a head".into());
        }
    }
    Ok(())
}
