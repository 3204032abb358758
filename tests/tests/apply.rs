//! Edits that are put in force by order, for good or on trial.

use std::fs;
use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use gatehouse_tests::client::{Attempt, Client};
use gatehouse_tests::daemon::verb;
use gatehouse_tests::host::{CLIENT_V4, DENIED_V4, DENIED_V6, OTHER_CLIENT_V4};
use gatehouse_tests::order::{applied, apply, edit_and_see_it_wait, manual, policy};
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::scene::{PROMPTLY, Scene};
use gatehouse_tests::{promises, tools};
use serde_json::Value;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        edits_wait_for_apply_where_the_configuration_says_so,
        a_policy_that_cuts_its_own_operator_off_is_taken_back_with_nobody_there,
        a_confirmed_policy_stays,
        on_a_terminal_enter_confirms_n_takes_back_and_silence_does_too,
        a_policy_on_trial_is_taken_back_by_order_and_edits_wait_meanwhile,
        apply_reads_the_address_policy_anew_and_names_what_needs_a_restart,
        a_fault_in_the_configuration_or_in_a_list_changes_nothing,
        explain_tells_how_many_packets_the_list_has_decided,
    ])
}

fn edits_wait_for_apply_where_the_configuration_says_so() -> Result<()> {
    let scene = manual()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    edit_and_see_it_wait(&scene, "deny.list", &format!("{CLIENT_V4}\n10.66.0.0/15\n"))?;
    scene.admits(Client::Raw, &attempt)?;
    let status = policy(&scene)?;
    ensure!(status["edits_wait"] == true && status["generation"] == 1, "{status:#}");

    let report = applied(&scene, "")?;
    ensure!(report["applied"] == true && report["generation"] == 2, "{report:#}");
    let list = report["lists"].as_array().into_iter().flatten().find(|list| list["tier"] == "deny");
    let list = list.context("the list is not in the report")?;
    ensure!([&list["prefixes"], &list["added"], &list["removed"]] == [2, 2, 2], "{report:#}");
    ensure!(report["dropped"]["ipv4"] == 1 + (1 << 16), "{report:#}");
    ensure!(report["passing"]["ipv6_networks"] == 1u64 << 32, "{report:#}");
    scene.drops(Client::Raw, &attempt)?;
    scene.admits(Client::Raw, &attempt.from(DENIED_V6))?;
    let status = policy(&scene)?;
    ensure!(status["edits_wait"] == false && status["generation"] == 2, "{status:#}");
    let again = applied(&scene, "")?;
    ensure!(again["applied"] == false && again["dropped"]["ipv4"] == 0, "{again:#}");
    scene.end()
}

/// The command that ordered the trial has long ended: the daemon alone watches the clock.
fn a_policy_that_cuts_its_own_operator_off_is_taken_back_with_nobody_there() -> Result<()> {
    let scene = manual()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let before = fs::read_to_string(scene.file("deny.list"))?;
    scene.edit("deny.list", &format!("{before}{CLIENT_V4}\n"))?;
    let report = applied(&scene, "--confirm 5s")?;
    ensure!(report["applied"] == true && report["confirm_within_s"].as_u64() > Some(0), "{report:#}");
    scene.drops(Client::Raw, &attempt)?;
    ensure!(policy(&scene)?["trial_s"].as_u64() > Some(0), "{:#}", policy(&scene)?);

    scene.daemon.wait_for("the return", PATIENCE, |entry| entry.line.contains("not confirmed in time"))?;
    scene.admits(Client::Raw, &attempt)?;
    // The list that was denied before still is, and the edit waits in its file.
    scene.drops(Client::Raw, &attempt.clone().from(DENIED_V4))?;
    let status = policy(&scene)?;
    ensure!(status["edits_wait"] == true && status["trial_s"].is_null(), "{status:#}");
    ensure!(status["reverted"].as_str().is_some_and(|text| text.contains("generation 2")), "{status:#}");
    let (code, _, errors) = apply(&scene, "--confirmed")?;
    ensure!(code == Some(1) && errors.contains("not confirmed in time"), "{errors}");
    scene.end()
}

