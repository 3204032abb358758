//! Repeats are folded: of a client that is turned away again and again for the same reason, the first
//! rejections are written at once, and those after them as one entry when their window ends. Windows
//! double while the client goes on, so an attack cannot fill the disk, and a client that tries again now
//! and then has each of its rejections in the trail at once. Pure: the clock is passed in.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;

use super::entry::{Entry, HandshakeId};
use crate::rejection::Reason;

/// The first window.
const FIRST: Duration = Duration::from_secs(1);

/// Identifiers that an entry for several rejections names: of a client that waits a little before it
/// tries again, all.
const IDS: usize = 32;

/// Addresses of one /64 of IPv6, each with each of its reasons, that are told apart. A host has a whole /64 to
/// choose its addresses from (RFC 4291 §2.5.1), and must not fill the trail by a new one each time.
const CROWD: usize = 16;

/// Several rejections, in the place of which one entry is written.
#[derive(Clone, Debug)]
pub(super) struct Repeats {
    /// How many.
    pub count: u64,
    /// Since when they were held.
    pub over: Duration,
    /// The newest of their identifiers but that of the last one, oldest first.
    pub ids: Vec<HandshakeId>,
    /// They are of addresses in this network, of which more were turned away than are told apart.
    pub network: Option<Ipv6Net>,
}

/// What is to be written: an entry, and for how many it stands when it is not for itself alone.
pub(super) type Due = (Entry, Option<Repeats>);

/// Holds repeats back.
#[derive(Debug)]
pub(super) struct Fold {
    at_once: u32,
    longest: Duration,
    most: usize,
    held: HashMap<Key, Held>,
    /// How many keys of which network are held, but for those of the network itself.
    crowds: HashMap<Ipv6Net, usize>,
    /// When the window of which key ends. Each key stands here exactly once.
    ends: BinaryHeap<Reverse<(Instant, Key)>>,
}

/// What makes rejections the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    client: Client,
    reason: Reason,
    route: Option<String>,
    subject: Option<String>,
}

/// Who was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Client {
    One(IpAddr),
    /// All addresses that are not told apart any more.
    Crowd(Ipv6Net),
}

#[derive(Debug)]
struct Held {
    /// The newest repeat.
    last: Option<Entry>,
    count: u64,
    ids: VecDeque<HandshakeId>,
    window: Duration,
    /// So many more are written at once.
    at_once: u32,
    /// Whether there was any in this window.
    seen: bool,
}

impl Fold {
    /// The first `at_once` are written at once, at least one. Windows grow up to `longest`; with zero, nothing is held. At most `most` clients and reasons are
    /// known; who comes when all are known makes room by ending the window that would end first.
    pub(super) fn new(at_once: u32, longest: Duration, most: usize) -> Self {
        Self { at_once, longest, most, held: HashMap::new(), crowds: HashMap::new(), ends: BinaryHeap::new() }
    }

    /// Takes `entry`, and gives back what is to be written now.
    pub(super) fn take(&mut self, entry: Entry, now: Instant) -> Vec<Due> {
        let Some((mut key, id)) = Key::of(&entry).filter(|_| !self.longest.is_zero()) else {
            return vec![(entry, None)];
        };
        if let Some(network) = key.network()
            && !self.held.contains_key(&key)
            && self.crowds.get(&network).is_some_and(|keys| *keys >= CROWD)
        {
            key.client = Client::Crowd(network);
        }
        if let Some(held) = self.held.get_mut(&key) {
            held.seen = true;
            if held.at_once > 0 {
                held.at_once -= 1;
                return vec![(entry, None)];
            }
            held.count += 1;
            if held.ids.len() > IDS {
                held.ids.pop_front();
            }
            held.ids.push_back(id);
            held.last = Some(entry);
            return Vec::new();
        }
        let mut due = Vec::new();
        while self.held.len() >= self.most
            && let Some(Reverse((_, key))) = self.ends.pop()
        {
            due.extend(self.forget(&key).and_then(|mut held| held.end(&key)));
        }
        let window = FIRST.min(self.longest);
        let at_once = self.at_once.saturating_sub(1);
        let held = Held { last: None, count: 0, ids: VecDeque::new(), window, at_once, seen: false };
        self.held.insert(key.clone(), held);
        if let Some(network) = key.network() {
            *self.crowds.entry(network).or_default() += 1;
        }
        self.ends.push(Reverse((now + window, key)));
        due.push((entry, None));
        due
    }

    fn forget(&mut self, key: &Key) -> Option<Held> {
        let held = self.held.remove(key)?;
        if let Some(network) = key.network()
            && let Some(keys) = self.crowds.get_mut(&network)
        {
            *keys -= 1;
            if *keys == 0 {
                self.crowds.remove(&network);
            }
        }
        Some(held)
    }

