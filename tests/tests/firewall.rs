//! Layer 1: packets that the XDP program drops, and what the log says about them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use gatehouse_tests::client::{Attempt, Client, GATE_PORT};
use gatehouse_tests::daemon::Daemon;
use gatehouse_tests::frame::{Carry, Sniffer, Wrap, frame, send};
use gatehouse_tests::host::{
    CLIENT_V4, DENIED_RANGE_V4, DENIED_RANGE_V6, DENIED_V4, DENIED_V6, GATE_INTERFACE, Host, OTHER_CLIENT_V4,
};
use gatehouse_tests::plan::Plan;
use gatehouse_tests::process::{Mark, PATIENCE};
use gatehouse_tests::scene::{PROMPTLY, Scene, names_rule};
use gatehouse_tests::token::Key;
use gatehouse_tests::{foreign, promises};

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        a_denied_ipv4_range_gets_no_answer_and_the_log_names_the_rule,
        a_denied_ipv6_range_gets_no_answer_and_the_log_names_the_rule,
        a_denied_source_inside_a_vlan_tag_is_dropped,
        a_denied_source_inside_two_vlan_tags_is_dropped,
        a_denied_source_is_dropped_whatever_it_sends,
        an_allowed_address_inside_a_denied_range_is_admitted,
        an_address_that_is_never_blocked_is_admitted_whatever_the_lists_say,
        a_source_in_no_list_is_dropped_where_the_default_says_so,
        only_the_gates_own_port_is_guarded_where_the_configuration_says_so,
        the_lists_decide_at_the_gateway_where_nothing_is_attached,
        without_a_firewall_the_same_clients_are_admitted,
        native_mode_is_reported,
        generic_mode_drops_and_is_reported,
        an_interface_that_is_made_anew_is_guarded_again,
        a_foreign_program_is_not_replaced,
        a_stopped_daemon_leaves_no_program_attached,
        ten_thousand_clients_dropped_in_a_second_are_each_in_the_trail,
        a_flood_of_drops_is_counted_but_does_not_flood_the_log,
    ])
}

/// The usual system with another `[firewall]` and files.
fn scene(change: impl FnOnce(Plan) -> Plan) -> Result<Scene> {
    Scene::with(Key::generate("ES256", "key-1")?, |_, plan| Ok(change(plan)))
}

fn drops_and_names(source: IpAddr, prefix: &str, line: u64) -> Result<()> {
    let scene = Scene::usual()?;
    let attempt = Attempt::on("/chat").from(source).token(&scene.token()?);
    for client in Client::ALL {
        let entry = scene.drops(client, &attempt)?;
        let what = ["LAYER", "REASON", "INTERFACE"].map(|name| entry.field(name).unwrap_or_default());
        ensure!(what == ["firewall", "denied_range", GATE_INTERFACE], "{}", entry.line);
        ensure!(entry.number("PACKETS") >= Some(1), "{}", entry.line);
        names_rule(&entry, &scene.file("deny.list"), line, prefix)?;
    }
    // The same request from elsewhere: it was the address.
    scene.admits(Client::Raw, &attempt.from(CLIENT_V4))?;
    scene.end()
}

fn a_denied_ipv4_range_gets_no_answer_and_the_log_names_the_rule() -> Result<()> {
    drops_and_names(DENIED_V4, DENIED_RANGE_V4, 2)
}

fn a_denied_ipv6_range_gets_no_answer_and_the_log_names_the_rule() -> Result<()> {
    drops_and_names(DENIED_V6, DENIED_RANGE_V6, 3)
}

/// Packets of `client` that the log accounts for, awaited until there are `wanted`.
fn wait_for_packets(daemon: &Daemon, client: IpAddr, wanted: u64) -> Result<()> {
    let mut packets = 0;
    daemon.wait_for(&format!("{wanted} dropped packets of {client}"), PATIENCE, |entry| {
        if entry.is_drop_of(client) {
            packets += entry.number("PACKETS").unwrap_or(0);
        }
        packets >= wanted
    })?;
    ensure!(packets == wanted, "{packets} packets of {client} are in the log, {wanted} were sent");
    Ok(())
}

