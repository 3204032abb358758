//! What happens to issuers, and what does not follow for clients.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use gatehouse_tests::authority::authority;
use gatehouse_tests::client::{Attempt, Client};
use gatehouse_tests::daemon::{Daemon, verb};
use gatehouse_tests::fetched::{
    OFTEN, STALE, UNAVAILABLE, attempt, explain, in_force, in_place, in_place_within, key, scene, serve,
    status, unknown_at_last,
};
use gatehouse_tests::issuer::{IssuerServer, KEYS};
use gatehouse_tests::log::Entry;
use gatehouse_tests::plan::issuer;
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::promises;
use gatehouse_tests::scene::Scene;
use gatehouse_tests::token::{Key, jwk_set};
use serde_json::json;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        a_daemon_without_its_issuer_starts_and_says_that_nobody_can_tell,
        no_fault_of_an_issuer_takes_its_keys_out_of_force,
        keys_serve_until_max_stale_and_then_it_is_our_outage,
        an_issuer_with_a_private_authority_is_trusted_where_that_is_named,
        a_restart_without_the_issuer_serves_the_kept_keys,
        kept_keys_of_an_issuer_that_left_the_configuration_are_removed_at_the_start,
    ])
}

fn a_daemon_without_its_issuer_starts_and_says_that_nobody_can_tell() -> Result<()> {
    let scene = scene(OFTEN, "")?;
    let attempt = attempt(&scene.key)?;
    scene.daemon.wait_for("that there are no keys", PATIENCE, |entry| {
        entry.line.contains("could not be fetched") && entry.line.contains("its tokens get 503")
    })?;
    for client in Client::ALL {
        let (rejection, _) = scene.rejects(client, &attempt, UNAVAILABLE)?;
        let wait: u64 = rejection.answer.header("Retry-After")?.parse()?;
        ensure!((1..=60).contains(&wait) && rejection.problem["retryable"] == true, "{rejection:#?}");
    }
    let mark = scene.daemon.mark();
    let _server = serve(&scene, &[&scene.key])?;
    in_force(&scene, mark, 1)?;
    scene.admits(Client::Raw, &attempt)?;
    scene.end()
}

fn no_fault_of_an_issuer_takes_its_keys_out_of_force() -> Result<()> {
    let (scene, server) = in_place_within("1s", OFTEN, "")?;
    let (known, unknown) = (attempt(&scene.key)?, attempt(&key("key-9")?)?);
    for (mode, expected) in [
        ("stall", "issuer_timeout, 1s"),
        ("truncate", "broke off"),
        ("500", "status 500"),
        ("404", "status 404"),
        ("page", "JWK set in JSON"),
        ("garbage", "not UTF-8"),
        ("large", "issuer_answer, 65536 bytes"),
        ("bomb", "packed the answer (gzip)"),
        ("redirect-http", "not https"),
        ("redirect-file", "not https"),
        ("redirect-loop", "more than 5 times"),
    ] {
        server.behave(mode)?;
        // Another content, so that no condition spares the issuer its fault.
        server.serve(&format!("{}{}", jwk_set(&[&scene.key]), " ".repeat(mode.len())))?;
        faulty(&scene, expected, &known, &unknown).with_context(|| format!("mode {mode}"))?;
    }
    let mut private = scene.key.jwk();
    private["d"] = "AAAA".into();
    let secret = Key::generate("HS256", "key-1")?;
    server.behave("good")?;
    for (set, expected) in [
        (json!({"keys": []}).to_string(), "no key for ES256"),
        (jwk_set(&[&Key::generate("EdDSA", "key-1")?]), "no key for ES256"),
        (json!({"keys": [scene.key.jwk(), private]}).to_string(), "private member `d`"),
        (jwk_set(&[&scene.key, &secret]), "everybody can fetch"),
        (json!({"keys": [scene.key.jwk(), key("key-1")?.jwk()]}).to_string(), "kid of an earlier key"),
    ] {
        server.serve(&set)?;
        faulty(&scene, expected, &known, &unknown).with_context(|| set)?;
    }
    let mark = scene.daemon.mark();
    server.publish(&[&scene.key])?;
    scene
        .daemon
        .wait_after(mark, "the recovery", PATIENCE, |entry| entry.line.contains("are fetched again"))?;
    ensure!(status(&scene)?["fetched"]["error"].is_null(), "{:#}", status(&scene)?);
    unknown_at_last(&scene, &unknown)?;
    server.behave("redirect-good")?;
    let fresh = key("key-2")?;
    server.publish(&[&scene.key, &fresh])?;
    in_force(&scene, mark, 2)?;
    scene.end()
}

/// Waits for the fault: known keys must stay in force, an unknown one is nobody's fault but ours, and
/// the fault is told once.
fn faulty(scene: &Scene, expected: &str, known: &Attempt, unknown: &Attempt) -> Result<()> {
    let told = |entry: &Entry| entry.line.contains("could not be fetched") && entry.line.contains(expected);
    let entry = scene.daemon.wait_for("the fault", PATIENCE, told)?;
    ensure!(entry.line.contains("the last good ones serve for another 23h"), "{}", entry.line);
    scene.admits(Client::Raw, known)?;
    scene.rejects(Client::Raw, unknown, UNAVAILABLE)?;
    let token = unknown.headers.iter().find_map(|(_, value)| value.strip_prefix("Bearer "));
    let report = explain(scene, token.context("no token")?)?;
    ensure!(report["rejection"]["reason"] == "keys_unavailable", "{report:#}");
    let issuer = status(scene)?;
    ensure!(issuer["fetched"]["error"].as_str().is_some_and(|error| error.contains(expected)), "{issuer:#}");
    ensure!(issuer["keys"] == 1, "{issuer:#}");
    let times = scene.daemon.log().iter().filter(|entry| told(entry)).count();
    ensure!(times <= 2, "told {times} times");
    Ok(())
}

