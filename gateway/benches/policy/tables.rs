//! The tables alone: how large they are for the worst lists that there are, and how long a lookup
//! takes in them, without any packet.
#![expect(clippy::cast_possible_truncation, reason = "random numbers and addresses are cut in parts")]
#![expect(clippy::cast_precision_loss, reason = "figures to be read")]

use std::fmt;
use std::hint::black_box;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gateway::policy::{Generation, ListEntry, ParseOptions, Tier, parse_list};
use gateway_ebpf::bench::{v4_prefix, v6_prefix};
use gateway_ebpf::generation::{Block, lookup};
use gateway_ebpf::packet::Source;
use ipnet::IpNet;

use crate::Outcome;
use crate::peers::gatehouse::compiled;

/// Lookups of one measurement.
const LOOKUPS: usize = 400_000;

/// Measurements, of which the fastest counts: nothing makes a lookup faster than it is.
const ROUNDS: u32 = 7;

/// What was found about one list.
#[derive(Debug)]
pub(crate) struct Tables {
    name: String,
    prefixes: usize,
    compile: Duration,
    blocks: usize,
    listed: Lookups,
    any: Lookups,
}

/// How long a lookup takes.
#[derive(Clone, Copy, Debug)]
struct Lookups {
    /// When the next address depends on the decision, in nanoseconds.
    latency: f64,
    /// When it does not, so that the CPU works on several at once.
    throughput: f64,
}

/// The worst cases, each of `count` prefixes, then the lists in `files`.
pub(crate) fn measure(count: u32, files: &[PathBuf]) -> Outcome<Vec<Tables>> {
    type Prefix = fn(u32) -> Outcome<IpNet>;
    let worst: [(&str, Prefix); 4] = [
        ("random IPv4 /24", |index| Ok(IpNet::new(v4(index, 0), 24)?)),
        ("random IPv4 /32", |index| Ok(IpNet::new(v4(index, index), 32)?)),
        ("random IPv6 /29 to /64", |index| Ok(IpNet::new(v6(index, 0), 29 + (index % 36) as u8)?.trunc())),
        ("random IPv6 /128", |index| Ok(IpNet::new(v6(index, index), 128)?)),
    ];
    let mut all = Vec::new();
    for (name, prefix) in worst {
        eprintln!("tables of {name}");
        all.push(of(name.to_owned(), (0..count).map(prefix).collect::<Outcome<_>>()?)?);
    }
    for file in files {
        eprintln!("tables of {}", file.display());
        let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        all.push(of(name, read(file)?)?);
    }
    Ok(all)
}

fn read(file: &Path) -> Outcome<Vec<IpNet>> {
    let options = ParseOptions { tier: Tier::Deny, prefixes: usize::MAX };
    let parsed = parse_list(&std::fs::read(file)?, &options).map_err(|faults| format!("{faults:?}"))?;
    Ok(parsed.entries.into_iter().map(|entry| entry.prefix).collect())
}

fn of(name: String, prefixes: Vec<IpNet>) -> Outcome<Tables> {
    let entries = (1..).zip(&prefixes).map(|(line, &prefix)| ListEntry { prefix, line }).collect();
    let started = Instant::now();
    let generation = compiled(1, entries)?;
    let compile = started.elapsed();
    verify(&name, &generation, &prefixes)?;
    let v4 = prefixes.first().is_none_or(|prefix| prefix.addr().is_ipv4());
    let listed: Vec<Source> = random()
        .map(|bits| {
            prefixes
                .get(bits as usize % prefixes.len().max(1))
                .map_or(source(any(v4, bits)), |prefix| inside(prefix, bits))
        })
        .take(LOOKUPS)
        .collect();
    let anywhere: Vec<Source> = random().map(|bits| source(any(v4, bits))).take(LOOKUPS).collect();
    Ok(Tables {
        name,
        prefixes: prefixes.len(),
        compile,
        blocks: generation.blocks().len(),
        listed: lookups(&generation, &listed),
        any: lookups(&generation, &anywhere),
    })
}

