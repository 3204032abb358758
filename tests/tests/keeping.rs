//! Lists that change too far, and lists that are broken when the daemon starts.

use std::fs;
use std::path::PathBuf;
use std::process::{ExitCode, Output};

use anyhow::{Context as _, Result, ensure};
use gatehouse_tests::client::{Attempt, Client};
use gatehouse_tests::daemon::{Daemon, verb};
use gatehouse_tests::host::{CLIENT_V4, DENIED_RANGE_V4, DENIED_V4, OTHER_CLIENT_V4};
use gatehouse_tests::log::Entry;
use gatehouse_tests::plan::Plan;
use gatehouse_tests::process::{Mark, PATIENCE, Process};
use gatehouse_tests::promises;
use gatehouse_tests::scene::{PROMPTLY, SILENCE, Scene, names_rule};
use gatehouse_tests::token::Key;
use serde_json::Value;

/// sysexits(3)
const EX_CONFIG: i32 = 78;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        a_list_that_shrinks_too_far_is_held_back_until_the_operator_accepts_it,
        what_is_held_back_can_be_accepted_where_edits_wait_for_an_order,
        a_list_has_bounds_of_its_own,
        a_daemon_that_starts_with_a_broken_list_enforces_its_last_good_copy,
        a_damaged_copy_is_told_from_a_good_one,
        a_folder_for_state_that_cannot_be_used_is_reported_and_harmless,
        the_service_manager_can_name_the_folder_for_state,
        lists_tells_entries_overlaps_drops_age_and_faults,
        lists_without_a_daemon_judges_the_files_and_writes_nothing,
    ])
}

/// `more` and `count` addresses of nobody, one a line.
fn list(more: &str, count: u32) -> String {
    let nobody = (0..count).map(|host| format!("{}\n", std::net::Ipv4Addr::from_bits(0xc612_0000 + host)));
    std::iter::once(format!("{more}\n")).chain(nobody).collect()
}

/// A daemon with a folder for state and a list of 201 entries, the first of which is denied in every test.
fn scene() -> Result<Scene> {
    Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
        let more = "[state]\nfolder = \"state\"\n".to_owned();
        Ok(Plan { more, ..plan }.file("deny.list", list(DENIED_RANGE_V4, 200)))
    })
}

/// `gatehouse lists` with `arguments`.
fn lists(scene: &Scene, arguments: &[&str]) -> Result<Output> {
    Ok(verb("lists", &scene.config())?.args(arguments).output()?)
}

/// What `gatehouse lists --json` says, and what of it is about the list with the name `name`.
fn report(scene: &Scene, name: &str) -> Result<(Value, Value)> {
    let output = lists(scene, &["--json"])?;
    ensure!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let path = scene.file(name).display().to_string();
    let all = report["lists"].as_array().context("an array")?;
    let one = all.iter().find(|list| list["list"] == path).with_context(|| format!("{report:#}"))?.clone();
    Ok((report, one))
}

fn ends_with(output: &Output, code: i32, words: &str) -> Result<()> {
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.code() == Some(code) && said.contains(words), "{words}: {output:?}");
    Ok(())
}

/// Waits for a line with `words` after `edit`.
fn said(scene: &Scene, words: &str, edit: impl FnOnce() -> Result<()>) -> Result<()> {
    let mark = scene.daemon.mark();
    edit()?;
    scene.daemon.wait_after(mark, words, PROMPTLY, |entry| entry.line.contains(words))?;
    Ok(())
}

fn is_denied(scene: &Scene, attempt: &Attempt) -> Result<()> {
    attempt.clone().patient_for(SILENCE).by(Client::Raw, &scene.host)?.unanswered()
}

fn restart(scene: &mut Scene) -> Result<()> {
    scene.daemon.stop()?;
    scene.daemon = Daemon::start(&scene.host, &scene.config())?;
    Ok(())
}

/// The copies in the folder for state.
fn copies(scene: &Scene) -> Result<Vec<PathBuf>> {
    fs::read_dir(scene.file("state/lists"))?.map(|entry| Ok(entry?.path())).collect()
}

