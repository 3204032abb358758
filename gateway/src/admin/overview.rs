//! Everything at a glance: what the live views show, and what the metrics are made of. The JSON form of
//! the control verb `overview` and of `GET /api/overview`.

use serde::{Deserialize, Serialize};

use super::status::Status;
use crate::metrics::{Busy, Latency, RejectionCount, RouteCount};

/// Everything at a glance. Counts are since the start of the daemon, those of the card since anybody
/// remembers; whoever wants rates takes two and subtracts.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Overview {
    /// When it was made, in seconds since 1970.
    pub time: f64,
    /// When the daemon started, in seconds since 1970.
    pub started: u64,
    /// How often clients were turned away: handshakes at the gateway, packets at the card.
    pub rejections: Vec<RejectionCount>,
    /// How the sessions went.
    pub sessions: Sessions,
    /// How long handshakes took, from the connection to the decision.
    pub handshakes: Handshakes,
    /// What happened on the routes that have had a session.
    pub routes: Vec<RouteCount>,
    /// The clients that were turned away most, the busiest first.
    pub busiest: Vec<Busy>,
    /// What of the configuration is in force.
    pub configuration: Configuration,
    /// How the daemon is.
    pub status: Status,
}

/// How the sessions went.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Sessions {
    /// Sessions that are open.
    pub open: u64,
    /// The most that may be open.
    pub most: u64,
    /// Those that have ended, by cause; causes without any are left out.
    pub ended: Vec<Ended>,
    /// Sessions that went on with a fresh token.
    pub renewed: u64,
    /// Bytes of ended sessions, from clients.
    pub bytes_up: u64,
    /// Bytes of ended sessions, to clients.
    pub bytes_down: u64,
    /// Messages of ended sessions, from clients.
    pub messages_up: u64,
    /// Messages of ended sessions, to clients.
    pub messages_down: u64,
}

/// Sessions that ended for one cause.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Ended {
    /// The layer that ended them; `None` when one of their ends did, or the gate stopped.
    pub layer: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// How many.
    pub count: u64,
}

/// How long handshakes took.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Handshakes {
    /// Of those that have a session.
    pub admitted: Latency,
    /// Of those that were turned away.
    pub rejected: Latency,
    /// Of these, what the upstreams took to accept.
    pub dialled: Latency,
}

/// What of the configuration is in force.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Configuration {
    /// When it was read, in seconds since 1970.
    pub read: u64,
    /// How often a newer one was refused since the start.
    pub refused: u64,
}
