//! Raw Ethernet frames: what no socket would send.

use std::io::Write as _;
use std::net::IpAddr;
use std::process::Stdio;

use anyhow::{Result, bail, ensure};
use etherparse::PacketBuilder;

use crate::host::{CLIENT_INTERFACE, CLIENT_MAC, GATE_INTERFACE, GATE_MAC, Host, gate_address};
use crate::process::{Mark, PATIENCE, Process};
use crate::tools;

/// Tag protocol identifier of a customer's VLAN tag (IEEE 802.1Q).
const CUSTOMER_TAG: u16 = 0x8100;
/// Tag protocol identifier of a provider's VLAN tag (IEEE 802.1ad).
const PROVIDER_TAG: u16 = 0x88a8;

/// How a frame is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrap {
    /// Not at all.
    Plain,
    /// In one 802.1Q tag.
    Vlan,
    /// In an 802.1ad tag around an 802.1Q tag.
    DoubleVlan,
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carry {
    /// The SYN of a connection to this port.
    Syn(u16),
    /// A datagram to this port.
    Udp(u16),
    /// An ICMP echo request.
    Ping,
}

/// An Ethernet frame from `source` to the guarded host, which ends in `payload`.
pub fn frame(source: IpAddr, wrap: Wrap, carry: Carry, payload: &[u8]) -> Result<Vec<u8>> {
    let ethernet = PacketBuilder::ethernet2(CLIENT_MAC, GATE_MAC);
    let ip = match (source, gate_address(source)) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 64),
        (from, to) => bail!("{from} and {to} are not of one family"),
    };
    let mut frame = Vec::new();
    match carry {
        Carry::Syn(port) => ip.tcp(40_000, port, 1, 65_535).syn().write(&mut frame, payload)?,
        Carry::Udp(port) => ip.udp(40_000, port).write(&mut frame, payload)?,
        Carry::Ping if source.is_ipv4() => ip.icmpv4_echo_request(1, 1).write(&mut frame, payload)?,
        Carry::Ping => ip.icmpv6_echo_request(1, 1).write(&mut frame, payload)?,
    }
    // Innermost first: each one is pushed in front of what is there.
    let tags: &[[u16; 2]] = match wrap {
        Wrap::Plain => &[],
        Wrap::Vlan => &[[CUSTOMER_TAG, 1]],
        Wrap::DoubleVlan => &[[CUSTOMER_TAG, 2], [PROVIDER_TAG, 1]],
    };
    for tag in tags {
        // A tag stands between the addresses and the type of what follows.
        frame.splice(12..12, tag.iter().flat_map(|half| half.to_be_bytes()));
    }
    Ok(frame)
}

/// Sends `frames` from the clients' side of the wire, in their order.
pub fn send(host: &Host, frames: &[Vec<u8>]) -> Result<()> {
    let mut command = tools::python("send_frames.py")?;
    command.arg(CLIENT_INTERFACE);
    let mut sender = host.client.command(&command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    if let Some(mut input) = sender.stdin.take() {
        let lines: String = frames.iter().map(|frame| hex(frame) + "\n").collect();
        input.write_all(lines.as_bytes())?;
    }
    let output = sender.wait_with_output()?;
    let sent = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "frames could not be sent");
    ensure!(sent.trim() == frames.len().to_string(), "{} of {} frames were sent", sent.trim(), frames.len());
    Ok(())
}

/// Sees what the firewall lets through: every frame that reaches the guarded host itself.
#[derive(Debug)]
pub struct Sniffer {
    process: Process,
}

impl Sniffer {
    /// Listens on the guarded interface.
    pub fn start(host: &Host) -> Result<Self> {
        let mut command = tools::python("sniff_frames.py")?;
        command.arg(GATE_INTERFACE);
        let process = Process::start("the sniffer", host.gate.command(&command))?;
        process.wait_for("that it listens", Mark::default(), PATIENCE, |line| {
            (line == "listening").then_some(())
        })?;
        Ok(Self { process })
    }

    /// Waits until a frame with `payload` has come through.
    pub fn wait_for(&self, payload: &[u8]) -> Result<()> {
        let wanted = hex(payload);
        self.process
            .wait_for("the frame", Mark::default(), PATIENCE, |line| line.ends_with(&wanted).then_some(()))
    }

    /// Whether a frame with `payload` has come through so far.
    pub fn has_seen(&self, payload: &[u8]) -> bool {
        let wanted = hex(payload);
        self.process.printed().iter().any(|line| line.ends_with(&wanted))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_stand_outermost_first_between_the_addresses_and_the_type() {
        let source = "10.66.0.1".parse().expect("an address");
        let plain = frame(source, Wrap::Plain, Carry::Syn(80), b"").expect("a frame");
        let tagged = frame(source, Wrap::DoubleVlan, Carry::Syn(80), b"").expect("a frame");
        assert_eq!(tagged[..12], plain[..12]);
        assert_eq!(tagged[12..20], [0x88, 0xa8, 0, 1, 0x81, 0, 0, 2]);
        assert_eq!(tagged[20..], plain[12..]);
    }
}
