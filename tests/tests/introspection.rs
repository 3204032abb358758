//! Issuers that are asked about tokens and misbehave, and the gate that watches them.

use std::fs;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use gatehouse_tests::client::{Attempt, Client};
use gatehouse_tests::daemon::verb;
use gatehouse_tests::fetched::explain;
use gatehouse_tests::introspection::{ENDPOINT, Endpoint};
use gatehouse_tests::plan::{AUDIENCE, ISSUER, SCOPE, issuer};
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::promises;
use gatehouse_tests::scene::{Expected, Scene};
use gatehouse_tests::token::Key;
use serde_json::{Value, json};

const UNAVAILABLE: Expected<'_> = (503, "auth_system", "introspection_unavailable");
const INACTIVE: Expected<'_> = (401, "credentials", "inactive");
const SECRET: &str = "the gate's secret";

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        what_an_issuer_says_about_a_token_is_judged_like_its_claims,
        no_fault_of_an_endpoint_is_the_clients,
        an_endpoint_that_is_left_alone_is_shown_and_asked_again,
        a_good_jwt_that_its_issuer_has_revoked_is_refused,
        a_new_client_secret_counts_without_a_restart_and_a_broken_one_does_not,
    ])
}

/// The usual system, whose issuer is asked at an endpoint that says that everything is good. `keys` are
/// those of the issuer, `more` stands in the table.
fn scene(keys: &str, more: &str) -> Result<(Scene, Endpoint)> {
    let scene = Scene::with(Key::generate("ES256", "key-1")?, |key, mut plan| {
        plan.issuers = format!(
            "{}\n[issuer.introspection]\nendpoint = \"http://{ENDPOINT}/?hush\"\nclient_id = \"gate\"\n\
             client_secret = \"gate.secret\"\ncache = \"0s\"\n{more}\n",
            issuer("main", keys, &[key.algorithm()])
        );
        plan.more = "[limits]\nintrospection_timeout = \"2s\"\nissuer_answer = 65536\n".to_owned();
        Ok(plan.file("gate.secret", SECRET))
    })?;
    let endpoint = Endpoint::start(&scene.host, &scene.file("endpoint"), &good()?)?;
    Ok((scene, endpoint))
}

fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// What an issuer says about a token that the usual route admits.
fn good() -> Result<Value> {
    Ok(json!({
        "active": true, "iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "scope": SCOPE, "exp": now()? + 600,
    }))
}

/// [`good`] with another value, or without it.
fn but(name: &str, value: Value) -> Result<Value> {
    let mut answer = good()?;
    match value {
        Value::Null => drop(answer.as_object_mut().context("an object")?.remove(name)),
        value => answer[name] = value,
    }
    Ok(answer)
}

fn attempt(token: &str) -> Attempt {
    Attempt::on("/chat").token(token)
}

/// What `gatehouse status` has about the asking.
fn status(scene: &Scene) -> Result<Value> {
    let status = scene.daemon.status()?;
    ensure!(!status.to_string().contains("hush") && !status.to_string().contains(SECRET), "{status:#}");
    Ok(status["issuers"][0]["introspection"].clone())
}

fn what_an_issuer_says_about_a_token_is_judged_like_its_claims() -> Result<()> {
    let (scene, endpoint) = scene("", "failures = 1000")?;
    for client in Client::ALL {
        scene.admits(client, &attempt("opaque-token"))?;
    }
    for (answer, expected) in [
        (json!({"active": false}), INACTIVE),
        (but("aud", json!("https://other.test"))?, (401, "credentials", "wrong_audience")),
        (but("aud", Value::Null)?, (401, "credentials", "missing_claim")),
        (but("exp", json!(now()? - 3600))?, (401, "expiry", "expired")),
        (but("exp", Value::Null)?, (401, "credentials", "missing_claim")),
        (but("nbf", json!(now()? + 3600))?, (401, "credentials", "not_yet_valid")),
        (but("iss", json!("https://other.test"))?, (401, "credentials", "unknown_issuer")),
        (but("token_type", json!("refresh_token"))?, (401, "credentials", "wrong_type")),
        (but("scope", json!("chat:write"))?, (403, "scope", "insufficient_scope")),
        // The client has not written these.
        (but("sub", json!(7))?, UNAVAILABLE),
        (but("exp", json!("soon"))?, UNAVAILABLE),
        (but("active", json!("true"))?, UNAVAILABLE),
        (json!([]), UNAVAILABLE),
    ] {
        endpoint.say(&answer)?;
        let rejected = scene.rejects(Client::Raw, &attempt("opaque-token"), expected);
        let (rejection, _) = rejected.with_context(|| answer.to_string())?;
        ensure!(!rejection.answer.body.contains("other.test"), "{rejection:#?}");
    }
    scene.end()
}

