//! Keys that are fetched from their issuer, and what happens to issuers.

use std::collections::HashSet;
use std::process::{ExitCode, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, anyhow, ensure};
use gatehouse_tests::authority::authority;
use gatehouse_tests::client::{Attempt, Client};
use gatehouse_tests::daemon::{Daemon, verb};
use gatehouse_tests::issuer::{IssuerServer, KEYS};
use gatehouse_tests::log::Entry;
use gatehouse_tests::plan::{AUDIENCE, SCOPE, good_token, issuer};
use gatehouse_tests::process::{Mark, PATIENCE};
use gatehouse_tests::promises;
use gatehouse_tests::scene::{Expected, Scene};
use gatehouse_tests::token::{Key, Token, jwk_set};
use serde_json::{Value, json};

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        keys_from_a_url_admit_and_are_asked_for_on_condition,
        a_daemon_without_its_issuer_starts_and_says_that_nobody_can_tell,
        a_rotation_rejects_nobody,
        a_key_that_is_brand_new_is_asked_for_at_once,
        a_flood_of_unknown_keys_is_no_flood_of_requests,
        no_fault_of_an_issuer_takes_its_keys_out_of_force,
        keys_serve_until_max_stale_and_then_it_is_our_outage,
        a_key_that_is_gone_goes_when_the_issuer_says_so_twice,
        discovery_finds_the_keys_of_the_very_issuer_alone,
        an_issuer_with_a_private_authority_is_trusted_where_that_is_named,
        a_restart_without_the_issuer_serves_the_kept_keys,
        a_token_never_says_where_its_key_is,
        check_says_what_would_be_fetched_and_asks_nobody,
    ])
}

/// A part of the URL that nobody may see.
const SECRET: &str = "hush";

const UNKNOWN_KEY: Expected<'_> = (401, "credentials", "unknown_key");
const UNAVAILABLE: Expected<'_> = (503, "auth_system", "keys_unavailable");
const STALE: Expected<'_> = (503, "auth_system", "keys_stale");

/// Asked for every second.
const OFTEN: &str = "keys_min_interval = \"1s\"\nkeys_max_interval = \"1s\"\nkeys_cooldown = \"1s\"\n";
/// Asked for once, and when a token needs it.
const RARELY: &str = "keys_min_interval = \"1h\"\nkeys_cooldown = \"1s\"\n";

fn url() -> String {
    format!("http://{KEYS}/jwks")
}

fn key(name: &str) -> Result<Key> {
    Key::generate("ES256", name)
}

/// A daemon that fetches its keys by `settings`, and no issuer yet.
fn scene(settings: &str, more: &str) -> Result<Scene> {
    with(&format!("keys = \"{}?key={SECRET}\"\n{settings}", url()), more)
}

fn with(keys: &str, more: &str) -> Result<Scene> {
    Scene::with(key("key-1")?, |key, mut plan| {
        plan.issuers = issuer("main", keys, &[key.algorithm()]);
        plan.more = format!("{more}\n[limits]\nissuer_timeout = \"1s\"\nissuer_answer = 65536\n");
        Ok(plan)
    })
}

fn serve(scene: &Scene, keys: &[&Key]) -> Result<IssuerServer> {
    IssuerServer::start(&scene.host, &scene.file("web"), keys, None)
}

/// A running system with an issuer that has the usual key.
fn in_place(settings: &str, more: &str) -> Result<(Scene, IssuerServer)> {
    let scene = scene(settings, more)?;
    let server = serve(&scene, &[&scene.key])?;
    in_force(&scene, Mark::default(), 1)?;
    Ok((scene, server))
}

/// Waits until `count` keys are in force.
fn in_force(scene: &Scene, mark: Mark, count: usize) -> Result<Entry> {
    let says = format!("issuer main has {count} keys now");
    // A start without its issuer asks once more after some seconds.
    scene.daemon.wait_after(mark, &says, PATIENCE, |entry| entry.line.contains(&says))
}

fn attempt(key: &Key) -> Result<Attempt> {
    Ok(Attempt::on("/chat").token(&good_token()?.sign(key)?))
}

/// What `gatehouse status` has about the issuer.
fn status(scene: &Scene) -> Result<Value> {
    let status = scene.daemon.status()?;
    ensure!(!status.to_string().contains(SECRET), "{status:#}");
    Ok(status["issuers"][0].clone())
}

fn explain(scene: &Scene, token: &str) -> Result<Value> {
    let output =
        verb("explain", &scene.config())?.args(["--json", "--token", token, "--path", "/chat"]).output()?;
    serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))
}

