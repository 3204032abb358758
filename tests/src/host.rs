//! A guarded host and its clients: two network namespaces joined by a veth pair.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use anyhow::{Result, ensure};
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::netns::Namespace;
use crate::process::PATIENCE;

/// The guarded host's interface.
pub const GATE_INTERFACE: &str = "gate0";
/// The clients' interface.
pub const CLIENT_INTERFACE: &str = "client0";

/// The guarded host's addresses.
pub const GATE_V4: IpAddr = v4(10, 0, 0, 1);
/// See [`GATE_V4`].
pub const GATE_V6: IpAddr = v6(0xfd00, 0, 1);
/// Addresses of clients that the usual lists do not deny.
pub const CLIENT_V4: IpAddr = v4(10, 0, 0, 2);
/// See [`CLIENT_V4`].
pub const OTHER_CLIENT_V4: IpAddr = v4(10, 0, 0, 3);
/// See [`CLIENT_V4`].
pub const CLIENT_V6: IpAddr = v6(0xfd00, 0, 2);
/// A client inside [`DENIED_RANGE_V4`].
pub const DENIED_V4: IpAddr = v4(10, 66, 3, 4);
/// A client inside [`DENIED_RANGE_V6`].
pub const DENIED_V6: IpAddr = v6(0xfd66, 1, 4);
/// The ranges that the usual deny list has.
pub const DENIED_RANGE_V4: &str = "10.66.0.0/16";
/// See [`DENIED_RANGE_V4`].
pub const DENIED_RANGE_V6: &str = "fd66:1::/32";

/// The hardware addresses of both ends, for raw frames.
pub const GATE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// See [`GATE_MAC`].
pub const CLIENT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];

/// The two namespaces.
#[derive(Debug)]
pub struct Host {
    /// Where the clients are.
    pub client: Namespace,
    /// Where the daemon and the services behind it are.
    pub gate: Namespace,
}

impl Host {
    /// Both namespaces with their link up and every address in place.
    pub fn new() -> Result<Self> {
        let host = Self { client: Namespace::new("client")?, gate: Namespace::new("gate")? };
        host.link()?;
        Ok(host)
    }

    /// Takes both ends of the link away.
    pub fn unlink(&self) -> Result<()> {
        self.gate.ip(&format!("link delete {GATE_INTERFACE}")).map(drop)
    }

    /// Joins the namespaces.
    pub fn link(&self) -> Result<()> {
        let host = self;
        host.gate.ip(&format!(
            "link add {GATE_INTERFACE} address {} type veth peer name {CLIENT_INTERFACE} address {} netns {}",
            mac(GATE_MAC),
            mac(CLIENT_MAC),
            host.client.name()
        ))?;
        // Without duplicate address detection, an address can be used at once.
        for (address, length) in [(GATE_V4, 24), (GATE_V6, 64)] {
            host.gate.ip(&format!("address add {address}/{length} dev {GATE_INTERFACE} nodad"))?;
        }
        for (address, length) in
            [(CLIENT_V4, 24), (OTHER_CLIENT_V4, 24), (CLIENT_V6, 64), (DENIED_V4, 32), (DENIED_V6, 128)]
        {
            host.client.ip(&format!("address add {address}/{length} dev {CLIENT_INTERFACE} nodad"))?;
        }
        up(&host.client, CLIENT_INTERFACE, || {
            host.gate.ip(&format!("link set {GATE_INTERFACE} up")).map(drop)
        })?;
        // The answers to the denied clients would find their way, so that silence is the firewall's.
        for range in [DENIED_RANGE_V4, DENIED_RANGE_V6] {
            host.gate.ip(&format!("route add {range} dev {GATE_INTERFACE}"))?;
        }
        Ok(())
    }

    /// Names of the programs that are attached to the guarded interface, by mode: `xdpdrv` or
    /// `xdpgeneric`.
    pub fn attached(&self) -> Result<serde_json::Value> {
        let links: serde_json::Value =
            serde_json::from_str(&self.gate.ip(&format!("-j -d link show dev {GATE_INTERFACE}"))?)?;
        Ok(links[0]["xdp"].clone())
    }
}

/// The guarded host's address of the same family as `client`.
pub fn gate_address(client: IpAddr) -> IpAddr {
    if client.is_ipv4() { GATE_V4 } else { GATE_V6 }
}

/// Sets `interface` up, does `more`, and waits for the kernel's word that the link carries.
fn up(namespace: &Namespace, interface: &str, more: impl FnOnce() -> Result<()>) -> Result<()> {
    /// Multicast group of link changes (rtnetlink(7), `RTMGRP_LINK`).
    const LINKS: u32 = 1;
    let events = namespace.enter(|| {
        let events = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        bind(events.as_raw_fd(), &NetlinkAddr::new(0, LINKS))?;
        setsockopt(&events, sockopt::ReceiveTimeout, &TimeVal::new(1, 0))?;
        Ok(events)
    })?;
    namespace.ip(&format!("link set {interface} up"))?;
    more()?;
    let deadline = Instant::now() + PATIENCE;
    let mut event = [0; 8192];
    while !namespace.ip(&format!("-o link show dev {interface}"))?.contains("state UP") {
        ensure!(Instant::now() < deadline, "{interface} did not come up");
        // What the event says does not matter, and a missed one costs a second.
        let _ = recv(events.as_raw_fd(), &mut event, nix::sys::socket::MsgFlags::empty());
    }
    Ok(())
}

fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

/// The address `a:b::c`.
const fn v6(a: u16, b: u16, c: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, c))
}
