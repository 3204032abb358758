//! What all gateways get: the clients in front of them and the service behind them, both on one CPU.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::Outcome;

/// Connections at a time.
const CLIENTS: usize = 32;
/// A gateway that does not answer for so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of the longest head that is read.
const HEAD: usize = 16 * 1024;

/// Answers each opening handshake with 101 and waits for the end.
pub(crate) async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            // A client that is gone ends its session, and that is all.
            drop(answer(stream).await);
        });
    }
}

async fn answer(mut stream: TcpStream) -> Outcome<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::with_capacity(2048);
    read_head(&mut stream, &mut head).await?;
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
    while stream.read(&mut [0; 64]).await? > 0 {}
    Ok(())
}

async fn read_head(stream: &mut TcpStream, head: &mut Vec<u8>) -> Outcome<()> {
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(head).await? == 0 || head.len() > HEAD {
            return Err("the connection ended inside a head".into());
        }
    }
    Ok(())
}

/// Opens one connection for each of `requests`, and checks that each answer has `status`.
pub(crate) async fn run(gate: SocketAddr, requests: Arc<Vec<String>>, status: u16) -> Outcome<Duration> {
    let next = Arc::new(AtomicUsize::new(0));
    let expected = format!("HTTP/1.1 {status} ");
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (next, requests, expected) = (Arc::clone(&next), Arc::clone(&requests), expected.clone());
        clients.spawn(async move {
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                tokio::time::timeout(PATIENCE, open(gate, request, &expected)).await??;
            }
            Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(started.elapsed())
}

async fn open(gate: SocketAddr, request: &str, expected: &str) -> Outcome<()> {
    let mut stream = TcpStream::connect(gate).await?;
    stream.set_nodelay(true)?;
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::with_capacity(1024);
    read_head(&mut stream, &mut head).await?;
    if !head.starts_with(expected.as_bytes()) {
        let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
        return Err(format!("{gate} answered `{line}` where {expected} is right").into());
    }
    // A reset, so that no port of the clients is held back afterwards.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(())
}

/// An opening handshake (RFC 6455 §4.1) with `token`.
pub(crate) fn request(path: &str, token: &str) -> String {
    format!(
        "GET /{path} HTTP/1.1\r\nHost: gw.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    )
}
