//! HAProxy in front of the gate.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::client::GATE_PORT;
use crate::host::{GATE_V4, Host};
use crate::process::{PATIENCE, Process};

/// Where the gate listens for it.
pub const BEHIND: &str = "127.0.0.1:8081";

/// A running proxy, where clients look for the gate.
#[derive(Debug)]
pub struct Haproxy {
    _process: Process,
    _folder: TempDir,
}

impl Haproxy {
    /// A proxy in `mode` (`tcp` or `http`) that passes on to the gate, with these settings of that server, and with
    /// `more` lines about requests.
    pub fn start(host: &Host, mode: &str, server: &str, more: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("haproxy.cfg");
        let port = GATE_PORT;
        fs::write(
            &config,
            format!(
                "global\n  maxconn 100\ndefaults\n  mode {mode}\n  timeout connect 5s\n  timeout client 30s\n  \
                 timeout server 30s\n  timeout tunnel 30s\nlisten front\n  bind {GATE_V4}:{port}\n{more}\n  \
                 server gate {BEHIND} {server}\n"
            ),
        )?;
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&config);
        let process = Process::start("haproxy", host.gate.command(&command))?;
        let address = SocketAddr::new(GATE_V4, port);
        // It does not say when it is ready.
        let until = Instant::now() + PATIENCE;
        while host.gate.enter(|| Ok(TcpStream::connect(address)?)).is_err() {
            ensure!(Instant::now() < until, "haproxy does not listen: {:#?}", process.printed());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { _process: process, _folder: folder })
    }
}