/// Sends frames of several kinds from denied sources and from an allowed one: only the latter may
/// reach the host, and the log must have the former within a second.
fn only_the_allowed_get_through(wrap: Wrap, kinds: &[Carry]) -> Result<()> {
    const DENIED: &[u8] = b"from a denied source";
    const ALLOWED: &[u8] = b"from an allowed one.";
    let scene = Scene::usual()?;
    let sniffer = Sniffer::start(&scene.host)?;
    let frames = |source: IpAddr, payload| -> Result<Vec<Vec<u8>>> {
        kinds.iter().map(|carry| frame(source, wrap, *carry, payload)).collect()
    };
    let denied = [frames(DENIED_V4, DENIED)?, frames(DENIED_V6, DENIED)?].concat();
    let mark = scene.daemon.mark();
    send(&scene.host, &denied)?;
    for (source, prefix, line) in [(DENIED_V4, DENIED_RANGE_V4, 2), (DENIED_V6, DENIED_RANGE_V6, 3)] {
        let entry = scene.daemon.wait_after(mark, "the drop", PROMPTLY, |entry| entry.is_drop_of(source))?;
        names_rule(&entry, &scene.file("deny.list"), line, prefix)?;
        wait_for_packets(&scene.daemon, source, kinds.len() as u64)?;
    }
    send(&scene.host, &frames(OTHER_CLIENT_V4, ALLOWED)?)?;
    sniffer.wait_for(ALLOWED)?;
    ensure!(!sniffer.has_seen(DENIED), "a frame from a denied source reached the host");
    ensure!(!scene.daemon.log().iter().any(|entry| entry.is_drop_of(OTHER_CLIENT_V4)));
    scene.end()
}

fn a_denied_source_inside_a_vlan_tag_is_dropped() -> Result<()> {
    only_the_allowed_get_through(Wrap::Vlan, &[Carry::Syn(GATE_PORT), Carry::Udp(53)])
}

fn a_denied_source_inside_two_vlan_tags_is_dropped() -> Result<()> {
    only_the_allowed_get_through(Wrap::DoubleVlan, &[Carry::Syn(GATE_PORT), Carry::Udp(53)])
}

fn a_denied_source_is_dropped_whatever_it_sends() -> Result<()> {
    only_the_allowed_get_through(Wrap::Plain, &[Carry::Syn(22), Carry::Udp(53), Carry::Ping])
}

fn an_allowed_address_inside_a_denied_range_is_admitted() -> Result<()> {
    let scene = scene(|plan| {
        let firewall = plan.firewall.clone() + "allow = [\"allow.list\"]\n";
        Plan { firewall, ..plan }.file("allow.list", format!("{DENIED_V4}\n"))
    })?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    scene.admits(Client::Raw, &attempt.clone().from(DENIED_V4))?;
    // The rest of the deny list is in force.
    scene.drops(Client::Raw, &attempt.from(DENIED_V6))?;
    scene.end()
}

fn an_address_that_is_never_blocked_is_admitted_whatever_the_lists_say() -> Result<()> {
    let scene = scene(|plan| {
        let firewall = plan.firewall.clone() + &format!("never_block = [\"{DENIED_V4}/31\"]\n");
        Plan { firewall, ..plan }.file("deny.list", format!("10.0.0.0/8\n{DENIED_V4}\n"))
    })?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    scene.admits(Client::Raw, &attempt.clone().from(DENIED_V4))?;
    let entry = scene.drops(Client::Raw, &attempt.from(CLIENT_V4))?;
    names_rule(&entry, &scene.file("deny.list"), 1, "10.0.0.0/8")?;
    scene.end()
}

fn a_source_in_no_list_is_dropped_where_the_default_says_so() -> Result<()> {
    let scene = scene(|plan| {
        let firewall = plan.firewall.clone() + "allow = [\"allow.list\"]\ndefault = \"drop\"\n";
        Plan { firewall, ..plan }.file("allow.list", format!("{CLIENT_V4}\n"))
    })?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    scene.admits(Client::Raw, &attempt)?;
    let entry = scene.drops(Client::Raw, &attempt.from(OTHER_CLIENT_V4))?;
    ensure!(entry.field("REASON") == Some("not_allowed"), "{}", entry.line);
    scene.end()
}

fn only_the_gates_own_port_is_guarded_where_the_configuration_says_so() -> Result<()> {
    const GUARDED: &[u8] = b"for the gate";
    const OTHER: &[u8] = b"for others..";
    let scene = scene(|plan| {
        let firewall = plan.firewall.replace("\"all\"", "\"listen\"");
        Plan { firewall, ..plan }
    })?;
    let sniffer = Sniffer::start(&scene.host)?;
    send(&scene.host, &[frame(DENIED_V4, Wrap::Plain, Carry::Syn(GATE_PORT), GUARDED)?])?;
    wait_for_packets(&scene.daemon, DENIED_V4, 1)?;
    for carry in [Carry::Syn(GATE_PORT + 1), Carry::Udp(GATE_PORT), Carry::Ping] {
        let payload = [OTHER, format!("{carry:?}").as_bytes()].concat();
        send(&scene.host, &[frame(DENIED_V4, Wrap::Plain, carry, &payload)?])?;
        sniffer.wait_for(&payload)?;
    }
    ensure!(!sniffer.has_seen(GUARDED), "a frame for the gate reached the host");
    scene.end()
}

