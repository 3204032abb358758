//! What the audit trail holds.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::auth::sources::Source;
use crate::policy::MatchedRule;
use crate::rejection::Rejection;

/// Where the firewall turned a client away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// At the network card, by the XDP program: the client got no answer.
    Nic,
    /// At the gateway.
    Gateway,
}

impl Point {
    /// The name in the journal and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nic => "nic",
            Self::Gateway => "gateway",
        }
    }
}

/// Names one handshake, and the session that grew from it, in the answer and in the journal:
/// 80 random bits as 20 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HandshakeId([u8; 10]);

impl HandshakeId {
    /// An identifier from random bytes.
    pub const fn new(random: [u8; 10]) -> Self {
        Self(random)
    }
}

impl HandshakeId {
    /// The identifier that is displayed as `text`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        let mut bytes = [0; 10];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for HandshakeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One number: each handshake prints it a few times.
        let mut bytes = [0; 16];
        bytes[6..].copy_from_slice(&self.0);
        write!(f, "{:020x}", u128::from_be_bytes(bytes))
    }
}

/// One client dropped at the card, or one that would have been.
#[derive(Clone, Debug)]
pub struct Dropped {
    /// The client.
    pub client: IpAddr,
    /// The rule that decided.
    pub rule: MatchedRule,
    /// Packets of this client since the last report about it.
    pub packets: u64,
    /// Name of the interface.
    pub interface: String,
    /// IP protocol number and destination port of a sample packet, where they could be parsed.
    pub sample: Option<(u8, Option<u16>)>,
}

/// One record of the trail.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A handshake was rejected.
    Rejected {
        /// Also in the answer to the client.
        id: HandshakeId,
        /// The peer.
        client: SocketAddr,
        /// The path of the route, once the request was matched to one.
        route: Option<String>,
        /// Why.
        rejection: Box<Rejection>,
    },
    /// A session was admitted.
    Admitted {
        /// The handshake.
        id: HandshakeId,
        /// The peer.
        client: SocketAddr,
        /// The path of the route.
        route: String,
        /// The token's subject.
        subject: String,
        /// The configured name of the token's issuer.
        issuer: String,
        /// Where the token stood.
        source: Source,
    },
    /// An open session goes on with a fresh token.
    Renewed {
        /// The handshake.
        id: HandshakeId,
        /// The peer of the session.
        client: SocketAddr,
        /// The path of the route.
        route: String,
        /// The token's subject.
        subject: String,
        /// The configured name of the token's issuer.
        issuer: String,
        /// When the fresh token expires, in seconds since 1970.
        expires: u64,
    },
    /// An admitted session ended.
    Ended {
        /// The handshake.
        id: HandshakeId,
        /// The peer.
        client: SocketAddr,
        /// The path of the route.
        route: String,
        /// The token's subject.
        subject: String,
        /// How it ended, in words.
        why: String,
        /// The layer that ended it, if one did.
        rejection: Option<Box<Rejection>>,
        /// How long it lived.
        duration: Duration,
        /// Bytes relayed from the client to the upstream.
        bytes_up: u64,
        /// Bytes relayed from the upstream to the client.
        bytes_down: u64,
        /// Messages of the client.
        messages_up: u64,
        /// Messages of the upstream.
        messages_down: u64,
    },
    /// A client was dropped at the card.
    Dropped(Dropped),
    /// A client passed the card that would have been dropped, were its list not only observed.
    ObservedAtCard(Dropped),
    /// A client asked at the gateway that would have been rejected, were its list not only observed.
    ObservedAtGateway {
        /// The handshake, which went on.
        id: HandshakeId,
        /// The peer.
        client: SocketAddr,
        /// The rule of the observed list.
        rule: MatchedRule,
    },
    /// Clients were dropped at the card but not reported one by one, to spare the log.
    DroppedUnreported {
        /// How many reports were left out.
        reports: u64,
        /// How many packets those reports stood for.
        packets: u64,
    },
}
