//! The whole configuration read anew: what is swapped, what ends, and what stays.

use std::process::{Command, ExitCode, Output};
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use gatehouse_tests::client::{Attempt, Client, GATE_PORT};
use gatehouse_tests::daemon::verb;
use gatehouse_tests::host::{CLIENT_V6, GATE_V6};
use gatehouse_tests::plan::{good_token, issuer, route};
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::promises;
use gatehouse_tests::raw::Session;
use gatehouse_tests::scene::Scene;
use gatehouse_tests::token::{Key, jwk_set};
use gatehouse_tests::upstream::UPSTREAM;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        a_reload_swaps_routes_and_issuers_and_ends_only_sessions_that_lost_their_right,
        a_faulty_configuration_changes_nothing_and_is_named_by_its_place,
        a_hangup_reloads_and_what_needs_a_restart_is_named,
        new_limits_hold_for_who_comes_next_and_end_who_is_beyond_them,
        reloads_under_load_turn_nobody_away,
        a_listener_comes_and_goes_with_the_configuration_and_sessions_stay,
        a_file_of_revocations_that_a_reload_names_ends_whom_it_revokes,
    ])
}

fn scene() -> Result<Scene> {
    Scene::with(Key::generate("ES256", "key-1")?, |_, mut plan| {
        plan.routes = [route("/chat", UPSTREAM), route("/old", UPSTREAM), route("/wide", UPSTREAM)].concat();
        Ok(plan)
    })
}

/// Changes the configuration, without reading it anew.
fn change(scene: &Scene, from: &str, to: &str) -> Result<()> {
    let text = std::fs::read_to_string(scene.config())?;
    ensure!(text.contains(from), "there is no {from:?} in\n{text}");
    scene.edit("gatehouse.toml", &text.replace(from, to))
}

fn reload(scene: &Scene) -> Result<Output> {
    Ok(verb("reload", &scene.config())?.output()?)
}

fn open(scene: &Scene, path: &str) -> Result<Session> {
    Session::open(&scene.host, &Attempt::on(path).token(&scene.token()?))
}

fn a_reload_swaps_routes_and_issuers_and_ends_only_sessions_that_lost_their_right() -> Result<()> {
    let scene = scene()?;
    let (mut stays, mut leaves, mut narrows) =
        (open(&scene, "/chat")?, open(&scene, "/old")?, open(&scene, "/wide")?);
    let other = Key::generate("ES256", "other")?;
    scene.edit("other.json", &jwk_set(&[&other]))?;
    let text = std::fs::read_to_string(scene.config())?;
    let wide = route("/wide", UPSTREAM);
    let text = text
        .replace(
            &route("/old", UPSTREAM),
            &route("/new", UPSTREAM).replace("\"main\"", "\"main\", \"other\""),
        )
        .replace(&wide, &wide.replace("chat:read", "chat:write"))
        + &issuer("other", "keys = \"other.json\"", &["ES256"])
            .replace("https://idp.test", "https://other.test");
    scene.edit("gatehouse.toml", &text)?;
    // Nothing changes before it is asked for.
    scene.rejects(
        Client::Raw,
        &Attempt::on("/new").token(&scene.token()?),
        (404, "handshake", "no_route"),
    )?;
    let output = reload(&scene)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(leaves.closed()? == 4400 && narrows.closed()? == 4403);
    ensure!(stays.echo("still here")? == "still here");
    scene.admits(Client::Python, &Attempt::on("/new").token(&scene.token()?))?;
    let foreign = good_token()?.claim("iss", "https://other.test").sign(&other)?;
    scene.admits(Client::Raw, &Attempt::on("/new").token(&foreign))?;
    scene.rejects(
        Client::Raw,
        &Attempt::on("/chat").token(&foreign),
        (401, "credentials", "unknown_issuer"),
    )?;
    let status = scene.daemon.status()?;
    ensure!(status["issuers"].as_array().is_some_and(|all| all.len() == 2), "{status:#}");
    // A key file that was not named before is followed like any other.
    let fresh = Key::generate("ES256", "fresh")?;
    let mark = scene.daemon.mark();
    scene.edit("other.json", &jwk_set(&[&fresh]))?;
    scene
        .daemon
        .wait_after(mark, "the new keys", PATIENCE, |entry| entry.line.contains("keys were read anew"))?;
    let foreign = good_token()?.claim("iss", "https://other.test").sign(&fresh)?;
    scene.admits(Client::Raw, &Attempt::on("/new").token(&foreign))?;
    scene.end()
}

