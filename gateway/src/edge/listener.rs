//! What is known about an address that clients connect to.

use std::net::IpAddr;
use std::sync::Arc;

use super::forwarded::trusts;
use super::tls::Tls;
use crate::config::{self, ClientAddress};
use ipnet::IpNet;

/// How clients are spoken to at one address. The default is plain HTTP, and nobody is believed.
#[derive(Debug, Default)]
pub struct Listener {
    /// Where the addresses of clients behind proxies stand.
    pub(super) client_address: ClientAddress,
    pub(super) trusted: Vec<IpNet>,
    /// `None`: plain HTTP.
    pub(super) tls: Option<Arc<Tls>>,
}

impl Listener {
    /// The listener of a `[[listen]]` table, whose files made `tls`.
    pub fn new(rules: &config::Listen, tls: Option<Arc<Tls>>) -> Self {
        Self { client_address: rules.client_address, trusted: rules.trusted_proxies.clone(), tls }
    }

    /// Whether nothing comes before a request.
    pub(super) fn is_plain(&self) -> bool {
        self.tls.is_none() && self.client_address != ClientAddress::ProxyProtocol
    }

    /// Whether `peer` is a proxy that is believed about who its clients are.
    pub(super) fn believes(&self, peer: IpAddr) -> bool {
        self.client_address != ClientAddress::Connection && trusts(&self.trusted, peer)
    }
}
