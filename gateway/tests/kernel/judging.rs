//! The verdict on frames of every shape.

use std::net::{Ipv4Addr, Ipv6Addr};

use gateway::config::Ports;
use gateway::nic::{Card, Counter, Settings, Verdicts};
use gateway::policy::Tier;
use gateway::policy::Verdict::{self, Drop, Pass};
use gateway_ebpf::judgement::judge;

use crate::frames::{
    ARP, ICMPV6, IPV4, IPV6, QTAG, STAG, TCP, UDP, ethernet, extensions, ipv4, ipv6, segment,
};
use crate::world::{DENIED, DENIED6, FREE, FREE6, GUARDED, Outcome, card, generation, of_tier};

/// A frame, and the verdict on it when its source is denied and only [`GUARDED`] is guarded.
struct Shape {
    name: String,
    frame: Vec<u8>,
    scoped: Verdict,
}

/// One frame of every shape in which a packet of these sources can come.
fn shapes(v4: Ipv4Addr, v6: Ipv6Addr) -> Vec<Shape> {
    let mut shapes = Vec::new();
    let mut add = |name: &str, kind, packet: Vec<u8>, scoped| {
        for (tagging, tags) in [("", &[][..]), (" in a VLAN", &[QTAG]), (" in QinQ", &[STAG, QTAG])] {
            let name = format!("{name}{tagging}");
            shapes.push(Shape { name, frame: ethernet(tags, kind, &packet), scoped });
        }
    };
    let (guarded, other) = (segment(GUARDED), segment(22));
    add("IPv4 TCP", IPV4, ipv4(v4, TCP, 0, 0, &guarded), Drop);
    add("IPv4 TCP to another port", IPV4, ipv4(v4, TCP, 0, 0, &other), Pass);
    add("IPv4 TCP with options", IPV4, ipv4(v4, TCP, 10, 0, &guarded), Drop);
    add("IPv4 first fragment", IPV4, ipv4(v4, TCP, 0, 0x2000, &guarded), Drop);
    add("IPv4 later fragment", IPV4, ipv4(v4, TCP, 0, 185, &guarded), Pass);
    add("IPv4 TCP cut before the port", IPV4, ipv4(v4, TCP, 0, 0, &guarded[..3]), Pass);
    add(
        "IPv4 with a header of 16 bytes",
        IPV4,
        {
            let mut packet = ipv4(v4, TCP, 0, 0, &guarded);
            packet[0] = 0x44;
            packet
        },
        Pass,
    );
    for (name, protocol) in [("UDP", UDP), ("ICMP", 1), ("GRE", 47), ("ESP", 50), ("SCTP", 132)] {
        add(&format!("IPv4 {name}"), IPV4, ipv4(v4, protocol, 0, 0, &guarded), Pass);
    }
    add("IPv4 TCP in a jumbo frame", IPV4, ipv4(v4, TCP, 0, 0, &jumbo(&guarded)), Drop);
    add("IPv6 TCP", IPV6, ipv6(v6, TCP, 64, &guarded), Drop);
    add("IPv6 TCP in a jumbo frame", IPV6, ipv6(v6, TCP, 64, &jumbo(&guarded)), Drop);
    add("IPv6 TCP to another port", IPV6, ipv6(v6, TCP, 64, &other), Pass);
    add("IPv6 UDP", IPV6, ipv6(v6, UDP, 64, &guarded), Pass);
    add("IPv6 GRE", IPV6, ipv6(v6, 47, 64, &guarded), Pass);
    add("IPv6 ESP", IPV6, ipv6(v6, 50, 64, &guarded), Pass);
    add("IPv6 no next header", IPV6, ipv6(v6, 59, 64, &[]), Pass);
    add("IPv6 echo request", IPV6, ipv6(v6, ICMPV6, 255, &[128, 0, 0, 0]), Pass);
    add("IPv6 neighbour solicitation from afar", IPV6, ipv6(v6, ICMPV6, 254, &[135, 0]), Pass);
    for (name, kinds, last, payload, scoped) in [
        ("TCP behind three", &[0, 43, 60][..], TCP, &guarded, Drop),
        ("TCP behind eight", &[60; 8], TCP, &guarded, Drop),
        ("TCP behind nine", &[60; 9], TCP, &guarded, Drop),
        ("another port behind nine", &[60; 9], TCP, &other, Drop),
        ("UDP behind eight", &[60; 8], UDP, &guarded, Pass),
        ("TCP in a first fragment", &[44], TCP, &guarded, Drop),
        ("a truncated header", &[60], TCP, &vec![], Pass),
    ] {
        let (next, chain) = extensions(kinds, last, payload);
        add(&format!("IPv6 {name}"), IPV6, ipv6(v6, next, 64, &chain), scoped);
    }
    let mut fragment = extensions(&[44], TCP, &guarded).1;
    fragment[2] = 1;
    add("IPv6 later fragment", IPV6, ipv6(v6, 44, 64, &fragment), Pass);
    let mut authenticated = vec![TCP, 4, 0, 0];
    authenticated.resize(24, 0);
    authenticated.extend(&guarded);
    add("IPv6 TCP behind authentication", IPV6, ipv6(v6, 51, 64, &authenticated), Drop);
    let mut long = vec![TCP, 255];
    long.resize(2048, 0);
    long.extend(&guarded);
    add("IPv6 TCP behind 2 KiB of options", IPV6, ipv6(v6, 60, 64, &long), Drop);
    shapes
}

