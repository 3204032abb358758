//! One list, one kind of traffic, and every peer that can run here, in turns.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use gateway_ebpf::bench::{V4_LENGTH, V6_LENGTH, v4_prefix, v6_prefix};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::Outcome;
use crate::generator::Traffic;
use crate::lane::{Lane, Seat};
use crate::measure::measure;
use crate::peers::{self, Peer};
use crate::report::{Report, Row};

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Where IPv4 packets go (TEST-NET-1, RFC 5737).
    pub(crate) const DESTINATION_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    /// Where IPv6 packets go (RFC 3849).
    pub(crate) const DESTINATION_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

    /// The name in the report.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4 /24",
            Self::V6 => "IPv6 /48",
        }
    }

    /// The list of the first `count` prefixes.
    pub(crate) fn list(self, count: u32) -> Outcome<Vec<IpNet>> {
        (0..count).map(|index| self.prefix(index)).collect()
    }

    fn prefix(self, index: u32) -> Outcome<IpNet> {
        Ok(match self {
            Self::V4 => Ipv4Net::new(v4_prefix(index).into(), V4_LENGTH)?.into(),
            Self::V6 => {
                Ipv6Net::new(Ipv6Addr::from_bits(u128::from(v6_prefix(index)) << 64), V6_LENGTH)?.into()
            }
        })
    }
}

/// Where the packets come from, and with that what becomes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// From prefixes of the list.
    Drop,
    /// From prefixes that are in no list.
    Pass,
}

impl Path {
    /// Prefixes that packets in no list come from. With the longest list, they still fit into the
    /// 24 bits that number IPv4 prefixes.
    const FREE: u32 = 1_000_000;

    fn traffic(self, family: Family, size: u32) -> Traffic {
        match self {
            Self::Drop => Traffic { family, first: 0, count: size, cut: false },
            Self::Pass => Traffic { family, first: size, count: Self::FREE, cut: true },
        }
    }
}

/// Who is measured, and how often.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// The peers.
    pub(crate) peers: &'static [peers::Entry],
    /// Measurements of each.
    pub(crate) rounds: u32,
    /// How long one takes.
    pub(crate) window: Duration,
}

/// Measures every peer with the same list and traffic, and adds the results to `report`.
pub(crate) fn run(
    lane: &Lane,
    family: Family,
    size: u32,
    path: Path,
    plan: Plan,
    report: &mut Report,
) -> Outcome<()> {
    let Plan { peers, rounds, window } = plan;
    eprintln!("{}, {size} prefixes, {path:?}: loading", family.name());
    let list = family.list(size)?;
    let mut rows: Vec<(Box<dyn Peer + '_>, Row)> = Vec::new();
    for (name, make) in peers {
        // A list may load where nothing can use it, so each peer is tried once.
        let tried = make(lane, family, &list).and_then(|mut peer| {
            peer.enable()?;
            peer.disable()?;
            Ok(peer)
        });
        match tried {
            Ok(peer) => {
                let cost = peer.cost();
                rows.push((peer, Row::new(name, family, size, path, cost)));
            }
            Err(error) => report.absent(name, &error.to_string()),
        }
    }
    let traffic = path.traffic(family, size);
    for round in 1..=rounds {
        eprintln!("{}, {size} prefixes, {path:?}: round {round} of {rounds}", family.name());
        for (peer, row) in &mut rows {
            peer.enable()?;
            let rates = Seat::ALL.map(|seat| measure(lane, seat, traffic, path, peer.survivors(), window));
            peer.disable()?;
            let [shared, own] = rates;
            let failed = |error| format!("{}: {error}", row.peer);
            row.rates.push([shared.map_err(failed)?, own.map_err(failed)?]);
        }
    }
    report.rows.extend(rows.into_iter().map(|(_, row)| row));
    Ok(())
}
