//! The audit trail in a real journal.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use gatehouse_tests::journal::Journal;
use gatehouse_tests::process::Process;
use gatehouse_tests::{promises, tools};
use serde_json::Value;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        a_rejection_is_one_native_journal_entry_with_the_id_that_the_client_got,
        the_journal_explains_every_rejection_in_words,
    ])
}

const CONFIG: &str = r#"
[[listen]]
address = "127.0.0.1:8080"

[[issuer]]
name = "local"
issuer = "https://idp.test"
audience = ["https://gate.test"]
signing_key = "key.pem"

[[route]]
path = "/chat"
upstream = "ws://127.0.0.1:9"
issuers = ["local"]
"#;

fn a_rejection_is_one_native_journal_entry_with_the_id_that_the_client_got() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("gatehouse.toml");
    std::fs::write(&config, CONFIG)?;
    let journal = Journal::start()?;
    let gatehouse = tools::gatehouse()?;
    let gatehouse = gatehouse.to_str().context("a path in UTF-8")?;

    let mut run = journal.inside(gatehouse);
    run.arg("run").arg("--config").arg(&config);
    let mut daemon = Process::start("gatehouse", run)?;
    journal.wait_for("that the daemon is ready", |entry| text(entry, "MESSAGE").contains("ready"))?;

    let answer = journal.inside(gatehouse).args(["connect", "ws://127.0.0.1:8080/chat?secret=1"]).output()?;
    let answer = String::from_utf8(answer.stdout)?;
    let id = answer.split("id:").nth(1).with_context(|| format!("no id in {answer}"))?.trim();
    let entry = journal.wait_for("the rejection", |entry| text(entry, "GATEHOUSE_ID") == id)?;
    for (field, expected) in [
        ("SYSLOG_IDENTIFIER", "gatehouse"),
        ("_TRANSPORT", "journal"),
        ("PRIORITY", "4"),
        ("GATEHOUSE_LAYER", "credentials"),
        ("GATEHOUSE_REASON", "missing"),
        ("GATEHOUSE_POINT", "gateway"),
        ("GATEHOUSE_CLIENT", "127.0.0.1"),
        ("GATEHOUSE_ROUTE", "/chat"),
    ] {
        ensure!(text(&entry, field) == expected, "{field} is not {expected}: {entry:#}");
    }
    let message_id = text(&entry, "MESSAGE_ID");
    ensure!(message_id.len() == 32 && message_id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{entry:#}");
    ensure!(!entry.to_string().contains("secret"), "the query is in the journal: {entry:#}");

    ensure!(daemon.terminate()?.success(), "the daemon did not end cleanly");
    ensure!(daemon.printed().is_empty(), "what is in the journal is printed as well: {:?}", daemon.printed());
    Ok(())
}

fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry.get(field).and_then(Value::as_str).unwrap_or("")
}

fn the_journal_explains_every_rejection_in_words() -> Result<()> {
    let gatehouse = tools::gatehouse()?;
    let catalog = Command::new(&gatehouse).args(["reasons", "--catalog"]).output()?;
    let root = tempfile::tempdir()?;
    let folder = root.path().join("usr/lib/systemd/catalog");
    std::fs::create_dir_all(&folder)?;
    std::fs::create_dir_all(root.path().join("var/lib/systemd/catalog"))?;
    std::fs::write(folder.join("gatehouse.catalog"), &catalog.stdout)?;
    let journalctl = |arguments: &[&str]| -> Result<String> {
        let output = Command::new("journalctl").arg("--root").arg(root.path()).args(arguments).output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    journalctl(&["--update-catalog"])?;
    let listed = journalctl(&["--list-catalog"])?;
    let made = String::from_utf8(catalog.stdout)?;
    let ids: Vec<&str> = made.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
    ensure!(ids.len() > 50 && ids.iter().all(|id| listed.contains(id)), "{listed}");
    // The entry of a rejection that a real journal has taken, by its own MESSAGE_ID.
    let journal = Journal::start()?;
    let config = root.path().join("gatehouse.toml");
    std::fs::write(&config, CONFIG)?;
    let name = gatehouse.to_str().context("a path in UTF-8")?;
    let mut run = journal.inside(name);
    run.arg("run").arg("--config").arg(&config);
    let mut daemon = Process::start("gatehouse", run)?;
    journal.wait_for("that the daemon is ready", |entry| text(entry, "MESSAGE").contains("ready"))?;
    journal.inside(name).args(["connect", "ws://127.0.0.1:8080/chat"]).output()?;
    let entry = journal.wait_for("the rejection", |entry| text(entry, "GATEHOUSE_REASON") == "missing")?;
    let explained = journalctl(&["--dump-catalog", text(&entry, "MESSAGE_ID")])?;
    ensure!(
        explained.contains("credentials/missing") && explained.contains("Client: Send a token"),
        "{explained}"
    );
    daemon.terminate()?;
    Ok(())
}
