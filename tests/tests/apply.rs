//! Edits that are put in force by order, on trial, or only for show; lists that are only observed.

use std::fs;
use std::path::Path;
use std::process::{ExitCode, Output};

use anyhow::{Context as _, Result, ensure};
use gatehouse_tests::client::{Attempt, Client, GATE_PORT};
use gatehouse_tests::daemon::verb;
use gatehouse_tests::frame::{Carry, Sniffer, Wrap, frame, send};
use gatehouse_tests::host::{CLIENT_V4, DENIED_RANGE_V4, DENIED_V4, DENIED_V6, OTHER_CLIENT_V4};
use gatehouse_tests::plan::Plan;
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::promises;
use gatehouse_tests::raw::Session;
use gatehouse_tests::scene::{PROMPTLY, Scene, names_rule};
use gatehouse_tests::token::Key;
use serde_json::Value;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        an_observed_list_drops_nobody_and_reports_whom_it_would_drop,
        an_observed_client_is_admitted_at_the_gateway_and_noted,
        edits_wait_for_apply_where_the_configuration_says_so,
        a_policy_that_cuts_its_own_operator_off_is_taken_back_with_nobody_there,
        a_confirmed_policy_stays,
        a_policy_on_trial_is_taken_back_by_order_and_edits_wait_meanwhile,
        apply_reads_the_address_policy_anew_and_names_what_needs_a_restart,
        a_fault_in_the_configuration_or_in_a_list_changes_nothing,
        a_dry_run_changes_nothing_and_names_the_clients_that_would_be_dropped,
        a_dry_run_over_a_capture_drops_exactly_what_the_card_then_drops,
        a_capture_is_judged_without_a_daemon_too,
        explain_tells_how_many_packets_the_list_has_decided,
    ])
}

/// The usual system with a changed `[firewall]`.
fn scene(change: impl FnOnce(String) -> String) -> Result<Scene> {
    Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
        let firewall = change(plan.firewall.clone());
        Ok(Plan { firewall, ..plan })
    })
}

/// The usual system in which edits wait.
fn manual() -> Result<Scene> {
    scene(|firewall| firewall + "reload = \"manual\"\n")
}

/// The usual system whose list is observed.
fn observing(more: &str) -> Result<Scene> {
    scene(|firewall| firewall.replace("[\"deny.list\"]", "[{ list = \"deny.list\", observe = true }]") + more)
}

/// What `gatehouse apply` answers: exit code, report, standard error.
fn apply(scene: &Scene, arguments: &str) -> Result<(Option<i32>, Value, String)> {
    let Output { status, stdout, stderr } =
        verb("apply", &scene.config())?.arg("--json").args(arguments.split_whitespace()).output()?;
    let report = if stdout.is_empty() { Value::Null } else { serde_json::from_slice(&stdout)? };
    Ok((status.code(), report, String::from_utf8_lossy(&stderr).into_owned()))
}

/// The report of an order that is carried out.
fn applied(scene: &Scene, arguments: &str) -> Result<Value> {
    let (code, report, errors) = apply(scene, arguments)?;
    ensure!(code == Some(0), "apply {arguments}: {code:?}, {errors}");
    Ok(report)
}

fn policy(scene: &Scene) -> Result<Value> {
    Ok(scene.daemon.status()?["policy"].clone())
}

/// Edits a list, and waits until the daemon has seen that it waits.
fn edit_and_see_it_wait(scene: &Scene, name: &str, content: &str) -> Result<()> {
    let mark = scene.daemon.mark();
    scene.edit(name, content)?;
    scene.daemon.wait_after(mark, "that the edit waits", PROMPTLY, |entry| {
        entry.line.contains("edits of lists wait")
    })?;
    Ok(())
}

