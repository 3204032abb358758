//! Restarts of the daemon behind a listening socket that outlives it, as systemd keeps one.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use gatehouse_tests::client::GATE_PORT;
use gatehouse_tests::host::{GATE_V4, Host};
use gatehouse_tests::log::Entry;
use gatehouse_tests::process::{Mark, PATIENCE, Process};
use gatehouse_tests::{promises, tools};

fn main() -> ExitCode {
    gatehouse_tests::run(promises![a_thousand_restarts_under_connection_load_refuse_nobody])
}

const RESTARTS: usize = 1_000;
const CLIENTS: usize = 4;

const CONFIG: &str = "[limits]\ndrain_timeout = \"5s\"\nhandshake_rate_per_address = 0\n";

/// A daemon with this socket as its third file, as sd_listen_fds(3) has it.
fn start(host: &Host, config: &std::path::Path, listener: &TcpListener) -> Result<Process> {
    let gatehouse = tools::gatehouse()?;
    let mut command = Command::new("sh");
    let script = format!(
        "LISTEN_FDS=1 LISTEN_PID=$$ exec {} run --config {} --log stderr 3<&0 </dev/null",
        gatehouse.display(),
        config.display()
    );
    command.arg("-c").arg(script).env_remove("RUST_LOG");
    let daemon =
        Process::start_with("gatehouse", host.gate.command(&command), OwnedFd::from(listener.try_clone()?))?;
    daemon.wait_for("that it is ready", Mark::default(), PATIENCE, |line| {
        Entry::parse(line).says("ready").then_some(())
    })?;
    Ok(daemon)
}

/// One request on a connection of its own, which has to be answered.
fn ask() -> Result<()> {
    let mut stream = TcpStream::connect(SocketAddr::new(GATE_V4, GATE_PORT)).context("refused")?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(
        b"GET /none HTTP/1.1\r\nHost: gate.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("cut off")?;
    ensure!(answer.starts_with(b"HTTP/1.1 404 "), "{}", answer.escape_ascii());
    Ok(())
}

fn a_thousand_restarts_under_connection_load_refuse_nobody() -> Result<()> {
    let host = Host::new()?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("gatehouse.toml");
    let address = SocketAddr::new(GATE_V4, GATE_PORT);
    std::fs::write(&config, format!("[[listen]]\naddress = \"{address}\"\n{CONFIG}"))?;
    let listener = host.gate.enter(|| Ok(TcpListener::bind(address)?))?;
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let load = || -> Result<()> {
        host.client.enter(|| {
            while !done.load(Ordering::Relaxed) {
                ask().with_context(|| format!("after {} connections", asked.load(Ordering::Relaxed)))?;
                asked.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })
    };
    let mut daemon = start(&host, &config, &listener)?;
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(load)).collect();
        let mut restarting = || -> Result<()> {
            for number in 0..RESTARTS {
                // With somebody in the middle of it.
                let before = asked.load(Ordering::Relaxed);
                while asked.load(Ordering::Relaxed) == before {
                    ensure!(
                        !clients.iter().any(thread::ScopedJoinHandle::is_finished),
                        "a client was turned away"
                    );
                    thread::sleep(Duration::from_millis(1));
                }
                let status = daemon.terminate()?;
                ensure!(status.success(), "restart {number}: {status}");
                daemon = start(&host, &config, &listener)?;
            }
            Ok(())
        };
        let restarted = restarting();
        done.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().map_err(|_| anyhow!("a client panicked"))??;
        }
        restarted
    })?;
    let asked = asked.into_inner();
    ensure!(asked >= RESTARTS, "only {asked} connections in {RESTARTS} restarts");
    Ok(())
}
