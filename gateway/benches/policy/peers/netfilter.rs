//! The sets of netfilter. In front of them is an XDP program that passes everything without
//! looking, because only with one does a veth take the generator's frames.

use std::fmt::Write as _;

use gateway_ebpf::bench;
use ipnet::IpNet;

use super::xdp::Program;
use super::{Cost, Peer, loading};
use crate::Outcome;
use crate::lane::Lane;
use crate::measure::Survivors;
use crate::scene::Family;
use crate::system::{feed, run_words};

/// The set, in either tool, and the table of nftables.
const SET: &str = "gatehouse-bench";

struct Ipset<'a> {
    pass: Program<'a>,
    tables: &'static str,
    cost: Cost,
}

/// A set of networks, tested at the earliest place of iptables.
pub(super) fn ipset<'a>(lane: &'a Lane, family: Family, list: &[IpNet]) -> Outcome<Box<dyn Peer + 'a>> {
    let (inet, tables) = match family {
        Family::V4 => ("inet", "iptables"),
        Family::V6 => ("inet6", "ip6tables"),
    };
    let mut script = format!("create {SET} hash:net family {inet} maxelem {}\n", list.len());
    for prefix in list {
        writeln!(script, "add {SET} {prefix}")?;
    }
    let pass = Program::plain(bench::PASS_ALL, lane)?;
    run_words(&format!("{tables} --version"))?;
    let ((), cost) = loading(|| feed("ipset restore", &script))?;
    Ok(Box::new(Ipset { pass, tables, cost }))
}

impl Ipset<'_> {
    fn rule(&self, change: &str) -> Outcome<()> {
        let tables = self.tables;
        let rule = format!("{tables} -w 10 -t raw {change} PREROUTING -m set --match-set {SET} src -j DROP");
        run_words(&rule).map(|_| ())
    }
}

impl Peer for Ipset<'_> {
    fn enable(&mut self) -> Outcome<()> {
        self.rule("-A")?;
        self.pass.enable()
    }

    fn disable(&mut self) -> Outcome<()> {
        self.pass.disable()?;
        self.rule("-D")
    }

    fn survivors(&self) -> Survivors {
        Survivors::Delivered
    }

    fn cost(&self) -> Cost {
        self.cost
    }
}

impl Drop for Ipset<'_> {
    fn drop(&mut self) {
        // After a failure in between, the rule still holds the set.
        let _ = run_words(&format!("{} -w 10 -t raw -F PREROUTING", self.tables));
        if let Err(error) = run_words(&format!("ipset destroy {SET}")) {
            eprintln!("the set stays until the end: {error}");
        }
    }
}

struct Nftables<'a> {
    pass: Program<'a>,
    interface: &'a str,
    protocol: &'static str,
    cost: Cost,
}

/// A set of intervals, tested where packets enter the network stack.
pub(super) fn nftables<'a>(lane: &'a Lane, family: Family, list: &[IpNet]) -> Outcome<Box<dyn Peer + 'a>> {
    let (kind, protocol) = match family {
        Family::V4 => ("ipv4_addr", "ip"),
        Family::V6 => ("ipv6_addr", "ip6"),
    };
    let mut script =
        format!("table netdev {SET} {{\nset deny {{\ntype {kind}; flags interval; elements = {{\n");
    for prefix in list {
        writeln!(script, "{prefix},")?;
    }
    script += "}\n}\n}\n";
    let pass = Program::plain(bench::PASS_ALL, lane)?;
    let ((), cost) = loading(|| feed("nft -f -", &script))?;
    Ok(Box::new(Nftables { pass, interface: &lane.receiver, protocol, cost }))
}

impl Peer for Nftables<'_> {
    fn enable(&mut self) -> Outcome<()> {
        let (interface, protocol) = (self.interface, self.protocol);
        let chain = format!(
            "table netdev {SET} {{\nchain in {{\ntype filter hook ingress device {interface} priority 0\n\
             {protocol} saddr @deny drop\n}}\n}}\n"
        );
        feed("nft -f -", &chain)?;
        self.pass.enable()
    }

    fn disable(&mut self) -> Outcome<()> {
        self.pass.disable()?;
        feed("nft -f -", &format!("flush chain netdev {SET} in\ndelete chain netdev {SET} in\n"))
    }

    fn cost(&self) -> Cost {
        self.cost
    }
}

impl Drop for Nftables<'_> {
    fn drop(&mut self) {
        if let Err(error) = run_words(&format!("nft delete table netdev {SET}")) {
            eprintln!("the table stays until the end: {error}");
        }
    }
}
