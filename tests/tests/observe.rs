//! Lists that are observed: what they would drop passes, and is told.

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use gatehouse_tests::client::{Attempt, Client};
use gatehouse_tests::daemon::verb;
use gatehouse_tests::host::{CLIENT_V4, DENIED_RANGE_V4, DENIED_V4, DENIED_V6};
use gatehouse_tests::order::scene;
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::promises;
use gatehouse_tests::scene::{PROMPTLY, Scene, names_rule};

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        an_observed_list_drops_nobody_and_reports_whom_it_would_drop,
        an_observed_client_is_admitted_at_the_gateway_and_noted,
    ])
}

/// The usual system whose list is observed.
fn observing(more: &str) -> Result<Scene> {
    scene(|firewall| firewall.replace("[\"deny.list\"]", "[{ list = \"deny.list\", observe = true }]") + more)
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
