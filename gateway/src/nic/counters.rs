//! The counters of the program.

use std::io;

use aya::Ebpf;
use aya::maps::{Map, MapError, PerCpuArray, PerCpuValues};
use gateway_ebpf::counters::{Counter, INTERFACES, Outcome, SOURCES, Verdicts, interface_slot};
use gateway_ebpf::names;

use super::bpf;
use super::wire::{self, Wire};

/// A snapshot of the counters, summed over all CPUs. Every packet is in exactly one of them, but
/// they are read while packets arrive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that passed by the verdict on their source.
    pub passed: u64,
    /// Packets that were dropped.
    pub dropped: u64,
    /// Packets that passed because no source address could be read.
    pub malformed: u64,
    /// Packets that passed because they are not IP: ARP and its like.
    pub not_ip: u64,
    /// Packets of denied sources that passed because they are neighbour discovery.
    pub neighbour_discovery: u64,
    /// Packets of denied sources that passed because they are not for a guarded port.
    pub out_of_scope: u64,
    /// By source of decisions ([`gateway_ebpf::generation::Decision::source`]), from 0 on.
    pub sources: Vec<Verdicts>,
    /// By slot of interfaces ([`interface_slot`]), from 0 on.
    pub interfaces: Vec<Verdicts>,
}

impl Counters {
    /// The packets that the source of decisions with this index decided on, passed and dropped.
    pub fn source(&self, index: u16) -> Counter {
        let counters = self.sources.get(usize::from(index)).copied().unwrap_or_default();
        sum(counters.passed, counters.dropped)
    }

    /// What became of the packets of the interface with this index, and of those that share its slot.
    pub fn interface(&self, index: u32) -> Verdicts {
        let slot = usize::try_from(interface_slot(index)).unwrap_or(usize::MAX);
        self.interfaces.get(slot).copied().unwrap_or_default()
    }

    /// Of all CPUs and sources.
    fn from_parts(
        outcome: impl Fn(Outcome) -> u64,
        sources: Vec<Verdicts>,
        interfaces: Vec<Verdicts>,
    ) -> Self {
        let total = |of: fn(&Verdicts) -> Counter| {
            sources.iter().fold(0u64, |total, source| total.wrapping_add(of(source).packets))
        };
        Self {
            passed: total(|source| source.passed).wrapping_add(outcome(Outcome::NoGeneration)),
            dropped: total(|source| source.dropped),
            malformed: outcome(Outcome::Malformed),
            not_ip: outcome(Outcome::NotIp),
            neighbour_discovery: outcome(Outcome::NeighbourDiscovery),
            out_of_scope: outcome(Outcome::OutOfScope),
            sources,
            interfaces,
        }
    }
}

/// Reads the counters of the first `sources` sources and of the first `interfaces` slots of interfaces.
pub(super) fn read(program: &Ebpf, sources: u32, interfaces: u32) -> Result<Counters, MapError> {
    let missing = |name: &str| MapError::InvalidName { name: name.to_owned() };
    let outcomes: PerCpuArray<_, Wire<Counter>> =
        program.map(names::OUTCOMES).ok_or_else(|| missing(names::OUTCOMES))?.try_into()?;
    let mut packets = [0; Outcome::ALL.len()];
    for outcome in Outcome::ALL {
        let values: PerCpuValues<Wire<Counter>> = outcomes.get(&(outcome as u32), 0)?;
        packets[outcome as usize] =
            values.iter().fold(Counter::default(), |all, cpu| sum(all, cpu.0)).packets;
    }
    let sources = verdicts(program, names::SOURCES, sources.min(SOURCES))?;
    let interfaces = verdicts(program, names::INTERFACES, interfaces.min(INTERFACES))?;
    Ok(Counters::from_parts(|outcome| packets[outcome as usize], sources, interfaces))
}

/// The `count` elements of the table `name`, summed over all CPUs.
fn verdicts(program: &Ebpf, name: &str, count: u32) -> Result<Vec<Verdicts>, MapError> {
    let Some(Map::PerCpuArray(table)) = program.map(name) else {
        return Err(MapError::InvalidName { name: name.to_owned() });
    };
    // Thousands of elements, so in one call; as many values for each as there are CPUs.
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| MapError::IoError(error))?;
    let size = cpus * size_of::<Verdicts>();
    let values = bpf::lookup_all(table.fd(), count, size).map_err(MapError::IoError)?;
    values.chunks_exact(size).map(add_cpus).collect::<io::Result<_>>().map_err(MapError::IoError)
}

fn add_cpus(values: &[u8]) -> io::Result<Verdicts> {
    let mut total = Verdicts::default();
    for value in values.chunks_exact(size_of::<Verdicts>()) {
        let value: Verdicts = wire::read(value).ok_or(io::ErrorKind::InvalidData)?;
        total.passed = sum(total.passed, value.passed);
        total.dropped = sum(total.dropped, value.dropped);
    }
    Ok(total)
}

fn sum(one: Counter, other: Counter) -> Counter {
    Counter { packets: one.packets.wrapping_add(other.packets), bytes: one.bytes.wrapping_add(other.bytes) }
}