fn a_confirmed_policy_stays() -> Result<()> {
    let scene = manual()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    scene.edit("deny.list", &format!("{CLIENT_V4}\n"))?;
    applied(&scene, "--confirm 1h")?;
    applied(&scene, "--confirmed")?;
    let status = policy(&scene)?;
    ensure!(status["trial_s"].is_null() && status["reverted"].is_null(), "{status:#}");
    scene.drops(Client::Raw, &attempt)?;
    // There is nothing left that could be taken back.
    let (code, _, errors) = apply(&scene, "--revert")?;
    ensure!(code == Some(1) && errors.contains("no policy is on trial"), "{errors}");
    scene.drops(Client::Raw, &attempt)?;
    scene.end()
}

/// Runs `gatehouse apply` with these arguments in a terminal, where `word` is typed once it asks;
/// `None`: nothing is typed. The exit code and what was printed.
fn in_terminal(scene: &Scene, arguments: &str, word: Option<&str>) -> Result<(Option<i32>, String)> {
    let apply = verb("apply", &scene.config())?;
    let steps: Vec<_> = word.iter().map(|word| ["Press Enter".to_owned(), format!("{word}\n")]).collect();
    let mut command = tools::python("on_screen.py")?;
    command.arg(serde_json::to_string(&steps)?);
    command.arg(apply.get_program()).args(apply.get_args()).args(arguments.split_whitespace());
    let output = command.env("SSH_CONNECTION", format!("{CLIENT_V4} 50000 10.0.0.1 22")).output()?;
    Ok((output.status.code(), String::from_utf8(output.stdout)?))
}

fn on_a_terminal_enter_confirms_n_takes_back_and_silence_does_too() -> Result<()> {
    let scene = manual()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let edit = |address: IpAddr| scene.edit("deny.list", &format!("{address}\n"));
    edit(CLIENT_V4)?;
    for (time, word, end) in [("1h", Some("n"), "taken back"), ("2s", None, "not confirmed in time")] {
        let (code, printed) = in_terminal(&scene, &format!("--confirm {time}"), word)?;
        ensure!(code == Some(1) && printed.contains(end), "{code:?} {printed}");
        let warned = printed.contains(&format!("YOUR OWN ADDRESS {CLIENT_V4} IS DROPPED"));
        ensure!(warned && printed.contains("ON TRIAL"), "{printed}");
        scene.admits(Client::Raw, &attempt)?;
    }
    let (code, printed) = in_terminal(&scene, "--confirm 1h", Some(""))?;
    ensure!(code == Some(0) && printed.contains("confirmed: generation"), "{code:?} {printed}");
    scene.drops(Client::Raw, &attempt)?;
    edit(OTHER_CLIENT_V4)?;
    let (code, printed) = in_terminal(&scene, "", None)?;
    ensure!(code == Some(0) && !printed.contains("YOUR OWN ADDRESS"), "{code:?} {printed}");
    ensure!(printed.contains("newly passing: 1 IPv4 addresses"), "{printed}");
    scene.end()
}

/// With `reload = \"auto\"`, the configuration itself is what needs an order.
fn a_policy_on_trial_is_taken_back_by_order_and_edits_wait_meanwhile() -> Result<()> {
    let scene = Scene::usual()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let config = fs::read_to_string(scene.config())?;
    let list = fs::read_to_string(scene.file("deny.list"))?;
    scene.edit("more.list", &format!("{CLIENT_V4}\n"))?;
    scene.edit("gatehouse.toml", &config.replace("[\"deny.list\"]", "[\"deny.list\", \"more.list\"]"))?;
    applied(&scene, "--confirm 1h")?;
    scene.drops(Client::Raw, &attempt)?;
    let (code, _, errors) = apply(&scene, "")?;
    ensure!(code == Some(1) && errors.contains("on trial"), "{errors}");

    edit_and_see_it_wait(&scene, "deny.list", &format!("{list}{OTHER_CLIENT_V4}\n"))?;
    scene.admits(Client::Raw, &attempt.clone().from(OTHER_CLIENT_V4))?;
    applied(&scene, "--revert")?;
    scene.admits(Client::Raw, &attempt)?;
    scene.admits(Client::Raw, &attempt.clone().from(OTHER_CLIENT_V4))?;
    ensure!(policy(&scene)?["edits_wait"] == true, "{:#}", policy(&scene)?);

    // The next edit is in force by itself again, and what was tried is still not.
    let mark = scene.daemon.mark();
    scene.edit("deny.list", &format!("{OTHER_CLIENT_V4}\n"))?;
    scene.daemon.wait_after(mark, "the new list", PROMPTLY, |entry| entry.line.contains(" is in force: "))?;
    scene.drops(Client::Raw, &attempt.clone().from(OTHER_CLIENT_V4))?;
    scene.admits(Client::Raw, &attempt)?;
    let status = policy(&scene)?;
    ensure!(status["edits_wait"] == false && status["reverted"].is_null(), "{status:#}");
    scene.end()
}