fn a_faulty_configuration_changes_nothing_and_is_named_by_its_place() -> Result<()> {
    let scene = scene()?;
    let mut session = open(&scene, "/old")?;
    let good = std::fs::read_to_string(scene.config())?;
    let without = good.replace(&route("/old", UPSTREAM), "");
    let pid = scene.daemon.status()?["pid"].as_u64().context("a process id")?.to_string();
    for (text, expected) in [
        (without.clone() + "[limits]\nsessions = \"many\"\n", "gatehouse.toml:"),
        (without.clone() + &issuer("gone", "keys = \"gone.json\"", &["ES256"]), "gone.json: cannot be read"),
        (without.replace("\"deny.list\"", "\"missing.list\""), "missing.list"),
    ] {
        scene.edit("gatehouse.toml", &text)?;
        let output = reload(&scene)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(78) && said.contains(expected), "{:?} {said}", output.status);
        let mark = scene.daemon.mark();
        ensure!(Command::new("kill").args(["-HUP", &pid]).status()?.success());
        scene.daemon.wait_after(mark, "the fault", PATIENCE, |entry| entry.line.contains(expected))?;
        scene.daemon.wait_after(mark, "the decision", PATIENCE, |entry| {
            entry.line.contains("everything stays as it was")
        })?;
        ensure!(session.echo("still here")? == "still here");
        scene.admits(Client::Raw, &Attempt::on("/old").token(&scene.token()?))?;
    }
    scene.edit("gatehouse.toml", &without)?;
    ensure!(reload(&scene)?.status.success());
    ensure!(session.closed()? == 4400);
    scene.end()
}

fn a_hangup_reloads_and_what_needs_a_restart_is_named() -> Result<()> {
    let scene = scene()?;
    let pid = scene.daemon.status()?["pid"].as_u64().context("a process id")?.to_string();
    change(&scene, "path = \"/old\"", "path = \"/new\"")?;
    let text = std::fs::read_to_string(scene.config())?;
    scene.edit("gatehouse.toml", &(text + "[limits]\naudit_queue = 77\n"))?;
    let mark = scene.daemon.mark();
    ensure!(Command::new("kill").args(["-HUP", &pid]).status()?.success());
    scene.daemon.wait_after(mark, "the reload", PATIENCE, |entry| entry.line.contains("was read anew"))?;
    scene
        .daemon
        .wait_after(mark, "what needs a restart", PATIENCE, |entry| entry.line.contains("[limits]"))?;
    scene.admits(Client::Raw, &Attempt::on("/new").token(&scene.token()?))?;
    let output = reload(&scene)?;
    ensure!(String::from_utf8_lossy(&output.stdout).contains("[limits] audit_*"), "{output:?}");
    scene.end()
}

fn new_limits_hold_for_who_comes_next_and_end_who_is_beyond_them() -> Result<()> {
    let scene = scene()?;
    let mut first = open(&scene, "/chat")?;
    let good = std::fs::read_to_string(scene.config())?;
    let with = |limits: &str| -> Result<()> {
        scene.edit("gatehouse.toml", &format!("{good}[limits]\n{limits}"))?;
        let output = reload(&scene)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        ensure!(!String::from_utf8_lossy(&output.stdout).contains("restart"), "{output:?}");
        Ok(())
    };
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    scene.admits(Client::Raw, &attempt)?;
    with("sessions_per_address = 1\n")?;
    scene.rejects(Client::Raw, &attempt, (429, "limit", "address_sessions"))?;
    ensure!(first.echo("one is enough")? == "one is enough");
    with("sessions_per_address = 2\n")?;
    scene.admits(Client::Raw, &attempt)?;
    with("handshake_rate_per_address = 1\n")?;
    attempt.by(Client::Raw, &scene.host)?;
    scene.rejects(Client::Raw, &attempt, (429, "limit", "address_rate"))?;
    with("session_lifetime = \"1s\"\n")?;
    ensure!(first.closed()? == 4429);
    scene.end()
}

