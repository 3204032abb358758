//! Revoked tokens: at the handshake, in open sessions, and after the daemon was killed.

use std::fs;
use std::process::{Command, ExitCode};
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use gatehouse_tests::client::{Attempt, Client};
use gatehouse_tests::daemon::{Daemon, verb};
use gatehouse_tests::plan::{Plan, good_token};
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::promises;
use gatehouse_tests::scene::{PROMPTLY, Scene};
use gatehouse_tests::token::Key;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        a_token_is_refused_as_revoked_at_once_by_each_of_its_marks,
        a_revocation_ends_open_sessions_which_hear_why,
        revocations_outlive_a_killed_daemon_and_can_be_taken_back,
        an_edited_revocation_file_is_in_force_and_a_broken_one_changes_nothing,
        a_revocation_file_that_is_cut_off_takes_nothing_out_of_force,
        a_revocation_file_that_is_no_file_is_refused,
        a_revocation_can_end_at_a_time_that_is_named,
    ])
}

const REVOKED: (u16, &str, &str) = (401, "credentials", "revoked");

/// The usual system with a folder for its state and a revocation file.
fn scene() -> Result<Scene> {
    Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
        let more = "[state]\nfolder = \"state\"\n[revocation]\nfile = \"revoked.list\"\n";
        Ok(Plan { more: more.to_owned(), ..plan }.file("revoked.list", "# nobody yet\n"))
    })
}