fn an_observed_list_drops_nobody_and_reports_whom_it_would_drop() -> Result<()> {
    let scene = observing("")?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    for (source, line) in [(DENIED_V4, 2), (DENIED_V6, 3)] {
        scene.admits(Client::Raw, &attempt.clone().from(source))?;
        let entry = scene.daemon.wait_for("the observation", PROMPTLY, |entry| {
            entry.is_observation() && entry.client() == Some(source) && entry.field("POINT") == Some("nic")
        })?;
        let prefix = entry.field("PREFIX").unwrap_or_default().to_owned();
        names_rule(&entry, &scene.file("deny.list"), line, &prefix)?;
        ensure!(
            entry.number("PACKETS") >= Some(1) && entry.field("TIER") == Some("observe"),
            "{}",
            entry.line
        );
        ensure!(entry.field("LAYER").is_none() && entry.field("REASON").is_none(), "{}", entry.line);
    }
    scene.admits(Client::Raw, &attempt.from(CLIENT_V4))?;
    let status = scene.daemon.status()?;
    let list = &status["policy"]["lists"];
    let observed = list.as_array().into_iter().flatten().find(|list| list["tier"] == "observe");
    let packets = observed.and_then(|list| list["packets"].as_u64()).context("no observed list")?;
    ensure!(packets >= 6 && status["packets"]["dropped"] == 0, "{status:#}");
    let log = scene.daemon.log();
    ensure!(!log.iter().any(|entry| entry.field("LAYER").is_some()), "something was rejected");
    ensure!(!log.iter().any(|entry| entry.is_observation() && entry.client() == Some(CLIENT_V4)));
    scene.end()
}

fn an_observed_client_is_admitted_at_the_gateway_and_noted() -> Result<()> {
    let scene = scene(|firewall| {
        firewall
            .replace("\"native\"", "\"off\"")
            .replace("[\"deny.list\"]", "[{ list = \"deny.list\", observe = true }]")
    })?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    scene.admits(Client::Raw, &attempt.from(DENIED_V4))?;
    let admitted = scene.daemon.wait_for("the admission", PATIENCE, |entry| entry.says("admitted"))?;
    let noted = scene.daemon.wait_for("the note", PATIENCE, |entry| entry.is_observation())?;
    ensure!(noted.field("POINT") == Some("gateway") && noted.field("ID") == admitted.field("ID"));
    names_rule(&noted, &scene.file("deny.list"), 2, DENIED_RANGE_V4)?;

    let mut explain = verb("explain", &scene.config())?;
    let answer = explain.args(["--address", &DENIED_V4.to_string()]).output()?;
    let text = String::from_utf8(answer.stdout)?;
    ensure!(answer.status.success() && text.contains("would be dropped if its list were enforced"), "{text}");
    ensure!(text.contains(&format!("{}:2", scene.file("deny.list").display())), "{text}");
    scene.end()
}

fn edits_wait_for_apply_where_the_configuration_says_so() -> Result<()> {
    let scene = manual()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    edit_and_see_it_wait(&scene, "deny.list", &format!("{CLIENT_V4}\n10.66.0.0/15\n"))?;
    scene.admits(Client::Raw, &attempt)?;
    let status = policy(&scene)?;
    ensure!(status["edits_wait"] == true && status["generation"] == 1, "{status:#}");

    let report = applied(&scene, "")?;
    ensure!(report["applied"] == true && report["generation"] == 2, "{report:#}");
    let list = report["lists"].as_array().into_iter().flatten().find(|list| list["tier"] == "deny");
    let list = list.context("the list is not in the report")?;
    ensure!([&list["prefixes"], &list["added"], &list["removed"]] == [2, 2, 2], "{report:#}");
    ensure!(report["dropped"]["ipv4"] == 1 + (1 << 16), "{report:#}");
    ensure!(report["passing"]["ipv6_networks"] == 1u64 << 32, "{report:#}");
    scene.drops(Client::Raw, &attempt)?;
    scene.admits(Client::Raw, &attempt.from(DENIED_V6))?;
    let status = policy(&scene)?;
    ensure!(status["edits_wait"] == false && status["generation"] == 2, "{status:#}");
    let again = applied(&scene, "")?;
    ensure!(again["applied"] == false && again["dropped"]["ipv4"] == 0, "{again:#}");
    scene.end()
}

