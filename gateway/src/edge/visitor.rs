//! Who is at the other end of a connection, before it has asked for anything.

use std::net::SocketAddr;
use std::sync::Arc;

use super::forwarded;
use super::head::Head;
use super::listener::Listener;
use super::tls::Vouched;
use crate::auth::Certificate;
use crate::config::ClientAddress;
use crate::rejection::http::RETRY;
use crate::rejection::{Reason, Rejection};

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    /// Its address; of a proxy's connection, that of the proxy until it has said whose it is.
    pub(super) client: SocketAddr,
    /// Whether it came over TLS, to the gate or to the proxy in front.
    pub(super) secure: bool,
    /// The certificate that it showed, if one is asked for, or why it has no good one.
    pub(super) certificate: Result<Option<Arc<Vouched>>, Box<Rejection>>,
    /// Where a proxy says in the head of a request whose it is.
    proxy: Option<Arc<Listener>>,
}

impl Visitor {
    /// The client of a connection over which nobody speaks for others.
    pub(super) fn at(client: SocketAddr) -> Self {
        Self { client, secure: false, certificate: Ok(None), proxy: None }
    }

    /// A connection of `peer` to `listener`, behind what proxies say before a request.
    pub(super) fn arriving(peer: SocketAddr, listener: &Arc<Listener>) -> Self {
        let in_head =
            matches!(listener.client_address, ClientAddress::Forwarded | ClientAddress::XForwardedFor);
        let proxy = (in_head && listener.believes(peer.ip())).then(|| Arc::clone(listener));
        Self { proxy, ..Self::at(peer) }
    }

    /// What its certificate says, if it showed one.
    ///
    /// # Errors
    ///
    /// Why it has no good one.
    pub(super) fn shown(&self) -> Result<Option<Arc<Certificate>>, Box<Rejection>> {
        let vouched = self.certificate.as_ref().map_err(Clone::clone)?;
        Ok(vouched.as_ref().map(|vouched| Arc::clone(&vouched.certificate)))
    }

    /// Whether it is a proxy, whose request says who the client is.
    pub(super) fn is_proxied(&self) -> bool {
        self.proxy.is_some()
    }

    /// Learns from the `head` of a proxy's request who its client is. A head that cannot be read says
    /// nothing; it is refused for that later.
    ///
    /// # Errors
    ///
    /// `handshake/proxy_header`: the proxy has to say it, and does not.
    pub(super) fn identify(&mut self, head: &Head, max_headers: usize) -> Result<(), Box<Rejection>> {
        let Some(listener) = &self.proxy else { return Ok(()) };
        let mut headers = vec![httparse::EMPTY_HEADER; max_headers];
        let mut request = httparse::Request::new(&mut headers);
        if request.parse(head.bytes()).is_err() {
            return Ok(());
        }
        let headers = || request.headers.iter().map(|header| (header.name.as_bytes(), header.value));
        let (source, peer) = (listener.client_address, self.client);
        match forwarded::client(headers(), source, &listener.trusted, peer) {
            Ok(client) => self.client = client,
            Err(error) => return Err(refused(peer, &error)),
        }
        self.secure |= forwarded::is_secure(headers(), source);
        Ok(())
    }
}

/// The rejection for a proxy that does not say, or not in a way that can be believed, who its client
/// is.
pub(super) fn refused(proxy: SocketAddr, error: &dyn std::fmt::Display) -> Box<Rejection> {
    let note = format!("the proxy {}: {error}", proxy.ip());
    Box::new(Rejection::new(Reason::HandshakeProxyHeader).note(note).retry_after(RETRY))
}
