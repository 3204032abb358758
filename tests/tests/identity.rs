//! Tokens of a real OpenID provider: JWTs by discovery, and opaque ones by introspection.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use gatehouse_tests::client::{Attempt, Client};
use gatehouse_tests::daemon::verb;
use gatehouse_tests::fetched::{OFTEN, in_force};
use gatehouse_tests::plan::{AUDIENCE, SCOPE};
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::promises;
use gatehouse_tests::provider::{GATE_SECRET, PROVIDER, Provider};
use gatehouse_tests::scene::Scene;
use gatehouse_tests::token::Key;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        a_jwt_of_an_openid_provider_is_verified_by_discovery_and_after_it_changed_its_key,
        a_rotation_of_an_openid_provider_with_overlapping_keys_rejects_nobody,
        an_opaque_token_is_judged_by_what_its_provider_says,
        the_endpoint_is_found_by_discovery_and_until_then_it_is_our_outage,
        a_token_that_its_provider_revoked_is_refused_as_inactive,
        a_provider_that_is_down_is_not_the_clients_fault,
        a_provider_that_refuses_the_gate_is_not_the_clients_fault,
    ])
}

/// The usual system whose issuer is the provider, with `more` in its table; the provider is not started.
fn scene(more: &str, secret: &str) -> Result<Scene> {
    with(more, &format!("endpoint = \"http://{PROVIDER}/token/introspection\""), secret)
}

/// The same with `endpoint` in the table of the introspection.
fn with(more: &str, endpoint: &str, secret: &str) -> Result<Scene> {
    Scene::with(Key::generate("ES256", "unused")?, |_, mut plan| {
        plan.issuers = format!(
            "[[issuer]]\nname = \"main\"\nissuer = \"http://{PROVIDER}\"\naudience = [\"{AUDIENCE}\"]\n{more}\n\
             [issuer.introspection]\n{endpoint}\nclient_id = \"gate\"\n\
             client_secret = \"gate.secret\"\ncache = \"1s\"\n"
        );
        Ok(plan.file("gate.secret", secret))
    })
}

fn attempt(token: &str) -> Attempt {
    Attempt::on("/chat").token(token)
}

/// Makes the attempt until it is refused in this way, or has been admitted for too long.
fn is_refused_at_last(scene: &Scene, token: &str, expected: (u16, &str, &str)) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while attempt(token).by(Client::Raw, &scene.host)?.admitted().is_ok() {
        std::thread::sleep(gatehouse_tests::client::PACE);
        ensure!(Instant::now() < deadline, "it is admitted still");
    }
    scene.rejects(Client::Raw, &attempt(token), expected)?;
    Ok(())
}

fn a_jwt_of_an_openid_provider_is_verified_by_discovery_and_after_it_changed_its_key() -> Result<()> {
    let scene = scene("discovery = true\nkeys_cooldown = \"1s\"", GATE_SECRET)?;
    let provider = Provider::start(&scene.host, "key-1", 600)?;
    for client in Client::ALL {
        scene.admits(client, &attempt(&provider.jwt(&scene.host)?))?;
    }
    provider.kill()?;
    let provider = Provider::start(&scene.host, "key-2", 600)?;
    // A key that was not published before is asked for when the cool-down of the last question is over.
    let token = provider.jwt(&scene.host)?;
    let deadline = Instant::now() + PATIENCE;
    while attempt(&token).by(Client::Raw, &scene.host)?.admitted().is_err() {
        std::thread::sleep(gatehouse_tests::client::PACE);
        ensure!(Instant::now() < deadline, "the new key is never asked for");
    }
    scene.end()
}

fn a_rotation_of_an_openid_provider_with_overlapping_keys_rejects_nobody() -> Result<()> {
    let scene = scene(&format!("discovery = true\n{OFTEN}"), GATE_SECRET)?;
    let mark = scene.daemon.mark();
    let provider = Provider::start(&scene.host, "key-1", 600)?;
    in_force(&scene, mark, 1)?;
    let (over, (admitted, admissions)) = (AtomicBool::new(false), mpsc::channel());
    std::thread::scope(|threads| {
        let clients: Vec<_> = (0..2)
            .map(|_| {
                let (scene, provider, over, admitted) = (&scene, &provider, &over, admitted.clone());
                threads.spawn(move || -> Result<()> {
                    while !over.load(Ordering::Relaxed) {
                        std::thread::sleep(gatehouse_tests::client::PACE);
                        scene.admits(Client::Raw, &attempt(&provider.jwt(&scene.host)?))?;
                        admitted.send(())?;
                    }
                    Ok(())
                })
            })
            .collect();
        let rotated = rotate(&scene, &provider, &admissions);
        over.store(true, Ordering::Relaxed);
        clients
            .into_iter()
            .try_for_each(|client| client.join().map_err(|_| anyhow!("a client panicked"))?)?;
        rotated
    })?;
    scene.end()
}

