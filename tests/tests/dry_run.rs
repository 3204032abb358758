//! What edits would do, before they are in force.

use std::fs;
use std::path::Path;
use std::process::{ExitCode, Output};

use anyhow::{Context as _, Result, ensure};
use gatehouse_tests::client::{Attempt, Client, GATE_PORT};
use gatehouse_tests::daemon::verb;
use gatehouse_tests::frame::{Carry, Sniffer, Wrap, frame, send};
use gatehouse_tests::host::{CLIENT_V4, DENIED_RANGE_V4, DENIED_V4, DENIED_V6, OTHER_CLIENT_V4};
use gatehouse_tests::order::{applied, edit_and_see_it_wait, manual, policy, scene};
use gatehouse_tests::plan::Plan;
use gatehouse_tests::promises;
use gatehouse_tests::raw::Session;
use gatehouse_tests::token::Key;
use serde_json::Value;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        a_dry_run_changes_nothing_and_names_the_clients_that_would_be_dropped,
        a_dry_run_over_a_capture_drops_exactly_what_the_card_then_drops,
        a_capture_is_judged_without_a_daemon_too,
    ])
}

/// A pcap file of `frames`.
fn pcap(frames: &[Vec<u8>]) -> Result<Vec<u8>> {
    let mut file = [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1].map(u32::to_le_bytes).concat();
    for frame in frames {
        let length = u32::try_from(frame.len())?;
        file.extend([0, 0, length, length].map(u32::to_le_bytes).concat());
        file.extend(frame);
    }
    Ok(file)
}

/// Frames of several shapes from denied clients and from others.
fn traffic() -> Result<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    for source in [DENIED_V4, DENIED_V6, CLIENT_V4, OTHER_CLIENT_V4] {
        for wrap in [Wrap::Plain, Wrap::Vlan, Wrap::DoubleVlan] {
            for carry in [Carry::Syn(GATE_PORT), Carry::Syn(22), Carry::Udp(GATE_PORT), Carry::Ping] {
                frames.push(frame(source, wrap, carry, b"some traffic")?);
            }
        }
    }
    Ok(frames)
}

fn a_dry_run_changes_nothing_and_names_the_clients_that_would_be_dropped() -> Result<()> {
    let scene = manual()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let mut session = Session::open(&scene.host, &attempt.clone().from(OTHER_CLIENT_V4))?;
    scene.drops(Client::Raw, &attempt.clone().from(DENIED_V4))?;
    edit_and_see_it_wait(&scene, "deny.list", &format!("{OTHER_CLIENT_V4}\n"))?;
    let report = applied(&scene, "--dry-run")?;
    let clients = &report["clients"];
    ensure!(report["applied"] == false && report["before"] == 1, "{report:#}");
    ensure!([&clients["with_sessions"], &clients["reported"]] == [1, 1], "{report:#}");
    let named = |what: &str| clients[what]["named"].to_string();
    ensure!(named("newly_dropped") == format!("[\"{OTHER_CLIENT_V4}\"]"), "{report:#}");
    ensure!(named("newly_passing") == format!("[\"{DENIED_V4}\"]"), "{report:#}");
    let packets = report["lists"].as_array().into_iter().flatten().find(|list| list["tier"] == "deny");
    ensure!(packets.and_then(|list| list["packets"].as_u64()) >= Some(1), "{report:#}");

    ensure!(session.echo("still here")? == "still here");
    scene.drops(Client::Raw, &attempt.from(DENIED_V4))?;
    let status = policy(&scene)?;
    ensure!(status["generation"] == 1 && status["edits_wait"] == true, "{status:#}");
    drop(session);
    scene.end()
}

fn a_dry_run_over_a_capture_drops_exactly_what_the_card_then_drops() -> Result<()> {
    const LAST: &[u8] = b"the last of them";
    for ports in ["\"all\"", "\"listen\""] {
        let scene = scene(|firewall| firewall.replace("\"all\"", ports) + "reload = \"manual\"\n")?;
        let frames = traffic()?;
        fs::write(scene.file("traffic.pcap"), pcap(&frames)?)?;
        edit_and_see_it_wait(&scene, "deny.list", &format!("{DENIED_RANGE_V4}\n{CLIENT_V4}\n"))?;
        let file = scene.file("traffic.pcap").display().to_string();
        let report = applied(&scene, &format!("--dry-run --pcap {file}"))?;
        let capture = &report["capture"];
        ensure!(capture["packets"] == frames.len() && report["policy"]["applied"] == false, "{report:#}");
        let changes = &capture["changes"];
        let sources = |what: &str| changes[what]["top"][0]["source"].as_str().map(str::to_owned);
        ensure!(sources("newly_dropped") == Some(CLIENT_V4.to_string()), "{report:#}");
        ensure!(sources("newly_passing") == Some(DENIED_V6.to_string()), "{report:#}");

        applied(&scene, "")?;
        let dropped = || -> Result<u64> {
            scene.daemon.status()?["packets"]["dropped"].as_u64().context("nothing is counted")
        };
        let before = dropped()?;
        let sniffer = Sniffer::start(&scene.host)?;
        send(&scene.host, &frames)?;
        // Frames arrive in their order: once the last has come through, all have been judged.
        send(&scene.host, &[frame(OTHER_CLIENT_V4, Wrap::Plain, Carry::Udp(53), LAST)?])?;
        sniffer.wait_for(LAST)?;
        let expected = capture["dropped_packets"].as_u64().context("no figure")?;
        ensure!(expected > 0 && dropped()? - before == expected, "{} of {expected}", dropped()? - before);
        scene.end()?;
    }
    Ok(())
}

fn a_capture_is_judged_without_a_daemon_too() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = Plan::usual(&Key::generate("ES256", "key-1")?).write(folder.path())?;
    let (file, damaged) = (folder.path().join("traffic.pcap"), folder.path().join("damaged.pcap"));
    let bytes = pcap(&traffic()?)?;
    fs::write(&file, &bytes)?;
    fs::write(&damaged, &bytes[..bytes.len() - 1])?;
    let judge = |file: &Path| -> Result<Output> {
        Ok(verb("apply", &config)?.args(["--dry-run", "--json", "--pcap"]).arg(file).output()?)
    };
    for (file, packets, cut_off) in [(&file, 48, false), (&damaged, 47, true)] {
        let answer = judge(file)?;
        let report: Value = serde_json::from_slice(&answer.stdout)?;
        let capture = &report["capture"];
        ensure!(answer.status.success() && report["policy"].is_null(), "{report:#}");
        ensure!(capture["packets"] == packets && capture["cut_off"] == cut_off, "{report:#}");
        ensure!(capture["dropped_packets"] == 24 && capture["changes"].is_null(), "{report:#}");
        let list = &capture["top_dropped"][0]["list"];
        ensure!(*list == folder.path().join("deny.list").display().to_string(), "{report:#}");
    }
    let answer = judge(&config)?;
    ensure!(answer.status.code() == Some(1), "{answer:?}");
    ensure!(String::from_utf8_lossy(&answer.stderr).contains("neither a pcap"), "{answer:?}");
    // Without a capture there is nothing that could be said.
    let answer = verb("apply", &config)?.arg("--dry-run").output()?;
    ensure!(answer.status.code() == Some(69), "{answer:?}");
    Ok(())
}