fn keys_serve_until_max_stale_and_then_it_is_our_outage() -> Result<()> {
    let (scene, server) = in_place(&format!("{OFTEN}max_stale = \"4s\"\n"), "")?;
    let attempt = attempt(&scene.key)?;
    let mark = scene.daemon.mark();
    drop(server);
    let down = scene.daemon.wait_after(mark, "that the issuer is down", PATIENCE, |entry| {
        entry.line.contains("could not be fetched")
    })?;
    ensure!(down.line.contains("the last good ones serve for another"), "{}", down.line);
    scene.admits(Client::Raw, &attempt)?;
    scene.daemon.wait_after(mark, "that the keys are too old", PATIENCE, |entry| {
        entry.line.contains("older than max_stale")
    })?;
    for client in Client::ALL {
        let (rejection, _) = scene.rejects(client, &attempt, STALE)?;
        rejection.answer.header("Retry-After")?;
        ensure!(rejection.problem["retryable"] == true, "{rejection:#?}");
    }
    ensure!(status(&scene)?["fetched"]["stale"] == true, "{:#}", status(&scene)?);
    let report = explain(&scene, &scene.token()?)?;
    ensure!(report["rejection"]["reason"] == "keys_stale", "{report:#}");

    let mark = scene.daemon.mark();
    let _server = IssuerServer::again(&scene.host, &scene.file("web"), None)?;
    scene
        .daemon
        .wait_after(mark, "the recovery", PATIENCE, |entry| entry.line.contains("are fetched again"))?;
    scene.admits(Client::Raw, &attempt)?;
    scene.end()
}

fn an_issuer_with_a_private_authority_is_trusted_where_that_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name);
    authority(folder.path())?;
    let scene = Scene::with(key("key-1")?, |key, mut plan| {
        let keys = format!("keys = \"https://{KEYS}/jwks\"\n{OFTEN}");
        let named = format!("{keys}ca = {:?}\n", file("ca.pem"));
        plan.issuers =
            [issuer("main", &named, &[key.algorithm()]), issuer("other", &keys, &[key.algorithm()])].concat();
        Ok(plan)
    })?;
    let tls = (file("cert.pem"), file("key.pem"));
    let mark = scene.daemon.mark();
    let _server = IssuerServer::start(
        &scene.host,
        &scene.file("web"),
        &[&scene.key],
        Some((tls.0.as_path(), tls.1.as_path())),
    )?;
    in_force(&scene, mark, 1)?;
    scene.admits(Client::Raw, &attempt(&scene.key)?)?;
    scene.daemon.wait_after(mark, "that the other is not trusted", PATIENCE, |entry| {
        entry.line.contains("the keys of issuer other could not be fetched")
            && entry.line.contains("UnknownIssuer")
    })?;
    scene.end()
}

fn a_restart_without_the_issuer_serves_the_kept_keys() -> Result<()> {
    let (mut scene, server) = in_place(OFTEN, "[state]\nfolder = \"state\"\n")?;
    scene.daemon.stop()?;
    drop(server);
    scene.daemon = Daemon::start(&scene.host, &scene.config())?;
    let attempt = attempt(&scene.key)?;
    scene.admits(Client::Raw, &attempt)?;
    scene.daemon.wait_for("that the issuer is down", PATIENCE, |entry| {
        entry.line.contains("could not be fetched") && entry.line.contains("the last good ones serve")
    })?;
    scene.admits(Client::Raw, &attempt)?;
    scene.end()
}

fn kept_keys_of_an_issuer_that_left_the_configuration_are_removed_at_the_start() -> Result<()> {
    let (mut scene, server) = in_place(OFTEN, "[state]\nfolder = \"state\"\n")?;
    scene.daemon.stop()?;
    drop(server);
    let copies = || -> Result<usize> { Ok(fs::read_dir(scene.file("state/issuers"))?.count()) };
    ensure!(copies()? == 1, "the keys are kept");
    let text = fs::read_to_string(scene.config())?;
    // Nothing goes because of a configuration that is not valid, or of one that is only checked.
    fs::write(scene.config(), text.replace("/jwks?", "/others?"))?;
    ensure!(verb("check", &scene.config())?.output()?.status.success());
    fs::write(scene.config(), format!("{text}\nnonsense = 1\n"))?;
    let mut daemon = Daemon::launch(&scene.host, &scene.config())?;
    ensure!(daemon.exit_code()? == Some(78) && copies()? == 1);
    fs::write(scene.config(), text.replace("/jwks?", "/others?"))?;
    let daemon = Daemon::start(&scene.host, &scene.config())?;
    daemon.wait_for("that they are removed", PATIENCE, |entry| {
        entry.line.contains("removed ") && entry.line.contains("state/issuers/")
    })?;
    ensure!(copies()? == 0);
    scene.daemon = daemon;
    scene.rejects(Client::Raw, &attempt(&scene.key)?, UNAVAILABLE)?;
    scene.end()
}
