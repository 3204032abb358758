//! Bans: addresses that an operator blocks for a while.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use gatehouse_tests::client::{Attempt, Client};
use gatehouse_tests::daemon::{Daemon, verb};
use gatehouse_tests::host::CLIENT_V4;
use gatehouse_tests::plan::Plan;
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::promises;
use gatehouse_tests::raw::Session;
use gatehouse_tests::scene::Scene;
use gatehouse_tests::token::Key;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        a_banned_client_is_dropped_at_the_card_at_once_and_its_sessions_end,
        a_ban_ends_by_itself,
        a_lifted_ban_lets_the_client_in_again,
        a_ban_outlives_the_daemon,
        where_nothing_is_attached_a_banned_client_is_told_so_and_until_when,
        bans_that_cannot_be_read_are_put_aside_and_said,
        what_is_never_blocked_cannot_be_banned_and_is_said,
        everybody_cannot_be_banned,
    ])
}

fn scene(change: impl FnOnce(Plan) -> Plan) -> Result<Scene> {
    Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
        let more = plan.more.clone() + "[state]\nfolder = \"state\"\n";
        Ok(change(Plan { more, ..plan }))
    })
}

/// Runs the verb, which must succeed; what it said.
fn obey(scene: &Scene, name: &str, arguments: &[&str]) -> Result<String> {
    let output = verb(name, &scene.config())?.args(arguments).output()?;
    let said = String::from_utf8(output.stdout)? + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} {arguments:?}: {said}");
    Ok(said)
}

fn attempt(scene: &Scene) -> Result<Attempt> {
    Ok(Attempt::on("/chat").token(&scene.token()?))
}

fn a_banned_client_is_dropped_at_the_card_at_once_and_its_sessions_end() -> Result<()> {
    let scene = scene(|plan| plan)?;
    let attempt = attempt(&scene)?;
    let _session = Session::open(&scene.host, &attempt)?;
    let client = CLIENT_V4.to_string();
    obey(&scene, "ban", &[&client, "--for", "10m", "--reason", "too many failures"])?;
    let entry = scene.drops(Client::Raw, &attempt)?;
    let named = ["REASON", "TIER", "LIST"].map(|name| entry.field(name).unwrap_or_default());
    ensure!(named == ["banned", "ban", "bans of the operator"], "{}", entry.line);
    let end = scene.daemon.wait_for("the end of the session", PATIENCE, |entry| entry.says("ended"))?;
    ensure!(end.field("REASON") == Some("banned"), "{}", end.line);
    let listed: serde_json::Value = serde_json::from_str(&obey(&scene, "bans", &["--json"])?)?;
    let ban = &listed["bans"][0];
    ensure!(ban["origin"] == "operator" && ban["reason"] == "too many failures", "{listed:#}");
    ensure!(listed["dropped"].as_u64() > Some(0), "{listed:#}");
    let output = verb("explain", &scene.config())?.args(["--address", &client]).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(text.contains("firewall: banned") && text.contains("banned by the operator until"), "{text}");
    ensure!(text.contains("too many failures"), "{text}");
    scene.end()
}

fn a_ban_ends_by_itself() -> Result<()> {
    let scene = scene(|plan| plan)?;
    let attempt = attempt(&scene)?;
    let mark = scene.daemon.mark();
    obey(&scene, "ban", &[&CLIENT_V4.to_string(), "--for", "2s"])?;
    scene.drops(Client::Raw, &attempt)?;
    scene.daemon.wait_after(mark, "the end of the ban", PATIENCE, |entry| entry.line.contains("is over"))?;
    scene.daemon.wait_after(mark, "the policy without it", PATIENCE, |entry| {
        entry.line.contains("generation 3 is in force")
    })?;
    scene.admits(Client::Raw, &attempt)?;
    scene.end()
}

fn a_lifted_ban_lets_the_client_in_again() -> Result<()> {
    let scene = scene(|plan| plan)?;
    let (attempt, client) = (attempt(&scene)?, CLIENT_V4.to_string());
    obey(&scene, "ban", &[&client])?;
    scene.drops(Client::Raw, &attempt)?;
    obey(&scene, "unban", &[&client])?;
    scene.admits(Client::Raw, &attempt)?;
    let again = verb("unban", &scene.config())?.arg(&client).output()?;
    ensure!(again.status.code() == Some(1), "{again:?}");
    scene.end()
}

fn a_ban_outlives_the_daemon() -> Result<()> {
    let mut scene = scene(|plan| plan)?;
    let (attempt, client) = (attempt(&scene)?, CLIENT_V4.to_string());
    obey(&scene, "ban", &[&client])?;
    scene.daemon.kill()?;
    // Without a daemon, the file is asked.
    let output = verb("explain", &scene.config())?.args(["--address", &client]).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(text.contains("firewall: banned") && text.contains("no daemon running"), "{text}");
    scene.daemon = Daemon::start(&scene.host, &scene.config())?;
    scene.drops(Client::Raw, &attempt)?;
    scene.end()
}

fn where_nothing_is_attached_a_banned_client_is_told_so_and_until_when() -> Result<()> {
    let scene = scene(|plan| Plan { firewall: plan.firewall.replace("\"native\"", "\"off\""), ..plan })?;
    obey(&scene, "ban", &[&CLIENT_V4.to_string(), "--for", "5m", "--reason", "for the operator only"])?;
    let (rejection, entry) = scene.rejects(Client::Raw, &attempt(&scene)?, (403, "firewall", "banned"))?;
    let wait = rejection.answer.header("Retry-After").context("no Retry-After")?.parse::<u64>()?;
    ensure!((280..=300).contains(&wait), "Retry-After: {wait}");
    ensure!(entry.field("NOTE").is_some_and(|note| note.contains("for the operator only")), "{}", entry.line);
    ensure!(!rejection.answer.body.contains("for the operator only"), "{rejection:#?}");
    scene.end()
}

fn bans_that_cannot_be_read_are_put_aside_and_said() -> Result<()> {
    let mut scene = scene(|plan| plan)?;
    obey(&scene, "ban", &[&CLIENT_V4.to_string()])?;
    scene.daemon.stop()?;
    let file = scene.file("state/bans.json");
    let kept = fs::read_to_string(&file)?;
    fs::write(&file, &kept[..kept.len() / 2])?;
    scene.daemon = Daemon::start(&scene.host, &scene.config())?;
    ensure!(scene.daemon.log().iter().any(|entry| entry.line.contains("the bans cannot be read")));
    ensure!(fs::read_to_string(scene.file("state/bans.damaged"))? == kept[..kept.len() / 2]);
    scene.admits(Client::Raw, &attempt(&scene)?)?;
    scene.end()
}

fn what_is_never_blocked_cannot_be_banned_and_is_said() -> Result<()> {
    let scene = scene(|plan| {
        let firewall = plan.firewall.clone() + &format!("never_block = [\"{CLIENT_V4}\"]\n");
        Plan { firewall, ..plan }
    })?;
    let said = obey(&scene, "ban", &[&format!("{CLIENT_V4}/24")])?;
    ensure!(said.contains("is never blocked"), "{said}");
    scene.admits(Client::Raw, &attempt(&scene)?)?;
    scene.end()
}

fn everybody_cannot_be_banned() -> Result<()> {
    let scene = scene(|plan| plan)?;
    let output = verb("ban", &scene.config())?.arg("0.0.0.0/0").output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && said.contains("too wide"), "{said}");
    scene.admits(Client::Raw, &attempt(&scene)?)?;
    scene.end()
}
