//! A connection from the moment it is accepted to the first byte of its request: who it is from, and
//! the handshake of TLS.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::gate::Gate;
use super::listener::Listener;
use super::proxy_header::{self, Proxied, ProxyHeaderError};
use super::tls::{H2, Tls};
use super::visitor::{self, Visitor};
use super::{Ends, answer, connection, http2};
use crate::audit::{Entry, HandshakeId};
use crate::config::ClientAddress;
use crate::rejection::{Reason, Rejection};
use crate::session::limits::Place;
use crate::session::stream::Stream;

/// What all connections to one address share.
#[derive(Clone, Debug)]
pub(super) struct Entrance {
    pub(super) gate: Arc<Gate>,
    /// The address, as the snapshots know it.
    pub(super) address: SocketAddr,
    pub(super) ends: Ends,
    /// The listener accepts nobody any more.
    pub(super) closing: CancellationToken,
    /// Where the tasks of connections are tracked.
    pub(super) connections: TaskTracker,
}

/// Takes a connection of `peer` that was accepted at `listener`.
pub(super) fn accept(entrance: &Entrance, stream: TcpStream, peer: SocketAddr, listener: Arc<Listener>) {
    let gate = &entrance.gate;
    // The firewall comes before every limit: a denied client takes nobody's place.
    if let Err(rejection) = gate.snapshot().admit(peer.ip()) {
        entrance.turn_away(stream, &listener, peer, rejection);
        return;
    }
    // A proxy brings many clients: each counts once it is known.
    let place = match listener.believes(peer.ip()) {
        true => gate.counts().place_of_proxy(),
        false => gate.counts().place(peer.ip()),
    };
    match place {
        Ok(place) if listener.is_plain() => {
            let visitor = Visitor::arriving(peer, &listener);
            let (gate, ends) = (Arc::clone(gate), entrance.ends.clone());
            entrance.connections.spawn(connection::handle(stream.into(), visitor, place, gate, ends));
        }
        Ok(place) => {
            let arriving = arrive(entrance.clone(), stream, peer, listener, place);
            entrance.connections.spawn(arriving);
        }
        Err(excess) => entrance.turn_away(stream, &listener, peer, Box::new(excess.rejection())),
    }
}

impl Entrance {
    /// Answers a connection that has no place, as far as that may cost something.
    fn turn_away(
        &self,
        stream: TcpStream,
        listener: &Listener,
        client: SocketAddr,
        rejection: Box<Rejection>,
    ) {
        let (gate, cut) = (Arc::clone(&self.gate), self.ends.cut.clone());
        match listener.tls.as_ref().map(|tls| Arc::clone(&tls.brief)) {
            None => {
                let leave = gate.overflow();
                let opening = std::future::ready(Some(stream.into()));
                let turning = connection::turn_away(opening, leave, client, rejection, gate, cut);
                self.connections.spawn(turning);
            }
            Some(config) => {
                let leave = gate.costly_overflow();
                let patience = gate.limits().tls_timeout;
                let opening = async move {
                    let opened = timeout(patience, TlsAcceptor::from(config).accept(stream)).await;
                    Some(Stream::Tls(Box::new(opened.ok()?.ok()?.into())))
                };
                let turning = connection::turn_away(opening, leave, client, rejection, gate, cut);
                self.connections.spawn(turning);
            }
        }
    }

    /// Records that a client got no further than this.
    fn record(&self, client: SocketAddr, rejection: &Rejection) -> HandshakeId {
        let id = self.gate.id();
        let rejection = Box::new(rejection.clone());
        self.gate.record(Entry::Rejected { id, client, route: None, rejection });
        id
    }

    /// Records and answers a connection whose request nobody has read.
    async fn reject(&self, stream: TcpStream, client: SocketAddr, rejection: &Rejection) {
        let id = self.record(client, rejection);
        let mut stream = stream.into();
        tokio::select! {
            () = answer::send(&mut stream, rejection, id, false, self.gate.now()) => {}
            () = self.ends.cut.cancelled() => {}
        }
    }

    /// What comes of `step`, unless it takes too long or the gate stops.
    async fn within<T>(
        &self,
        patience: std::time::Duration,
        step: impl Future<Output = T>,
    ) -> Result<T, Late> {
        tokio::select! {
            done = timeout(patience, step) => done.map_err(|_| Late::Deadline),
            () = self.ends.cut.cancelled() => Err(Late::Stopping),
        }
    }
}

/// Why a step was not awaited to its end.
enum Late {
    Deadline,
    Stopping,
}

/// Takes a connection through all that comes before a request, and then through the rest of its life.
pub(super) fn arrive(
    entrance: Entrance,
    stream: TcpStream,
    peer: SocketAddr,
    listener: Arc<Listener>,
    place: Place,
) -> impl Future<Output = ()> + Send {
    let (gate, ends) = (Arc::clone(&entrance.gate), entrance.ends.clone());
    // Boxed, so that the room it needs is given back before the request is read.
    let entering = Box::pin(enter(entrance, stream, peer, listener, place));
    async move {
        if let Some((stream, visitor, place)) = entering.await {
            connection::handle(stream, visitor, place, gate, ends).await;
        }
    }
}

