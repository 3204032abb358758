//! The counters of the program.

use aya::Ebpf;
use aya::maps::{MapError, PerCpuArray, PerCpuValues};
use gateway_ebpf::counters::{Counter, Outcome, SOURCES, SourceCounters};
use gateway_ebpf::names;

use super::wire::Wire;

/// A snapshot of the counters, summed over all CPUs. Every packet is in exactly one of them; they
/// are read one after the other while packets arrive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that passed without a verdict on their source being applied.
    pub outcomes: Vec<(Outcome, Counter)>,
    /// By source of decisions ([`gateway_ebpf::generation::Decision::source`]), from 0 on. The
    /// last of [`gateway_ebpf::counters::SOURCES`] also has those above it.
    pub sources: Vec<SourceCounters>,
}

impl Counters {
    /// Dropped packets of all sources.
    pub fn dropped(&self) -> Counter {
        total(self.sources.iter().map(|source| source.dropped))
    }

    /// Packets of all sources that passed by a verdict.
    pub fn passed(&self) -> Counter {
        total(self.sources.iter().map(|source| source.passed))
    }

    /// The count of one outcome.
    pub fn outcome(&self, outcome: Outcome) -> Counter {
        total(self.outcomes.iter().filter(|(of, _)| *of == outcome).map(|(_, counter)| *counter))
    }
}

/// Reads the counters of every outcome and of the sources 0 to `last_source`.
pub(super) fn read(program: &Ebpf, last_source: u16) -> Result<Counters, MapError> {
    let outcomes = table(program, names::OUTCOMES)?;
    let sources = table(program, names::SOURCES)?;
    Ok(Counters {
        outcomes: Outcome::ALL
            .into_iter()
            .map(|outcome| {
                let values: PerCpuValues<Wire<Counter>> = outcomes.get(&(outcome as u32), 0)?;
                Ok((outcome, total(values.iter().map(|counter| counter.0))))
            })
            .collect::<Result<_, MapError>>()?,
        sources: (0..=u32::from(last_source).min(SOURCES - 1))
            .map(|source| {
                let values: PerCpuValues<Wire<SourceCounters>> = sources.get(&source, 0)?;
                Ok(SourceCounters {
                    passed: total(values.iter().map(|counters| counters.0.passed)),
                    dropped: total(values.iter().map(|counters| counters.0.dropped)),
                })
            })
            .collect::<Result<_, MapError>>()?,
    })
}

fn table<'a, T: aya::Pod>(
    program: &'a Ebpf,
    name: &'static str,
) -> Result<PerCpuArray<&'a aya::maps::MapData, T>, MapError> {
    let missing = || MapError::InvalidName { name: name.to_owned() };
    program.map(name).ok_or_else(missing)?.try_into()
}

fn total(counters: impl Iterator<Item = Counter>) -> Counter {
    counters.fold(Counter::default(), |sum, counter| Counter {
        packets: sum.packets.wrapping_add(counter.packets),
        bytes: sum.bytes.wrapping_add(counter.bytes),
    })
}
