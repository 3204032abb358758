//! XDP programs of the bench.

use aya::programs::Xdp;
use aya::programs::xdp::{XdpLinkId, XdpMode};
use aya::{Ebpf, EbpfLoader};
use gateway_ebpf::bench;
use ipnet::IpNet;

use super::{BENCH_PROGRAMS, Cost, Peer};
use crate::Outcome;
use crate::lane::Lane;
use crate::scene::Family;

/// A loaded program, attached when enabled.
pub(super) struct Program<'a> {
    ebpf: Ebpf,
    name: &'static str,
    interface: &'a str,
    link: Option<XdpLinkId>,
    cost: Cost,
}

impl<'a> Program<'a> {
    /// Program `name` of `ebpf`.
    pub(super) fn new(mut ebpf: Ebpf, name: &'static str, lane: &'a Lane, cost: Cost) -> Outcome<Self> {
        program(&mut ebpf, name)?.load()?;
        Ok(Self { ebpf, name, interface: &lane.receiver, link: None, cost })
    }

    /// A program without a list.
    pub(super) fn plain(name: &'static str, lane: &'a Lane) -> Outcome<Self> {
        Self::new(EbpfLoader::new().load(BENCH_PROGRAMS)?, name, lane, Cost::default())
    }
}

impl Peer for Program<'_> {
    fn enable(&mut self) -> Outcome<()> {
        self.link = Some(program(&mut self.ebpf, self.name)?.attach(self.interface, XdpMode::Driver)?);
        Ok(())
    }

    fn disable(&mut self) -> Outcome<()> {
        match self.link.take() {
            Some(link) => Ok(program(&mut self.ebpf, self.name)?.detach(link)?),
            None => Ok(()),
        }
    }

    fn cost(&self) -> Cost {
        self.cost
    }
}

/// Drops everything.
pub(super) fn limit<'a>(lane: &'a Lane, _: Family, _: &[IpNet]) -> Outcome<Box<dyn Peer + 'a>> {
    Ok(Box::new(Program::plain(bench::DROP_ALL, lane)?))
}

/// Parses, and passes everything.
pub(super) fn parse_only<'a>(lane: &'a Lane, _: Family, _: &[IpNet]) -> Outcome<Box<dyn Peer + 'a>> {
    Ok(Box::new(Program::plain(bench::PARSE_ONLY, lane)?))
}

/// Parses, and drops everything.
pub(super) fn parse_drop<'a>(lane: &'a Lane, _: Family, _: &[IpNet]) -> Outcome<Box<dyn Peer + 'a>> {
    Ok(Box::new(Program::plain(bench::PARSE_DROP, lane)?))
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Outcome<&'a mut Xdp> {
    Ok(ebpf.program_mut(name).ok_or("the bench's programs lack one")?.try_into()?)
}
