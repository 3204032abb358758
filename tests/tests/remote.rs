//! Lists from URLs, and what servers do to them.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use gatehouse_tests::authority::authority;
use gatehouse_tests::client::{Attempt, Client};
use gatehouse_tests::daemon::{Daemon, verb};
use gatehouse_tests::host::{CLIENT_V4, OTHER_CLIENT_V4};
use gatehouse_tests::lists::{LISTS, ListServer};
use gatehouse_tests::log::Entry;
use gatehouse_tests::process::{Mark, PATIENCE};
use gatehouse_tests::promises;
use gatehouse_tests::scene::{Scene, names_rule};
use gatehouse_tests::token::Key;
use serde_json::Value;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        a_list_from_a_url_is_enforced_and_followed,
        what_has_not_changed_is_not_sent_again,
        no_fault_of_a_server_takes_a_list_out_of_force,
        a_restart_without_the_server_serves_the_last_good_copy,
        a_daemon_without_server_and_copy_starts_and_fetches_once_it_can,
        a_private_authority_is_trusted_where_it_is_named,
        a_list_from_a_url_comes_and_goes_by_reload_and_by_apply,
    ])
}

/// A part of the URL that nobody may see.
const SECRET: &str = "hush";

/// The name of the list.
fn name() -> String {
    format!("http://{LISTS}/deny")
}

/// A daemon that denies the items `deny`, and no server yet.
fn scene(deny: &str) -> Result<Scene> {
    Scene::with(Key::generate("ES256", "key-1")?, |_, mut plan| {
        plan.firewall = plan.firewall.replace("\"deny.list\"", deny);
        plan.more =
            "[state]\nfolder = \"state\"\n[limits]\nlist_size = 16384\nremote_idle_timeout = \"1s\"\n"
                .to_owned();
        Ok(plan)
    })
}

/// A daemon that denies the list of the server, asked for every second.
fn usual() -> Result<Scene> {
    scene(&format!("{{ list = \"{}?key={SECRET}\", interval = \"1s\" }}", name()))
}

fn serve(scene: &Scene, content: &str) -> Result<ListServer> {
    ListServer::start(&scene.host, &scene.file("web"), content, None)
}

fn in_force(scene: &Scene, mark: Mark) -> Result<()> {
    // Generations can come for other reasons, such as an address that the host gets.
    let mut fetched = false;
    scene.daemon.wait_after(mark, "the new generation", PATIENCE, |entry| {
        fetched |= entry.line.contains(" was fetched");
        fetched && entry.line.contains(" is in force: ")
    })?;
    Ok(())
}

/// A running system with a server whose list denies the usual client.
fn in_place() -> Result<(Scene, ListServer)> {
    let scene = usual()?;
    let mark = scene.daemon.mark();
    let server = serve(&scene, &format!("{CLIENT_V4}\n"))?;
    in_force(&scene, mark)?;
    Ok((scene, server))
}

/// What `gatehouse status` has about the list.
fn status(scene: &Scene) -> Result<Value> {
    let status = scene.daemon.status()?;
    ensure!(!status.to_string().contains(SECRET), "{status:#}");
    let lists = status["policy"]["lists"].as_array().context("no lists")?;
    lists.iter().find(|list| list["list"] == name()).cloned().with_context(|| format!("{status:#}"))
}

fn attempt(scene: &Scene) -> Result<Attempt> {
    Ok(Attempt::on("/chat").token(&scene.token()?))
}

fn a_list_from_a_url_is_enforced_and_followed() -> Result<()> {
    let (scene, server) = in_place()?;
    let attempt = attempt(&scene)?;
    let entry = scene.drops(Client::Raw, &attempt)?;
    names_rule(&entry, Path::new(&name()), 1, &format!("{CLIENT_V4}/32"))?;
    let list = status(&scene)?;
    ensure!(list["prefixes"] == 1 && list["error"].is_null(), "{list:#}");
    ensure!(list["remote"]["error"].is_null() && list["remote"]["last_success"].is_u64(), "{list:#}");

    let mark = scene.daemon.mark();
    server.serve(&format!("# changed\n{OTHER_CLIENT_V4}\n"))?;
    in_force(&scene, mark)?;
    scene.admits(Client::Raw, &attempt)?;
    let entry = scene.drops(Client::Raw, &attempt.from(OTHER_CLIENT_V4))?;
    names_rule(&entry, Path::new(&name()), 2, &format!("{OTHER_CLIENT_V4}/32"))?;
    scene.end()
}