fn reloads_under_load_turn_nobody_away() -> Result<()> {
    let scene = scene()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    thread::scope(|scope| {
        let loads: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| (0..200).try_for_each(|_| scene.admits(Client::Raw, &attempt))))
            .collect();
        for round in 0..20_u8 {
            let (from, to) = if round % 2 == 0 { ("\"/old\"", "\"/new\"") } else { ("\"/new\"", "\"/old\"") };
            change(&scene, from, to)?;
            let output = reload(&scene)?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        for load in loads {
            load.join().map_err(|_| anyhow!("a client panicked"))??;
        }
        Ok(())
    })?;
    scene.end()
}

fn a_listener_comes_and_goes_with_the_configuration_and_sessions_stay() -> Result<()> {
    let scene = scene()?;
    let over_v6 = || Ok::<_, anyhow::Error>(Attempt::on("/chat").token(&scene.token()?).from(CLIENT_V6));
    let listens = |addresses: usize| -> Result<()> {
        let status = scene.daemon.status()?;
        let found = status["listen"].as_array().map_or(0, Vec::len);
        ensure!(found == addresses, "{found} of {addresses} listeners: {status:#}");
        Ok(())
    };
    let reloaded = || -> Result<()> {
        let output = reload(&scene)?;
        let said = format!("{output:?}");
        ensure!(output.status.success() && !said.contains("restart"), "{said}");
        Ok(())
    };
    let mut of_v4 = open(&scene, "/chat")?;
    let mut of_v6 = Session::open(&scene.host, &over_v6()?)?;
    let with = std::fs::read_to_string(scene.config())?;
    let listener = format!("[[listen]]\naddress = \"[{GATE_V6}]:{GATE_PORT}\"\n");
    ensure!(with.contains(&listener), "there is no {listener:?} in\n{with}");
    let without = with.replace(&listener, "");

    scene.edit("gatehouse.toml", &without)?;
    reloaded()?;
    listens(1)?;
    ensure!(over_v6()?.by(Client::Raw, &scene.host).is_err(), "somebody still listens for IPv6");
    scene.admits(Client::Raw, &Attempt::on("/chat").token(&scene.token()?))?;
    ensure!(of_v6.echo("still here")? == "still here" && of_v4.echo("me too")? == "me too");

    // An address of another host: nothing of what else has changed is in force either.
    let foreign = with.replace(&GATE_V6.to_string(), "fd00::dead").replace("\"/old\"", "\"/new\"");
    scene.edit("gatehouse.toml", &foreign)?;
    let output = reload(&scene)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains("[fd00::dead]:8080 cannot be listened on"), "{said}");
    ensure!(said.contains("everything stays as it was"), "{said}");
    scene.admits(Client::Raw, &Attempt::on("/old").token(&scene.token()?))?;
    listens(1)?;

    scene.edit("gatehouse.toml", &with)?;
    reloaded()?;
    listens(2)?;
    scene.admits(Client::Raw, &over_v6()?)?;
    ensure!(of_v6.echo("still here")? == "still here" && of_v4.echo("me too")? == "me too");
    scene.end()
}

fn a_file_of_revocations_that_a_reload_names_ends_whom_it_revokes() -> Result<()> {
    let scene = scene()?;
    let token = |jti: &str| good_token()?.claim("jti", jti).sign(&scene.key);
    let attempt = |jti: &str| Ok::<_, anyhow::Error>(Attempt::on("/chat").token(&token(jti)?));
    let mut revoked = Session::open(&scene.host, &attempt("t-1")?)?;
    let mut stays = Session::open(&scene.host, &attempt("t-2")?)?;
    scene.edit("revoked.list", "jti=t-1\n")?;
    let text = std::fs::read_to_string(scene.config())?;
    scene.edit("gatehouse.toml", &(text + "[revocation]\nfile = \"revoked.list\"\n"))?;
    let output = reload(&scene)?;
    ensure!(output.status.success() && !format!("{output:?}").contains("restart"), "{output:?}");
    ensure!(revoked.closed()? == 4401 && stays.echo("still here")? == "still here");
    scene.rejects(Client::Raw, &attempt("t-1")?, (401, "credentials", "revoked"))?;
    // It is followed like one that was named from the start.
    scene.edit("revoked.list", "jti=t-1\njti=t-2\n")?;
    ensure!(stays.closed()? == 4401);
    scene.end()
}