fn no_fault_of_an_endpoint_is_the_clients() -> Result<()> {
    let (scene, endpoint) = scene("", "failures = 1000\nretry = \"7s\"")?;
    for (mode, expected) in [
        ("stall", "too long"),
        ("truncate", "broke off"),
        ("500", "500"),
        ("404", "404"),
        ("302", "302"),
        ("page", "not application/json"),
        ("large", "larger than 65536 bytes"),
        ("bomb", "gzip"),
    ] {
        endpoint.behave(mode)?;
        let rejected = scene.rejects(Client::Raw, &attempt("opaque-token"), UNAVAILABLE);
        let (rejection, entry) = rejected.with_context(|| mode.to_owned())?;
        ensure!(rejection.answer.header("Retry-After")? == "7", "{rejection:#?}");
        ensure!(entry.line.contains(expected), "{mode}: {}", entry.line);
        let told = status(&scene)?;
        ensure!(told["error"].as_str().is_some_and(|error| error.contains(expected)), "{mode}: {told:#}");
    }
    endpoint.behave("good")?;
    scene.admits(Client::Raw, &attempt("opaque-token"))?;
    ensure!(status(&scene)?["error"].is_null(), "{:#}", status(&scene)?);
    scene.end()
}

fn an_endpoint_that_is_left_alone_is_shown_and_asked_again() -> Result<()> {
    let (scene, endpoint) = scene("", "failures = 2\nrest = \"3s\"")?;
    endpoint.behave("500")?;
    for _ in 0..2 {
        ensure!(status(&scene)?["resting"] == false, "{:#}", status(&scene)?);
        scene.rejects(Client::Raw, &attempt("opaque-token"), UNAVAILABLE)?;
    }
    let told = status(&scene)?;
    ensure!(told["failures"] == 2 && told["resting"] == true, "{told:#}");
    ensure!(told["last_success"].is_null() && told["last_failure"].is_u64(), "{told:#}");
    let shown = verb("status", &scene.config())?.output()?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for expected in
        [&*format!("asked about tokens: http://{ENDPOINT}/"), "NOT ANSWERED: ", "(2 times)", "LEFT ALONE: "]
    {
        ensure!(shown.contains(expected), "{expected}: {shown}");
    }
    // Repaired, it is found to be so by itself, and by one question.
    endpoint.behave("good")?;
    let asked = endpoint.questions().len();
    let deadline = Instant::now() + PATIENCE;
    while let Err(refused) = attempt("opaque-token").by(Client::Raw, &scene.host)?.admitted() {
        std::thread::sleep(gatehouse_tests::client::PACE);
        ensure!(format!("{refused:#}").contains("introspection_unavailable"), "{refused:#}");
        ensure!(Instant::now() < deadline, "it is never asked again");
    }
    ensure!(endpoint.questions().len() == asked + 1, "{:#?}", endpoint.questions());
    let told = status(&scene)?;
    ensure!(told["resting"] == false && told["failures"] == 0 && told["last_success"].is_u64(), "{told:#}");
    scene.end()
}