fn a_list_from_a_url_comes_and_goes_by_reload_and_by_apply() -> Result<()> {
    let scene = scene("\"deny.list\"")?;
    let server = serve(&scene, &format!("{CLIENT_V4}\n"))?;
    let attempt = attempt(&scene)?;
    let before = std::fs::read_to_string(scene.config())?;
    let remote = format!("\"deny.list\", {{ list = \"{}?key={SECRET}\", interval = \"1s\" }}", name());
    let after = before.replace("\"deny.list\"", &remote);
    for verb_name in ["reload", "apply"] {
        let asked = server.mark();
        scene.edit("gatehouse.toml", &after)?;
        let mark = scene.daemon.mark();
        let output = verb(verb_name, &scene.config())?.output()?;
        ensure!(output.status.success(), "{verb_name}: {}", String::from_utf8_lossy(&output.stderr));
        server.wait_after(asked, "a request", |_| true)?;
        if verb_name == "reload" {
            in_force(&scene, mark)?;
        }
        scene.drops(Client::Raw, &attempt)?;
        ensure!(status(&scene)?["remote"]["error"].is_null(), "{:#}", status(&scene)?);
        scene.edit("gatehouse.toml", &before)?;
        let output = verb(verb_name, &scene.config())?.output()?;
        ensure!(output.status.success(), "{verb_name}: {}", String::from_utf8_lossy(&output.stderr));
        scene.admits(Client::Raw, &attempt)?;
        ensure!(status(&scene).is_err(), "the list is still there: {:#}", status(&scene)?);
    }
    scene.end()
}

fn what_has_not_changed_is_not_sent_again() -> Result<()> {
    let (mut scene, server) = in_place()?;
    server.wait_after(server.mark(), "a request on condition", |asked| asked.status == 304)?;
    scene.daemon.stop()?;
    let mark = server.mark();
    scene.daemon = Daemon::start(&scene.host, &scene.config())?;
    let first = server.wait_after(mark, "a request of the new daemon", |_| true)?;
    ensure!(first.status == 304 && first.known.is_some(), "{first:?}");
    scene.drops(Client::Raw, &attempt(&scene)?)?;
    scene.end()
}

fn no_fault_of_a_server_takes_a_list_out_of_force() -> Result<()> {
    let (scene, server) = in_place()?;
    for (mode, expected) in [
        ("stall", "took too long"),
        ("truncate", "broke off"),
        ("500", "status 500"),
        ("404", "status 404"),
        ("page", "line 1, column 1"),
        ("large", "list_size, 16384 bytes"),
        ("redirect", "not https"),
    ] {
        faulty(&scene, &server, mode, expected).with_context(|| format!("mode {mode}"))?;
    }
    scene.drops(Client::Raw, &attempt(&scene)?)?;
    let mark = scene.daemon.mark();
    server.behave("good")?;
    scene
        .daemon
        .wait_after(mark, "the recovery", PATIENCE, |entry| entry.line.contains("is fetched again"))?;
    let list = status(&scene)?;
    ensure!(list["remote"]["error"].is_null(), "{list:#}");
    let leak = scene.daemon.log().into_iter().find(|entry| entry.line.contains(SECRET));
    ensure!(leak.is_none(), "{leak:?}");
    scene.end()
}

