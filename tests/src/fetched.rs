//! Scenes of a daemon that fetches its keys from an issuer.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::answer::Rejection;
use crate::client::{Attempt, Client};
use crate::daemon::verb;
use crate::issuer::{IssuerServer, KEYS};
use crate::log::Entry;
use crate::plan::{Plan, good_token, issuer};
use crate::process::{Mark, PATIENCE};
use crate::scene::{Expected, Scene};
use crate::token::Key;

/// A part of the URL that nobody may see.
pub const SECRET: &str = "hush";

/// The issuer has no such key.
pub const UNKNOWN_KEY: Expected<'_> = (401, "credentials", "unknown_key");
/// There are no keys to judge by, or not the one that is needed.
pub const UNAVAILABLE: Expected<'_> = (503, "auth_system", "keys_unavailable");
/// The keys are too old.
pub const STALE: Expected<'_> = (503, "auth_system", "keys_stale");

/// Asked for every second.
pub const OFTEN: &str = "keys_min_interval = \"1s\"\nkeys_max_interval = \"1s\"\nkeys_cooldown = \"1s\"\n";
/// Asked for once, and when a token needs it.
pub const RARELY: &str = "keys_min_interval = \"1h\"\nkeys_cooldown = \"1s\"\n";

/// Where the daemon fetches keys, without the query.
pub fn url() -> String {
    format!("http://{KEYS}/jwks")
}

/// A new key called `name`.
pub fn key(name: &str) -> Result<Key> {
    Key::generate("ES256", name)
}

/// The folder of the issuer's files.
const WEB: &str = "web";

/// How long an issuer may take. A busy machine needs more than an issuer does.
const TIMEOUT: &str = "5s";

/// A daemon that fetches its keys by `settings`, and no issuer yet.
pub fn scene(settings: &str, more: &str) -> Result<Scene> {
    Scene::with(key("key-1")?, |key, plan| Ok(fetching(key, plan, TIMEOUT, settings, more)))
}

/// `plan` with an issuer whose keys are fetched by `settings`, and that may take `timeout`.
fn fetching(key: &Key, mut plan: Plan, timeout: &str, settings: &str, more: &str) -> Plan {
    let keys = format!("keys = \"{}?key={SECRET}\"\n{settings}", url());
    plan.issuers = issuer("main", &keys, &[key.algorithm()]);
    plan.more = format!("{more}\n[limits]\nissuer_timeout = \"{timeout}\"\nissuer_answer = 65536\n");
    plan
}

/// Starts the issuer with `keys`.
pub fn serve(scene: &Scene, keys: &[&Key]) -> Result<IssuerServer> {
    IssuerServer::start(&scene.host, &scene.file(WEB), keys, None)
}

/// A running system with an issuer that has the usual key.
pub fn in_place(settings: &str, more: &str) -> Result<(Scene, IssuerServer)> {
    in_place_within(TIMEOUT, settings, more)
}

/// The same with an issuer that may take `timeout`. It is there before the daemon, which would be
/// about to give up on it for some seconds otherwise.
pub fn in_place_within(timeout: &str, settings: &str, more: &str) -> Result<(Scene, IssuerServer)> {
    let (scene, server) = Scene::beside(
        key("key-1")?,
        |key, plan| Ok(fetching(key, plan, timeout, settings, more)),
        |host, folder, key| IssuerServer::start(host, &folder.join(WEB), &[key], None),
    )?;
    in_force(&scene, Mark::default(), 1)?;
    Ok((scene, server))
}

/// Waits until `count` keys are in force.
pub fn in_force(scene: &Scene, mark: Mark, count: usize) -> Result<Entry> {
    let says = format!("issuer main has {count} keys now");
    // A start without its issuer asks once more after some seconds.
    scene.daemon.wait_after(mark, &says, PATIENCE, |entry| entry.line.contains(&says))
}

/// An attempt with a good token, signed with `key`.
pub fn attempt(key: &Key) -> Result<Attempt> {
    Ok(Attempt::on("/chat").token(&good_token()?.sign(key)?))
}

/// Makes the attempt, with a key that the issuer does not have, until the issuer was asked for it: the
/// rejection that says so. Before that, nobody is blamed.
pub fn unknown_at_last(scene: &Scene, attempt: &Attempt) -> Result<(Rejection, Entry)> {
    let deadline = Instant::now() + PATIENCE;
    while attempt.by(Client::Raw, &scene.host)?.rejected()?.reason == UNAVAILABLE.2 {
        std::thread::sleep(crate::client::PACE);
        ensure!(Instant::now() < deadline, "the issuer is never asked for the key");
    }
    scene.rejects(Client::Raw, attempt, UNKNOWN_KEY)
}

/// What `gatehouse status` has about the issuer.
pub fn status(scene: &Scene) -> Result<Value> {
    let status = scene.daemon.status()?;
    ensure!(!status.to_string().contains(SECRET), "{status:#}");
    Ok(status["issuers"][0].clone())
}

/// What `gatehouse explain --json` says about a client with `token`.
pub fn explain(scene: &Scene, token: &str) -> Result<Value> {
    let output =
        verb("explain", &scene.config())?.args(["--json", "--token", token, "--path", "/chat"]).output()?;
    serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))
}
