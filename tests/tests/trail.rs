//! The audit trail: whoever was turned away can be found in it and helped, and no attack fills it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use gatehouse_tests::admin::{TABLE, metrics, sample};
use gatehouse_tests::client::{Attempt, Client};
use gatehouse_tests::daemon::verb;
use gatehouse_tests::host::{CLIENT_V4, DENIED_V4};
use gatehouse_tests::plan::Plan;
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::promises;
use gatehouse_tests::raw::Session;
use gatehouse_tests::scene::Scene;
use gatehouse_tests::token::Key;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        an_attack_does_not_fill_the_trail_and_no_rejection_is_missing_from_its_counts,
        each_rejection_of_a_client_that_tries_again_now_and_then_is_found_by_its_id,
        a_past_rejection_is_explained_by_the_id_that_the_client_was_told,
        an_open_session_is_explained_listed_and_closed_by_its_id,
        an_unknown_id_is_told_apart_from_an_answer,
        a_long_work_says_on_a_terminal_how_far_it_is_and_takes_that_away_again,
        later_layers_that_would_reject_as_well_are_named,
        top_shows_a_rejection_as_it_happens_and_explains_its_client,
    ])
}

fn scene(more: &str) -> Result<Scene> {
    Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
        Ok(Plan { more: plan.more.clone() + TABLE + more, ..plan })
    })
}

/// What the trail says of handshakes without a token: its lines, and the rejections that they stand for.
fn missing(scene: &Scene) -> (u64, u64) {
    let entries = scene.daemon.log();
    let of_it = entries.iter().filter(|entry| entry.field("REASON") == Some("missing"));
    of_it.fold((0, 0), |(lines, all), entry| (lines + 1, all + entry.number("REPEATS").unwrap_or(1)))
}

fn an_attack_does_not_fill_the_trail_and_no_rejection_is_missing_from_its_counts() -> Result<()> {
    const ATTEMPTS: u64 = 3_000;
    let mut scene = scene("[limits]\nhandshake_rate_per_address = 0\n")?;
    let attempt = Attempt::on("/chat");
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        last = attempt.by(Client::Raw, &scene.host)?.rejected()?.id;
    }
    let metrics = metrics(&scene.host)?;
    let counted =
        sample(&metrics, "gatehouse_rejections_total", &[("reason", "missing"), ("point", "gateway")]);
    ensure!(counted == ATTEMPTS as f64, "{counted} of {ATTEMPTS} were counted");
    // What is held is written at the end.
    scene.daemon.stop()?;
    let (lines, all) = missing(&scene);
    ensure!(all == ATTEMPTS, "{lines} lines stand for {all} of {ATTEMPTS} rejections");
    ensure!(lines <= 20 + 12, "{lines} lines");
    ensure!(
        scene.daemon.log().iter().any(|entry| entry.line.contains(&last)),
        "the last id is not in the trail"
    );
    Ok(())
}

fn each_rejection_of_a_client_that_tries_again_now_and_then_is_found_by_its_id() -> Result<()> {
    let scene = scene("")?;
    let ids: Vec<String> = (0..20)
        .map(|_| Ok(Attempt::on("/chat").by(Client::Raw, &scene.host)?.rejected()?.id))
        .collect::<Result<_>>()?;
    for id in &ids {
        scene.daemon.wait_for("the id in the trail", PATIENCE, |entry| entry.line.contains(id.as_str()))?;
    }
    scene.end()
}

fn explain(scene: &Scene, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let output = verb("explain", &scene.config())?.args(arguments).output()?;
    let text = String::from_utf8(output.stdout)? + &String::from_utf8_lossy(&output.stderr);
    Ok((output.status.code(), text))
}

fn a_past_rejection_is_explained_by_the_id_that_the_client_was_told() -> Result<()> {
    let scene = scene("")?;
    let token = scene.sign(gatehouse_tests::plan::good_token()?.claim("scope", "other"))?;
    let attempt = Attempt::on("/chat").token(&token);
    let id = attempt.by(Client::Raw, &scene.host)?.rejected()?.id;
    scene.daemon.wait_for("the rejection", PATIENCE, |entry| entry.field("ID") == Some(&id))?;
    let (code, text) = explain(&scene, &["--id", &id])?;
    for expected in [
        "scope/insufficient_scope",
        "recorded at",
        &CLIENT_V4.to_string(),
        "/chat",
        "operator:",
        "How such a client would fare now",
    ] {
        ensure!(text.contains(expected), "{expected} is missing in\n{text}");
    }
    ensure!(code == Some(0), "by now, address and route are let through: {text}");
    ensure!(!text.contains(&token), "the token is told");
    let (_, json) = explain(&scene, &["--id", &id, "--json"])?;
    let report: serde_json::Value = serde_json::from_str(&json)?;
    ensure!(report["past"]["fields"].to_string().contains("insufficient_scope"), "{report:#}");
    ensure!(
        report["steps"].as_array().is_some_and(|steps| steps.iter().any(|step| step["layer"] == "limit"))
    );
    scene.end()
}