/// `segment` with so much data that a frame with it has 9,000 bytes.
fn jumbo(segment: &[u8]) -> Vec<u8> {
    let mut long = segment.to_vec();
    long.resize(8_940, 0x5a);
    long
}

fn verdict(card: &Card, frame: &[u8]) -> Result<Verdict, gateway::nic::NicError> {
    card.rehearse(frame, frame.len(), 1).map(|(verdict, _)| verdict)
}

fn expect(card: &Card, name: &str, frame: &[u8], expected: Verdict) -> Outcome {
    let verdict = verdict(card, frame)?;
    if verdict != expected {
        return Err(format!("{name}: {verdict:?} instead of {expected:?}").into());
    }
    Ok(())
}

pub(crate) fn a_denied_source_is_dropped_in_every_shape() -> Outcome {
    let card = card(Ports::All, 100)?;
    shapes(DENIED, DENIED6).iter().try_for_each(|shape| expect(&card, &shape.name, &shape.frame, Drop))
}

pub(crate) fn a_source_in_no_list_passes_in_every_shape() -> Outcome {
    for ports in [Ports::All, Ports::Only(vec![GUARDED])] {
        let card = card(ports, 100)?;
        for shape in shapes(FREE, FREE6) {
            expect(&card, &shape.name, &shape.frame, Pass)?;
        }
        assert_eq!(card.counters()?.dropped, 0);
    }
    Ok(())
}

pub(crate) fn what_is_not_ip_passes_and_neighbour_discovery_too() -> Outcome {
    let card = card(Ports::All, 100)?;
    // An ARP request whose sender is denied.
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2];
    arp.extend(DENIED.octets());
    arp.resize(28, 0);
    for (name, frame) in [
        ("ARP", ethernet(&[], ARP, &arp)),
        ("ARP in a VLAN", ethernet(&[QTAG], ARP, &arp)),
        ("ARP in QinQ", ethernet(&[STAG, QTAG], ARP, &arp)),
        ("LLDP", ethernet(&[], 0x88cc, &[0; 46])),
        // Linux does not look behind these tags either.
        ("a tag of type 0x9100", ethernet(&[0x9100], IPV4, &ipv4(DENIED, TCP, 0, 0, &segment(GUARDED)))),
        ("a length instead of a type", ethernet(&[], 46, &[0; 46])),
    ] {
        expect(&card, name, &frame, Pass)?;
    }
    assert_eq!(card.counters()?.not_ip, 6);
    for kind in 132..=138u8 {
        let packet = ipv6(DENIED6, ICMPV6, 255, &[kind, 0, 0, 0]);
        let expected = if (133..=137).contains(&kind) { Pass } else { Drop };
        expect(&card, &format!("ICMPv6 type {kind}"), &ethernet(&[], IPV6, &packet), expected)?;
        let packet = ipv6(DENIED6, ICMPV6, 64, &[kind, 0, 0, 0]);
        expect(&card, &format!("routed ICMPv6 type {kind}"), &ethernet(&[], IPV6, &packet), Drop)?;
    }
    assert_eq!(card.counters()?.neighbour_discovery, 5);
    let tcp = ipv4(DENIED, TCP, 0, 0, &segment(GUARDED));
    expect(&card, "three tags", &ethernet(&[QTAG; 3], IPV4, &tcp), Pass)?;
    let mut liar = tcp.clone();
    liar[0] = 0x65;
    expect(&card, "version 6 in an IPv4 frame", &ethernet(&[], IPV4, &liar), Pass)?;
    expect(&card, "IPv4 cut in its header", &ethernet(&[], IPV4, &tcp[..19]), Pass)?;
    assert_eq!(card.counters()?.malformed, 3);
    Ok(())
}

