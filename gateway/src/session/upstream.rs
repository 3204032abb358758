//! The service behind the gate: dialled, asked, and its answer judged before anything of the
//! client reaches it.

use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

pub use super::answer::Answer;
use super::answer::{AnswerError, Offer};
use super::request::request;
use super::socket;
use super::stream::Stream;
use crate::audit::HandshakeId;
use crate::auth::Identity;
use crate::config;
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
}

/// Opens a WebSocket to `upstream` for the client that sent `opening`. The caller sets the
/// deadline.
///
/// # Errors
///
/// `upstream/unreachable`, `upstream/refused` or `upstream/bad_handshake`; `limit/capacity` when
/// this host has no file or port left to connect with.
pub async fn open(
    upstream: &config::Upstream,
    opening: &Opening,
    identity: &Identity,
    client: SocketAddr,
    id: HandshakeId,
) -> Result<Upstream, Box<Rejection>> {
    let mut stream = TcpStream::connect((upstream.host.as_str(), upstream.port))
        .await
        .map_err(|error| not_connected(upstream, &error))?;
    socket::prepare(&stream);
    let request = request(upstream, opening, identity, client, id);
    stream.write_all(&request).await.map_err(|error| not_connected(upstream, &error))?;
    let (answer, rest) = Answer::read(&mut stream).await.map_err(|error| bad(upstream, &error))?;
    if (400..600).contains(&answer.status()) {
        return Err(refused(upstream, answer.status()));
    }
    let offer =
        Offer { key: opening.key(), protocols: opening.protocols(), extensions: opening.extensions() };
    answer.check(offer).map_err(|error| bad(upstream, &error))?;
    Ok(Upstream { stream: stream.into(), answer, rest })
}

/// The rejection for an upstream that was not open by the deadline.
pub fn timed_out(upstream: &config::Upstream) -> Box<Rejection> {
    rejection(Reason::UpstreamTimeout, upstream, "no connection and answer in time")
}

fn not_connected(upstream: &config::Upstream, error: &io::Error) -> Box<Rejection> {
    let ours = matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::EADDRNOTAVAIL | libc::ENOBUFS | libc::ENOMEM)
    );
    let reason = if ours { Reason::LimitCapacity } else { Reason::UpstreamUnreachable };
    rejection(reason, upstream, error)
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
    let config::Upstream { host, port, .. } = upstream;
    Box::new(Rejection::new(reason).note(format!("{host}:{port}: {what}")))
}