/// The command that ordered the trial has long ended: the daemon alone watches the clock.
fn a_policy_that_cuts_its_own_operator_off_is_taken_back_with_nobody_there() -> Result<()> {
    let scene = manual()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let before = fs::read_to_string(scene.file("deny.list"))?;
    scene.edit("deny.list", &format!("{before}{CLIENT_V4}\n"))?;
    let report = applied(&scene, "--confirm 5s")?;
    ensure!(report["applied"] == true && report["confirm_within_s"].as_u64() > Some(0), "{report:#}");
    scene.drops(Client::Raw, &attempt)?;
    ensure!(policy(&scene)?["trial_s"].as_u64() > Some(0), "{:#}", policy(&scene)?);

    scene.daemon.wait_for("the return", PATIENCE, |entry| entry.line.contains("not confirmed in time"))?;
    scene.admits(Client::Raw, &attempt)?;
    // The list that was denied before still is, and the edit waits in its file.
    scene.drops(Client::Raw, &attempt.clone().from(DENIED_V4))?;
    let status = policy(&scene)?;
    ensure!(status["edits_wait"] == true && status["trial_s"].is_null(), "{status:#}");
    ensure!(status["reverted"].as_str().is_some_and(|text| text.contains("generation 2")), "{status:#}");
    let (code, _, errors) = apply(&scene, "--confirmed")?;
    ensure!(code == Some(1) && errors.contains("not confirmed in time"), "{errors}");
    scene.end()
}

fn a_confirmed_policy_stays() -> Result<()> {
    let scene = manual()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    scene.edit("deny.list", &format!("{CLIENT_V4}\n"))?;
    applied(&scene, "--confirm 1h")?;
    applied(&scene, "--confirmed")?;
    let status = policy(&scene)?;
    ensure!(status["trial_s"].is_null() && status["reverted"].is_null(), "{status:#}");
    scene.drops(Client::Raw, &attempt)?;
    // There is nothing left that could be taken back.
    let (code, _, errors) = apply(&scene, "--revert")?;
    ensure!(code == Some(1) && errors.contains("no policy is on trial"), "{errors}");
    scene.drops(Client::Raw, &attempt)?;
    scene.end()
}

/// With `reload = "auto"`, the configuration itself is what needs an order.
fn a_policy_on_trial_is_taken_back_by_order_and_edits_wait_meanwhile() -> Result<()> {
    let scene = Scene::usual()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let config = fs::read_to_string(scene.config())?;
    let list = fs::read_to_string(scene.file("deny.list"))?;
    scene.edit("more.list", &format!("{CLIENT_V4}\n"))?;
    scene.edit("gatehouse.toml", &config.replace("[\"deny.list\"]", "[\"deny.list\", \"more.list\"]"))?;
    applied(&scene, "--confirm 1h")?;
    scene.drops(Client::Raw, &attempt)?;
    let (code, _, errors) = apply(&scene, "")?;
    ensure!(code == Some(1) && errors.contains("on trial"), "{errors}");

    edit_and_see_it_wait(&scene, "deny.list", &format!("{list}{OTHER_CLIENT_V4}\n"))?;
    scene.admits(Client::Raw, &attempt.clone().from(OTHER_CLIENT_V4))?;
    applied(&scene, "--revert")?;
    scene.admits(Client::Raw, &attempt)?;
    scene.admits(Client::Raw, &attempt.clone().from(OTHER_CLIENT_V4))?;
    ensure!(policy(&scene)?["edits_wait"] == true, "{:#}", policy(&scene)?);

    // The next edit is in force by itself again, and what was tried is still not.
    let mark = scene.daemon.mark();
    scene.edit("deny.list", &format!("{OTHER_CLIENT_V4}\n"))?;
    scene.daemon.wait_after(mark, "the new list", PROMPTLY, |entry| entry.line.contains(" is in force: "))?;
    scene.drops(Client::Raw, &attempt.clone().from(OTHER_CLIENT_V4))?;
    scene.admits(Client::Raw, &attempt)?;
    let status = policy(&scene)?;
    ensure!(status["edits_wait"] == false && status["reverted"].is_null(), "{status:#}");
    scene.end()
}