/// Takes a connection through all that comes before a request; `None`: that was the end of it.
async fn enter(
    entrance: Entrance,
    mut stream: TcpStream,
    peer: SocketAddr,
    listener: Arc<Listener>,
    mut place: Place,
) -> Option<(Stream, Visitor, Place)> {
    let gate = Arc::clone(&entrance.gate);
    let mut visitor = Visitor::arriving(peer, &listener);
    if listener.client_address == ClientAddress::ProxyProtocol && listener.believes(peer.ip()) {
        match proxy_header(&entrance, &mut stream, peer).await {
            Ok(Some(Proxied { client, secure })) => (visitor.client, visitor.secure) = (client, secure),
            Ok(None) => return None,
            Err(rejection) => {
                // To a client of TLS, an answer without it would be noise.
                if listener.tls.is_some() {
                    entrance.record(peer, &rejection);
                } else {
                    entrance.reject(stream, peer, &rejection).await;
                }
                return None;
            }
        }
        let client = visitor.client;
        let admitted = gate.snapshot().admit(client.ip());
        let begun =
            admitted.and_then(|()| place.is_of(client.ip()).map_err(|excess| Box::new(excess.rejection())));
        if let Err(rejection) = begun {
            entrance.turn_away(stream, &listener, client, rejection);
            return None;
        }
    }
    let Some(tls) = &listener.tls else { return Some((stream.into(), visitor, place)) };
    let stream = match secure(&entrance, stream, tls).await {
        Ok(stream) => stream,
        Err(Insecure::Silent) => return None,
        Err(Insecure::Refused(rejection)) => {
            entrance.record(visitor.client, &rejection);
            return None;
        }
        Err(Insecure::Plain(stream, rejection)) => {
            place.decided();
            entrance.reject(stream, visitor.client, &rejection).await;
            return None;
        }
    };
    visitor.secure = true;
    let session = stream.get_ref().1;
    visitor.certificate = tls.certificate(entrance.address, session.peer_certificates(), UnixTime::now());
    if session.alpn_protocol() == Some(H2) {
        Box::pin(http2::serve(entrance, stream, visitor, place)).await;
        None
    } else {
        Some((Stream::Tls(Box::new(stream.into())), visitor, place))
    }
}

/// Whose connection a proxy passes on; `None`: nobody's.
async fn proxy_header(
    entrance: &Entrance,
    stream: &mut TcpStream,
    proxy: SocketAddr,
) -> Result<Option<Proxied>, Box<Rejection>> {
    let patience = entrance.gate.limits().proxy_header_timeout;
    match entrance.within(patience, proxy_header::read(stream)).await {
        Ok(Ok(Some(Proxied { client, secure }))) => {
            let client = SocketAddr::new(client.ip().to_canonical(), client.port());
            Ok(Some(Proxied { client, secure }))
        }
        // It asks for itself, to see whether the gate is up.
        Ok(Ok(None)) => Ok(Some(Proxied { client: proxy, secure: false })),
        Ok(Err(ProxyHeaderError::Closed)) | Err(Late::Stopping) => Ok(None),
        Ok(Err(error)) => Err(visitor::refused(proxy, &error)),
        Err(Late::Deadline) => Err(visitor::refused(proxy, &"no PROXY header came in time")),
    }
}

/// Why there is no TLS.
enum Insecure {
    /// Nobody spoke.
    Silent,
    /// It failed; nobody is left to be told more than the alert says.
    Refused(Box<Rejection>),
    /// The client does not speak it at all.
    Plain(TcpStream, Box<Rejection>),
}

/// The handshake of TLS.
async fn secure(entrance: &Entrance, stream: TcpStream, tls: &Tls) -> Result<TlsStream<TcpStream>, Insecure> {
    let patience = entrance.gate.limits().tls_timeout;
    let handshake = async {
        // A record of TLS never begins with a letter (RFC 8446 §5.1), and a request always does.
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(0) | Err(_) => return Err(Insecure::Silent),
            Ok(_) if first[0].is_ascii_uppercase() => {
                let detail = "This port speaks TLS, and the request came without it.";
                let rejection = Rejection::new(Reason::HandshakeTls).detail(detail);
                return Err(Insecure::Plain(stream, Box::new(rejection)));
            }
            Ok(_) => {}
        }
        negotiate(stream, &tls.config).await
    };
    match entrance.within(patience, handshake).await {
        Ok(done) => done,
        Err(Late::Stopping) => Err(Insecure::Silent),
        Err(Late::Deadline) => {
            let rejection = Rejection::new(Reason::HandshakeTimeout).note("the handshake of TLS");
            Err(Insecure::Refused(Box::new(rejection)))
        }
    }
}

async fn negotiate(stream: TcpStream, config: &Arc<ServerConfig>) -> Result<TlsStream<TcpStream>, Insecure> {
    TlsAcceptor::from(Arc::clone(config)).accept(stream).await.map_err(|error| {
        let note = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => error.to_string(),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                "the client closed the connection in the middle of it".to_owned()
            }
            None => error.to_string(),
        };
        Insecure::Refused(Box::new(Rejection::new(Reason::HandshakeTls).note(note)))
    })
}
