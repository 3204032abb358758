//! What is compared.

pub(crate) mod gatehouse;
mod netfilter;
mod trie;
mod xdp;

use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::Outcome;
use crate::lane::Lane;
use crate::measure::Survivors;
use crate::scene::{Family, Path};
use crate::system::kernel_memory;

/// The bench's own XDP programs, as the build script made them.
pub(crate) static BENCH_PROGRAMS: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/gatehouse-bench-xdp"));

/// Names in the report.
pub(crate) const LIMIT: &str = "nothing to look up";
pub(crate) const GATEHOUSE: &str = "Gatehouse";
pub(crate) const SILENT: &str = "Gatehouse, noting nobody";
pub(crate) const TRIE: &str = "LPM trie, XDP";
pub(crate) const IPSET: &str = "ipset, raw";
pub(crate) const NFTABLES: &str = "nftables, ingress";
pub(crate) const PARSE_ONLY: &str = "parse only";
pub(crate) const PARSE_DROP: &str = "parse, then drop";

/// Something that drops packets from listed sources, with its list loaded.
pub(crate) trait Peer {
    /// Puts it between the interface and the host.
    fn enable(&mut self) -> Outcome<()>;

    /// Takes it away; the list stays loaded.
    fn disable(&mut self) -> Outcome<()>;

    /// Where what it lets through is seen.
    fn survivors(&self) -> Survivors {
        Survivors::ReachIp
    }

    /// What its list costs.
    fn cost(&self) -> Cost;
}

/// What a list costs before the first packet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// From a list in memory to one in the kernel.
    pub(crate) loading: Duration,
    /// Bytes in the kernel.
    pub(crate) kernel: u64,
    /// Bytes that stay in user space.
    pub(crate) user: u64,
}

/// Does `work` and says how long it took and by how much the kernel's memory grew.
fn loading<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<(T, Cost)> {
    let (before, started) = (kernel_memory(), Instant::now());
    let made = work()?;
    let loading = started.elapsed();
    let kernel = kernel_memory().saturating_sub(before);
    Ok((made, Cost { loading, kernel, user: 0 }))
}

type Make = for<'a> fn(&'a Lane, Family, &[IpNet]) -> Outcome<Box<dyn Peer + 'a>>;

/// A peer's name, and how to load it.
pub(crate) type Entry = (&'static str, Make);

/// Those that tell what noting the dropped clients costs.
pub(crate) const NOTING: &[Entry] =
    &[(LIMIT, xdp::limit), (SILENT, gatehouse::load_silent), (GATEHOUSE, gatehouse::load)];

/// Those that are compared on `path`.
pub(crate) fn of(path: Path) -> &'static [Entry] {
    match path {
        Path::Drop => &[
            (LIMIT, xdp::limit),
            (PARSE_DROP, xdp::parse_drop),
            (SILENT, gatehouse::load_silent),
            (GATEHOUSE, gatehouse::load),
            (TRIE, trie::load),
            (IPSET, netfilter::ipset),
            (NFTABLES, netfilter::nftables),
        ],
        Path::Pass => &[(PARSE_ONLY, xdp::parse_only), (GATEHOUSE, gatehouse::load)],
    }
}
