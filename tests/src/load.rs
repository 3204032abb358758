//! Packets of one client that go on while something happens to the firewall.

use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};

use crate::host::{CLIENT_V4, Host, gate_address};
use crate::process::PATIENCE;

/// Where the packets go to; no list says anything about it.
const PORT: u16 = 7000;
/// Packets that are sent at once: fewer than a veth's queue has room for.
const BURST: u64 = 8;
/// The pause after them: a rate that every machine bears.
const PAUSE: Duration = Duration::from_micros(500);
/// A load that nobody stops ends there.
const LIMIT: u64 = 10_000_000;

/// A client that sends, and a server that it must not reach.
#[derive(Debug)]
pub struct Load {
    client: UdpSocket,
    free: UdpSocket,
    server: UdpSocket,
    sent: Mutex<u64>,
    grown: Condvar,
    done: AtomicBool,
}

impl Load {
    /// Packets from `source`, which is denied; the way to the host is found with a packet of a
    /// client that is not.
    pub fn from(host: &Host, source: IpAddr) -> Result<Self> {
        let server = host.gate.enter(|| Ok(UdpSocket::bind((gate_address(CLIENT_V4), PORT))?))?;
        let socket = |source: IpAddr| {
            host.client.enter(|| {
                let socket = UdpSocket::bind((source, 0))?;
                socket.connect((gate_address(source), PORT))?;
                Ok(socket)
            })
        };
        let load = Self {
            client: socket(source)?,
            free: socket(CLIENT_V4)?,
            server,
            sent: Mutex::new(0),
            grown: Condvar::new(),
            done: AtomicBool::new(false),
        };
        load.only_free_came_through()?;
        Ok(load)
    }

    /// Does `work` while the client sends; what it returned, and how many packets were sent.
    /// Fails if one of them comes through.
    pub fn during<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
        let result = std::thread::scope(|scope| {
            let sending = scope.spawn(|| self.send());
            let result = work();
            self.done.store(true, Ordering::Relaxed);
            sending.join().map_err(|_| anyhow!("the sender panicked"))??;
            result
        })?;
        self.only_free_came_through()?;
        Ok((result, *self.sent.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Waits until so many more packets are sent.
    pub fn wait_for(&self, more: u64) -> Result<()> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = *sent + more;
        let waited = self.grown.wait_timeout_while(sent, PATIENCE, |sent| *sent < wanted);
        let (sent, _) = waited.unwrap_or_else(PoisonError::into_inner);
        ensure!(*sent >= wanted, "the load has come to a stand at {sent} packets");
        Ok(())
    }

    fn send(&self) -> Result<()> {
        for round in 1..LIMIT {
            if self.done.load(Ordering::Relaxed) {
                break;
            }
            self.client.send(b"denied")?;
            *self.sent.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            self.grown.notify_all();
            if round % BURST == 0 {
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// What is sent last arrives last: behind it, nothing is on the way any more.
    fn only_free_came_through(&self) -> Result<()> {
        self.free.send(b"free")?;
        self.server.set_read_timeout(Some(PATIENCE))?;
        let mut buffer = [0; 64];
        match self.server.recv(&mut buffer) {
            Ok(length) if &buffer[..length] == b"free" => Ok(()),
            Ok(_) => bail!("a packet of the denied client came through"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => bail!("nothing comes through at all"),
            Err(error) => Err(error.into()),
        }
    }
}
