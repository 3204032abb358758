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
        audit_finds_a_client_by_address_reason_and_id,
        a_journal_that_stands_still_costs_no_handshake_and_what_is_lost_is_counted,
    ])
}

const CONFIG: &str = r#"
[[listen]]
address = "127.0.0.1:8080"

[[listen]]
address = "[::1]:8080"

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

/// A daemon beside `journal`, and the name of its binary.
fn beside(journal: &Journal, folder: &std::path::Path, more: &str) -> Result<(Process, String)> {
    let config = folder.join("gatehouse.toml");
    std::fs::write(&config, CONFIG.to_owned() + more)?;
    let gatehouse = tools::gatehouse()?.to_str().context("a path in UTF-8")?.to_owned();
    let mut run = journal.inside(&gatehouse);
    run.arg("run").arg("--config").arg(&config);
    let daemon = Process::start("gatehouse", run)?;
    journal.wait_for("that the daemon is ready", |entry| text(entry, "MESSAGE").contains("ready"))?;
    Ok((daemon, gatehouse))
}

fn audit_finds_a_client_by_address_reason_and_id() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let journal = Journal::start()?;
    let (mut daemon, gatehouse) = beside(&journal, folder.path(), "")?;
    for path in ["/chat", "/no"] {
        journal.inside(&gatehouse).args(["connect", &format!("ws://127.0.0.1:8080{path}")]).output()?;
    }
    let entry =
        journal.wait_for("the second rejection", |entry| text(entry, "GATEHOUSE_REASON") == "no_route")?;
    let id = text(&entry, "GATEHOUSE_ID");
    let audit = |arguments: &[&str]| -> Result<(Option<i32>, String)> {
        let output = journal
            .inside(&gatehouse)
            .args(["audit", "--directory", "/run/log/journal"])
            .args(arguments)
            .output()?;
        Ok((output.status.code(), String::from_utf8(output.stdout)?))
    };
    let (code, all) = audit(&["--client", "127.0.0.0/8", "--since", "1h"])?;
    ensure!(
        code == Some(0) && all.contains("credentials/missing") && all.contains("handshake/no_route"),
        "{all}"
    );
    ensure!(!all.contains('\u{1b}'), "colours where nobody sees them: {all:?}");
    let (_, one) = audit(&["--reason", "credentials/missing"])?;
    ensure!(one.contains("credentials/missing") && !one.contains("no_route"), "{one}");
    let (_, json) = audit(&["--id", id, "--json"])?;
    let found: Value = serde_json::from_str(&json)?;
    ensure!(
        found["reason"] == "no_route" && found["ids"][0] == id && found["event"] == "rejected",
        "{found:#}"
    );
    let (_, newest) = audit(&["--client", "127.0.0.1", "--limit", "1", "--json"])?;
    ensure!(newest.lines().count() == 1 && newest.contains("no_route"), "{newest}");
    let answer = journal.inside(&gatehouse).args(["connect", "ws://[::1]:8080/chat"]).output()?;
    let answer = String::from_utf8(answer.stdout)?;
    let other = answer.split("id:").nth(1).with_context(|| format!("no id in {answer}"))?.trim().to_owned();
    journal.wait_for("the client of IPv6", |entry| text(entry, "GATEHOUSE_ID") == other)?;
    let (code, one) = audit(&["--client", "::1", "--reason", "missing", "--json"])?;
    ensure!(code == Some(0) && one.lines().count() == 1 && one.contains(&other), "{code:?} {one}");
    let (code, none) = audit(&["--client", "192.0.2.1"])?;
    ensure!(code == Some(1) && none.is_empty(), "{code:?} {none}");
    ensure!(daemon.terminate()?.success());
    // Without its daemon, the journal alone knows the handshake.
    let config = folder.path().join("gatehouse.toml");
    let explained =
        journal.inside(&gatehouse).args(["explain", "--id", id, "--config"]).arg(&config).output()?;
    let explained = String::from_utf8(explained.stdout)?;
    ensure!(explained.contains("handshake/no_route") && explained.contains("127.0.0.1"), "{explained}");
    Ok(())
}

fn a_journal_that_stands_still_costs_no_handshake_and_what_is_lost_is_counted() -> Result<()> {
    const ATTEMPTS: u64 = 600;
    let folder = tempfile::tempdir()?;
    let journal = Journal::start()?;
    let limits = "[limits]\naudit_queue = 16\naudit_fold = \"0s\"\nhandshake_rate_per_address = 0\n";
    let (mut daemon, _) = beside(&journal, folder.path(), limits)?;
    journal.stop()?;
    // More than the socket of the journal and the queue hold together.
    let answered = daemon.inside_network(|| {
        let mut answered = 0;
        for _ in 0..ATTEMPTS {
            let mut stream = std::net::TcpStream::connect("127.0.0.1:8080")?;
            stream.set_read_timeout(Some(gatehouse_tests::process::PATIENCE))?;
            std::io::Write::write_all(
                &mut stream,
                b"GET /no HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            )?;
            let mut answer = String::new();
            std::io::Read::read_to_string(&mut stream, &mut answer)?;
            answered += u64::from(answer.starts_with("HTTP/1.1 404 "));
        }
        Ok(answered)
    })?;
    ensure!(answered == ATTEMPTS, "{answered} of {ATTEMPTS} handshakes were answered");
    journal.go_on()?;
    ensure!(daemon.terminate()?.success());
    let lost = journal.wait_for("the losses", |entry| !text(entry, "GATEHOUSE_LOST").is_empty())?;
    let lost: u64 = text(&lost, "GATEHOUSE_LOST").parse()?;
    let kept = journal.count("GATEHOUSE_REASON=no_route")?;
    ensure!(kept + lost == ATTEMPTS && lost > 0, "{kept} kept, {lost} lost");
    Ok(())
}