fn apply_reads_the_address_policy_anew_and_names_what_needs_a_restart() -> Result<()> {
    let scene = Scene::usual()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let config = fs::read_to_string(scene.config())?;
    let edited = config.replace(
        "ports = \"all\"",
        &format!("ports = [22]\ndefault = \"drop\"\nnever_block = [\"{CLIENT_V4}\"]"),
    );
    scene.edit("gatehouse.toml", &(edited + "[limits]\nrequest_headers = 50\n"))?;
    let report = applied(&scene, "")?;
    let restart = report["restart_needed"].to_string();
    ensure!(restart == "[\"[limits]\",\"[firewall] ports\"]", "{report:#}");
    // Every port is still guarded, by the new default.
    scene.admits(Client::Raw, &attempt)?;
    let entry = scene.drops(Client::Raw, &attempt.from(OTHER_CLIENT_V4))?;
    ensure!(entry.field("REASON") == Some("not_allowed"), "{}", entry.line);
    scene.end()
}

fn a_fault_in_the_configuration_or_in_a_list_changes_nothing() -> Result<()> {
    let scene = manual()?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let config = fs::read_to_string(scene.config())?;
    let list = scene.file("deny.list").display().to_string();
    edit_and_see_it_wait(&scene, "deny.list", &format!("{CLIENT_V4}\n"))?;
    scene.edit("deny.list", &format!("{CLIENT_V4}\n  1.2.3.45.6.7.8\n"))?;
    for arguments in ["", "--confirm 1h", "--dry-run"] {
        let (code, _, errors) = apply(&scene, arguments)?;
        ensure!(code == Some(78) && errors.contains(&format!("{list}:2:3: ")), "{code:?} {errors}");
    }
    scene.edit("gatehouse.toml", &config.replace("[\"deny.list\"]", "[\"deny.list\", \"[\"]"))?;
    let place = format!("{}:", scene.config().display());
    // The daemon reads its own file, whatever the command was given.
    scene.edit("other.toml", &config)?;
    for file in [scene.config(), scene.file("other.toml")] {
        let answer = verb("apply", &file)?.output()?;
        let errors = String::from_utf8_lossy(&answer.stderr);
        ensure!(answer.status.code() == Some(78) && errors.contains(&place), "{errors}");
    }
    scene.edit("gatehouse.toml", &config)?;
    scene.admits(Client::Raw, &attempt)?;
    scene.drops(Client::Raw, &attempt.from(DENIED_V4))?;
    ensure!(policy(&scene)?["generation"] == 1, "{:#}", policy(&scene)?);
    scene.end()
}

fn explain_tells_how_many_packets_the_list_has_decided() -> Result<()> {
    let scene = Scene::usual()?;
    let explain = || -> Result<Value> {
        let mut explain = verb("explain", &scene.config())?;
        let answer = explain.args(["--json", "--address", &DENIED_V4.to_string()]).output()?;
        Ok(serde_json::from_slice(&answer.stdout)?)
    };
    ensure!(explain()?["packets"]["dropped"] == 0, "{:#}", explain()?);
    scene.drops(Client::Raw, &Attempt::on("/chat").from(DENIED_V4))?;
    let report = explain()?;
    ensure!(report["packets"]["dropped"].as_u64() >= Some(1), "{report:#}");
    ensure!(report["packets"]["passed"] == 0, "{report:#}");
    scene.end()
}