fn an_open_session_is_explained_listed_and_closed_by_its_id() -> Result<()> {
    let scene = scene("")?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let mut session = Session::open(&scene.host, &attempt)?;
    session.echo("hello")?;
    let listed = verb("sessions", &scene.config())?.arg("--json").output()?;
    let list: serde_json::Value = serde_json::from_slice(&listed.stdout)?;
    let one = &list["sessions"][0];
    let id = one["id"].as_str().context("no session is listed")?.to_owned();
    ensure!(list["open"] == 1 && one["route"] == "/chat", "{list:#}");
    ensure!(one["bytes_up"].as_u64() > Some(0) && one["bytes_down"].as_u64() > Some(0), "{list:#}");
    let (code, text) = explain(&scene, &["--id", &id])?;
    ensure!(code == Some(0) && text.contains("open since") && text.contains("1 of"), "{text}");
    ensure!(text.contains("ends by expiry/session_expired at "), "{text}");
    let table = verb("sessions", &scene.config())?.output()?;
    let table = String::from_utf8(table.stdout)?;
    ensure!(table.contains(&id) && table.contains("1 open, 1 found, 1 shown"), "{table}");

    let closed = verb("close", &scene.config())?.arg(&id).output()?;
    ensure!(closed.status.success(), "{}", String::from_utf8_lossy(&closed.stderr));
    ensure!(session.closed()? == 1001);
    let end = scene.daemon.wait_for("the end", PATIENCE, |entry| entry.says("ended"))?;
    ensure!(end.line.contains("an operator closed it") && end.field("ID") == Some(&id), "{}", end.line);
    let again = verb("close", &scene.config())?.arg(&id).output()?;
    ensure!(again.status.code() == Some(1), "{}", String::from_utf8_lossy(&again.stderr));
    scene.end()
}

fn an_unknown_id_is_told_apart_from_an_answer() -> Result<()> {
    let scene = scene("")?;
    let (code, text) = explain(&scene, &["--id", "00000000000000000000"])?;
    ensure!(code == Some(66) && text.contains("nor the journal knows"), "{code:?} {text}");
    scene.end()
}

fn a_long_work_says_on_a_terminal_how_far_it_is_and_takes_that_away_again() -> Result<()> {
    let scene = scene("")?;
    // A journal that takes until a key is pressed.
    let folder = tempfile::tempdir()?;
    let slow = folder.path().join("journalctl");
    fs::write(&slow, "#!/bin/sh\nread -r _ < /dev/tty\n")?;
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755))?;
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH")?);
    let steps = serde_json::json!([["asking the journal: ", "\r"]]);
    let mut screen = gatehouse_tests::tools::python("on_screen.py")?;
    screen.env("PATH", path).arg(steps.to_string()).arg(gatehouse_tests::tools::gatehouse()?);
    screen.args(["explain", "--id", "00000000000000000000", "--config"]).arg(scene.config());
    let output = screen.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(66) && said.contains("steps left: 0"), "{said}");
    // On a line of its own again, and in a pipe there is nothing of it.
    ensure!(
        said.contains("\rgatehouse: neither a running daemon") || said.contains("\ngatehouse: neither"),
        "{said}"
    );
    let (_, piped) = explain(&scene, &["--id", "00000000000000000000"])?;
    ensure!(!piped.contains("asking"), "{piped}");
    scene.end()
}

fn later_layers_that_would_reject_as_well_are_named() -> Result<()> {
    let scene = scene("")?;
    // An upstream that is down is known to be so after somebody has tried.
    scene.rejects(
        Client::Raw,
        &Attempt::on("/down").token(&scene.token()?),
        (502, "upstream", "unreachable"),
    )?;
    let (code, text) =
        explain(&scene, &["--address", &DENIED_V4.to_string(), "--path", "/down", "--token", "x"])?;
    ensure!(code == Some(1) && text.contains("rejected by firewall: denied_range"), "{text}");
    ensure!(text.contains("later it would be rejected by: credentials, upstream"), "{text}");
    scene.end()
}

fn top_shows_a_rejection_as_it_happens_and_explains_its_client() -> Result<()> {
    let scene = scene("")?;
    scene.rejects(Client::Raw, &Attempt::on("/chat"), (401, "credentials", "missing"))?;
    let steps = serde_json::json!([["credentials/missing", "p"], ["PAUSED", "\r"], ["firewall", "xq"],]);
    let mut screen = gatehouse_tests::tools::python("on_screen.py")?;
    screen.arg(steps.to_string()).arg(gatehouse_tests::tools::gatehouse()?);
    screen.args(["top", "--interval", "200ms", "--config"]).arg(scene.config());
    let output = screen.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}");
    ensure!(said.contains(&CLIENT_V4.to_string()), "{said}");
    ensure!(said.ends_with("left in the main screen; steps left: 0\n"), "{said}");
    // Without a terminal it says what to use instead.
    let piped = verb("top", &scene.config())?.output()?;
    ensure!(
        piped.status.code() == Some(1) && String::from_utf8_lossy(&piped.stderr).contains("gatehouse status")
    );
    scene.end()
}
