//! List files that are edited while the daemon runs.

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use gatehouse_tests::client::{Attempt, Client};
use gatehouse_tests::daemon::verb;
use gatehouse_tests::host::{CLIENT_V4, CLIENT_V6, DENIED_RANGE_V4, DENIED_V4, OTHER_CLIENT_V4};
use gatehouse_tests::log::Entry;
use gatehouse_tests::plan::Plan;
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::promises;
use gatehouse_tests::raw::Session;
use gatehouse_tests::scene::{PROMPTLY, SILENCE, Scene, names_rule};
use gatehouse_tests::token::Key;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        an_address_added_to_a_deny_list_is_dropped_within_a_second_and_admitted_again_once_removed,
        a_list_rewritten_in_place_is_picked_up,
        a_new_file_that_a_glob_matches_is_picked_up_and_a_removed_one_let_go,
        a_broken_line_keeps_the_last_good_list_and_is_reported_with_its_place,
        explain_answers_with_the_live_lists_of_the_daemon,
        scores_comments_and_blank_lines_are_read_as_lists_have_them,
        what_nftables_and_ipset_really_print_is_read_as_they_hold_it,
        a_list_cannot_cut_the_host_off_from_its_gateway,
        one_line_of_a_long_list_comes_and_goes_and_every_other_line_is_named_where_it_stands,
    ])
}

/// Whether `entry` says that a generation is in force, at the card too.
fn in_force_again(entry: &Entry) -> bool {
    entry.line.contains(" is in force: ")
}

/// Does `edit`, and waits until its generation is in force.
fn in_force(scene: &Scene, edit: impl FnOnce() -> Result<()>) -> Result<()> {
    let mark = scene.daemon.mark();
    edit()?;
    scene.daemon.wait_after(mark, "the new generation", PROMPTLY, in_force_again)?;
    Ok(())
}

fn an_address_added_to_a_deny_list_is_dropped_within_a_second_and_admitted_again_once_removed() -> Result<()>
{
    let scene = Scene::usual()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let mut elsewhere = Session::open(&scene.host, &attempt.clone().from(OTHER_CLIENT_V4))?;
    scene.admits(Client::Raw, &attempt)?;

    let before = fs::read_to_string(scene.file("deny.list"))?;
    in_force(&scene, || scene.edit("deny.list", &format!("{before}{CLIENT_V4}\n")))?;
    let entry = scene.drops(Client::Raw, &attempt)?;
    names_rule(&entry, &scene.file("deny.list"), 4, &format!("{CLIENT_V4}/32"))?;
    ensure!(elsewhere.echo("still here")? == "still here");

    in_force(&scene, || scene.edit("deny.list", &before))?;
    scene.admits(Client::Raw, &attempt)?;
    ensure!(elsewhere.echo("and here")? == "and here");
    // An open session would make the daemon wait for its end.
    drop(elsewhere);
    scene.end()
}

fn a_list_rewritten_in_place_is_picked_up() -> Result<()> {
    let scene = Scene::usual()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    in_force(&scene, || Ok(fs::write(scene.file("deny.list"), format!("{CLIENT_V6}\n"))?))?;
    scene.drops(Client::Raw, &attempt.clone().from(CLIENT_V6))?;
    scene.admits(Client::Raw, &attempt.from(DENIED_V4))?;
    scene.end()
}

fn a_new_file_that_a_glob_matches_is_picked_up_and_a_removed_one_let_go() -> Result<()> {
    let scene = Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
        let firewall = plan.firewall.replace("deny.list", "*.deny");
        Ok(Plan { firewall, ..plan }.file("one.deny", format!("{DENIED_RANGE_V4}\n")))
    })?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    in_force(&scene, || scene.edit("two.deny", &format!("# new\n\n{CLIENT_V4}/31\n")))?;
    let entry = scene.drops(Client::Raw, &attempt)?;
    names_rule(&entry, &scene.file("two.deny"), 3, &format!("{CLIENT_V4}/31"))?;
    in_force(&scene, || Ok(fs::remove_file(scene.file("one.deny"))?))?;
    scene.admits(Client::Raw, &attempt.from(DENIED_V4))?;
    scene.end()
}

fn a_broken_line_keeps_the_last_good_list_and_is_reported_with_its_place() -> Result<()> {
    let scene = Scene::usual()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let mark = scene.daemon.mark();
    scene.edit("deny.list", &format!("{CLIENT_V4}\n  1.2.3.45.6.7.8\n"))?;
    let place = format!("{}:2:3: ", scene.file("deny.list").display());
    scene.daemon.wait_after(mark, "the place of the fault", PROMPTLY, |entry| entry.line.contains(&place))?;
    // Neither the good half of the new list is in force, nor is the old list gone.
    scene.admits(Client::Raw, &attempt)?;
    let denied = attempt.clone().from(DENIED_V4).patient_for(SILENCE);
    denied.by(Client::Raw, &scene.host)?.unanswered()?;
    let status = scene.daemon.status()?;
    ensure!(status["policy"]["lists"].to_string().contains("1.2.3.45.6.7.8"), "{status:#}");
    // And once mended, it is.
    in_force(&scene, || scene.edit("deny.list", &format!("{CLIENT_V4}\n")))?;
    scene.drops(Client::Raw, &attempt)?;
    scene.end()
}

