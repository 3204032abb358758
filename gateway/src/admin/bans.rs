//! The orders and the answers of `gatehouse ban`, `unban` and `bans`.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::bans::Ban;

/// What to do about bans.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Show them.
    List,
    /// Ban.
    Ban {
        /// Whom.
        prefix: IpNet,
        /// For so many seconds.
        seconds: u64,
        /// Why.
        reason: String,
    },
    /// Lift the ban of exactly this prefix.
    Lift {
        /// Whose.
        prefix: IpNet,
    },
}

/// The bans, once the order is carried out. The JSON form of `gatehouse bans --json`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Report {
    /// All of them, by prefix.
    pub bans: Vec<Ban>,
    /// What somebody should know.
    pub warnings: Vec<String>,
    /// Packets that bans have dropped at the card; `None` where it is not attached.
    pub dropped: Option<u64>,
}