fn the_lists_decide_at_the_gateway_where_nothing_is_attached() -> Result<()> {
    let scene = scene(|plan| Plan { firewall: plan.firewall.replace("\"native\"", "\"off\""), ..plan })?;
    ensure!(scene.host.attached()?.is_null(), "{:#}", scene.host.attached()?);
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    for (source, prefix, line) in [(DENIED_V4, DENIED_RANGE_V4, 2), (DENIED_V6, DENIED_RANGE_V6, 3)] {
        for client in Client::ALL {
            let attempt = attempt.clone().from(source);
            let (rejection, entry) = scene.rejects(client, &attempt, (403, "firewall", "denied_range"))?;
            names_rule(&entry, &scene.file("deny.list"), line, prefix)?;
            ensure!(!rejection.answer.body.contains("deny.list"), "the list's name stays in the log");
        }
    }
    scene.admits(Client::Raw, &attempt)?;
    scene.end()
}

/// The control of every test above: it is the firewall that makes the difference.
fn without_a_firewall_the_same_clients_are_admitted() -> Result<()> {
    let scene = scene(|plan| Plan { firewall: String::new(), ..plan })?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    for source in [DENIED_V4, DENIED_V6] {
        for client in Client::ALL {
            scene.admits(client, &attempt.clone().from(source))?;
        }
    }
    scene.end()
}

/// The mode of the only interface, as `gatehouse status` has it.
fn mode(scene: &Scene) -> Result<String> {
    let status = scene.daemon.status()?;
    let interfaces = status["interfaces"].as_array().context("no interfaces")?;
    ensure!(interfaces.len() == 1 && interfaces[0]["interface"] == GATE_INTERFACE, "{status:#}");
    Ok(interfaces[0]["mode"].as_str().unwrap_or_default().to_owned())
}

/// Numbers of the modes in netlink, and so in the output of `ip` (linux/if_link.h).
const XDP_ATTACHED_DRV: u8 = 1;
const XDP_ATTACHED_SKB: u8 = 2;

fn native_mode_is_reported() -> Result<()> {
    // A veth pair's driver can: `auto` must find that out.
    let scene = scene(|plan| Plan { firewall: plan.firewall.replace("\"native\"", "\"auto\""), ..plan })?;
    ensure!(mode(&scene)? == "native");
    ensure!(scene.host.attached()?["mode"] == XDP_ATTACHED_DRV, "{:#}", scene.host.attached()?);
    scene
        .daemon
        .wait_for("the mode", PATIENCE, |entry| entry.says("native") && entry.says(GATE_INTERFACE))?;
    scene.end()
}

fn generic_mode_drops_and_is_reported() -> Result<()> {
    let scene = scene(|plan| Plan { firewall: plan.firewall.replace("\"native\"", "\"generic\""), ..plan })?;
    ensure!(mode(&scene)? == "generic");
    ensure!(scene.host.attached()?["mode"] == XDP_ATTACHED_SKB, "{:#}", scene.host.attached()?);
    let attempt = Attempt::on("/chat").from(DENIED_V4).token(&scene.token()?);
    scene.drops(Client::Raw, &attempt)?;
    send(&scene.host, &[frame(DENIED_V6, Wrap::DoubleVlan, Carry::Syn(GATE_PORT), b"")?])?;
    wait_for_packets(&scene.daemon, DENIED_V6, 1)?;
    scene.admits(Client::Raw, &attempt.from(CLIENT_V4))?;
    scene.end()
}

fn an_interface_that_is_made_anew_is_guarded_again() -> Result<()> {
    let scene = scene(|plan| plan)?;
    let mark = scene.daemon.mark();
    scene.host.unlink()?;
    scene.daemon.wait_after(mark, "that it is not guarded", PATIENCE, |entry| entry.says("NOT"))?;
    ensure!(mode(&scene)? == "none", "{:#}", scene.daemon.status()?);
    scene.host.link()?;
    scene.daemon.wait_after(mark, "that it is guarded", PATIENCE, |entry| entry.says("again"))?;
    ensure!(mode(&scene)? == "native", "{:#}", scene.daemon.status()?);
    let attempt = Attempt::on("/chat").from(DENIED_V4).token(&scene.token()?);
    let entry = scene.drops(Client::Raw, &attempt)?;
    ensure!(entry.field("INTERFACE") == Some(GATE_INTERFACE), "{}", entry.line);
    scene.admits(Client::Raw, &attempt.from(CLIENT_V4))?;
    scene.end()
}

