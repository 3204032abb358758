//! The verbs of the command line: exit codes, diagnostics and the answers of `explain`.

use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use gatehouse_tests::daemon::verb;
use gatehouse_tests::plan::{Plan, good_token};
use gatehouse_tests::token::{Key, Token};
use gatehouse_tests::{promises, tools};
use serde_json::Value;
use tempfile::TempDir;

/// sysexits(3)
const EX_USAGE: i32 = 64;
const EX_CONFIG: i32 = 78;

fn main() -> ExitCode {
    gatehouse_tests::run_unprivileged(promises![
        check_accepts_a_good_configuration,
        check_accepts_a_list_of_real_size_and_form,
        check_names_the_place_of_a_fault_in_the_configuration,
        check_names_the_place_of_a_fault_in_a_list,
        check_names_a_key_file_that_is_missing,
        check_and_run_refuse_the_same_configurations,
        a_wrong_command_line_is_a_usage_error,
        explain_admits_whom_the_daemon_admits,
        explain_names_the_layer_for_each_fault_of_a_client,
        explain_names_the_rule_that_drops_an_address,
        explain_takes_the_token_from_standard_input_and_never_shows_it,
    ])
}

/// A configuration on disk.
struct Setting {
    folder: TempDir,
    key: Key,
}

impl Setting {
    fn new(change: impl FnOnce(Plan) -> Plan) -> Result<Self> {
        let setting = Self { folder: tempfile::tempdir()?, key: Key::generate("ES256", "key-1")? };
        change(Plan::usual(&setting.key)).write(setting.folder.path())?;
        Ok(setting)
    }

    /// `name` beside the configuration, as diagnostics print it.
    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Runs a verb with more arguments, separated by spaces.
    fn run(&self, name: &str, arguments: &str) -> Result<Answer> {
        answer(verb(name, Path::new(&self.file("gatehouse.toml")))?.args(arguments.split_whitespace()))
    }

    /// What `explain --json` says about a client with `token` and more arguments.
    fn explain(&self, token: &str, arguments: &str) -> Result<(Option<i32>, Value)> {
        let answer = self.run("explain", &format!("--json --token {token} {arguments}"))?;
        let report = serde_json::from_str(&answer.stdout).with_context(|| format!("{answer:#?}"))?;
        Ok((answer.code, report))
    }
}

