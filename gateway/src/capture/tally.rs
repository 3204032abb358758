//! What a policy does with frames, added up.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gateway_ebpf::counters::{Counter, Outcome};
use gateway_ebpf::judgement::{Judgement, judge, spared};
use gateway_ebpf::packet::{Network, Source, network};

use super::report::{CaptureReport, Changes, ListPackets, TopSource};
use crate::config::Ports;
use crate::policy::{Generation, Tier};

/// Sources that are told apart. Packets of more are in the sums, but in no comparison.
pub const MOST_SOURCES: usize = 65_536;

/// Sources that are named.
const NAMED: usize = 10;

/// What a policy does with frames, added up. The judgement is that of the XDP program.
#[derive(Debug)]
pub struct Tally<'a> {
    generation: &'a Generation,
    /// The guarded ports, sorted; `None`: all traffic.
    guarded: Option<Vec<u16>>,
    all: Counter,
    dropped: Counter,
    lists: BTreeMap<u16, Counter>,
    outcomes: [Counter; Outcome::ALL.len()],
    /// Packets that a verdict applies to, whatever it is.
    sources: HashMap<IpAddr, Counter>,
    left_out: Counter,
}

impl<'a> Tally<'a> {
    /// Nothing yet, by `generation` where the verdicts apply to `ports`.
    pub fn new(generation: &'a Generation, ports: &Ports) -> Self {
        let guarded = match ports {
            Ports::All => None,
            Ports::Only(ports) => {
                let mut ports = ports.clone();
                ports.sort_unstable();
                Some(ports)
            }
        };
        Self {
            generation,
            guarded,
            all: Counter::default(),
            dropped: Counter::default(),
            lists: BTreeMap::new(),
            outcomes: [Counter::default(); Outcome::ALL.len()],
            sources: HashMap::new(),
            left_out: Counter::default(),
        }
    }

    /// Judges a frame, `length` bytes long on the wire.
    pub fn add(&mut self, frame: &[u8], length: u64) {
        let guarded = || self.guarded.as_ref().map(|ports| |port: u16| ports.binary_search(&port).is_ok());
        let judgement = judge(self.generation.blocks(), frame, guarded());
        let subject = match network(frame) {
            Network::Ip(ip) if spared(frame, &ip, guarded()).is_none() => Some(address(ip.source)),
            _ => None,
        };
        count(&mut self.all, length);
        match judgement {
            Judgement::Decided(_, decision) => {
                count(self.lists.entry(decision.source()).or_default(), length);
                if decision.is_drop() {
                    count(&mut self.dropped, length);
                }
            }
            Judgement::Passed(outcome) => count(&mut self.outcomes[outcome as usize], length),
        }
        if let Some(source) = subject {
            let room = self.sources.len() < MOST_SOURCES;
            match self.sources.get_mut(&source) {
                Some(counter) => count(counter, length),
                None if room => count(self.sources.entry(source).or_default(), length),
                None => count(&mut self.left_out, length),
            }
        }
    }

    /// The sources that are told apart.
    pub fn sources(&self) -> impl Iterator<Item = IpAddr> {
        self.sources.keys().copied()
    }

    /// What changes when `dropped_before` tells which sources another policy dropped.
    pub fn changes(&self, dropped_before: impl Fn(IpAddr) -> Option<bool>) -> Changes {
        let mut changes = Changes::default();
        for (&source, counter) in &self.sources {
            let (before, now) = (dropped_before(source), self.generation.decide(source).is_drop());
            let change = match (before, now) {
                (Some(false), true) => &mut changes.newly_dropped,
                (Some(true), false) => &mut changes.newly_passing,
                _ => continue,
            };
            change.add(top(self.generation, source, *counter));
        }
        changes.newly_dropped.keep(NAMED);
        changes.newly_passing.keep(NAMED);
        changes
    }

    /// Everything so far.
    pub fn report(&self) -> CaptureReport {
        let lists = self.lists.iter().map(|(&index, counter)| {
            let source = self.generation.source(index);
            let tier = source.map_or(Tier::Default, |source| source.tier);
            ListPackets {
                tier: tier.name().to_owned(),
                list: source.and_then(|source| source.list.as_deref()).map(str::to_owned),
                verdict: words(tier, tier.verdict(self.generation.default_verdict())).to_owned(),
                packets: counter.packets,
                bytes: counter.bytes,
            }
        });
        let dropped = self.sources.iter().filter(|(source, _)| self.generation.decide(**source).is_drop());
        let mut top: Vec<TopSource> =
            dropped.map(|(&source, counter)| top(self.generation, source, *counter)).collect();
        super::report::busiest(&mut top, NAMED);
        let other =
            Outcome::ALL.map(|outcome| (outcome.name().to_owned(), self.outcomes[outcome as usize].packets));
        CaptureReport {
            packets: self.all.packets,
            bytes: self.all.bytes,
            dropped_packets: self.dropped.packets,
            dropped_bytes: self.dropped.bytes,
            lists: lists.collect(),
            passed_otherwise: other.into_iter().filter(|(_, packets)| *packets > 0).collect(),
            top_dropped: top,
            sources: self.sources.len(),
            packets_of_more_sources: self.left_out.packets,
            ..CaptureReport::default()
        }
    }
}

fn words(tier: Tier, verdict: crate::policy::Verdict) -> &'static str {
    match verdict {
        _ if tier == Tier::Observe => "passed, observed",
        crate::policy::Verdict::Drop => "dropped",
        crate::policy::Verdict::Pass => "passed",
    }
}

fn count(counter: &mut Counter, length: u64) {
    counter.packets += 1;
    counter.bytes = counter.bytes.saturating_add(length);
}

fn top(generation: &Generation, source: IpAddr, counter: Counter) -> TopSource {
    let rule = generation.explain(source);
    TopSource {
        source,
        packets: counter.packets,
        bytes: counter.bytes,
        prefix: rule.prefix.map(|prefix| prefix.to_string()),
        list: rule.list,
        line: rule.line,
    }
}

fn address(source: Source) -> IpAddr {
    let address: IpAddr = match source {
        Source::V4(address) => Ipv4Addr::from_bits(address).into(),
        Source::V6(high, low) => Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).into(),
    };
    address.to_canonical()
}
