//! The clients that the card reported last.

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Clients that are remembered: the newest.
const MOST: usize = 4096;

/// The clients that the card reported last. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    order: VecDeque<IpAddr>,
    known: HashSet<IpAddr>,
}

impl Recent {
    /// Remembers `client`; the one that was remembered first is forgotten when there are too many.
    pub(super) fn note(&self, client: IpAddr) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !memory.known.insert(client) {
            return;
        }
        memory.order.push_back(client);
        if memory.order.len() > MOST
            && let Some(oldest) = memory.order.pop_front()
        {
            memory.known.remove(&oldest);
        }
    }

    /// Those that are remembered.
    pub(super) fn clients(&self) -> Vec<IpAddr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).order.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_newest_clients_are_remembered_once_and_no_more_than_the_limit() {
        let recent = Recent::default();
        let most = u32::try_from(MOST).expect("a small number");
        for number in 0..most + 10 {
            recent.note(Ipv4Addr::from_bits(number).into());
            recent.note(Ipv4Addr::from_bits(number).into());
        }
        let clients = recent.clients();
        assert_eq!(clients.len(), MOST);
        assert_eq!(clients[0], IpAddr::from(Ipv4Addr::from_bits(10)));
    }
}