    /// When to ask again for what is [`Self::due`]; `None`: when something was taken.
    pub(super) fn next(&self) -> Option<Instant> {
        self.ends.peek().map(|Reverse((end, _))| *end)
    }

    /// What is to be written because its window has ended.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Due> {
        let mut all = Vec::new();
        while let Some(Reverse((end, _))) = self.ends.peek()
            && *end <= now
            && let Some(Reverse((_, key))) = self.ends.pop()
        {
            let Some(held) = self.held.get_mut(&key) else { continue };
            if !std::mem::take(&mut held.seen) {
                // It was quiet for a whole window.
                self.forget(&key);
                continue;
            }
            all.extend(held.end(&key));
            held.window = (held.window * 2).min(self.longest);
            self.ends.push(Reverse((now + held.window, key)));
        }
        all
    }

    /// Everything that is held.
    pub(super) fn finish(&mut self) -> Vec<Due> {
        self.ends.clear();
        self.crowds.clear();
        self.held.drain().filter_map(|(key, mut held)| held.end(&key)).collect()
    }
}

impl Key {
    fn of(entry: &Entry) -> Option<(Self, HandshakeId)> {
        let Entry::Rejected { id, client, route, rejection } = entry else { return None };
        let (reason, subject) = (rejection.reason, rejection.subject.clone());
        Some((Self { client: Client::One(client.ip()), reason, route: route.clone(), subject }, *id))
    }

    /// The network of its one address, of which there can be too many to tell all apart.
    fn network(&self) -> Option<Ipv6Net> {
        match self.client {
            Client::One(IpAddr::V6(address)) => {
                let first = Ipv6Addr::from_bits(address.to_bits() >> 64 << 64);
                Some(Ipv6Net::new_assert(first, 64))
            }
            Client::One(IpAddr::V4(_)) | Client::Crowd(_) => None,
        }
    }
}

impl Held {
    /// What was held in this window, which ends.
    fn end(&mut self, key: &Key) -> Option<Due> {
        let last = self.last.take()?;
        let count = std::mem::take(&mut self.count);
        // The last one's identifier is in its own entry.
        self.ids.pop_back();
        let ids = self.ids.drain(..).collect();
        let network = match key.client {
            Client::Crowd(network) => Some(network),
            Client::One(_) => None,
        };
        Some((last, (count > 1).then_some(Repeats { count, over: self.window, ids, network })))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rejection::Rejection;

    const MINUTE: Duration = Duration::from_secs(60);

    fn rejected(client: u8, number: u16) -> Entry {
        let [high, low] = number.to_be_bytes();
        Entry::Rejected {
            id: HandshakeId::new([0, 0, 0, 0, 0, 0, 0, client, high, low]),
            client: ([192, 0, 2, client], 4000).into(),
            route: None,
            rejection: Box::new(Rejection::new(Reason::ExpiryExpired)),
        }
    }

    fn rejected_in(network: u16, host: u64, number: u16) -> Entry {
        let address = Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(network) << 64 | u128::from(host));
        match rejected(0, number) {
            Entry::Rejected { id, route, rejection, .. } => {
                Entry::Rejected { id, client: (address, 4000).into(), route, rejection }
            }
            other => other,
        }
    }

    fn counts(due: &[Due]) -> Vec<u64> {
        due.iter().map(|(_, repeats)| repeats.as_ref().map_or(1, |repeats| repeats.count)).collect()
    }

    #[test]
    fn the_first_is_written_at_once_and_repeats_at_the_end_of_windows_that_double() {
        let start = Instant::now();
        let mut fold = Fold::new(1, Duration::from_secs(4), 10);
        let mut written = Vec::new();
        // Ten in a second, for twenty seconds.
        for tenth in 0..200u16 {
            let now = start + Duration::from_millis(100 * u64::from(tenth));
            let due = fold.due(now);
            written.extend(counts(&due).into_iter().map(|count| (tenth, count)));
            let taken = fold.take(rejected(1, tenth), now);
            written.extend(counts(&taken).into_iter().map(|count| (tenth, count)));
        }
        assert_eq!(written, [(0, 1), (10, 9), (30, 20), (70, 40), (110, 40), (150, 40), (190, 40)]);
        assert_eq!(counts(&fold.finish()), [10]);
    }

    #[test]
    fn a_rare_repeat_is_written_within_a_second_as_itself() {
        let start = Instant::now();
        let mut fold = Fold::new(1, MINUTE, 10);
        fold.take(rejected(1, 0), start);
        assert!(fold.take(rejected(1, 1), start + Duration::from_millis(300)).is_empty());
        assert_eq!(fold.next(), Some(start + FIRST));
        let due = fold.due(start + FIRST);
        let [(Entry::Rejected { id, .. }, None)] = due.as_slice() else { panic!("{due:?}") };
        assert!(id.to_string().ends_with("0001"));
        // And after a whole quiet window, the next is the first again.
        assert!(fold.due(start + MINUTE).is_empty() && fold.next().is_none());
        assert_eq!(counts(&fold.take(rejected(1, 2), start + MINUTE)), [1]);
    }