#[derive(Debug)]
struct Answer {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn answer(command: &mut Command) -> Result<Answer> {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output()?;
    Ok(Answer { code: status.code(), stdout: String::from_utf8(stdout)?, stderr: String::from_utf8(stderr)? })
}

fn check_accepts_a_good_configuration() -> Result<()> {
    let answer = Setting::new(|plan| plan)?.run("check", "")?;
    ensure!(answer.code == Some(0) && answer.stderr.is_empty(), "{answer:#?}");
    Ok(())
}

/// `check` and `run` must both refuse with a diagnostic that starts with `start`.
fn refused(setting: &Setting, start: &str) -> Result<()> {
    for verb in ["check", "run"] {
        let answer = setting.run(verb, "")?;
        ensure!(answer.code == Some(EX_CONFIG), "{verb}: {answer:#?}");
        let named = answer.stderr.lines().any(|line| line.starts_with(start) && line.len() > start.len());
        ensure!(named, "{verb} does not say {start}: {answer:#?}");
    }
    Ok(())
}

/// As ipsum publishes them: comments, then address, tab and score.
fn check_accepts_a_list_of_real_size_and_form() -> Result<()> {
    let mut text = String::from("# IPsum\n# Last update: never\n#\n# IP\tnumber of lists\n");
    for number in 0..120_430u32 {
        let [_, a, b, c] = number.wrapping_mul(139).to_be_bytes();
        text += &format!("203.{a}.{b}.{c}\t{}\n", 10 - number % 10);
    }
    let answer = Setting::new(|plan| plan.file("deny.list", text))?.run("check", "")?;
    ensure!(answer.code == Some(0) && answer.stderr.is_empty(), "{answer:#?}");
    ensure!(answer.stdout.contains(" 1 lists with 120430 prefixes "), "{answer:#?}");
    Ok(())
}

fn check_names_the_place_of_a_fault_in_the_configuration() -> Result<()> {
    // The tables [[listen]] take four lines, an empty one follows, and then [firewall].
    let misspelt = Setting::new(|plan| Plan { firewall: "[firewall]\nintefaces = []\n".to_owned(), ..plan })?;
    refused(&misspelt, &format!("{}:7:1: ", misspelt.file("gatehouse.toml")))?;
    let mode = Setting::new(|plan| Plan { firewall: "[firewall]\nmode = \"fast\"\n".to_owned(), ..plan })?;
    refused(&mode, &format!("{}:7:8: ", mode.file("gatehouse.toml")))
}

fn check_names_the_place_of_a_fault_in_a_list() -> Result<()> {
    let setting = Setting::new(|plan| plan.file("deny.list", "192.0.2.0/24\n\n  2001:db8::/129\n"))?;
    refused(&setting, &format!("{}:3:14: ", setting.file("deny.list")))
}

fn check_names_a_key_file_that_is_missing() -> Result<()> {
    let setting =
        Setting::new(|plan| Plan { issuers: plan.issuers.replace("keys.json", "nowhere.json"), ..plan })?;
    let answer = setting.run("check", "")?;
    ensure!(answer.stderr.contains(&setting.file("nowhere.json")), "{answer:#?}");
    Ok(())
}

fn check_and_run_refuse_the_same_configurations() -> Result<()> {
    let confusion = Setting::new(|plan| Plan {
        issuers: plan.issuers.replace("[\"ES256\"]", "[\"RS256\", \"HS256\"]"),
        ..plan
    })?;
    refused(&confusion, &confusion.file("gatehouse.toml"))?;
    let nobody = Setting::new(|plan| Plan { issuers: String::new(), ..plan })?;
    refused(&nobody, &nobody.file("gatehouse.toml"))?;
    let broken = Setting::new(|plan| Plan { more: "[[".to_owned(), ..plan })?;
    refused(&broken, &broken.file("gatehouse.toml"))
}

fn a_wrong_command_line_is_a_usage_error() -> Result<()> {
    for arguments in [&["run", "--confg", "x"][..], &["guard"], &[], &["explain", "--address", "nowhere"]] {
        let answer = answer(Command::new(tools::gatehouse()?).args(arguments))?;
        ensure!(answer.code == Some(EX_USAGE), "{arguments:?}: {answer:#?}");
    }
    Ok(())
}

fn explain_admits_whom_the_daemon_admits() -> Result<()> {
    let setting = Setting::new(|plan| plan)?;
    let token = good_token()?.sign(&setting.key)?;
    let (code, report) = setting.explain(&token, "--address 10.0.0.2 --path /chat")?;
    ensure!(code == Some(0) && report["rejection"].is_null(), "{report:#}");
    Ok(())
}

fn explain_names_the_layer_for_each_fault_of_a_client() -> Result<()> {
    let setting = Setting::new(|plan| plan)?;
    let sign = |token: Token| token.sign(&setting.key);
    let good = sign(good_token()?)?;
    for (token, path, layer, reason) in [
        (good.clone(), "/chatter", "handshake", "no_route"),
        ("garbage".to_owned(), "/chat", "credentials", "malformed"),
        (good_token()?.unsigned("none"), "/chat", "credentials", "algorithm"),
        (good_token()?.sign(&Key::generate("ES256", "key-1")?)?, "/chat", "credentials", "bad_signature"),
        (
            sign(good_token()?.claim("iss", "https://stranger.test"))?,
            "/chat",
            "credentials",
            "unknown_issuer",
        ),
        (sign(good_token()?.claim("aud", "https://other.test"))?, "/chat", "credentials", "wrong_audience"),
        (sign(good_token()?.time("nbf", 400)?)?, "/chat", "credentials", "not_yet_valid"),
        (sign(good_token()?.time("exp", -400)?)?, "/chat", "expiry", "expired"),
        (sign(good_token()?.claim("scope", "other"))?, "/chat", "scope", "insufficient_scope"),
    ] {
        let (code, report) = setting.explain(&token, &format!("--address 10.0.0.2 --path {path}"))?;
        let rejection = &report["rejection"];
        ensure!(
            code == Some(1) && rejection["layer"] == layer && rejection["reason"] == reason,
            "{layer}/{reason} was expected, exit code {code:?}: {report:#}"
        );
        ensure!(rejection["client_fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{report:#}");
    }
    Ok(())
}

fn explain_names_the_rule_that_drops_an_address() -> Result<()> {
    let setting = Setting::new(|plan| plan)?;
    let answer = setting.run("explain", "--address 10.66.3.4")?;
    ensure!(answer.code == Some(1), "{answer:#?}");
    for part in ["denied_range", "10.66.0.0/16", &setting.file("deny.list")] {
        ensure!(answer.stdout.contains(part), "{part} is not named: {answer:#?}");
    }
    Ok(())
}

fn explain_takes_the_token_from_standard_input_and_never_shows_it() -> Result<()> {
    let setting = Setting::new(|plan| plan)?;
    let token = good_token()?.time("exp", -400)?.sign(&setting.key)?;
    let file = setting.folder.path().join("token");
    std::fs::write(&file, format!("{token}\n"))?;
    let mut command = verb("explain", Path::new(&setting.file("gatehouse.toml")))?;
    command.args(["--path", "/chat", "--token", "-"]).stdin(std::fs::File::open(file)?);
    let Output { status, stdout, stderr } = command.output()?;
    let said = String::from_utf8([stdout, stderr].concat())?;
    ensure!(status.code() == Some(1) && said.contains("expired"), "{said}");
    let signature = token.rsplit('.').next().unwrap_or_default();
    ensure!(!said.contains(signature), "the token is shown: {said}");
    Ok(())
}