fn a_list_that_shrinks_too_far_is_held_back_until_the_operator_accepts_it() -> Result<()> {
    let scene = scene()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let denied = attempt.clone().from(DENIED_V4);
    ends_with(&lists(&scene, &["--accept", "deny.list"])?, 1, "nothing of")?;

    said(&scene, "HELD BACK", || scene.edit("deny.list", &format!("{CLIENT_V4}\n")))?;
    is_denied(&scene, &denied)?;
    scene.admits(Client::Raw, &attempt)?;
    let (report, list) = report(&scene, "deny.list")?;
    ensure!(list["entries"] == 201 && list["source"] == "file", "{report:#}");
    ensure!(list["held_back"]["entries"] == 1 && list["held_back"]["in_force"] == 201, "{report:#}");
    let remedy = format!("gatehouse lists --accept {}", scene.file("deny.list").display());
    ensure!(list["error"].as_str().is_some_and(|error| error.contains(&remedy)), "{report:#}");
    ensure!(scene.daemon.status()?["policy"]["lists"].to_string().contains(&remedy));
    ends_with(&lists(&scene, &[])?, 0, "HELD BACK: 1 entries in the file, 201 in force")?;

    said(&scene, "HELD BACK", || scene.edit("deny.list", &format!("{CLIENT_V4}\n{OTHER_CLIENT_V4}\n")))?;
    ends_with(&lists(&scene, &["--accept", "nobody.list"])?, 1, "no list is called")?;
    said(&scene, " is in force: ", || {
        ends_with(&lists(&scene, &["--accept", "deny.list"])?, 0, "is in force with 2 entries")
    })?;
    scene.admits(Client::Raw, &denied)?;
    let entry = scene.drops(Client::Raw, &attempt)?;
    names_rule(&entry, &scene.file("deny.list"), 1, &format!("{CLIENT_V4}/32"))?;
    scene.end()
}

fn what_is_held_back_can_be_accepted_where_edits_wait_for_an_order() -> Result<()> {
    let scene = Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
        let firewall = format!("{}reload = \"manual\"\n", plan.firewall);
        Ok(Plan { firewall, ..plan }.file("deny.list", list(DENIED_RANGE_V4, 200)))
    })?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    said(&scene, "HELD BACK", || scene.edit("deny.list", &format!("{CLIENT_V4}\n")))?;
    let apply = || Ok::<_, anyhow::Error>(verb("apply", &scene.config())?.output()?);
    ends_with(&apply()?, 0, "HELD BACK")?;
    ends_with(&lists(&scene, &["--accept", "deny.list"])?, 0, "waits")?;
    is_denied(&scene, &attempt.clone().from(DENIED_V4))?;
    said(&scene, " is in force: ", || ends_with(&apply()?, 0, "is in force"))?;
    scene.drops(Client::Raw, &attempt)?;
    scene.admits(Client::Raw, &attempt.from(DENIED_V4))?;
    scene.end()
}

fn a_list_has_bounds_of_its_own() -> Result<()> {
    let scene = Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
        let table = "{ list = \"deny.list\", max_growth = 10, change_freely_below = 0 }";
        let firewall = plan.firewall.replace("\"deny.list\"", table);
        Ok(Plan { firewall, ..plan }.file("deny.list", list(DENIED_RANGE_V4, 9)))
    })?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    said(&scene, "max_growth allows 10 %", || scene.edit("deny.list", &list(DENIED_RANGE_V4, 11)))?;
    let longer = list(&format!("{DENIED_RANGE_V4}\n{CLIENT_V4}"), 9);
    said(&scene, " is in force: ", || scene.edit("deny.list", &longer))?;
    scene.drops(Client::Raw, &attempt)?;
    scene.end()
}

fn a_daemon_that_starts_with_a_broken_list_enforces_its_last_good_copy() -> Result<()> {
    let mut scene = scene()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let denied = attempt.clone().from(DENIED_V4);
    for broken in [Some("broken\n".to_owned()), Some(String::new()), Some(list("", 3)), None] {
        match &broken {
            Some(text) => scene.edit("deny.list", text)?,
            None => fs::remove_file(scene.file("deny.list"))?,
        }
        restart(&mut scene)?;
        scene.daemon.wait_for("the report", PATIENCE, |entry| entry.line.contains("THE LAST GOOD COPY"))?;
        let entry = scene.drops(Client::Raw, &denied)?;
        names_rule(&entry, &scene.file("deny.list"), 1, DENIED_RANGE_V4)?;
        scene.admits(Client::Raw, &attempt)?;
        let (report, list) = report(&scene, "deny.list")?;
        ensure!(list["source"] == "last good copy" && list["entries"] == 201, "{report:#}");
        ensure!(
            list["error"].is_string() && list["held_back"].is_null() != broken_is_held(&broken),
            "{report:#}"
        );
    }
    said(&scene, " is in force: ", || scene.edit("deny.list", &list(&CLIENT_V4.to_string(), 200)))?;
    scene.drops(Client::Raw, &attempt)?;
    ensure!(report(&scene, "deny.list")?.1["source"] == "file");
    scene.end()
}

/// Whether a list with this content is held back rather than faulty.
fn broken_is_held(text: &Option<String>) -> bool {
    text.as_ref().is_some_and(|text| !text.contains("broken"))
}

fn a_damaged_copy_is_told_from_a_good_one() -> Result<()> {
    let mut scene = scene()?;
    scene.daemon.stop()?;
    let copies = copies(&scene)?;
    let [copy] = copies.as_slice() else { anyhow::bail!("one copy was expected: {copies:?}") };
    let good = fs::read_to_string(copy)?;
    fs::write(copy, good.replace(DENIED_RANGE_V4, "10.67.0.0/16"))?;
    scene.edit("deny.list", "broken\n")?;
    let mut refused = Daemon::launch(&scene.host, &scene.config())?;
    ensure!(refused.exit_code()? == Some(EX_CONFIG));
    ensure!(
        refused.log().iter().any(|entry| entry.line.contains("copy is ignored") && entry.says("damaged"))
    );

    fs::write(copy, good)?;
    scene.daemon = Daemon::start(&scene.host, &scene.config())?;
    let attempt = Attempt::on("/chat").token(&scene.token()?).from(DENIED_V4);
    is_denied(&scene, &attempt)?;
    scene.end()
}

