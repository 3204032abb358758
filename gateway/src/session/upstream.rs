//! The service behind the gate: dialled, asked, and its answer judged before anything of the
//! client reaches it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;

pub use super::answer::Answer;
use super::answer::{AnswerError, Offer};
use super::pool::{Node, Seat, order};
use super::request::request;
use super::socket;
use super::stream::Stream;
use crate::audit::HandshakeId;
use crate::auth::Identity;
use crate::config::{self, Place};
use crate::edge::opening::Opening;
use crate::rejection::{Reason, Rejection};

/// An upstream that accepted the handshake.
#[derive(Debug)]
pub struct Upstream {
    /// The connection, behind the answer.
    pub stream: Stream,
    /// The answer, which is valid.
    pub answer: Answer,
    /// What the upstream sent after it.
    pub rest: Vec<u8>,
    /// Its count of sessions.
    pub seat: Seat,
}

/// Opens a WebSocket to one of `nodes` for the client that sent `opening`. The caller sets the
/// deadline, which is `patience`; an attempt to connect gets an equal share of it.
///
/// The next one is tried only when no connection could be made: once a single byte of the request
/// may have been seen, it is not sent again.
///
/// # Errors
///
/// `upstream/unreachable` or `upstream/timeout` when none could be connected to, `upstream/refused` or
/// `upstream/bad_handshake`; `limit/capacity` when this host has no file or port left to connect
/// with.
pub async fn open(
    nodes: &[Arc<Node>],
    patience: Duration,
    opening: &Opening,
    identity: &Identity,
    client: SocketAddr,
    id: HandshakeId,
) -> Result<Upstream, Box<Rejection>> {
    let share = patience / u32::try_from(nodes.len()).unwrap_or(u32::MAX).max(1);
    let mut failed = None;
    for node in order(nodes) {
        // Counted while it is dialled: handshakes that come together go to different ones.
        let seat = node.seat();
        match connect(node, share).await {
            Ok(stream) => return ask(node, stream, seat, opening, identity, client, id).await,
            Err(rejection) if rejection.reason == Reason::LimitCapacity => return Err(rejection),
            Err(rejection) => failed = Some(rejection),
        }
    }
    Err(failed.unwrap_or_else(|| Box::new(Rejection::new(Reason::UpstreamUnreachable).note("there is none"))))
}

/// A connection to `node`, after the handshake of TLS where there is one.
async fn connect(node: &Node, patience: Duration) -> Result<Stream, Box<Rejection>> {
    let connected = timeout(patience, secure(node)).await.unwrap_or_else(|late| Err(late.into()));
    match &connected {
        Ok(_) => node.note(Ok(())),
        // What this host lacks says nothing about the upstream.
        Err(error) if of_this_host(error) => {}
        Err(error) => node.note(Err(error)),
    }
    connected.map_err(|error| not_connected(&node.upstream, &error))
}

async fn secure(node: &Node) -> io::Result<Stream> {
    let upstream = &node.upstream;
    let stream = dial(upstream).await?;
    match (stream, &upstream.tls, &upstream.place) {
        (Stream::Tcp(tcp), Some(tls), Place::Tcp { host, .. }) => {
            let connector = node.connector(tls).await.map_err(io::Error::other)?;
            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            Ok(Stream::Tls(Box::new(connector.connect(name, tcp).await?.into())))
        }
        (stream, ..) => Ok(stream),
    }
}

async fn dial(upstream: &config::Upstream) -> io::Result<Stream> {
    match &upstream.place {
        Place::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            // Nobody on this host vanishes without a word: the kernel closes what a process leaves.
            if host.parse().is_ok_and(|address: IpAddr| address.is_loopback()) {
                // It fails on a connection that has ended already, which the next read will tell.
                let _ = stream.set_nodelay(true);
            } else {
                socket::prepare(&stream);
            }
            Ok(stream.into())
        }
        Place::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
    }
}

/// Connects to `node`, and notes whether that could be done within `patience`.
pub async fn probe(node: &Node, patience: Duration) {
    // How it went is noted.
    let _ = connect(node, patience).await;
}

async fn ask(
    node: &Node,
    mut stream: Stream,
    seat: Seat,
    opening: &Opening,
    identity: &Identity,
    client: SocketAddr,
    id: HandshakeId,
) -> Result<Upstream, Box<Rejection>> {
    let upstream = &node.upstream;
    let request = request(upstream, opening, identity, client, id);
    let sent = async {
        stream.write_all(&request).await?;
        stream.flush().await
    };
    sent.await.map_err(|error| not_connected(upstream, &error))?;
    let (answer, rest) = Answer::read(&mut stream).await.map_err(|error| bad(upstream, &error))?;
    if (400..600).contains(&answer.status()) {
        return Err(refused(upstream, answer.status()));
    }
    let offer =
        Offer { key: opening.key(), protocols: opening.protocols(), extensions: opening.extensions() };
    answer.check(offer).map_err(|error| bad(upstream, &error))?;
    if opening.is_settled() && !opening.protocols().is_empty() && answer.protocol().is_none() {
        return Err(bad(upstream, &AnswerError::NotSelected));
    }
    Ok(Upstream { stream, answer, rest, seat })
}

/// The rejection for an upstream that was not open by the deadline.
pub fn timed_out(nodes: &[Arc<Node>]) -> Box<Rejection> {
    let names: Vec<String> = nodes.iter().map(|node| node.upstream.to_string()).collect();
    let note = format!("{}: no connection and answer in time", names.join(", "));
    Box::new(Rejection::new(Reason::UpstreamTimeout).note(note))
}

fn not_connected(upstream: &config::Upstream, error: &io::Error) -> Box<Rejection> {
    let reason = match error.kind() {
        _ if of_this_host(error) => Reason::LimitCapacity,
        io::ErrorKind::TimedOut => Reason::UpstreamTimeout,
        _ => Reason::UpstreamUnreachable,
    };
    rejection(reason, upstream, error)
}

fn of_this_host(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::EADDRNOTAVAIL | libc::ENOBUFS | libc::ENOMEM)
    )
}

fn refused(upstream: &config::Upstream, status: u16) -> Box<Rejection> {
    let mut rejection =
        rejection(Reason::UpstreamRefused, upstream, format!("it answered with status {status}"));
    rejection.detail = Some(format!("The service answered with status {status}."));
    rejection.upstream_status = Some(status);
    rejection
}

fn bad(upstream: &config::Upstream, error: &AnswerError) -> Box<Rejection> {
    rejection(Reason::UpstreamBadHandshake, upstream, error)
}

fn rejection(reason: Reason, upstream: &config::Upstream, what: impl std::fmt::Display) -> Box<Rejection> {
    Box::new(Rejection::new(reason).note(format!("{upstream}: {what}")))
}
