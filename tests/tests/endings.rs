//! Sessions that the gate ends: what real clients hear, and what stands in the log.

use std::process::ExitCode;
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use gatehouse_tests::client::{Attempt, Client, GATE_PORT, Outcome, answer_of};
use gatehouse_tests::host::{CLIENT_V4, gate_address};
use gatehouse_tests::plan::{Plan, good_token, route};
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::promises;
use gatehouse_tests::scene::{Scene, names_rule};
use gatehouse_tests::token::Key;
use gatehouse_tests::tools;
use gatehouse_tests::upstream::UPSTREAM;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        a_client_hears_that_its_token_expired_during_the_session,
        a_client_hears_that_its_address_was_denied_during_the_session,
        a_client_hears_that_the_gate_stops,
        a_client_stays_beyond_the_end_of_its_token_with_a_fresh_one,
    ])
}

/// Clients with a library of their own.
const LIBRARIES: [Client; 2] = [Client::Python, Client::Node];

/// What `client` hears at the end of a session, in which `event` happens once it is open.
fn hears(scene: &Scene, client: Client, token: &str, event: impl FnOnce() -> Result<()>) -> Result<Outcome> {
    let attempt = Attempt::on("/chat").token(token).staying();
    let mark = scene.daemon.mark();
    thread::scope(|scope| {
        let heard = scope.spawn(|| attempt.by(client, &scene.host));
        scene.daemon.wait_after(mark, "the admission", PATIENCE, |entry| entry.says("admitted"))?;
        event()?;
        heard.join().map_err(|_| anyhow!("the client's thread panicked"))?
    })
}

/// Both the Close frame and the log say `layer` and `reason`, under the same id.
fn says(scene: &Scene, outcome: Outcome, code: u16, layer: &str, reason: &str) -> Result<()> {
    let heard = outcome.closed(code)?;
    let id = heard.strip_prefix(&format!("layer={layer}, reason={reason}, id=\""));
    let id = id.and_then(|rest| rest.strip_suffix('"')).with_context(|| heard.clone())?;
    let entry = scene.daemon.wait_for("the end", PATIENCE, |entry| {
        entry.field("ID") == Some(id) && entry.line.contains(" ended: ")
    })?;
    ensure!(entry.field("LAYER") == Some(layer) && entry.field("REASON") == Some(reason), "{}", entry.line);
    ensure!(entry.field("SUBJECT") == Some("alice") && entry.client() == Some(CLIENT_V4), "{}", entry.line);
    Ok(())
}

fn a_client_hears_that_its_token_expired_during_the_session() -> Result<()> {
    let scene = Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
        Ok(Plan { issuers: format!("{}leeway = \"0s\"\n", plan.issuers), ..plan })
    })?;
    for client in LIBRARIES {
        let token = scene.sign(good_token()?.time("exp", 3)?)?;
        let outcome = hears(&scene, client, &token, || Ok(()))?;
        says(&scene, outcome, 4419, "expiry", "session_expired")?;
    }
    scene.end()
}

fn a_client_stays_beyond_the_end_of_its_token_with_a_fresh_one() -> Result<()> {
    let scene = Scene::with(Key::generate("ES256", "key-1")?, |_, mut plan| {
        plan.issuers.push_str("leeway = \"0s\"\n");
        plan.routes = ["renewal = true", "renewal = true\nrenewal_warning = \"30s\""]
            .iter()
            .zip(["/quiet", "/chat"])
            .map(|(renewal, path)| format!("{}{renewal}\n", route(path, UPSTREAM)))
            .collect();
        Ok(plan)
    })?;
    for (path, by) in [("/quiet", "request"), ("/chat", "message")] {
        let arguments = serde_json::json!({
            "host": gate_address(CLIENT_V4).to_string(),
            "port": GATE_PORT,
            "source": CLIENT_V4.to_string(),
            "path": path,
            "token": scene.sign(good_token()?.time("exp", 4)?)?,
            "fresh": scene.token()?,
            "other": scene.sign(good_token()?.claim("sub", "mallory"))?,
            "by": by,
            "pause": 5,
        });
        let said = answer_of(&scene.host, tools::python("renewal.py")?, &arguments)?;
        let seen: serde_json::Value = serde_json::from_str(&said)?;
        ensure!(seen["echo"] == "still here", "{seen:#}");
        if by == "message" {
            ensure!(seen["warned"]["type"] == "gatehouse.expiring", "{seen:#}");
            ensure!(seen["refused"]["reason"] == "other_subject", "{seen:#}");
            ensure!(seen["renewed"]["type"] == "gatehouse.renewed", "{seen:#}");
        } else {
            ensure!(seen["refused"][1]["reason"] == "other_subject", "{seen:#}");
            ensure!(seen["renewed"][0] == 200, "{seen:#}");
        }
        let renewed = scene.daemon.wait_for("the renewal", PATIENCE, |entry| {
            entry.line.contains(" renewed ") && entry.field("ROUTE") == Some(path)
        })?;
        ensure!(renewed.field("SUBJECT") == Some("alice"), "{}", renewed.line);
    }
    scene.end()
}

fn a_client_hears_that_its_address_was_denied_during_the_session() -> Result<()> {
    for client in LIBRARIES {
        let scene = Scene::usual()?;
        let deny = || scene.edit("deny.list", &format!("{CLIENT_V4}\n"));
        let outcome = hears(&scene, client, &scene.token()?, deny)?;
        says(&scene, outcome, 4451, "firewall", "denied_range")?;
        let entry = scene.daemon.wait_for("the end", PATIENCE, |entry| entry.line.contains(" ended: "))?;
        names_rule(&entry, &scene.file("deny.list"), 1, &format!("{CLIENT_V4}/32"))?;
        scene.end()?;
    }
    Ok(())
}

fn a_client_hears_that_the_gate_stops() -> Result<()> {
    for client in LIBRARIES {
        let mut scene = Scene::usual()?;
        let token = scene.token()?;
        let attempt = Attempt::on("/chat").token(&token).staying();
        let outcome = thread::scope(|scope| {
            let (daemon, host) = (&mut scene.daemon, &scene.host);
            let heard = scope.spawn(|| attempt.by(client, host));
            daemon.wait_for("the admission", PATIENCE, |entry| entry.says("admitted"))?;
            daemon.stop()?;
            heard.join().map_err(|_| anyhow!("the client's thread panicked"))?
        })?;
        ensure!(outcome.closed(1001)?.contains("connect again"));
    }
    Ok(())
}
