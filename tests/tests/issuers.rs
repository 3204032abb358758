//! Keys that are fetched from their issuer: rotation, unknown keys, discovery.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::process::{ExitCode, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Result, anyhow, bail, ensure};
use gatehouse_tests::client::{Attempt, Client};
use gatehouse_tests::daemon::verb;
use gatehouse_tests::fetched::{
    OFTEN, RARELY, SECRET, UNAVAILABLE, UNKNOWN_KEY, attempt, explain, in_force, in_place, key, serve,
    status, unknown_at_last, url,
};
use gatehouse_tests::issuer::{IssuerServer, KEYS};
use gatehouse_tests::log::Entry;
use gatehouse_tests::plan::{AUDIENCE, SCOPE, good_token};
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::promises;
use gatehouse_tests::scene::Scene;
use gatehouse_tests::token::{Key, Token};
use serde_json::json;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        keys_from_a_url_admit_and_are_asked_for_on_condition,
        a_rotation_rejects_nobody,
        a_key_that_is_brand_new_is_asked_for_at_once,
        a_flood_of_unknown_keys_is_no_flood_of_requests,
        a_key_rotated_in_during_the_cooldown_is_not_blamed_on_its_client,
        a_key_that_is_gone_goes_when_the_issuer_says_so_twice,
        discovery_finds_the_keys_of_the_very_issuer_alone,
        a_token_never_says_where_its_key_is,
        an_issuer_is_asked_again_when_it_says,
        check_says_what_would_be_fetched_and_asks_nobody,
    ])
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
    ensure!(shown.contains(&url()) && shown.contains("s ago ") && shown.contains(" in "), "{shown}");
    let report = explain(&scene, &scene.token()?)?;
    ensure!(report["live"] == true && report["rejection"].is_null(), "{report:#}");
    let leak = scene.daemon.log().into_iter().find(|entry| entry.line.contains(SECRET));
    ensure!(leak.is_none(), "{leak:?}");
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
                        std::thread::sleep(gatehouse_tests::client::PACE);
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
    let (rejection, entry) = unknown_at_last(&scene, &attempt(&key("key-3")?)?)?;
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
                    let mut blamed = 0;
                    for number in 0..EACH {
                        let token = good_token()?.sign_as(stranger, header(format!("{client}-{number}")))?;
                        let attempt = Attempt::on("/chat").token(&token);
                        let rejection = attempt.by(Client::Raw, &scene.host)?.rejected()?;
                        // Nobody is blamed for a key that may be newer than the answer.
                        match (rejection.answer.status, &*rejection.reason) {
                            (401, "unknown_key") => blamed += 1,
                            (503, "keys_unavailable") => drop(rejection.answer.header("Retry-After")?),
                            _ => bail!("{rejection:#?}"),
                        }
                    }
                    ensure!(blamed <= 1, "{blamed} were blamed, and the issuer was asked for one");
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

fn a_key_rotated_in_during_the_cooldown_is_not_blamed_on_its_client() -> Result<()> {
    let (scene, server) = in_place("keys_min_interval = \"1h\"\nkeys_cooldown = \"5s\"\n", "")?;
    // Garbage starts the cool-down, from somebody who guesses the name of the next key.
    let garbage = attempt(&key("key-2")?)?;
    scene.rejects(Client::Raw, &garbage, UNKNOWN_KEY)?;
    let fresh = key("key-2")?;
    server.publish(&[&scene.key, &fresh])?;
    let fresh = attempt(&fresh)?;
    let (rejection, entry) = scene.rejects(Client::Raw, &fresh, UNAVAILABLE)?;
    let wait: u64 = rejection.answer.header("Retry-After")?.parse()?;
    ensure!((1..=5).contains(&wait) && entry.line.contains("key-2"), "{rejection:#?} {}", entry.line);
    // What was asked about stays what it is, and the new key is good as soon as the issuer may be asked.
    scene.rejects(Client::Raw, &garbage, UNKNOWN_KEY)?;
    let deadline = Instant::now() + PATIENCE;
    while let Err(refused) = fresh.by(Client::Raw, &scene.host)?.admitted() {
        ensure!(format!("{refused:#}").contains("keys_unavailable"), "it is blamed: {refused:#}");
        ensure!(Instant::now() < deadline, "the new key is never asked for");
        std::thread::sleep(gatehouse_tests::client::PACE);
    }
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

fn a_token_never_says_where_its_key_is() -> Result<()> {
    let (scene, server) = in_place(RARELY, "")?;
    let forger = key("key-9")?;
    let trap = format!("http://{KEYS}/trap");
    for name in ["jku", "x5u"] {
        let header = json!({"typ": "at+jwt", "kid": "key-9", name: trap});
        let token = good_token()?.sign_as(&forger, header)?;
        unknown_at_last(&scene, &Attempt::on("/chat").token(&token))?;
    }
    let header = json!({"typ": "at+jwt", "kid": "key-9", "jwk": forger.jwk()});
    let token = good_token()?.sign_as(&forger, header)?;
    unknown_at_last(&scene, &Attempt::on("/chat").token(&token))?;
    ensure!(server.asked().iter().all(|asked| asked.path.starts_with("/jwks")), "{:#?}", server.asked());
    scene.end()
}

fn an_issuer_is_asked_again_when_it_says() -> Result<()> {
    let settings = "keys_min_interval = \"1s\"\nkeys_max_interval = \"1h\"\nkeys_cooldown = \"1s\"\n";
    let (scene, server) = in_place(settings, "")?;
    server.say(&[("Cache-Control", "public, max-age=1200"), ("Age", "200")])?;
    asked_in(&scene, 850..=1100)?;
    server.say(&[("Retry-After", "2000")])?;
    server.behave("503")?;
    scene.rejects(Client::Raw, &attempt(&key("key-2")?)?, UNAVAILABLE)?;
    asked_in(&scene, 1950..=2000)?;
    scene.admits(Client::Raw, &attempt(&scene.key)?)?;
    scene.end()
}

/// Looks until the issuer is to be asked in so many seconds.
fn asked_in(scene: &Scene, seconds: RangeInclusive<u64>) -> Result<()> {
    let start = Instant::now();
    loop {
        let issuer = status(scene)?;
        match issuer["fetched"]["next_s"].as_u64() {
            Some(next) if seconds.contains(&next) => return Ok(()),
            _ => ensure!(start.elapsed() < PATIENCE, "not asked in {seconds:?} s: {issuer:#}"),
        }
    }
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