/// Runs `gatehouse revoke` with these arguments; what it printed as JSON.
fn revoke(scene: &Scene, arguments: &[&str]) -> Result<serde_json::Value> {
    let output = verb("revoke", &scene.config())?.args(arguments).arg("--json").output()?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn a_token_is_refused_as_revoked_at_once_by_each_of_its_marks() -> Result<()> {
    let scene = scene()?;
    let marked = good_token()?.claim("jti", "t-1").claim("sid", "s-1").claim("sub", "bob");
    let attempt = Attempt::on("/chat").token(&scene.sign(marked)?);
    let other = Attempt::on("/chat").token(&scene.token()?);
    for (arguments, others) in [
        (["--jti", "t-1"], true),
        (["--sid", "s-1"], true),
        (["--subject", "bob"], true),
        (["--key", "key-1"], false),
        (["--issued-before", "2999-01-01T00:00:00Z"], false),
    ] {
        scene.admits(Client::Raw, &attempt)?;
        let made = revoke(&scene, &[arguments[0], arguments[1], "--note", "stolen laptop"])?;
        let (_, entry) = scene.rejects(Client::Raw, &attempt, REVOKED)?;
        ensure!(entry.line.contains("stolen laptop"), "{}", entry.line);
        if others {
            scene.admits(Client::Raw, &other)?;
        } else {
            scene.rejects(Client::Raw, &other, REVOKED)?;
        }
        let id = made["revocations"][0]["id"].as_str().context("its name")?;
        revoke(&scene, &["--undo", id])?;
    }
    scene.admits(Client::Raw, &attempt)?;
    scene.end()
}

fn a_revocation_ends_open_sessions_which_hear_why() -> Result<()> {
    for client in [Client::Python, Client::Node] {
        let scene = scene()?;
        let token = scene.token()?;
        let attempt = Attempt::on("/chat").token(&token).staying();
        let outcome = thread::scope(|scope| {
            let heard = scope.spawn(|| attempt.by(client, &scene.host));
            scene.daemon.wait_for("the admission", PATIENCE, |entry| entry.says("admitted"))?;
            revoke(&scene, &["--subject", "alice"])?;
            heard.join().map_err(|_| anyhow!("the client's thread panicked"))?
        })?;
        let reason = outcome.closed(4401)?;
        ensure!(reason.starts_with("layer=credentials, reason=revoked, id="), "{reason}");
        scene.end()?;
    }
    Ok(())
}

fn revocations_outlive_a_killed_daemon_and_can_be_taken_back() -> Result<()> {
    let mut scene = scene()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    revoke(&scene, &["--subject", "alice"])?;
    scene.daemon.kill()?;
    // Without a daemon, too.
    let all = revoke(&scene, &["--jti", "another"])?;
    ensure!(all["revocations"].as_array().is_some_and(|all| all.len() == 2), "{all:#}");
    scene.daemon = Daemon::start(&scene.host, &scene.config())?;
    scene.rejects(Client::Raw, &attempt, REVOKED)?;
    for revocation in all["revocations"].as_array().context("a list")? {
        revoke(&scene, &["--undo", revocation["id"].as_str().context("its name")?])?;
    }
    scene.admits(Client::Raw, &attempt)?;
    scene.end()
}

fn an_edited_revocation_file_is_in_force_and_a_broken_one_changes_nothing() -> Result<()> {
    let scene = scene()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let edit = |content: &str, expected: &str| -> Result<()> {
        let mark = scene.daemon.mark();
        scene.edit("revoked.list", content)?;
        scene.daemon.wait_after(mark, expected, PROMPTLY, |entry| entry.line.contains(expected))?;
        Ok(())
    };
    edit("sub=alice iss=https://idp.test\n", "revocations were read anew")?;
    scene.rejects(Client::Raw, &attempt, REVOKED)?;
    edit("sub=nobody\n", "revoked.list:1:1: ")?;
    scene.rejects(Client::Raw, &attempt, REVOKED)?;
    let check = verb("check", &scene.config())?.output()?;
    ensure!(check.status.code() == Some(78), "{}", String::from_utf8_lossy(&check.stderr));
    edit("# nobody any more\n", "revocations were read anew")?;
    scene.admits(Client::Raw, &attempt)?;
    scene.end()
}

fn a_revocation_file_that_is_cut_off_takes_nothing_out_of_force() -> Result<()> {
    let scene = scene()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let edit = |content: &str, expected: &str| -> Result<()> {
        let mark = scene.daemon.mark();
        fs::write(scene.file("revoked.list"), content)?;
        scene.daemon.wait_after(mark, expected, PROMPTLY, |entry| entry.line.contains(expected))?;
        Ok(())
    };
    // In one step: a look in the middle of it would find no revocations to lose.
    let mark = scene.daemon.mark();
    scene.edit("revoked.list", "jti=t-9\nsub=alice iss=https://idp.test\n")?;
    scene
        .daemon
        .wait_after(mark, "the revocations", PROMPTLY, |entry| entry.line.contains("were read anew"))?;
    scene.rejects(Client::Raw, &attempt, REVOKED)?;
    for content in ["jti=t-9\nsub=alice iss=https://idp", "jti=t-9", ""] {
        edit(content, "HELD BACK")?;
        scene.rejects(Client::Raw, &attempt, REVOKED)?;
    }
    edit("jti=t-9\n", "revocations were read anew")?;
    scene.admits(Client::Raw, &attempt)?;
    scene.end()
}

fn a_revocation_file_that_is_no_file_is_refused() -> Result<()> {
    let mut scene = scene()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let list = scene.file("revoked.list");
    fs::write(&list, "sub=alice iss=https://idp.test\n")?;
    scene.daemon.wait_for("the revocation", PROMPTLY, |entry| entry.line.contains("were read anew"))?;
    let (fifo, folder) = (scene.file("fifo"), scene.file("folder"));
    ensure!(Command::new("mkfifo").arg(&fifo).status()?.success());
    fs::create_dir(&folder)?;
    for other in [fifo, folder] {
        fs::rename(&list, scene.file("kept"))?;
        let mark = scene.daemon.mark();
        fs::rename(&other, &list)?;
        let expected = "not a regular file";
        scene.daemon.wait_after(mark, expected, PROMPTLY, |entry| entry.line.contains(expected))?;
        scene.rejects(Client::Raw, &attempt, REVOKED)?;
        let check = verb("check", &scene.config())?.output()?;
        let said = String::from_utf8_lossy(&check.stderr);
        ensure!(check.status.code() == Some(78) && said.contains(expected), "{said}");
        fs::rename(&list, &other)?;
        fs::rename(scene.file("kept"), &list)?;
    }
    scene.daemon.stop()
}

fn a_revocation_can_end_at_a_time_that_is_named() -> Result<()> {
    let scene = scene()?;
    let made = revoke(&scene, &["--key", "key-9", "--until", "2999-12-31T23:59:59Z"])?;
    let line = made["revocations"][0]["line"].as_str().context("a line")?;
    ensure!(line.contains("until=2999-12-31T23:59:59Z"), "{line}");
    for (arguments, code, expected) in [
        (&["--until", "2001-01-01T00:00:00Z"][..], 1, "is over already"),
        (&["--until", "tomorrow"], 64, "--until"),
        (&["--until", "2999-12-31T23:59:59Z", "--for", "1h"], 64, "--for"),
    ] {
        let output = verb("revoke", &scene.config())?.args(["--jti", "t-1"]).args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code) && said.contains(expected), "{arguments:?}: {output:?}");
    }
    let all = revoke(&scene, &["--list"])?;
    ensure!(all["revocations"].as_array().is_some_and(|all| all.len() == 1), "{all:#}");
    scene.end()
}
