//! The clients that were turned away most: a table of bounded size (Space-Saving: Metwally, Agrawal, El
//! Abbadi, 2005). A client that was turned away more often than all divided by the size of the table is
//! always in it, with a count that is too high by `error` at most.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::rejection::Reason;

/// Clients in the table.
const SIZE: usize = 100;

/// One of the clients that were turned away most.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Busy {
    /// Its address.
    pub address: IpAddr,
    /// How often it was turned away at the gateway, and how many of its packets at the card.
    pub count: u64,
    /// By how much the count can be too high.
    pub error: u64,
    /// The layer that turned it away last.
    pub layer: String,
    /// Why.
    pub reason: String,
}

/// The clients that were turned away most.
#[derive(Debug, Default)]
pub struct Busiest(Mutex<HashMap<IpAddr, Row>>);

#[derive(Clone, Copy, Debug)]
struct Row {
    count: u64,
    error: u64,
    reason: Reason,
}

impl Busiest {
    /// Counts `client`, which was turned away `times` times. When somebody else is counting at the same
    /// moment, it is left out.
    pub fn add(&self, client: IpAddr, reason: Reason, times: u64) {
        let Ok(mut rows) = self.0.try_lock() else { return };
        if let Some(row) = rows.get_mut(&client) {
            row.count += times;
            row.reason = reason;
            return;
        }
        let mut row = Row { count: times, error: 0, reason };
        if rows.len() >= SIZE {
            let least =
                rows.iter().min_by_key(|(_, row)| row.count).map(|(address, row)| (*address, row.count));
            if let Some((least, count)) = least {
                rows.remove(&least);
                row = Row { count: count + times, error: count, ..row };
            }
        }
        rows.insert(client, row);
    }

    /// The table, the busiest first.
    pub fn read(&self) -> Vec<Busy> {
        let rows = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let mut busy: Vec<Busy> = rows
            .into_iter()
            .map(|(address, Row { count, error, reason })| Busy {
                address,
                count,
                error,
                layer: reason.layer().name().to_owned(),
                reason: reason.name().to_owned(),
            })
            .collect();
        busy.sort_by(|one, other| other.count.cmp(&one.count).then(one.address.cmp(&other.address)));
        busy
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::tally::index;
    use super::*;

    #[test]
    fn whoever_is_turned_away_often_is_in_the_table_however_many_others_there_are() {
        let busiest = Busiest::default();
        let often = IpAddr::from(Ipv4Addr::new(192, 0, 2, 1));
        for n in 0..50_000u32 {
            busiest.add(Ipv4Addr::from_bits(n).into(), Reason::ExpiryExpired, 1);
            if n % 20 == 0 {
                busiest.add(often, Reason::ScopeInsufficient, 1);
            }
        }
        let table = busiest.read();
        assert_eq!(table.len(), SIZE);
        assert_eq!((table[0].address, table[0].reason.as_str()), (often, "insufficient_scope"));
        assert!(table[0].count >= 2_500 && table[0].count - table[0].error <= 2_500, "{:?}", table[0]);
    }

    #[test]
    fn every_reason_has_an_index_of_its_own() {
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(index(*reason), at);
        }
    }
}