fn apply_reads_the_address_policy_anew_and_names_what_needs_a_restart() -> Result<()> {
    let scene = Scene::usual()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let config = fs::read_to_string(scene.config())?;
    let edited = config.replace(
        "ports = \"all\"",
        &format!("ports = [22]\ndefault = \"drop\"\nnever_block = [\"{CLIENT_V4}\"]"),
    );
    scene.edit("gatehouse.toml", &(edited + "[limits]\nrequest_headers = 50\n"))?;
    let report = applied(&scene, "")?;
    let restart = report["restart_needed"].to_string();
    ensure!(restart == "[\"[limits]\",\"[firewall] ports\"]", "{report:#}");
    // Every port is still guarded, by the new default.
    scene.admits(Client::Raw, &attempt)?;
    let entry = scene.drops(Client::Raw, &attempt.from(OTHER_CLIENT_V4))?;
    ensure!(entry.field("REASON") == Some("not_allowed"), "{}", entry.line);
    scene.end()
}

fn a_fault_in_the_configuration_or_in_a_list_changes_nothing() -> Result<()> {
    let scene = manual()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let config = fs::read_to_string(scene.config())?;
    let list = scene.file("deny.list").display().to_string();
    edit_and_see_it_wait(&scene, "deny.list", &format!("{CLIENT_V4}\n"))?;
    scene.edit("deny.list", &format!("{CLIENT_V4}\n  1.2.3.45.6.7.8\n"))?;
    for arguments in ["", "--confirm 1h", "--dry-run"] {
        let (code, _, errors) = apply(&scene, arguments)?;
        ensure!(code == Some(78) && errors.contains(&format!("{list}:2:3: ")), "{code:?} {errors}");
    }
    scene.edit("gatehouse.toml", &config.replace("[\"deny.list\"]", "[\"deny.list\", \"[\"]"))?;
    let place = format!("{}:", scene.config().display());
    // The daemon reads its own file, whatever the command was given.
    scene.edit("other.toml", &config)?;
    for file in [scene.config(), scene.file("other.toml")] {
        let answer = verb("apply", &file)?.output()?;
        let errors = String::from_utf8_lossy(&answer.stderr);
        ensure!(answer.status.code() == Some(78) && errors.contains(&place), "{errors}");
    }
    scene.edit("gatehouse.toml", &config)?;
    scene.admits(Client::Raw, &attempt)?;
    scene.drops(Client::Raw, &attempt.from(DENIED_V4))?;
    ensure!(policy(&scene)?["generation"] == 1, "{:#}", policy(&scene)?);
    scene.end()
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

fn explain_tells_how_many_packets_the_list_has_decided() -> Result<()> {
    let scene = Scene::usual()?;
    let explain = || -> Result<Value> {
        let mut explain = verb("explain", &scene.config())?;
        let answer = explain.args(["--json", "--address", &DENIED_V4.to_string()]).output()?;
        Ok(serde_json::from_slice(&answer.stdout)?)
    };
    ensure!(explain()?["packets"]["dropped"] == 0, "{:#}", explain()?);
    scene.drops(Client::Raw, &Attempt::on("/chat").from(DENIED_V4))?;
    let report = explain()?;
    ensure!(report["packets"]["dropped"].as_u64() >= Some(1), "{report:#}");
    ensure!(report["packets"]["passed"] == 0, "{report:#}");
    scene.end()
}