pub(crate) fn neighbour_discovery_passes_in_both_scopes_behind_any_tags() -> Outcome {
    for ports in [Ports::All, Ports::Only(vec![GUARDED])] {
        let card = card(ports, 100)?;
        for tags in [&[][..], &[QTAG], &[STAG, QTAG]] {
            let solicitation = ipv6(DENIED6, ICMPV6, 255, &[135, 0, 0, 0]);
            expect(&card, &format!("behind {tags:x?}"), &ethernet(tags, IPV6, &solicitation), Pass)?;
        }
        assert_eq!(card.counters()?.neighbour_discovery, 3);
    }
    Ok(())
}

pub(crate) fn a_mapped_source_is_judged_as_the_ipv4_address_in_it() -> Outcome {
    let mapped =
        |source: Ipv4Addr, port| ethernet(&[], IPV6, &ipv6(source.to_ipv6_mapped(), TCP, 64, &segment(port)));
    for (ports, other) in [(Ports::All, Drop), (Ports::Only(vec![GUARDED]), Pass)] {
        let mut card = card(ports, 100)?;
        expect(&card, "denied", &mapped(DENIED, GUARDED), Drop)?;
        expect(&card, "denied, to another port", &mapped(DENIED, 22), other)?;
        expect(&card, "in no list", &mapped(FREE, GUARDED), Pass)?;
        // What says nothing about IPv4 says nothing about an IPv4 address in disguise.
        card.publish(generation(8, &["::/64"])?.blocks(), 8)?;
        expect(&card, "in an IPv6 network that is denied", &mapped(DENIED, GUARDED), Pass)?;
    }
    Ok(())
}

pub(crate) fn in_scope_mode_only_tcp_to_a_guarded_port_is_dropped() -> Outcome {
    let card = card(Ports::Only(vec![443, GUARDED, 65_535, 0]), 100)?;
    for shape in shapes(DENIED, DENIED6) {
        expect(&card, &shape.name, &shape.frame, shape.scoped)?;
    }
    for (port, expected) in [(0, Drop), (1, Pass), (442, Pass), (443, Drop), (444, Pass), (65_535, Drop)] {
        let frame = ethernet(&[], IPV4, &ipv4(DENIED, TCP, 0, 0, &segment(port)));
        expect(&card, &format!("port {port}"), &frame, expected)?;
    }
    Ok(())
}

/// The same judgement in user space.
fn model(blocks: &[gateway_ebpf::generation::Block], frame: &[u8], scoped: bool) -> Verdict {
    let guarded = scoped.then_some(|port| port == GUARDED);
    if judge(blocks, frame, guarded).is_drop() { Drop } else { Pass }
}

pub(crate) fn a_frame_cut_off_anywhere_is_judged_as_in_user_space() -> Outcome {
    let blocks = generation(7, &["10.66.0.0/16", "fd66::/16"])?;
    for (ports, scoped) in [(Ports::All, false), (Ports::Only(vec![GUARDED]), true)] {
        let card = card(ports, 100)?;
        let mut drops = 0;
        for shape in shapes(DENIED, DENIED6) {
            // The kernel's own test takes no frame shorter than an Ethernet header.
            for length in 14..=shape.frame.len().min(200) {
                let frame = &shape.frame[..length];
                let expected = model(blocks.blocks(), frame, scoped);
                expect(&card, &format!("{} cut to {length} bytes", shape.name), frame, expected)?;
                drops += u32::from(expected == Drop);
            }
        }
        assert!(drops > 100, "only {drops} of the frames were to be dropped");
    }
    Ok(())
}

pub(crate) fn a_frame_in_fragments_is_judged_like_one_in_one_buffer() -> Outcome {
    let card = card(Ports::Only(vec![GUARDED]), 100)?;
    for shape in shapes(DENIED, DENIED6) {
        for first_buffer in [14, 15, 20, 33, 34, 40, 54, 57] {
            let name = format!("{} with {first_buffer} bytes in the first buffer", shape.name);
            let (verdict, _) = card.rehearse(&shape.frame, first_buffer, 1)?;
            if verdict != shape.scoped {
                return Err(format!("{name}: {verdict:?} instead of {:?}", shape.scoped).into());
            }
        }
    }
    Ok(())
}