fn a_foreign_program_is_not_replaced() -> Result<()> {
    for mode in ["native", "generic", "auto"] {
        let folder = tempfile::tempdir()?;
        let plan = Plan::usual(&Key::generate("ES256", "key-1")?);
        let firewall = plan.firewall.replace("native", mode);
        let config = Plan { firewall, ..plan }.write(folder.path())?;
        let host = Host::new()?;
        foreign::attach(&host)?;
        let before = host.attached()?;
        ensure!(before["prog"]["id"].is_u64(), "nothing is attached: {before:#}");
        let mut daemon = Daemon::launch(&host, &config)?;
        ensure!(daemon.exit_code()? == Some(1), "{mode}: {:#?}", daemon.log());
        let said = daemon
            .log()
            .iter()
            .any(|entry| entry.says(GATE_INTERFACE) && entry.says("XDP") && entry.line.contains("already"));
        ensure!(said, "{mode}: the error is not clear: {:#?}", daemon.log());
        ensure!(host.attached()? == before, "{mode}: the foreign program is gone: {:#}", host.attached()?);
    }
    Ok(())
}

fn a_stopped_daemon_leaves_no_program_attached() -> Result<()> {
    let mut scene = Scene::usual()?;
    ensure!(scene.host.attached()?["prog"]["id"].is_u64(), "{:#}", scene.host.attached()?);
    scene.daemon.stop()?;
    ensure!(scene.host.attached()?.is_null(), "{:#}", scene.host.attached()?);
    Ok(())
}

fn ten_thousand_clients_dropped_in_a_second_are_each_in_the_trail() -> Result<()> {
    const CLIENTS: u32 = 10_000;
    let scene = scene(|plan| plan.file("deny.list", "44.0.0.0/8\n"))?;
    // An odd factor permutes the addresses of the range. Each client sends two packets.
    let frames: Vec<Vec<u8>> = (0..2 * CLIENTS)
        .map(|number| 44 << 24 | (number % CLIENTS).wrapping_mul(0x9e37_79b1) & 0x00ff_ffff)
        .map(|bits| frame(IpAddr::V4(bits.into()), Wrap::Plain, Carry::Syn(GATE_PORT), b""))
        .collect::<Result<_>>()?;
    send(&scene.host, &frames)?;
    let (mut packets, mut clients) = (0, BTreeSet::new());
    scene.daemon.wait_after(Mark::default(), "every client in the log", PATIENCE, |entry| {
        if entry.field("POINT") == Some("nic") {
            packets += entry.number("PACKETS").unwrap_or(0);
            clients.extend(entry.field("CLIENT").map(str::to_owned));
        }
        packets >= u64::from(2 * CLIENTS)
    })?;
    ensure!(clients.len() == CLIENTS as usize, "{} of {CLIENTS} clients are in the log", clients.len());
    ensure!(packets == u64::from(2 * CLIENTS), "{packets} packets are in the log");
    scene.end()
}

fn a_flood_of_drops_is_counted_but_does_not_flood_the_log() -> Result<()> {
    const SOURCES: u32 = 5_000;
    const REPORTS_PER_SECOND: u64 = 20;
    let scene = scene(|plan| {
        let firewall = plan.firewall.clone() + &format!("reports_per_second = {REPORTS_PER_SECOND}\n");
        Plan { firewall, ..plan }.file("deny.list", "44.0.0.0/8\n")
    })?;
    // Every source is another one: an odd factor permutes the addresses of the range.
    let frames: Vec<Vec<u8>> = (0..SOURCES)
        .map(|number| 44 << 24 | number.wrapping_mul(0x9e37_79b1) & 0x00ff_ffff)
        .map(|bits| frame(IpAddr::V4(bits.into()), Wrap::Plain, Carry::Syn(GATE_PORT), b""))
        .collect::<Result<_>>()?;
    let start = Instant::now();
    send(&scene.host, &frames)?;
    let (mut packets, mut lines) = (0, 0);
    scene.daemon.wait_after(Mark::default(), "every packet in the log", PATIENCE, |entry| {
        if entry.field("POINT") == Some("nic") {
            lines += 1;
            packets += entry.number("PACKETS").unwrap_or(0);
        }
        packets >= u64::from(SOURCES)
    })?;
    ensure!(packets == u64::from(SOURCES), "{packets} packets are in the log, {SOURCES} were sent");
    // New clients, half as many that go on, and a summary with each look at the slots.
    let bound = (start.elapsed().as_secs() + 2) * (REPORTS_PER_SECOND * 3 / 2 + 4);
    ensure!(lines <= bound, "{lines} lines in the log, {bound} at most were expected");
    ensure!(scene.daemon.status()?["packets"]["dropped"] == SOURCES, "{:#}", scene.daemon.status()?);
    scene.end()
}
