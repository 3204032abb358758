//! The tickets that wait to be used. Pure, by a clock passed in.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::auth::Token;
use crate::config::Limits;
use crate::rejection::{Reason, Rejection};
use crate::session::limits::network;

/// The tickets that were given and not used yet. Nothing of them is ever written anywhere.
#[derive(Debug)]
pub(in crate::edge) struct Tickets {
    given: Mutex<Given>,
}

#[derive(Debug, Default)]
struct Given {
    most: usize,
    most_of_address: usize,
    life: Duration,
    /// By the hash of the ticket: looking one up tells nothing about the others.
    by_hash: HashMap<[u8; 32], Ticket>,
    /// In the order in which they expire; no more than there are.
    by_age: BTreeSet<(Instant, [u8; 32])>,
    /// The same of each address; of IPv6, of a /64: one client has all of it. None is empty.
    by_address: HashMap<IpAddr, BTreeSet<(Instant, [u8; 32])>>,
}

#[derive(Debug)]
struct Ticket {
    token: Token,
    path: String,
    address: IpAddr,
    until: Instant,
}

/// There is no room for a ticket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full {
    reason: Reason,
    /// Until the first one expires that is in the way.
    retry_after: Duration,
}

impl From<Full> for Box<Rejection> {
    fn from(Full { reason, retry_after }: Full) -> Self {
        // Whoever comes back in no time does so for nothing.
        Self::new(Rejection::new(reason).retry_after(retry_after.max(Duration::from_secs(1))))
    }
}

impl Tickets {
    /// None yet.
    pub(in crate::edge) fn new(limits: &Limits) -> Self {
        let this = Self { given: Mutex::default() };
        this.follow(limits);
        this
    }

    /// Gives tickets by these limits from now on.
    pub(in crate::edge) fn follow(&self, limits: &Limits) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.most = limits.tickets;
        given.most_of_address = limits.tickets_per_address;
        given.life = limits.ticket_ttl;
    }

    /// A ticket for `token`, on the route `path`, from `address`. It is made of `random`, which nobody
    /// else may know.
    pub(super) fn give(
        &self,
        token: Token,
        path: &str,
        address: IpAddr,
        now: Instant,
        random: &[u8; 32],
    ) -> Result<String, Full> {
        let ticket = URL_SAFE_NO_PAD.encode(random);
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.forget(now);
        let full = |reason, all: &BTreeSet<(Instant, [u8; 32])>| {
            let first = all.first().map_or(now, |(until, _)| *until);
            Full { reason, retry_after: first.saturating_duration_since(now) }
        };
        if given.by_hash.len() >= given.most {
            return Err(full(Reason::LimitCapacity, &given.by_age));
        }
        let network = network(address);
        if let Some(own) = given.by_address.get(&network).filter(|own| own.len() >= given.most_of_address) {
            return Err(full(Reason::LimitTickets, own));
        }
        let (hash, until) = (hash(&ticket), now + given.life);
        given.by_address.entry(network).or_default().insert((until, hash));
        given.by_age.insert((until, hash));
        given.by_hash.insert(hash, Ticket { token, path: path.to_owned(), address, until });
        Ok(ticket)
    }

    /// The token that `ticket` stands for. The ticket is used up, whoever shows it and where: one that
    /// turns up in the wrong place has been seen by the wrong people.
    pub(in crate::edge) fn redeem(
        &self,
        ticket: &str,
        path: &str,
        address: IpAddr,
        now: Instant,
    ) -> Result<Token, Box<Rejection>> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = |note: &str| Box::new(Rejection::new(Reason::CredentialsTicket).note(note));
        let Some(found) = given.take(&hash(ticket)) else {
            return Err(refused("there is no such ticket: it was used, it expired, or it never was"));
        };
        if found.until <= now {
            return Err(refused("the ticket has expired"));
        }
        if found.address != address {
            return Err(refused("the ticket was given to another address"));
        }
        if found.path != path {
            return Err(refused("the ticket was given for another route"));
        }
        Ok(found.token)
    }
}

impl Given {
    fn take(&mut self, hash: &[u8; 32]) -> Option<Ticket> {
        let ticket = self.by_hash.remove(hash)?;
        self.by_age.remove(&(ticket.until, *hash));
        let address = network(ticket.address);
        if let Some(own) = self.by_address.get_mut(&address) {
            own.remove(&(ticket.until, *hash));
            if own.is_empty() {
                self.by_address.remove(&address);
            }
        }
        Some(ticket)
    }

    /// Drops what has expired.
    fn forget(&mut self, now: Instant) {
        while let Some((until, hash)) = self.by_age.first().copied()
            && until <= now
        {
            self.by_age.remove(&(until, hash));
            self.take(&hash);
        }
    }
}