pub(crate) fn an_observed_list_counts_exactly_what_it_would_drop_and_drops_nothing() -> Outcome {
    let prefixes = ["10.66.0.0/16", "fd66::/16"];
    let (enforced, observed) = (generation(7, &prefixes)?, of_tier(Tier::Observe, 7, &prefixes)?);
    for ports in [Ports::All, Ports::Only(vec![GUARDED])] {
        let counted = |blocks| -> Result<_, Box<dyn std::error::Error>> {
            let mut card = Card::load(&Settings { ports: ports.clone(), reports_per_second: 1 })?;
            card.publish(blocks, 7)?;
            let mut drops = 0u64;
            for shape in shapes(DENIED, DENIED6).iter().chain(&shapes(FREE, FREE6)) {
                drops += u64::from(verdict(&card, &shape.frame)? == Drop);
            }
            Ok((drops, card.counters()?))
        };
        let (drops, enforced) = counted(enforced.blocks())?;
        let (none, observed) = counted(observed.blocks())?;
        assert_eq!((none, observed.dropped), (0, 0), "{ports:?}");
        assert_eq!(observed.sources[1].passed, enforced.sources[1].dropped, "{ports:?}");
        assert_eq!(enforced.sources[1].dropped.packets, drops, "{ports:?}");
        assert!(drops > 0, "{ports:?}");
        let others = |counters: &gateway::nic::Counters| {
            (counters.sources[0], counters.neighbour_discovery, counters.out_of_scope, counters.not_ip)
        };
        assert_eq!(others(&observed), others(&enforced), "{ports:?}");
    }
    Ok(())
}

pub(crate) fn every_packet_is_counted_once() -> Outcome {
    let card = card(Ports::Only(vec![GUARDED]), 100)?;
    let (mut dropped, passed) = (shapes(DENIED, DENIED6), shapes(FREE, FREE6));
    dropped.retain(|shape| shape.scoped == Drop);
    let bytes = |shapes: &[Shape]| shapes.iter().map(|shape| shape.frame.len() as u64).sum();
    let expected =
        [&dropped, &passed].map(|shapes| Counter { packets: shapes.len() as u64, bytes: bytes(shapes) });
    let others = shapes(DENIED, DENIED6).into_iter().filter(|shape| shape.scoped == Pass);
    let others: Vec<Shape> = others.collect();
    for shape in dropped.iter().chain(&passed).chain(&others) {
        verdict(&card, &shape.frame)?;
    }
    let counters = card.counters()?;
    assert_eq!([counters.source(1), counters.source(0)], expected, "{counters:?}");
    assert_eq!([counters.dropped, counters.passed], expected.map(|counter| counter.packets));
    assert_eq!(counters.out_of_scope, others.len() as u64);
    // The kernel's own test runs on the loopback interface.
    let Verdicts { passed, dropped } = counters.interface(1);
    let all_passed = counters.passed
        + counters.out_of_scope
        + counters.not_ip
        + counters.malformed
        + counters.neighbour_discovery;
    assert_eq!((passed.packets, dropped), (all_passed, expected[0]), "by interface");
    assert_eq!(counters.interface(2), Verdicts::default());
    Ok(())
}

pub(crate) fn without_a_generation_everything_passes() -> Outcome {
    let settings = Settings { ports: Ports::All, reports_per_second: 1 };
    let card = Card::load(&settings)?;
    for shape in shapes(DENIED, DENIED6) {
        expect(&card, &shape.name, &shape.frame, Pass)?;
    }
    Ok(())
}

pub(crate) fn a_new_generation_replaces_the_old_one_whole() -> Outcome {
    let mut card = card(Ports::All, 100)?;
    let frame = |source| ethernet(&[], IPV4, &ipv4(source, TCP, 0, 0, &segment(1)));
    expect(&card, "denied by generation 7", &frame(DENIED), Drop)?;
    // Larger, smaller, larger: inner maps may be of any size.
    let many: Vec<String> =
        (0..20_000u32).map(|n| format!("{}/32", Ipv4Addr::from_bits(0x0b00_0000 + n * 512))).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (number, denied, drop, pass) in [
        (8, &many[..], Ipv4Addr::new(11, 0, 2, 0), DENIED),
        (9, &["10.1.0.0/16"], FREE, Ipv4Addr::new(11, 0, 2, 0)),
        (10, &["10.66.0.0/16"], DENIED, FREE),
    ] {
        card.publish(generation(number, denied)?.blocks(), number)?;
        assert_eq!(card.generation(), Some(number));
        expect(&card, "denied by the new generation", &frame(drop), Drop)?;
        expect(&card, "denied by the old generation", &frame(pass), Pass)?;
    }
    Ok(())
}

pub(crate) fn blocks_that_are_no_generation_leave_the_old_one_in_force() -> Outcome {
    let mut card = card(Ports::All, 100)?;
    assert!(card.publish(&[], 8).is_err());
    assert!(card.publish(&[[0; 8]; 4], 8).is_err());
    assert!(card.publish(generation(8, &[])?.blocks(), 9).is_err());
    assert_eq!(card.generation(), Some(7));
    let frame = ethernet(&[], IPV4, &ipv4(DENIED, TCP, 0, 0, &segment(1)));
    expect(&card, "denied by generation 7", &frame, Drop)
}
