//! Addresses that the host itself needs: no list may take them from it.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;

use crate::config::{Diagnostic, Firewall, Protect};
use crate::policy::{Generation, List, ListEntry, Overlap, Tier};

/// Bytes of a system file that are looked at. A routing table of more routes than fit has its
/// default gateways first.
const MAX_FILE: u64 = 1024 * 1024;
/// Entries of lists that are reported because they overlap protected addresses.
const MAX_REPORTED: usize = 100;

/// The real resolvers where the file of the next constant names only a local stub.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What is protected now, and which entries of lists have been reported because of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Protected {
    lists: Vec<Arc<List>>,
    reported: Vec<(IpNet, Overlap)>,
}

impl Protected {
    /// Looks at the host again; whether anything has changed.
    pub(super) fn refresh(&mut self, firewall: &Firewall) -> bool {
        let lists: Vec<Arc<List>> = firewall.protect.iter().map(|&what| list(what)).collect();
        let same = lists.len() == self.lists.len()
            && lists.iter().zip(&self.lists).all(|(new, old)| new.entries == old.entries);
        if !same {
            self.lists = lists;
        }
        !same
    }

    /// The protected addresses, as lists of the highest tier.
    pub(super) fn lists(&self) -> impl Iterator<Item = Arc<List>> {
        self.lists.iter().map(Arc::clone)
    }

    /// The entries of deny lists that `generation` trims because of protected addresses, and that
    /// have not been reported yet.
    pub(super) fn trimmed(&mut self, generation: &Generation) -> Vec<Diagnostic> {
        let protected =
            self.lists.iter().flat_map(|list| list.entries.iter().map(move |entry| (list, entry)));
        let overlaps = protected.flat_map(|(list, entry)| {
            generation.overlapping(entry.prefix, Tier::Deny).map(move |overlap| (list, entry.prefix, overlap))
        });
        let mut diagnostics = Vec::new();
        let mut reported = Vec::new();
        for (list, protected, overlap) in overlaps.take(MAX_REPORTED) {
            let known = (protected, overlap);
            if !self.reported.contains(&known) {
                diagnostics.push(diagnostic(&list.name, protected, &known.1));
            }
            reported.push(known);
        }
        self.reported = reported;
        diagnostics
    }
}

fn diagnostic(name: &str, protected: IpNet, overlap: &Overlap) -> Diagnostic {
    let message = format!(
        "`{}` would block {protected}, which is protected ({name}): that part is not blocked. Remove the entry, \
         or change `protect` in [firewall]",
        overlap.prefix
    );
    Diagnostic { line: overlap.line, ..Diagnostic::of_file(overlap.list.as_ref().as_ref(), message) }
        .warning()
}

fn list(what: Protect) -> Arc<List> {
    let mut prefixes = match what {
        Protect::Own => own(),
        Protect::Gateways => {
            let v4 = read("/proc/net/route").map(|text| gateways_v4(&text)).unwrap_or_default();
            let v6 = read("/proc/net/ipv6_route").map(|text| gateways_v6(&text)).unwrap_or_default();
            [v4, v6].concat()
        }
        Protect::Resolvers => [RESOLV_CONF, RESOLVED]
            .iter()
            .filter_map(|path| read(path))
            .flat_map(|text| resolvers(&text))
            .collect(),
        Protect::Loopback => ["127.0.0.0/8", "::1/128"].iter().filter_map(|text| text.parse().ok()).collect(),
        Protect::LinkLocal => {
            ["169.254.0.0/16", "fe80::/10"].iter().filter_map(|text| text.parse().ok()).collect()
        }
    };
    prefixes.sort_unstable();
    prefixes.dedup();
    let entries = prefixes.into_iter().map(|prefix| ListEntry { prefix, line: 0 }).collect();
    Arc::new(List { tier: Tier::NeverBlock, name: what.title().into(), entries })
}

fn own() -> Vec<IpNet> {
    let addresses = match getifaddrs() {
        Ok(addresses) => addresses,
        Err(error) => {
            log::warn!("the host's own addresses cannot be read, so they are not protected: {error}");
            return Vec::new();
        }
    };
    let addresses = addresses.filter_map(|interface| interface.address).filter_map(|address| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    addresses.map(IpNet::from).collect()
}

/// The text of a system file; `None` when the host has no such file.
fn read(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The third column of /proc/net/route, in which addresses are numbers of the host's byte order
/// (proc_pid_net(5)).
fn gateways_v4(text: &str) -> Vec<IpNet> {
    let gateways = text.lines().skip(1).filter_map(|line| {
        let number = u32::from_str_radix(line.split_whitespace().nth(2)?, 16).ok()?;
        (number != 0).then(|| IpNet::from(IpAddr::V4(Ipv4Addr::from(number.to_ne_bytes()))))
    });
    gateways.collect()
}

/// The fifth column of /proc/net/ipv6_route, the next hop.
fn gateways_v6(text: &str) -> Vec<IpNet> {
    let gateways = text.lines().filter_map(|line| {
        let bits = u128::from_str_radix(line.split_whitespace().nth(4)?, 16).ok()?;
        (bits != 0).then(|| IpNet::from(IpAddr::V6(Ipv6Addr::from_bits(bits))))
    });
    gateways.collect()
}

fn resolvers(text: &str) -> Vec<IpNet> {
    // What cannot be parsed is not used by the system's resolver either.
    let Ok(config) = resolv_conf::Config::parse(text) else {
        return Vec::new();
    };
    let addresses = config.nameservers.into_iter().map(|server| match server {
        resolv_conf::ScopedIp::V4(address) => IpAddr::V4(address),
        resolv_conf::ScopedIp::V6(address, _) => IpAddr::V6(address),
    });
    addresses.map(IpNet::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect("a prefix")).collect()
    }

    #[test]
    fn gateways_are_found_in_the_kernels_routing_tables() {
        let number = u32::from_ne_bytes([192, 0, 2, 1]);
        let v4 = format!(
            "Iface\tDestination\tGateway \tFlags\n\
             eth0\t00000000\t{number:08X}\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
             eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\nbroken\n"
        );
        assert_eq!(gateways_v4(&v4), nets(&["192.0.2.1/32"]));
        let v6 = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                  fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n\
                  fe800000000000000000000000000000 40 00000000000000000000000000000000 00 \
                  00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0\nbroken\n";
        assert_eq!(gateways_v6(v6), nets(&["fe80::1/128"]));
    }

    #[test]
    fn resolvers_are_found_whatever_else_the_file_says() {
        let text = "# made by a tool\nsearch example.org\nnameserver 192.0.2.53\nnameserver fe80::53%eth0\noptions edns0\n";
        assert_eq!(resolvers(text), nets(&["192.0.2.53/32", "fe80::53/128"]));
    }

    #[test]
    fn the_hosts_own_addresses_are_found() {
        assert!(own().contains(&"127.0.0.1/32".parse().expect("a prefix")), "{:?}", own());
    }
}