fn scores_comments_and_blank_lines_are_read_as_lists_have_them() -> Result<()> {
    let list = format!("# scores follow a tab\r\n\r\n{DENIED_V4}\t7\r\n{CLIENT_V4} # why\n");
    let scene = Scene::with(Key::generate("ES256", "key-1")?, |_, plan| Ok(plan.file("deny.list", list)))?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    for (source, line) in [(DENIED_V4, 3), (CLIENT_V4, 4)] {
        let entry = scene.drops(Client::Raw, &attempt.clone().from(source))?;
        names_rule(&entry, &scene.file("deny.list"), line, &format!("{source}/32"))?;
    }
    scene.admits(Client::Raw, &attempt.from(OTHER_CLIENT_V4))?;
    scene.end()
}

fn explain_answers_with_the_live_lists_of_the_daemon() -> Result<()> {
    let scene = Scene::usual()?;
    in_force(&scene, || scene.edit("deny.list", &format!("# new\n{CLIENT_V4}\n")))?;
    let mut explain = verb("explain", &scene.config())?;
    let answer = explain.args(["--json", "--address", &CLIENT_V4.to_string()]).output()?;
    let report: serde_json::Value = serde_json::from_slice(&answer.stdout)?;
    ensure!(answer.status.code() == Some(1) && report["live"] == true, "{report:#}");
    let rejection = &report["rejection"];
    ensure!(rejection["layer"] == "firewall" && rejection["reason"] == "denied_range", "{report:#}");
    let rule = &rejection["rule"];
    ensure!(rule["list"] == scene.file("deny.list").display().to_string() && rule["line"] == 2, "{report:#}");
    ensure!(rule["generation"] == scene.daemon.status()?["policy"]["generation"], "{report:#}");
    scene.end()
}

fn one_line_of_a_long_list_comes_and_goes_and_every_other_line_is_named_where_it_stands() -> Result<()> {
    const LONG: u32 = 100_000;
    let addresses = (0..LONG).map(|n| Ipv4Addr::from_bits(0x2d00_0000 + n * 3));
    let mut lines: Vec<String> = addresses.map(|address| address.to_string()).collect();
    lines.push(DENIED_V4.to_string());
    let text = |lines: &[String]| lines.join("\n") + "\n";
    let list = text(&lines);
    let scene = Scene::with(Key::generate("ES256", "key-1")?, |_, plan| Ok(plan.file("deny.list", list)))?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let file = scene.file("deny.list");
    let last = u64::from(LONG) + 1;
    let names_last = |line| -> Result<()> {
        let entry = scene.drops(Client::Raw, &attempt.clone().from(DENIED_V4))?;
        names_rule(&entry, &file, line, &format!("{DENIED_V4}/32"))?;
        // Of an address in the middle, which nobody here has, by `explain`.
        let mut explain = verb("explain", &scene.config())?;
        let answer = explain.args(["--json", "--address", "45.0.234.96"]).output()?;
        let report: serde_json::Value = serde_json::from_slice(&answer.stdout)?;
        ensure!(report["live"] == true && report["rejection"]["rule"]["line"] == line - 80_000, "{report:#}");
        Ok(())
    };
    let packets = || -> Result<u64> {
        scene.daemon.status()?["policy"]["lists"]
            .as_array()
            .and_then(|lists| lists.iter().find(|list| list["list"] == file.display().to_string()))
            .and_then(|list| list["packets"].as_u64())
            .context("the list's packets")
    };
    names_last(last)?;
    let mut counted = packets()?;
    ensure!(counted > 0, "the drop is not counted");
    let mut go_on = || -> Result<()> {
        let before = std::mem::replace(&mut counted, packets()?);
        ensure!(counted >= before, "{before} packets were counted before the edit, {counted} after it");
        Ok(())
    };
    for at in [0, 20_000, 10] {
        in_force(&scene, || {
            lines.insert(at, CLIENT_V4.to_string());
            scene.edit("deny.list", &text(&lines))
        })?;
        go_on()?;
        let entry = scene.drops(Client::Raw, &attempt)?;
        names_rule(&entry, &file, at as u64 + 1, &format!("{CLIENT_V4}/32"))?;
        names_last(last + 1)?;
        in_force(&scene, || {
            lines.remove(at);
            scene.edit("deny.list", &text(&lines))
        })?;
        go_on()?;
        scene.admits(Client::Raw, &attempt)?;
        names_last(last)?;
    }
    scene.end()
}