/// Lets the server behave as `mode` says: the list must stay in force, and the fault be told once.
fn faulty(scene: &Scene, server: &ListServer, mode: &str, expected: &str) -> Result<()> {
    let told = |entry: &Entry| entry.line.contains("could not be fetched");
    let mark = scene.daemon.mark();
    let mut asked = server.mark();
    server.serve(&format!("# changed for {mode}\n{OTHER_CLIENT_V4}\n"))?;
    server.behave(mode)?;
    let entry = scene.daemon.wait_after(mark, "the fault", PATIENCE, told)?;
    ensure!(entry.line.contains(expected) && entry.line.contains("stays in force"), "{}", entry.line);
    for _ in 0..3 {
        server.wait_after(asked, "another request", |asked| asked.mode == mode)?;
        asked = server.mark();
    }
    let list = status(scene)?;
    ensure!(list["prefixes"] == 1, "{list:#}");
    ensure!(list["remote"]["error"].as_str().is_some_and(|error| error.contains(expected)), "{list:#}");
    let faults =
        scene.daemon.log().iter().filter(|entry| told(entry) && entry.line.contains(expected)).count();
    ensure!(faults == 1, "told {faults} times");
    Ok(())
}

fn a_restart_without_the_server_serves_the_last_good_copy() -> Result<()> {
    let (mut scene, server) = in_place()?;
    drop(server);
    scene.daemon.stop()?;
    let report = verb("explain", &scene.config())?.args(["--address", &CLIENT_V4.to_string()]).output()?;
    ensure!(report.status.code() == Some(1), "explain: {report:?}");
    scene.daemon = Daemon::start(&scene.host, &scene.config())?;
    scene.drops(Client::Raw, &attempt(&scene)?)?;
    let down =
        |entry: &Entry| entry.line.contains("could not be fetched") && entry.line.contains("stays in force");
    scene.daemon.wait_for("that the server is down", PATIENCE, down)?;
    scene.drops(Client::Raw, &attempt(&scene)?)?;
    scene.end()
}

fn a_daemon_without_server_and_copy_starts_and_fetches_once_it_can() -> Result<()> {
    let scene = usual()?;
    let attempt = attempt(&scene)?;
    let empty = |entry: &Entry| {
        entry.line.contains("could not be fetched") && entry.line.contains("nothing of it is in force")
    };
    scene.daemon.wait_for("that there is no copy", PATIENCE, empty)?;
    scene.admits(Client::Raw, &attempt)?;
    let check = verb("check", &scene.config())?.output()?;
    let printed = String::from_utf8_lossy(&check.stdout);
    ensure!(check.status.success() && printed.contains(&format!("fetches {} every 1s", name())), "{check:?}");

    let mark = scene.daemon.mark();
    let _server = serve(&scene, &format!("{CLIENT_V4}\n"))?;
    in_force(&scene, mark)?;
    scene.drops(Client::Raw, &attempt)?;
    scene.end()
}

fn a_private_authority_is_trusted_where_it_is_named() -> Result<()> {
    let url = format!("https://{LISTS}");
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name);
    authority(folder.path())?;
    let scene = scene(&format!(
        "{{ list = \"{url}/named\", interval = \"1s\", ca = {:?} }}, {{ list = \"{url}/not\", interval = \"1s\" }}",
        file("ca.pem")
    ))?;
    let mark = scene.daemon.mark();
    let tls = (file("cert.pem"), file("key.pem"));
    let content = format!("{CLIENT_V4}\n");
    let _server = ListServer::start(
        &scene.host,
        &scene.file("web"),
        &content,
        Some((tls.0.as_path(), tls.1.as_path())),
    )?;
    in_force(&scene, mark)?;
    // The generation that came may be one of before the list was read.
    let deadline = Instant::now() + PATIENCE;
    let entry = loop {
        match scene.drops(Client::Raw, &attempt(&scene)?) {
            Ok(entry) => break entry,
            Err(_) if Instant::now() < deadline => {}
            Err(error) => return Err(error),
        }
    };
    names_rule(&entry, Path::new(&format!("{url}/named")), 1, &format!("{CLIENT_V4}/32"))?;
    scene.daemon.wait_after(mark, "that the other is not trusted", PATIENCE, |entry| {
        entry.line.contains(&format!("{url}/not could not be fetched"))
            && entry.line.contains("UnknownIssuer")
    })?;
    scene.end()
}