fn a_good_jwt_that_its_issuer_has_revoked_is_refused() -> Result<()> {
    let (mut scene, endpoint) = scene("keys = \"keys.json\"", "introspect = \"always\"\nfailures = 1000")?;
    let token = scene.token()?;
    endpoint.say(&json!({"active": true}))?;
    for client in Client::ALL {
        scene.admits(client, &attempt(&token))?;
    }
    let report = explain(&scene, &token)?;
    ensure!(report["rejection"].is_null() && report.to_string().contains("token is active"), "{report:#}");

    // A bad one is shown to nobody.
    let asked = endpoint.questions().len();
    let forged = Key::generate("ES256", "key-1")?;
    let forged = gatehouse_tests::plan::good_token()?.sign(&forged)?;
    scene.rejects(Client::Raw, &attempt(&forged), (401, "credentials", "bad_signature"))?;
    ensure!(endpoint.questions().len() == asked, "{:#?}", endpoint.questions());

    endpoint.say(&json!({"active": false}))?;
    for client in Client::ALL {
        scene.rejects(client, &attempt(&token), INACTIVE)?;
    }
    let report = explain(&scene, &token)?;
    ensure!(report["rejection"]["reason"] == "inactive", "{report:#}");
    endpoint.say(&json!({"active": true, "sub": "somebody-else"}))?;
    let (rejection, entry) = scene.rejects(Client::Raw, &attempt(&token), UNAVAILABLE)?;
    ensure!(!rejection.answer.body.contains("somebody") && entry.line.contains("somebody"), "{}", entry.line);
    endpoint.behave("500")?;
    scene.rejects(Client::Raw, &attempt(&token), UNAVAILABLE)?;
    let report = explain(&scene, &token)?;
    ensure!(report["rejection"]["reason"] == "introspection_unavailable", "{report:#}");

    // Without a daemon nobody is asked, and that is said.
    scene.daemon.stop()?;
    let asked = endpoint.questions().len();
    let report = explain(&scene, &token)?;
    ensure!(report["live"] == false && report.to_string().contains("that was not asked"), "{report:#}");
    ensure!(endpoint.questions().len() == asked, "{:#?}", endpoint.questions());
    Ok(())
}

fn a_new_client_secret_counts_without_a_restart_and_a_broken_one_does_not() -> Result<()> {
    let (scene, endpoint) = scene("", "failures = 1\nrest = \"10m\"")?;
    endpoint.trust(SECRET)?;
    scene.admits(Client::Raw, &attempt("opaque-token"))?;

    let mark = scene.daemon.mark();
    scene.edit("gate.secret", "hush\nhush\n")?;
    let entry = scene
        .daemon
        .wait_after(mark, "the broken secret", PATIENCE, |entry| entry.line.contains("gate.secret: "))?;
    ensure!(entry.line.contains("one line"), "{}", entry.line);
    ensure!(
        status(&scene)?["file_error"].as_str().is_some_and(|error| error.contains("gate.secret")),
        "{:#}",
        status(&scene)?
    );
    scene.admits(Client::Raw, &attempt("opaque-token"))?;

    // The issuer has changed it before the gate: the endpoint is left alone for long.
    endpoint.trust("another secret")?;
    scene.rejects(Client::Raw, &attempt("opaque-token"), UNAVAILABLE)?;
    ensure!(status(&scene)?["resting"] == true, "{:#}", status(&scene)?);
    scene.edit("gate.secret", "another secret")?;
    let deadline = Instant::now() + PATIENCE;
    while attempt("opaque-token").by(Client::Raw, &scene.host)?.admitted().is_err() {
        std::thread::sleep(gatehouse_tests::client::PACE);
        ensure!(Instant::now() < deadline, "the new secret does not count");
    }
    ensure!(status(&scene)?["file_error"].is_null(), "{:#}", status(&scene)?);
    let secrets = fs::read_to_string(scene.file("gate.secret"))?;
    let leak = scene
        .daemon
        .log()
        .into_iter()
        .find(|entry| [SECRET, &secrets, "hush"].iter().any(|secret| entry.line.contains(secret)));
    ensure!(leak.is_none(), "{leak:?}");
    scene.end()
}