fn a_list_cannot_cut_the_host_off_from_its_gateway() -> Result<()> {
    let scene = Scene::usual()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let routed = format!("route add 192.0.2.0/24 via {CLIENT_V4}");
    let mark = scene.daemon.mark();
    scene.host.gate.ip(&routed)?;
    // Routes change without an event for files: the daemon looks every few seconds.
    scene.daemon.wait_after(mark, "the protected gateway", PATIENCE, in_force_again)?;

    let mark = scene.daemon.mark();
    in_force(&scene, || scene.edit("deny.list", &format!("# all of the network\n{CLIENT_V4}/24\n")))?;
    let place = format!("{}:2:", scene.file("deny.list").display());
    scene.daemon.wait_after(mark, "the report", PATIENCE, |entry| {
        entry.line.contains(&place) && entry.says("protected")
    })?;
    scene.admits(Client::Raw, &attempt)?;
    scene.drops(Client::Raw, &attempt.clone().from(OTHER_CLIENT_V4))?;

    let mark = scene.daemon.mark();
    scene.host.gate.ip(&routed.replace("add", "del"))?;
    scene.daemon.wait_after(mark, "that it is no gateway any more", PATIENCE, in_force_again)?;
    scene.drops(Client::Raw, &attempt)?;
    scene.end()
}

fn what_nftables_and_ipset_really_print_is_read_as_they_hold_it() -> Result<()> {
    const NFT: &str = "add table inet gate
add set inet gate blocked { type ipv4_addr; flags interval,timeout; counter; auto-merge; }
add set inet gate blocked6 { type ipv6_addr; flags interval; }
add element inet gate blocked { 45.1.0.0/16, 45.3.7.9, 45.4.0.5-45.4.1.77 timeout 1h comment \"a mail host\" }
add element inet gate blocked6 { 2a01:db8::/33, 2a02::7-2a02::1:3, 2a03::1 }
";
    const IPSET: &str = "create nets hash:net family inet counters comment timeout 0
add nets 45.5.0.0/17 comment \"seen twice\"
add nets 45.6.0.1 timeout 600
create nets6 hash:net family inet6
add nets6 2a04:1::/32
";
    // What they hold, and what stands next to it.
    const HELD: [&str; 16] = [
        "45.1.0.0",
        "45.1.255.255",
        "45.3.7.9",
        "45.4.0.5",
        "45.4.1.77",
        "45.5.0.0",
        "45.5.127.255",
        "45.6.0.1",
        "2a01:db8::",
        "2a01:db8:7fff:ffff:ffff:ffff:ffff:ffff",
        "2a02::7",
        "2a02::1:3",
        "2a03::1",
        "2a04:1::",
        "2a04:1:ffff:ffff:ffff:ffff:ffff:ffff",
        "45.4.0.255",
    ];
    const BESIDE: [&str; 16] = [
        "45.0.255.255",
        "45.2.0.0",
        "45.3.7.8",
        "45.3.7.10",
        "45.4.0.4",
        "45.4.1.78",
        "45.4.255.255",
        "45.5.128.0",
        "45.6.0.0",
        "45.6.0.2",
        "2a01:db7:ffff::",
        "2a01:db8:8000::",
        "2a02::6",
        "2a02::1:4",
        "2a03::2",
        "2a04:2::",
    ];
    let scene = Scene::with(Key::generate("ES256", "key-1")?, |_, mut plan| {
        plan.firewall = plan.firewall.replace("[\"deny.list\"]", "[\"*.list\"]");
        Ok(plan)
    })?;
    let gate = &scene.host.gate;
    let print = |program: &str, arguments: &[&str]| -> Result<String> {
        let output = gate.command(Command::new(program).args(arguments)).output()?;
        ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    let feed = |program: &str, argument: &str, script: &str| -> Result<()> {
        fs::write(scene.file("script"), script)?;
        let file = fs::File::open(scene.file("script"))?;
        let status = gate.command(Command::new(program).arg(argument)).stdin(file).status()?;
        ensure!(status.success(), "{program} {argument}: {status}");
        Ok(())
    };
    // `-f -` in one argument.
    feed("nft", "-f-", NFT)?;
    feed("ipset", "restore", IPSET)?;
    for (file, dump) in [
        ("nft.list", print("nft", &["list", "set", "inet", "gate", "blocked"])?),
        ("nft6.list", print("nft", &["list", "set", "inet", "gate", "blocked6"])?),
        ("ipset.list", print("ipset", &["save"])?),
    ] {
        in_force(&scene, || scene.edit(file, &dump)).context(dump)?;
    }
    for (addresses, held) in [(HELD, true), (BESIDE, false)] {
        for address in addresses {
            let mut explain = verb("explain", &scene.config())?;
            let answer = explain.args(["--json", "--address", address]).output()?;
            let report: serde_json::Value = serde_json::from_slice(&answer.stdout)?;
            ensure!((report["rejection"]["layer"] == "firewall") == held, "{address}: {report:#}");
        }
    }
    scene.end()
}