/// Makes sure that the tables drop exactly the union of `prefixes`, at the borders of each of them.
fn verify(name: &str, generation: &Generation, prefixes: &[IpNet]) -> Outcome<()> {
    for v4 in [true, false] {
        let family = prefixes.iter().filter(|prefix| prefix.addr().is_ipv4() == v4);
        let mut ranges: Vec<(u128, u128)> =
            family.map(|net| (bits(net.network()), bits(net.broadcast()))).collect();
        ranges.sort_unstable();
        // As plain as can be: no tree, no table, nothing shared with what is checked.
        let mut union: Vec<(u128, u128)> = Vec::new();
        for (first, last) in ranges.iter().copied() {
            match union.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => union.push((first, last)),
            }
        }
        let highest = if v4 { u128::from(u32::MAX) } else { u128::MAX };
        for (first, last) in ranges {
            for address in [first.saturating_sub(1), first, last, last.saturating_add(1).min(highest)] {
                let at = union.partition_point(|(start, _)| *start <= address);
                let listed = at > 0 && union[at - 1].1 >= address;
                let address =
                    if v4 { IpAddr::V4((address as u32).into()) } else { IpAddr::V6(address.into()) };
                // An IPv4-mapped address is the IPv4 one.
                if address.to_canonical() == address && generation.decide(address).is_drop() != listed {
                    return Err(format!(
                        "{name}: {address} is listed: {listed}, but the tables say otherwise"
                    )
                    .into());
                }
            }
        }
    }
    Ok(())
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The fastest of several runs over `sources`.
fn lookups(generation: &Generation, sources: &[Source]) -> Lookups {
    let blocks = black_box(generation.blocks());
    let mut best = Lookups { latency: f64::INFINITY, throughput: f64::INFINITY };
    for _ in 0..ROUNDS {
        best.latency = best.latency.min(run::<true>(blocks, sources));
        best.throughput = best.throughput.min(run::<false>(blocks, sources));
    }
    best
}

/// One pass over `sources`. With `DEPEND`, a decision moves the next address by one place or not.
fn run<const DEPEND: bool>(blocks: &[Block], sources: &[Source]) -> f64 {
    let started = Instant::now();
    let mut found = 0;
    for place in 0..sources.len() {
        let shift = if DEPEND { usize::from(found & 1) } else { 0 };
        if let Some(&source) = sources.get((place + shift) % sources.len()) {
            let decision = lookup(blocks, source).bits();
            found = if DEPEND { decision } else { found.wrapping_add(decision) };
        }
    }
    black_box(found);
    started.elapsed().as_nanos() as f64 / sources.len() as f64
}

/// Random bits, always the same (xorshift64).
fn random() -> impl Iterator<Item = u64> {
    std::iter::successors(Some(0x9e37_79b9_7f4a_7c15u64), |bits| {
        let bits = bits ^ bits << 13;
        let bits = bits ^ bits >> 7;
        Some(bits ^ bits << 17)
    })
}

fn inside(prefix: &IpNet, bits: u64) -> Source {
    source(match prefix {
        IpNet::V4(prefix) => {
            let host = prefix.broadcast().to_bits() ^ prefix.network().to_bits();
            IpAddr::V4((prefix.network().to_bits() | bits as u32 & host).into())
        }
        IpNet::V6(prefix) => {
            let host = prefix.broadcast().to_bits() ^ prefix.network().to_bits();
            IpAddr::V6(
                (prefix.network().to_bits() | (u128::from(bits) << 64 | u128::from(bits)) & host).into(),
            )
        }
    })
}

/// An address that is in the list or not, as it comes: with IPv6 in 2000::/3.
fn any(v4: bool, bits: u64) -> IpAddr {
    if v4 {
        IpAddr::V4((bits as u32).into())
    } else {
        IpAddr::V6((u128::from(1u64 << 61 | bits >> 3) << 64 | u128::from(bits)).into())
    }
}

fn source(address: IpAddr) -> Source {
    match address {
        IpAddr::V4(address) => Source::V4(address.to_bits()),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            Source::V6((bits >> 64) as u64, bits as u64)
        }
    }
}

fn v4(index: u32, host: u32) -> IpAddr {
    IpAddr::V4((v4_prefix(index) | host.wrapping_mul(0x9e37_79b1) >> 24).into())
}

fn v6(index: u32, host: u32) -> IpAddr {
    let low = u64::from(host).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    IpAddr::V6((u128::from(v6_prefix(index)) << 64 | u128::from(low)).into())
}

impl Tables {
    /// The first lines of the table.
    pub(crate) const HEAD: &str = "| list | prefixes | compile | tables | a listed address: latency | throughput | any address: latency | throughput |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|";
}

impl fmt::Display for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, prefixes, compile, blocks, listed, any } = self;
        write!(
            f,
            "| {name} | {prefixes} | {} ms | {:.1} MiB | {:.0} ns | {:.0} ns | {:.0} ns | {:.0} ns |",
            compile.as_millis(),
            *blocks as f64 / 16_384.0,
            listed.latency,
            listed.throughput,
            any.latency,
            any.throughput
        )
    }
}