    #[test]
    fn as_many_as_are_asked_for_are_written_at_once() {
        let start = Instant::now();
        let mut fold = Fold::new(5, MINUTE, 10);
        let written: Vec<usize> = (0..8).map(|number| fold.take(rejected(1, number), start).len()).collect();
        assert_eq!(written, [1, 1, 1, 1, 1, 0, 0, 0]);
        assert_eq!(counts(&fold.due(start + FIRST)), [3]);
    }

    #[test]
    fn an_entry_for_several_names_the_newest_of_their_identifiers() {
        let start = Instant::now();
        let mut fold = Fold::new(1, MINUTE, 10);
        for number in 0..100 {
            fold.take(rejected(1, number), start);
        }
        let due = fold.due(start + FIRST);
        let [(Entry::Rejected { id, .. }, Some(Repeats { count: 99, ids, .. }))] = due.as_slice() else {
            panic!("{due:?}")
        };
        assert_eq!(*id, HandshakeId::new([0, 0, 0, 0, 0, 0, 0, 1, 0, 99]));
        let expected: Vec<_> =
            (67..99).map(|number| HandshakeId::new([0, 0, 0, 0, 0, 0, 0, 1, 0, number])).collect();
        assert_eq!(*ids, expected);
    }

    #[test]
    fn too_many_clients_make_room_by_ending_windows_early() {
        let start = Instant::now();
        let mut fold = Fold::new(1, MINUTE, 2);
        for client in 1..=2 {
            fold.take(rejected(client, 0), start + Duration::from_millis(client.into()));
            fold.take(rejected(client, 1), start + Duration::from_millis(client.into()));
        }
        let due = fold.take(rejected(3, 0), start + Duration::from_millis(5));
        assert_eq!(counts(&due), [1, 1], "the repeat of the first client, and the new one");
        assert_eq!(fold.held.len(), 2);
    }

    #[test]
    fn a_host_with_a_new_address_each_time_is_folded_as_its_network() {
        let start = Instant::now();
        let mut fold = Fold::new(1, MINUTE, 1000);
        let mut written = 0;
        for number in 0..500 {
            written += fold.take(rejected_in(1, number.into(), number), start).len();
        }
        assert_eq!(written, CROWD + 1, "each of the first addresses, and the network for all others");
        assert_eq!(fold.take(rejected_in(2, 1, 0), start).len(), 1, "another network is another client");
        assert!(fold.take(rejected_in(1, 3, 0), start).is_empty(), "a known address goes on as itself");
        let due = fold.due(start + FIRST);
        let of_network = due.iter().find_map(|(_, repeats)| repeats.as_ref()?.network.zip(repeats.as_ref()));
        let (network, repeats) = of_network.expect("an entry for the network");
        assert_eq!((network.to_string(), repeats.count), ("2001:db8:0:1::/64".to_owned(), 483));
        assert_eq!(counts(&due).iter().sum::<u64>(), 484);
        // Whoever is quiet is forgotten, and its network with it.
        for second in 2..300 {
            fold.due(start + FIRST * second);
        }
        assert!(fold.held.is_empty() && fold.crowds.is_empty(), "{:?}", fold.crowds);
    }

    proptest! {
        /// Whatever comes when, what is written stands for exactly what was taken.
        #[test]
        fn written_entries_stand_for_all_rejections(
            at_once in 0u32..4,
            most in 1usize..60,
            longest in 0u64..8,
            steps in prop::collection::vec((0u8..40, 0u64..900, any::<bool>()), 0..200),
        ) {
            let mut now = Instant::now();
            let mut fold = Fold::new(at_once, Duration::from_secs(longest), most);
            let (mut taken, mut written) = (0, 0);
            for (number, (client, pause, look)) in (0..).zip(steps) {
                now += Duration::from_millis(pause);
                if look {
                    written += counts(&fold.due(now)).iter().sum::<u64>();
                }
                taken += 1;
                let entry = match client {
                    0..6 => rejected(client, number),
                    _ => rejected_in(u16::from(client % 2), client.into(), number),
                };
                written += counts(&fold.take(entry, now)).iter().sum::<u64>();
                prop_assert!(fold.held.len() <= most && fold.ends.len() == fold.held.len());
                let apart = fold.held.keys().filter(|key| key.network().is_some()).count();
                prop_assert_eq!(fold.crowds.values().sum::<usize>(), apart);
            }
            written += counts(&fold.finish()).iter().sum::<u64>();
            prop_assert_eq!(written, taken);
        }
    }
}
