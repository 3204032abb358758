//! The issuer of this host: its keys change, and nobody is turned away for it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use gatehouse_tests::client::{Attempt, Client, GATE_PORT};
use gatehouse_tests::daemon::verb;
use gatehouse_tests::host::{CLIENT_V4, gate_address};
use gatehouse_tests::plan::{AUDIENCE, ISSUER, SCOPE};
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::promises;
use gatehouse_tests::scene::{PROMPTLY, Scene};
use gatehouse_tests::token::Key;
use serde_json::Value;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        a_change_of_keys_turns_nobody_away,
        tokens_of_a_retired_key_are_refused,
        a_key_file_that_others_can_read_is_warned_about_when_its_keys_are_shown,
        a_token_has_the_audience_and_the_claims_that_were_asked_for,
    ])
}

/// The usual system whose issuer is its own.
fn scene() -> Result<Scene> {
    Scene::with(Key::generate("ES256", "unused")?, |_, mut plan| {
        plan.issuers = format!(
            "[[issuer]]\nname = \"main\"\nissuer = \"{ISSUER}\"\naudience = [\"{AUDIENCE}\"]\nsigning_key = \"own.pem\"\n\
             serve_keys = true\n"
        );
        Ok(plan)
    })
}

fn run(scene: &Scene, name: &str, arguments: &[&str]) -> Result<String> {
    let output = verb(name, &scene.config())?.args(arguments).output()?;
    ensure!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn token(scene: &Scene) -> Result<String> {
    run(scene, "token", &["--scope", SCOPE])
}

fn keys(scene: &Scene) -> Result<Vec<Value>> {
    Ok(serde_json::from_str(&run(scene, "key", &["list", "--json"])?)?)
}

/// The `kid` of each key that the gate serves.
fn served(scene: &Scene) -> Result<Vec<String>> {
    let answer = scene.host.client.enter(|| {
        let mut stream = TcpStream::connect((gate_address(CLIENT_V4), GATE_PORT))?;
        stream.write_all(b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: gate.test\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })?;
    let (_, body) = answer.split_once("\r\n\r\n").context("an answer")?;
    let document: Value = serde_json::from_str(body)?;
    let keys = document["keys"].as_array().context("keys")?;
    Ok(keys.iter().filter_map(|key| key["kid"].as_str().map(str::to_owned)).collect())
}

/// Does `change`, and waits until the daemon has read the keys anew.
fn changed(scene: &Scene, change: impl FnOnce() -> Result<String>) -> Result<String> {
    let mark = scene.daemon.mark();
    let printed = change()?;
    scene
        .daemon
        .wait_after(mark, "the new keys", PROMPTLY, |entry| entry.line.contains("keys were read anew"))?;
    Ok(printed)
}

fn a_change_of_keys_turns_nobody_away() -> Result<()> {
    let scene = scene()?;
    let first = token(&scene)?;
    scene.admits(Client::Raw, &Attempt::on("/chat").token(&first))?;
    changed(&scene, || run(&scene, "key", &["new", "--algorithm", "es256", "--activate-after", "2s"]))?;
    let all = keys(&scene)?;
    ensure!(all.len() == 2 && all[0]["signs"] == true && all[1]["signs"] == false, "{all:#?}");
    ensure!(served(&scene)?.len() == 2, "it is published before it signs");
    let deadline = Instant::now() + PATIENCE;
    // Tokens of before, of meanwhile and of afterwards.
    while keys(&scene)?[1]["signs"] == false {
        ensure!(Instant::now() < deadline, "the new key never signs");
        scene.admits(Client::Raw, &Attempt::on("/chat").token(&token(&scene)?))?;
        scene.admits(Client::Raw, &Attempt::on("/chat").token(&first))?;
    }
    for client in Client::ALL {
        scene.admits(client, &Attempt::on("/chat").token(&token(&scene)?))?;
        scene.admits(client, &Attempt::on("/chat").token(&first))?;
    }
    scene.end()
}

fn tokens_of_a_retired_key_are_refused() -> Result<()> {
    let scene = scene()?;
    let old = Attempt::on("/chat").token(&token(&scene)?);
    scene.admits(Client::Raw, &old)?;
    changed(&scene, || run(&scene, "key", &["new", "--activate-after", "0s"]))?;
    let all = keys(&scene)?;
    let kid = all[0]["kid"].as_str().context("a kid")?;
    changed(&scene, || run(&scene, "key", &["retire", kid]))?;
    scene.rejects(Client::Raw, &old, (401, "credentials", "unknown_key"))?;
    scene.admits(Client::Raw, &Attempt::on("/chat").token(&token(&scene)?))?;
    ensure!(!served(&scene)?.iter().any(|served| served == kid));
    scene.end()
}

fn a_key_file_that_others_can_read_is_warned_about_when_its_keys_are_shown() -> Result<()> {
    let scene = scene()?;
    let listed =
        || verb("key", &scene.config())?.args(["list", "--json"]).output().map_err(anyhow::Error::from);
    ensure!(listed()?.stderr.is_empty(), "{:?}", listed()?);
    fs::set_permissions(scene.file("own.pem"), fs::Permissions::from_mode(0o644))?;
    let output = listed()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.contains("own.pem: ") && said.contains("chmod"), "{output:?}");
    ensure!(keys(&scene)?.len() == 1, "what is printed is still JSON");
    scene.end()
}

fn a_token_has_the_audience_and_the_claims_that_were_asked_for() -> Result<()> {
    let scene = scene()?;
    let other = run(&scene, "token", &["--scope", SCOPE, "--audience", "https://other.test"])?;
    scene.rejects(
        Client::Raw,
        &Attempt::on("/chat").token(&other),
        (401, "credentials", "wrong_audience"),
    )?;
    let arguments =
        ["--audience", AUDIENCE, "--claim", "tenant=acme", "--claim", "level=3", "--scope", SCOPE];
    let token = run(&scene, "token", &arguments)?;
    scene.admits(Client::Raw, &Attempt::on("/chat").token(&token))?;
    let explained =
        verb("explain", &scene.config())?.args(["--path", "/chat", "--json", "--token", &token]).output()?;
    let report: Value = serde_json::from_slice(&explained.stdout)?;
    ensure!(
        report["token"]["claims"]["tenant"] == "acme" && report["token"]["claims"]["level"] == 3,
        "{report:#}"
    );
    let refused = verb("token", &scene.config())?.args(["--claim", "sub=root"]).output()?;
    ensure!(refused.status.code() == Some(64), "{refused:?}");
    scene.end()
}
