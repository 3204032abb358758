//! Every test there is, with one sum at the end.

use std::ffi::OsString;
use std::io::{self, IsTerminal, PipeReader, Read, Write};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::privilege;
use crate::progress::{readable, say};
use crate::setup::{Purpose, setup};
use crate::tally::Tally;
use crate::tree::{Tree, run};

/// Sets up, builds, runs the unit, contract, documentation and whole-system tests.
pub(crate) fn test(tree: &Tree, arguments: &[OsString]) -> Result<ExitCode> {
    let root = privilege::is_root();
    if root {
        setup(tree, Purpose::Test)?;
    } else {
        say("not root: tests that load the XDP program or make network namespaces are skipped, \
             counted and named at the end; run as root to include them");
        setup(tree, Purpose::Build)?;
    }
    let started = Instant::now();
    tree.build_daemon()?;
    run(&mut tree.cargo(&[
        "test",
        "--workspace",
        "--features",
        "gateway-ebpf/bench",
        "--locked",
        "--no-run",
    ]))
    .context("the tests were not built")?;
    say(format!("built in {}", readable(started.elapsed())));

    let started = Instant::now();
    let mut command = tree.cargo(&[
        "test",
        "--workspace",
        "--features",
        "gateway-ebpf/bench",
        "--locked",
        "--no-fail-fast",
        "--",
    ]);
    command
        .args(arguments)
        .env("GATEHOUSE_BIN", tree.daemon())
        .env("GATEHOUSE_TEST_PYTHON", tree.venv().join("bin/python"));
    if io::stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let (status, mut tally) = listen(&mut command, &mut io::stdout())?;
    if !status.success() && tally.failed == 0 {
        tally.failed = 1;
        tally.failures.push(format!("cargo test itself, see above ({status})"));
    }
    say(format!("tests took {}", readable(started.elapsed())));
    list("failed", &tally.failures);
    list("skipped", &tally.skips);
    let sum = format!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
    writeln!(io::stdout(), "{sum}").context("the sum cannot be printed")?;
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How long output may still come once cargo has ended.
const AFTERMATH: Duration = Duration::from_secs(5);

/// Runs a command, shows both its streams as they come, and counts along.
fn listen(command: &mut Command, screen: &mut impl Write) -> Result<(ExitStatus, Tally)> {
    // One pipe for both, so that a suite's name stays before its tests.
    let (reader, writer) = io::pipe()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("`{}` cannot be started", command.get_program().display()))?;
    // Our copies of the writing end must go, or the pipe would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (sender, pieces) = mpsc::sync_channel(64);
    thread::spawn(move || forward(reader, &sender));
    let mut tally = Tally::default();
    loop {
        match pieces.recv_timeout(AFTERMATH) {
            Ok(piece) => {
                let piece: Vec<u8> = piece.context("the output of the tests cannot be read")?;
                tally.feed(&piece);
                screen
                    .write_all(&piece)
                    .and_then(|()| screen.flush())
                    .context("standard output is closed")?;
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if child.try_wait()?.is_some() => {
                say("a process that a test left behind keeps the output open: not waiting for it");
                break;
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
    tally.finish();
    Ok((child.wait()?, tally))
}

/// Passes on what comes until the end or an error.
fn forward(mut reader: PipeReader, sender: &SyncSender<io::Result<Vec<u8>>>) {
    let mut buffer = [0; 8192];
    loop {
        let piece = match reader.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => Ok(buffer[..length].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let last = piece.is_err();
        if sender.send(piece).is_err() || last {
            return;
        }
    }
}

fn list(what: &str, items: &[String]) {
    if !items.is_empty() {
        say(format!("{what}:\n  {}", items.join("\n  ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tool;

    #[test]
    fn both_streams_are_counted_until_the_last_line() {
        let script = "echo '     Running tests/x.rs (deps/x-1)' >&2; echo 'running 2 tests'; \
                      echo 'test a ... ok'; echo 'test b ... ignored, needs root'; \
                      printf 'test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured'; exit 3";
        let mut screen = Vec::new();
        let (status, tally) = listen(tool("sh").args(["-c", script]), &mut screen).unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!((tally.passed, tally.failed, tally.skipped), (1, 0, 1));
        assert_eq!(tally.skips, ["x: b"]);
        let shown = String::from_utf8(screen).unwrap();
        assert!(shown.starts_with("     Running tests/x.rs"), "{shown}");
        assert!(shown.ends_with("0 measured"), "{shown}");
    }
}