fn a_folder_for_state_that_cannot_be_used_is_reported_and_harmless() -> Result<()> {
    let scene = Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
        let more = "[state]\nfolder = \"file\"\n".to_owned();
        Ok(Plan { more, ..plan }.file("file", "not a folder"))
    })?;
    let words = "no last good copies of lists can be kept";
    scene.daemon.wait_for("the report", PATIENCE, |entry| entry.line.contains(words))?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    scene.admits(Client::Raw, &attempt)?;
    said(&scene, " is in force: ", || scene.edit("deny.list", &format!("{CLIENT_V4}\n")))?;
    scene.drops(Client::Raw, &attempt)?;
    scene.end()
}

fn the_service_manager_can_name_the_folder_for_state() -> Result<()> {
    let mut scene = Scene::usual()?;
    scene.daemon.stop()?;
    let folder = scene.file("given");
    let mut command = verb("run", &scene.config())?;
    command.args(["--log", "stderr"]).env("STATE_DIRECTORY", &folder);
    let mut process = Process::start("gatehouse", scene.host.gate.command(&command))?;
    let ready = |line: &str| Some(()).filter(|()| Entry::parse(line).says("ready"));
    process.wait_for("that it is ready", Mark::default(), PATIENCE, ready)?;
    ensure!(process.terminate()?.success());
    let copies = fs::read_dir(folder.join("lists"))?.collect::<Result<Vec<_>, _>>()?;
    ensure!(copies.len() == 1, "{copies:?}");
    Ok(())
}

fn lists_tells_entries_overlaps_drops_age_and_faults() -> Result<()> {
    let scene = Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
        let firewall = plan.firewall.replace("\"deny.list\"", "\"deny.list\", \"more.list\"");
        let deny = format!("{DENIED_RANGE_V4}\n{DENIED_V4}\n{CLIENT_V4}\n");
        let firewall = format!("{firewall}allow = [\"allow.list\"]\n");
        let plan = Plan { firewall, ..plan }.file("deny.list", deny);
        Ok(plan
            .file("more.list", format!("{DENIED_RANGE_V4}\n"))
            .file("allow.list", format!("{CLIENT_V4}/31\n")))
    })?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    scene.drops(Client::Raw, &attempt.clone().from(DENIED_V4))?;
    scene.admits(Client::Raw, &attempt)?;
    said(&scene, "more.list:1:", || scene.edit("more.list", "broken\n"))?;

    let (whole, deny) = report(&scene, "deny.list")?;
    ensure!(whole["live"] == true && whole["generation"] == 1, "{whole:#}");
    ensure!(deny["tier"] == "deny" && deny["entries"] == 3 && deny["overlaps"] == 2, "{whole:#}");
    ensure!(deny["packets"].as_u64() > Some(0) && deny["error"].is_null(), "{whole:#}");
    ensure!(deny["age_s"].as_u64().is_some_and(|age| age < 3600), "{whole:#}");
    let (_, more) = report(&scene, "more.list")?;
    ensure!(more["entries"] == 1 && more["overlaps"] == 1, "{whole:#}");
    ensure!(more["error"].as_str().is_some_and(|error| error.contains("more.list:1:")), "{whole:#}");
    let (_, allow) = report(&scene, "allow.list")?;
    ensure!(allow["tier"] == "allow" && allow["overlaps"] == 0, "{whole:#}");
    ensure!(allow["packets"].as_u64() > Some(0), "{whole:#}");
    ends_with(&lists(&scene, &[])?, 0, "NOT IN FORCE: as it is now: ")?;
    scene.end()
}

fn lists_without_a_daemon_judges_the_files_and_writes_nothing() -> Result<()> {
    let mut scene = scene()?;
    scene.daemon.stop()?;
    fs::remove_dir_all(scene.file("state"))?;
    scene.edit("deny.list", &list("", 7))?;
    let (whole, list) = report(&scene, "deny.list")?;
    ensure!(whole["live"] == false && list["entries"] == 7 && list["held_back"].is_null(), "{whole:#}");
    ends_with(&lists(&scene, &["--accept", "deny.list"])?, 69, "not running")?;
    scene.edit("deny.list", "broken\n")?;
    ends_with(&lists(&scene, &[])?, EX_CONFIG, "deny.list:1:1:")?;
    ensure!(verb("check", &scene.config())?.output()?.status.code() == Some(EX_CONFIG));
    ensure!(!scene.file("state").exists(), "something was written");
    Ok(())
}
