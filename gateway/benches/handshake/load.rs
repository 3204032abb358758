//! What all gateways get: the clients in front of them and the service behind them, both on one CPU.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::Outcome;
use crate::gateways::opening;

/// Connections at a time.
const CLIENTS: usize = 32;
/// A gateway that does not answer for so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers each opening handshake with 101 and waits for the end.
pub(crate) async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            // A client that is gone ends its session, and that is all.
            drop(hold(stream).await);
        });
    }
}

async fn hold(mut stream: TcpStream) -> Outcome<()> {
    opening::accept(&mut stream).await?;
    while stream.read(&mut [0; 64]).await? > 0 {}
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
                tokio::time::timeout(PATIENCE, try_out(gate, request, &expected)).await??;
            }
            Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(started.elapsed())
}

/// Opens a connection, and resets it.
async fn try_out(gate: SocketAddr, request: &str, expected: &str) -> Outcome<()> {
    let stream = opening::open(gate, request, expected).await?;
    // A reset, so that no port of the clients is held back afterwards.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(())
}