fn hash(ticket: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, ticket.as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(30);

    fn tickets(most: usize, most_of_address: usize) -> Tickets {
        Tickets::new(&Limits {
            tickets: most,
            tickets_per_address: most_of_address,
            ticket_ttl: LIFE,
            ..Limits::default()
        })
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn give(tickets: &Tickets, last: u8, now: Instant, random: u8) -> Result<String, Reason> {
        tried(tickets, last, now, random).map_err(|full| full.reason)
    }

    fn tried(tickets: &Tickets, last: u8, now: Instant, random: u8) -> Result<String, Full> {
        let token = Token::parse(b"a.b.c").expect("a token");
        tickets.give(token, "/chat", address(last), now, &[random; 32])
    }

    #[test]
    fn who_finds_no_room_is_told_when_there_will_be_some() {
        let (tickets, now) = (tickets(2, 1), Instant::now());
        let second = Duration::from_secs(1);
        give(&tickets, 1, now, 1).expect("given");
        let later = now + second * 10;
        let full = tried(&tickets, 1, later, 2).expect_err("one each");
        assert_eq!(full, Full { reason: Reason::LimitTickets, retry_after: second * 20 });
        give(&tickets, 2, later, 3).expect("given");
        let full = tried(&tickets, 3, later + second, 4).expect_err("two in all");
        assert_eq!(full, Full { reason: Reason::LimitCapacity, retry_after: second * 19 });
        let full = tried(&tickets, 2, now + LIFE, 5).expect_err("one each, still");
        assert_eq!(full.retry_after, second * 10);
        let at_once = Full { reason: Reason::LimitTickets, retry_after: Duration::ZERO };
        assert_eq!(Box::<Rejection>::from(at_once).retry_after, Some(second));
    }

    #[test]
    fn a_ticket_is_good_once_on_its_route_from_its_address_until_it_expires() {
        let (tickets, now) = (tickets(9, 9), Instant::now());
        let redeem = |ticket: &str, path, last, now| tickets.redeem(ticket, path, address(last), now).is_ok();
        let ticket = give(&tickets, 1, now, 1).expect("given");
        assert!(redeem(&ticket, "/chat", 1, now + LIFE - Duration::from_millis(1)));
        assert!(!redeem(&ticket, "/chat", 1, now), "it is used up");
        for (random, path, last, after) in [(2, "/other", 1, 0), (3, "/chat", 2, 0), (4, "/chat", 1, 30)] {
            let ticket = give(&tickets, 1, now, random).expect("given");
            assert!(!redeem(&ticket, path, last, now + Duration::from_secs(after)), "{random}");
            assert!(
                !redeem(&ticket, "/chat", 1, now),
                "{random}: who shows it in the wrong place uses it up"
            );
        }
        assert!(!redeem("", "/chat", 1, now) && !redeem("x", "/chat", 1, now));
    }

    #[test]
    fn a_used_ticket_leaves_nothing_and_a_network_counts_as_one_address() {
        let (tickets, now) = (tickets(9, 1), Instant::now());
        let give = |address: &str, random| {
            let token = Token::parse(b"a.b.c").expect("a token");
            tickets.give(token, "/chat", address.parse().expect("an address"), now, &[random; 32])
        };
        let first = give("2001:db8::1", 1).expect("given");
        assert_eq!(give("2001:db8::2", 2).map_err(|full| full.reason), Err(Reason::LimitTickets));
        assert!(tickets.redeem(&first, "/chat", "2001:db8::2".parse().expect("an address"), now).is_err());
        let given = tickets.given.lock().expect("sane");
        assert!(given.by_hash.is_empty() && given.by_age.is_empty() && given.by_address.is_empty());
    }

    #[test]
    fn tickets_are_limited_in_all_and_by_address_and_free_again_when_used_or_expired() {
        let (tickets, now) = (tickets(3, 2), Instant::now());
        let first = give(&tickets, 1, now, 1).expect("given");
        give(&tickets, 1, now, 2).expect("given");
        assert_eq!(give(&tickets, 1, now, 3), Err(Reason::LimitTickets));
        give(&tickets, 2, now, 4).expect("given");
        assert_eq!(give(&tickets, 3, now, 5), Err(Reason::LimitCapacity));
        tickets.redeem(&first, "/chat", address(1), now).expect("good");
        give(&tickets, 1, now + LIFE / 2, 6).expect("one was used");
        for random in 7..9 {
            give(&tickets, 3, now + LIFE, random).expect("two have expired");
        }
        assert_eq!(give(&tickets, 3, now + LIFE, 9), Err(Reason::LimitCapacity));
        let given = tickets.given.lock().expect("sane");
        assert_eq!((given.by_hash.len(), given.by_address.len()), (3, 2));
    }
}