fn keys_from_a_url_admit_and_are_asked_for_on_condition() -> Result<()> {
    let (scene, server) = in_place(OFTEN, "")?;
    let attempt = attempt(&scene.key)?;
    for client in Client::ALL {
        scene.admits(client, &attempt)?;
    }
    server.wait_after(server.mark(), "a request on condition", |asked| {
        asked.status == 304 && asked.known.is_some()
    })?;
    let issuer = status(&scene)?;
    let fetched = &issuer["fetched"];
    ensure!(issuer["keys"] == 1 && fetched["source"] == url(), "{issuer:#}");
    ensure!(fetched["error"].is_null() && fetched["stale"] == false, "{issuer:#}");
    for member in ["age_s", "next_s", "last_success", "last_attempt", "next_attempt"] {
        ensure!(fetched[member].is_u64(), "{member}: {issuer:#}");
    }
    let shown = verb("status", &scene.config())?.output()?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    ensure!(shown.contains(&format!("from {}, confirmed ", url())), "{shown}");
    let report = explain(&scene, &scene.token()?)?;
    ensure!(report["live"] == true && report["rejection"].is_null(), "{report:#}");
    let leak = scene.daemon.log().into_iter().find(|entry| entry.line.contains(SECRET));
    ensure!(leak.is_none(), "{leak:?}");
    scene.end()
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

fn a_rotation_rejects_nobody() -> Result<()> {
    let (scene, server) = in_place(OFTEN, "")?;
    let [second, third] = [key("key-2")?, key("key-3")?];
    let signing = Mutex::new(&scene.key);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| -> Result<usize> {
                    let mut count = 0;
                    while !over.load(Ordering::Relaxed) {
                        let key = *signing.lock().map_err(|error| anyhow!("{error}"))?;
                        scene.admits(Client::Raw, &attempt(key)?)?;
                        count += 1;
                    }
                    Ok(count)
                })
            })
            .collect();
        let rotated = rotate(&scene, &server, &signing, [&second, &third]);
        over.store(true, Ordering::Relaxed);
        for client in clients {
            let count = client.join().map_err(|_| anyhow!("a client panicked"))??;
            ensure!(count > 10, "only {count} handshakes");
        }
        rotated
    })?;
    scene.end()
}

/// Rotates with an overlap to the first of `keys`, and at once to the second.
fn rotate<'a>(
    scene: &'a Scene,
    server: &IssuerServer,
    signing: &Mutex<&'a Key>,
    keys: [&'a Key; 2],
) -> Result<()> {
    let sign_with = |key| -> Result<()> {
        *signing.lock().map_err(|error| anyhow!("{error}"))? = key;
        Ok(())
    };
    let [second, third] = keys;
    let mark = scene.daemon.mark();
    server.publish(&[&scene.key, second])?;
    in_force(scene, mark, 2)?;
    sign_with(second)?;
    let mark = scene.daemon.mark();
    server.publish(&[second])?;
    in_force(scene, mark, 1)?;
    let mark = scene.daemon.mark();
    server.publish(&[second, third])?;
    sign_with(third)?;
    in_force(scene, mark, 2)?;
    Ok(())
}

fn a_key_that_is_brand_new_is_asked_for_at_once() -> Result<()> {
    let (scene, server) = in_place(RARELY, "")?;
    let fresh = key("key-2")?;
    let before = server.asked().len();
    server.publish(&[&scene.key, &fresh])?;
    scene.admits(Client::Raw, &attempt(&fresh)?)?;
    scene.admits(Client::Raw, &attempt(&scene.key)?)?;
    ensure!(server.asked().len() == before + 1, "{:#?}", server.asked());

    // One that nobody has is the client's fault, once the issuer has said so.
    let (rejection, entry) = scene.rejects(Client::Raw, &attempt(&key("key-3")?)?, UNKNOWN_KEY)?;
    ensure!(!rejection.answer.body.contains("key-3") && entry.line.contains("key-3"), "{}", entry.line);
    scene.end()
}

fn a_flood_of_unknown_keys_is_no_flood_of_requests() -> Result<()> {
    const CLIENTS: usize = 4;
    const EACH: usize = 50;
    let (scene, server) = in_place("keys_min_interval = \"1h\"\n", "")?;
    let stranger = key("key-1")?;
    let before = server.asked().len();
    let header = |kid: String| json!({"typ": "at+jwt", "kid": kid});
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (scene, stranger) = (&scene, &stranger);
                scope.spawn(move || -> Result<()> {
                    for number in 0..EACH {
                        let token = good_token()?.sign_as(stranger, header(format!("{client}-{number}")))?;
                        let attempt = Attempt::on("/chat").token(&token);
                        let rejection = attempt.by(Client::Raw, &scene.host)?.rejected()?;
                        ensure!(rejection.reason == "unknown_key", "{rejection:#?}");
                    }
                    Ok(())
                })
            })
            .collect();
        clients.into_iter().try_for_each(|client| client.join().map_err(|_| anyhow!("a client panicked"))?)
    })?;
    let asked = server.asked().len() - before;
    ensure!(asked == 1, "the issuer was asked {asked} times for {} keys", CLIENTS * EACH);
    scene.admits(Client::Raw, &attempt(&scene.key)?)?;
    scene.end()
}

