//! Packets of a denied client and of a free one, through a wire, while something else happens.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use crate::world::{Outcome, ip};

/// Pairs of packets that are sent at once: fewer than a veth's queue has room for.
const BURST: u64 = 8;
/// The pause after them: the load has a rate that every machine bears.
const PAUSE: Duration = Duration::from_micros(500);
/// Pairs of packets that no test needs: a load that nobody stops ends there.
const LIMIT: u64 = 10_000_000;
/// How long the packets that a test waits for may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A denied client and a free one behind `wire`, and a server on this side, behind `gate`.
pub(crate) struct Load {
    server: UdpSocket,
    denied: UdpSocket,
    free: UdpSocket,
    /// Pairs of packets, one of each client.
    sent: Mutex<u64>,
    grown: Condvar,
    done: AtomicBool,
}

impl Load {
    /// Makes the wire. Both clients know the way to the server already.
    pub(crate) fn through_a_veth() -> Result<Self, Box<dyn Error>> {
        ip("link add gate type veth peer name wire")?;
        let (server, denied, free) = veth_with_client()?;
        free.send(b"first")?;
        assert_eq!(receive(&server)?, "first");
        let done = AtomicBool::new(false);
        Ok(Self { server, denied, free, sent: Mutex::new(0), grown: Condvar::new(), done })
    }

    /// Does `work` while packets flow; its result, and how many packets each client has sent.
    pub(crate) fn during<T>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Box<dyn Error>>,
    ) -> Result<(T, u64), Box<dyn Error>> {
        let result = thread::scope(|scope| {
            let sending = scope.spawn(|| self.send());
            let receiving = scope.spawn(|| self.receive_only_free());
            let result = work(self);
            self.done.store(true, Ordering::Relaxed);
            let sent = sending.join().map_err(|_| "the sender panicked")?;
            let received = receiving.join().map_err(|_| "the receiver panicked")?;
            sent?;
            received.map_err(|error| error.to_string())?;
            result
        })?;
        Ok((result, *self.sent.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Waits until each client has sent so many more packets.
    pub(crate) fn wait_for(&self, more: u64) -> Outcome {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = *sent + more;
        let waited = self.grown.wait_timeout_while(sent, PATIENCE, |sent| *sent < wanted);
        let (sent, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *sent < wanted { Err("the load has come to a stand".into()) } else { Ok(()) }
    }

    /// What is sent last arrives last: after it, nothing of the denied client is on the way.
    pub(crate) fn nothing_denied_came_through(&self) -> Outcome {
        self.free.send(b"last")?;
        loop {
            match receive(&self.server)?.as_str() {
                "free" => {}
                "last" => return Ok(()),
                other => return Err(format!("{other:?} came through").into()),
            }
        }
    }

    fn send(&self) -> io::Result<()> {
        for round in 1..LIMIT {
            if self.done.load(Ordering::Relaxed) {
                break;
            }
            self.denied.send(b"denied")?;
            self.free.send(b"free")?;
            *self.sent.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            self.grown.notify_all();
            if round % BURST == 0 {
                thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    fn receive_only_free(&self) -> Result<(), io::Error> {
        self.server.set_read_timeout(Some(Duration::from_millis(50)))?;
        let mut buffer = [0; 64];
        while !self.done.load(Ordering::Relaxed) {
            match self.server.recv(&mut buffer) {
                Ok(length) if &buffer[..length] == b"free" => {}
                Ok(_) => return Err(io::Error::other("a packet of the denied client came through")),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Gives `wire` to another namespace with a denied and a free client in it; returns the server's
/// socket here and the clients' there.
pub(crate) fn veth_with_client() -> Result<(UdpSocket, UdpSocket, UdpSocket), Box<dyn Error>> {
    let (namespace, there) = mpsc::channel();
    let (moved, go) = mpsc::channel::<()>();
    let clients = thread::spawn(move || -> Result<_, String> {
        let text = |error: Box<dyn Error>| error.to_string();
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).map_err(|error| error.to_string())?;
        namespace.send(nix::unistd::gettid()).map_err(|error| error.to_string())?;
        go.recv().map_err(|error| error.to_string())?;
        for command in [
            "address add 10.66.0.2/16 dev wire",
            "address add 10.1.0.2/16 dev wire",
            "link set wire up",
            "route add 192.0.2.0/24 dev wire",
        ] {
            ip(command).map_err(text)?;
        }
        let client = |from: &str| -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind((from, 0))?;
            socket.connect("192.0.2.1:7000")?;
            Ok(socket)
        };
        let denied = client("10.66.0.2").map_err(|error| error.to_string())?;
        let free = client("10.1.0.2").map_err(|error| error.to_string())?;
        Ok((denied, free))
    });
    let thread = there.recv()?;
    ip(&format!("link set wire netns {thread}"))?;
    for command in [
        "address add 192.0.2.1/24 dev gate",
        "link set gate up",
        "route add 10.66.0.0/16 dev gate",
        "route add 10.1.0.0/16 dev gate",
    ] {
        ip(command)?;
    }
    let server = UdpSocket::bind("192.0.2.1:7000")?;
    moved.send(())?;
    match clients.join() {
        Ok(result) => result.map(|(denied, free)| (server, denied, free)).map_err(Into::into),
        Err(_) => Err("the clients panicked".into()),
    }
}

/// The next datagram, within the time that a busy machine may need.
pub(crate) fn receive(server: &UdpSocket) -> Result<String, Box<dyn Error>> {
    server.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut buffer = [0; 64];
    let (length, _): (usize, SocketAddr) = server.recv_from(&mut buffer).map_err(|error| {
        if error.kind() == ErrorKind::WouldBlock { "nothing arrived".into() } else { error.to_string() }
    })?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}
