//! The clients in front of the gateways and the service behind them, both on one CPU.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::Outcome;
use crate::gateways::opening;

/// A gateway that does not answer for so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a gateway answers to a good opening handshake.
const ACCEPTED: &str = "HTTP/1.1 101 ";
/// Bytes that the service reads at once.
const CHUNK: usize = 32 * 1024;
/// The masking key of every frame (RFC 6455 §5.3).
const MASK: [u8; 4] = [7; 4];

/// Accepts each opening handshake, and sends back what comes after it, byte by byte: the frames come
/// back masked, which no gateway minds, and the service costs as little as it can.
pub(crate) async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            // A client that is gone ends its session, and that is all.
            drop(echo(stream).await);
        });
    }
}

async fn echo(mut stream: TcpStream) -> Outcome<()> {
    opening::accept(&mut stream).await?;
    loop {
        // An idle session has no buffer.
        stream.readable().await?;
        let mut buffer = [0; CHUNK];
        match stream.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => stream.write_all(&buffer[..count]).await?,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What the sessions of one measurement did.
pub(crate) struct Talk {
    /// How long each message took there and back.
    pub(crate) latencies: Vec<Duration>,
    /// From the first message to the last answer.
    pub(crate) clock: Duration,
}

/// Lets `sessions` send messages of `size` bytes for `duration`, each the next when the last is back.
pub(crate) async fn talk(sessions: Vec<TcpStream>, size: usize, duration: Duration) -> Outcome<Talk> {
    let all_ready = Arc::new(Barrier::new(sessions.len()));
    let frame: Arc<[u8]> = frame(size)?.into();
    let mut talking = JoinSet::new();
    for stream in sessions {
        talking.spawn(exchange(stream, Arc::clone(&frame), Arc::clone(&all_ready), duration));
    }
    let started = Instant::now();
    let mut latencies = Vec::new();
    while let Some(session) = talking.join_next().await {
        latencies.extend(session??);
    }
    Ok(Talk { latencies, clock: started.elapsed() })
}

async fn exchange(
    mut stream: TcpStream,
    frame: Arc<[u8]>,
    all_ready: Arc<Barrier>,
    duration: Duration,
) -> Outcome<Vec<Duration>> {
    let mut answer = vec![0; frame.len()];
    let mut latencies = Vec::new();
    all_ready.wait().await;
    let end = Instant::now() + duration;
    let mut sent = Instant::now();
    while sent < end {
        let there_and_back = async {
            stream.write_all(&frame).await?;
            stream.read_exact(&mut answer).await
        };
        timeout(PATIENCE, there_and_back).await??;
        if answer != *frame {
            return Err("a message came back changed".into());
        }
        let now = Instant::now();
        latencies.push(now - sent);
        sent = now;
    }
    Ok(latencies)
}

/// `count` open sessions, in each of which one message has gone there and back.
pub(crate) async fn open(gate: SocketAddr, request: &str, count: u32) -> Outcome<Vec<TcpStream>> {
    let hello = frame(1)?;
    let mut streams = Vec::new();
    for _ in 0..count {
        let begin = async {
            let mut stream = opening::open(gate, request, ACCEPTED).await?;
            stream.write_all(&hello).await?;
            let mut answer = vec![0; hello.len()];
            stream.read_exact(&mut answer).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(stream)
        };
        let stream = timeout(PATIENCE, begin).await??;
        // A reset in the end, so that no port of the clients is held back afterwards.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        streams.push(stream);
    }
    Ok(streams)
}

/// `count` idle sessions as those of [`open`], over TLS to a gate that shows `certificate`.
pub(crate) async fn open_secured(
    gate: SocketAddr,
    certificate: &[u8],
    request: &str,
    count: u32,
) -> Outcome<Vec<TlsStream<TcpStream>>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_slice(certificate).into_owned())?;
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(client));
    let hello = frame(1)?;
    let mut streams = Vec::new();
    for _ in 0..count {
        let begin = async {
            let stream = TcpStream::connect(gate).await?;
            stream.set_nodelay(true)?;
            // A reset in the end, as above.
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            let mut stream = connector.connect(ServerName::try_from("localhost")?, stream).await?;
            opening::ask(&mut stream, request, ACCEPTED).await?;
            stream.write_all(&hello).await?;
            let mut answer = vec![0; hello.len()];
            stream.read_exact(&mut answer).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(stream)
        };
        streams.push(timeout(PATIENCE, begin).await??);
    }
    Ok(streams)
}

/// A binary message of `size` bytes in one masked frame (RFC 6455 §5.2).
fn frame(size: usize) -> Outcome<Vec<u8>> {
    let mut frame = vec![0x82];
    match u8::try_from(size) {
        Ok(short @ ..126) => frame.push(0x80 | short),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(size)?.to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.resize(frame.len() + size, 0x55);
    Ok(frame)
}