fn no_fault_of_an_issuer_takes_its_keys_out_of_force() -> Result<()> {
    let (scene, server) = in_place(OFTEN, "")?;
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
    scene.rejects(Client::Raw, &unknown, UNKNOWN_KEY)?;
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

fn a_key_that_is_gone_goes_when_the_issuer_says_so_twice() -> Result<()> {
    let (scene, server) =
        in_place("keys_min_interval = \"1s\"\nkeys_max_interval = \"1s\"\nkeys_cooldown = \"2s\"\n", "")?;
    let second = key("key-2")?;
    let mark = scene.daemon.mark();
    server.publish(&[&scene.key, &second])?;
    in_force(&scene, mark, 2)?;
    let mark = scene.daemon.mark();
    server.publish(&[&second])?;
    scene.daemon.wait_after(mark, "the first answer without the key", PATIENCE, |entry| {
        entry.line.contains("no longer has 1 of its keys")
    })?;
    scene.admits(Client::Raw, &attempt(&scene.key)?)?;
    in_force(&scene, mark, 1)?;
    scene.rejects(Client::Raw, &attempt(&scene.key)?, UNKNOWN_KEY)?;
    scene.admits(Client::Raw, &attempt(&second)?)?;
    scene.end()
}

fn discovery_finds_the_keys_of_the_very_issuer_alone() -> Result<()> {
    let name = format!("http://{KEYS}");
    let scene = Scene::with(key("key-1")?, |_, mut plan| {
        plan.issuers = format!(
            "[[issuer]]\nname = \"main\"\nissuer = \"{name}\"\naudience = [\"{AUDIENCE}\"]\ndiscovery = true\n{OFTEN}"
        );
        Ok(plan)
    })?;
    let token = Token::new(&name, AUDIENCE)?.claim("scope", SCOPE).sign(&scene.key)?;
    let attempt = Attempt::on("/chat").token(&token);
    let told = |expected: &str| {
        let told =
            |entry: &Entry| entry.line.contains("could not be fetched") && entry.line.contains(expected);
        scene.daemon.wait_for(expected, PATIENCE, told)
    };
    let server = serve(&scene, &[&scene.key])?;
    told("status 404")?;
    server.behave("oidc")?;
    for (issuer, keys, expected) in [
        ("https://evil.test", url(), "equal to the last character"),
        (&*name, "http://keys.test/jwks".to_owned(), "is not https"),
        (&*name, "file:///etc/passwd".to_owned(), "is not https"),
    ] {
        server.describe(issuer, &keys)?;
        let entry = told(expected)?;
        ensure!(
            expected != "equal to the last character"
                || (entry.line.contains(issuer) && entry.line.contains(&name)),
            "{}",
            entry.line
        );
        scene.rejects(Client::Raw, &attempt, UNAVAILABLE)?;
    }
    ensure!(server.asked().iter().all(|asked| asked.path.contains("/.well-known/")), "{:#?}", server.asked());

    let mark = scene.daemon.mark();
    server.describe(&name, &url())?;
    in_force(&scene, mark, 1)?;
    scene.admits(Client::Raw, &attempt)?;
    let asked: HashSet<String> = server.asked().into_iter().map(|asked| asked.path).collect();
    for path in ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration", "/jwks"] {
        ensure!(asked.contains(path), "{path} was not asked for: {asked:#?}");
    }
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

fn a_token_never_says_where_its_key_is() -> Result<()> {
    let (scene, server) = in_place(RARELY, "")?;
    let forger = key("key-9")?;
    let trap = format!("http://{KEYS}/trap");
    for name in ["jku", "x5u"] {
        let header = json!({"typ": "at+jwt", "kid": "key-9", name: trap});
        let token = good_token()?.sign_as(&forger, header)?;
        scene.rejects(Client::Raw, &Attempt::on("/chat").token(&token), UNKNOWN_KEY)?;
    }
    let header = json!({"typ": "at+jwt", "kid": "key-9", "jwk": forger.jwk()});
    let token = good_token()?.sign_as(&forger, header)?;
    scene.rejects(Client::Raw, &Attempt::on("/chat").token(&token), UNKNOWN_KEY)?;
    ensure!(server.asked().iter().all(|asked| asked.path.starts_with("/jwks")), "{:#?}", server.asked());
    scene.end()
}

fn check_says_what_would_be_fetched_and_asks_nobody() -> Result<()> {
    let (mut scene, server) = in_place(RARELY, "")?;
    scene.daemon.stop()?;
    let before = server.asked().len();
    let Output { status, stdout, stderr } = verb("check", &scene.config())?.output()?;
    let printed = String::from_utf8_lossy(&stdout);
    let says = format!("fetches the keys of issuer main from {} every 6h or sooner", url());
    ensure!(status.success() && printed.contains(&says) && !printed.contains(SECRET), "{printed}{stderr:?}");
    let report = explain(&scene, &scene.token()?)?;
    let rejection = &report["rejection"];
    ensure!(report["live"] == false && rejection["layer"] == "auth_system", "{report:#}");
    ensure!(
        rejection["note"].as_str().is_some_and(|note| note.contains("no daemon was asked")),
        "{report:#}"
    );
    ensure!(server.asked().len() == before, "{:#?}", server.asked());
    Ok(())
}