/// Rotates as providers do: publishes the second key, signs with it, and takes the first one away. In
/// each state clients are admitted.
fn rotate(scene: &Scene, provider: &Provider, admissions: &Receiver<()>) -> Result<()> {
    let some = || -> Result<()> {
        // Those that were before say nothing.
        while admissions.try_recv().is_ok() {}
        (0..5).try_for_each(|_| admissions.recv_timeout(PATIENCE)).context("nobody is admitted any more")
    };
    some()?;
    for (keys, signing, in_force_then) in [
        (&["key-1", "key-2"][..], "key-1", Some(2)),
        (&["key-2", "key-1"][..], "key-2", None),
        (&["key-2"][..], "key-2", Some(1)),
    ] {
        let mark = scene.daemon.mark();
        provider.rotate(&scene.host, keys, signing)?;
        if let Some(count) = in_force_then {
            in_force(scene, mark, count)?;
        }
        some()?;
    }
    Ok(())
}

fn the_endpoint_is_found_by_discovery_and_until_then_it_is_our_outage() -> Result<()> {
    const UNAVAILABLE: (u16, &str, &str) = (503, "auth_system", "introspection_unavailable");
    let scene = with(&format!("discovery = true\n{OFTEN}"), "", GATE_SECRET)?;
    let (rejection, entry) = scene.rejects(Client::Raw, &attempt("opaque-token"), UNAVAILABLE)?;
    ensure!(rejection.answer.header("Retry-After").is_ok(), "{rejection:#?}");
    ensure!(entry.line.contains("metadata"), "{}", entry.line);
    let told = || -> Result<_> { Ok(scene.daemon.status()?["issuers"][0]["introspection"].clone()) };
    ensure!(told()?["endpoint"].is_null() && told()?["error"].is_null(), "{:#}", told()?);
    let mark = scene.daemon.mark();
    let provider = Provider::start(&scene.host, "key-1", 600)?;
    in_force(&scene, mark, 1)?;
    ensure!(told()?["endpoint"] == format!("http://{PROVIDER}/token/introspection"), "{:#}", told()?);
    let token = provider.opaque(&scene.host, SCOPE)?;
    for client in Client::ALL {
        scene.admits(client, &attempt(&token))?;
    }
    scene.admits(Client::Raw, &attempt(&provider.jwt(&scene.host)?))?;
    provider.revoke(&scene.host, &token)?;
    is_refused_at_last(&scene, &token, (401, "credentials", "inactive"))?;
    scene.end()
}

fn an_opaque_token_is_judged_by_what_its_provider_says() -> Result<()> {
    let scene = scene("", GATE_SECRET)?;
    let provider = Provider::start(&scene.host, "key-1", 600)?;
    let token = provider.opaque(&scene.host, SCOPE)?;
    ensure!(!token.contains('.'), "it is no JWT");
    for client in Client::ALL {
        scene.admits(client, &attempt(&token))?;
    }
    let seen = scene.upstream.request()?;
    ensure!(seen.header("Gatehouse-Subject") == ["machine"], "{seen:#?}");
    let explained =
        verb("explain", &scene.config())?.args(["--path", "/chat", "--token", &token]).output()?;
    ensure!(explained.status.success(), "{explained:?}");
    let explained =
        verb("explain", &scene.config())?.args(["--path", "/chat", "--token", "nonsense"]).output()?;
    let text = String::from_utf8_lossy(&explained.stdout);
    ensure!(explained.status.code() == Some(1) && text.contains("inactive"), "{explained:?}");
    let other = provider.opaque(&scene.host, "chat:write")?;
    scene.rejects(Client::Raw, &attempt(&other), (403, "scope", "insufficient_scope"))?;
    scene.rejects(Client::Raw, &attempt("nonsense"), (401, "credentials", "inactive"))?;
    scene.end()
}

fn a_token_that_its_provider_revoked_is_refused_as_inactive() -> Result<()> {
    let scene = scene("", GATE_SECRET)?;
    let provider = Provider::start(&scene.host, "key-1", 600)?;
    let token = provider.opaque(&scene.host, SCOPE)?;
    scene.admits(Client::Raw, &attempt(&token))?;
    provider.revoke(&scene.host, &token)?;
    is_refused_at_last(&scene, &token, (401, "credentials", "inactive"))?;
    scene.end()
}

fn a_provider_that_is_down_is_not_the_clients_fault() -> Result<()> {
    const UNAVAILABLE: (u16, &str, &str) = (503, "auth_system", "introspection_unavailable");
    let scene = scene("", GATE_SECRET)?;
    let (rejection, _) = scene.rejects(Client::Raw, &attempt("unknown"), UNAVAILABLE)?;
    ensure!(rejection.answer.header("Retry-After").is_ok(), "{rejection:#?}");
    let provider = Provider::start(&scene.host, "key-1", 600)?;
    let token = provider.opaque(&scene.host, SCOPE)?;
    scene.admits(Client::Raw, &attempt(&token))?;
    provider.kill()?;
    is_refused_at_last(&scene, &token, UNAVAILABLE)?;
    scene.end()
}

fn a_provider_that_refuses_the_gate_is_not_the_clients_fault() -> Result<()> {
    let scene = scene("", "a wrong secret")?;
    let provider = Provider::start(&scene.host, "key-1", 600)?;
    let token = provider.opaque(&scene.host, SCOPE)?;
    let expected = (503, "auth_system", "introspection_unavailable");
    let (rejection, entry) = scene.rejects(Client::Raw, &attempt(&token), expected)?;
    ensure!(
        entry.line.contains("client_secret") && !rejection.answer.body.contains("secret"),
        "{}",
        entry.line
    );
    ensure!(!scene.daemon.log().iter().any(|entry| entry.line.contains("a wrong secret")));
    scene.end()
}
