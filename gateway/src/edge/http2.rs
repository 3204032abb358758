//! A connection of HTTP/2: each of its streams is a visit of its own (RFC 8441).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::server::TlsStream;

use super::arrival::Entrance;
use super::connection;
use super::visitor::Visitor;
use crate::config::Limits;
use crate::session::http2::Http2Stream;
use crate::session::limits::Place;
use crate::session::stream::Stream;

/// Bytes of one stream that may be under way to the gate (RFC 9113 §6.5.2: the default), and that it
/// holds for a client that reads slowly.
const WINDOW: u32 = 64 * 1024 - 1;
/// The greatest window of a connection (RFC 9113 §6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;

fn builder(limits: &Limits) -> server::Builder {
    let streams = u32::try_from(limits.http2_streams).unwrap_or(u32::MAX);
    let mut builder = server::Builder::new();
    builder
        .enable_connect_protocol()
        .max_concurrent_streams(streams)
        .max_header_list_size(u32::try_from(limits.request_head).unwrap_or(u32::MAX))
        .max_send_buffer_size(WINDOW as usize)
        .initial_window_size(WINDOW)
        // One session that is not read must not keep the others from being.
        .initial_connection_window_size(WINDOW.saturating_mul(streams).min(MAX_WINDOW));
    builder
}

/// Serves all streams of a connection until it ends. One without a stream is ended after the time that
/// a request may take.
pub(super) async fn serve(
    entrance: Entrance,
    stream: TlsStream<TcpStream>,
    visitor: Visitor,
    mut place: Place,
) {
    let gate = Arc::clone(&entrance.gate);
    let patience = gate.limits().handshake_timeout;
    let opening = timeout(patience, builder(&gate.limits()).handshake::<_, Bytes>(stream));
    let mut connection = tokio::select! {
        opened = opening => match opened {
            Ok(Ok(connection)) => connection,
            Ok(Err(_)) | Err(_) => return,
        },
        () = entrance.ends.cut.cancelled() => return,
    };
    // From here on each stream is judged, and counted, by itself.
    place.decided();
    let mut look = Instant::now() + patience;
    let mut leaving = false;
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let stream = Stream::Http2(Box::new(Http2Stream::new(request, respond)));
                    visit(&entrance, stream, &visitor);
                }
                Some(Err(_)) | None => return,
            },
            () = sleep_until(look) => {
                if !connection.has_streams() {
                    if std::mem::replace(&mut leaving, true) {
                        return;
                    }
                    connection.graceful_shutdown();
                }
                look = Instant::now() + patience.min(if leaving { FAREWELL } else { patience });
            }
            () = entrance.closing.cancelled(), if !leaving => {
                leaving = true;
                connection.graceful_shutdown();
                look = Instant::now() + FAREWELL;
            }
            () = entrance.ends.cut.cancelled() => return,
        }
    }
}

/// How long a client may take to confirm that it has heard that the connection ends (RFC 9113 §6.8).
const FAREWELL: Duration = Duration::from_secs(1);

/// Takes one request, which came on a connection of `visitor`.
fn visit(entrance: &Entrance, stream: Stream, visitor: &Visitor) {
    let (gate, ends) = (Arc::clone(&entrance.gate), entrance.ends.clone());
    let counts = gate.counts();
    let place =
        if visitor.is_proxied() { counts.place_of_proxy() } else { counts.place(visitor.client.ip()) };
    match place {
        Ok(place) => {
            let handling = connection::handle(stream, visitor.clone(), place, gate, ends);
            entrance.connections.spawn(handling);
        }
        Err(excess) => {
            let leave = gate.overflow();
            let (opening, rejection) = (std::future::ready(Some(stream)), Box::new(excess.rejection()));
            let turning = connection::turn_away(opening, leave, visitor.client, rejection, gate, ends.cut);
            entrance.connections.spawn(turning);
        }
    }
}
