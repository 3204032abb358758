//! Relays the bytes of an admitted session both ways, unchanged, and ends it when its right to exist
//! ends.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::task::coop::consume_budget;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::farewell::{self, Farewell};
use super::frames::Frames;
use super::upstream::Upstream;

/// Once one side has ended its half, the other may go on as long as it sends something within
/// this time.
const HALF_CLOSED: Duration = Duration::from_secs(10);

/// Bytes moved at once.
pub(super) const CHUNK: usize = 16 * 1024;

thread_local! {
    /// One buffer per thread: bytes do not stay in it from one step to the next, so an idle
    /// session needs none.
    static BUFFER: RefCell<Box<[u8; CHUNK]>> = RefCell::new(Box::new([0; CHUNK]));
}

/// How a session ended.
#[derive(Debug)]
pub struct Ending {
    /// Why.
    pub why: Why,
    /// Bytes from the client to the upstream, after the handshake.
    pub bytes_up: u64,
    /// Bytes from the upstream to the client, after the handshake.
    pub bytes_down: u64,
    /// Whole messages of the client.
    pub messages_up: u64,
    /// Whole messages of the upstream.
    pub messages_down: u64,
}

/// Why a session ended.
#[derive(Debug)]
pub enum Why {
    /// One side ended it: in words.
    Side(String),
    /// The gate ended it.
    Gate(Farewell),
    /// The gate had no time left for a farewell.
    Cut,
}

/// Bytes that have arrived in the buffers of the kernel.
#[derive(Debug, Default)]
pub struct Moved {
    pub(super) up: AtomicU64,
    pub(super) down: AtomicU64,
}

impl Moved {
    /// Bytes both ways.
    pub fn total(&self) -> u64 {
        self.up.load(Ordering::Relaxed).wrapping_add(self.down.load(Ordering::Relaxed))
    }
}

/// What has been read from one side: followed, and not yet written in full.
#[derive(Debug, Default)]
pub(super) struct Direction {
    pub frames: Frames,
    left: Vec<u8>,
    written: usize,
}

impl Direction {
    /// These bytes have been read already.
    fn holding(bytes: Vec<u8>) -> Self {
        let mut frames = Frames::default();
        frames.follow(&bytes);
        Self { frames, left: bytes, written: 0 }
    }

    /// What waits to be written.
    pub(super) fn waiting(&self) -> &[u8] {
        &self.left[self.written..]
    }

    /// Writes what waits. Nothing is lost or written twice when this is given up and started again.
    async fn flush(&mut self, to: &WriteHalf<'_>, moved: &AtomicU64) -> io::Result<()> {
        while self.written < self.left.len() {
            to.writable().await?;
            match to.try_write(&self.left[self.written..]) {
                Ok(count) => {
                    self.written += count;
                    moved.fetch_add(count as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        (self.left, self.written) = (Vec::new(), 0);
        Ok(())
    }
}

/// What both sides hear first.
#[derive(Debug)]
pub struct Greetings {
    /// What the gate says to the client: the answer to its handshake, or whole frames.
    pub to_client: Vec<u8>,
    /// What the client sent before it was admitted.
    pub to_upstream: Vec<u8>,
}

/// A session that may begin.
#[derive(Debug)]
pub struct Session {
    /// The client.
    pub client: TcpStream,
    /// The upstream, which has accepted.
    pub upstream: Upstream,
    /// What both sides hear first.
    pub greetings: Greetings,
    /// How long a farewell may take.
    pub patience: Duration,
}

/// Greets both sides and relays until either ends, `over` says why the gate has to
/// end it, or `cut` cuts.
///
/// Only now, when the upstream has validly accepted, is anything sent on that the client sent
/// early.
pub async fn run(
    session: Session,
    moved: &Moved,
    over: impl Future<Output = Farewell>,
    cut: &CancellationToken,
) -> Ending {
    let Session { mut client, upstream, greetings, patience } = session;
    let Upstream { mut stream, rest, .. } = upstream;
    let Greetings { to_client, to_upstream } = greetings;
    let (mut up, mut down) = (Direction::holding(to_upstream), Direction::holding(rest));
    let greeted = tokio::select! {
        greeted = client.write_all(&to_client) => greeted.map_err(|error| Why::Side(Side::Client.broke(&error))),
        () = cut.cancelled() => Err(Why::Cut),
    };
    let why = match greeted {
        Ok(()) => relay(&mut client, &mut stream, (&mut up, &mut down), moved, over, patience, cut).await,
        Err(why) => why,
    };
    Ending {
        why,
        bytes_up: moved.up.load(Ordering::Relaxed),
        bytes_down: moved.down.load(Ordering::Relaxed),
        messages_up: up.frames.messages(),
        messages_down: down.frames.messages(),
    }
}

/// Relays until the session ends, with a farewell where there is one to tell.
async fn relay(
    client: &mut TcpStream,
    upstream: &mut TcpStream,
    (up, down): (&mut Direction, &mut Direction),
    moved: &Moved,
    over: impl Future<Output = Farewell>,
    patience: Duration,
    cut: &CancellationToken,
) -> Why {
    let farewell = tokio::select! {
        why = both_ways(client, upstream, (&mut *up, &mut *down), moved) => return Why::Side(why),
        farewell = over => farewell,
        () = cut.cancelled() => return Why::Cut,
    };
    tokio::select! {
        () = farewell::tell(&farewell, (client, upstream), (up, down), moved, patience) => {}
        () = cut.cancelled() => {}
    }
    Why::Gate(farewell)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Upstream,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
        }
    }

    fn broke(self, error: &io::Error) -> String {
        format!("the connection of the {} broke: {error}", self.name())
    }
}

/// How one direction ended.
enum End {
    /// Its source ended its half.
    Closed,
    /// Its source broke.
    Read(io::Error),
    /// Its destination broke.
    Write(io::Error),
}

async fn both_ways(
    client: &mut TcpStream,
    upstream: &mut TcpStream,
    (up, down): (&mut Direction, &mut Direction),
    moved: &Moved,
) -> String {
    let (client_read, client_write) = client.split();
    let (upstream_read, upstream_write) = upstream.split();
    let mut up = pin!(one_way(client_read, upstream_write, up, &moved.up));
    let mut down = pin!(one_way(upstream_read, client_write, down, &moved.down));
    tokio::select! {
        end = &mut up => ending(end, Side::Client, Side::Upstream, down, &moved.down).await,
        end = &mut down => ending(end, Side::Upstream, Side::Client, up, &moved.up).await,
    }
}

/// Lets the direction `back` end too, after the one from `from` to `to` has ended.
async fn ending(
    end: End,
    from: Side,
    to: Side,
    back: Pin<&mut impl Future<Output = End>>,
    moved: &AtomicU64,
) -> String {
    match end {
        // Nobody is left to send to.
        End::Read(error) => from.broke(&error),
        // What it sent before it broke can still be there.
        End::Write(error) => {
            finish(back, moved).await;
            to.broke(&error)
        }
        End::Closed if finish(back, moved).await => format!("the {} closed", from.name()),
        End::Closed => format!("the {} closed, and the {} did not follow in time", from.name(), to.name()),
    }
}

/// Waits for a direction as long as it moves something; whether it came to its end.
async fn finish(mut direction: Pin<&mut impl Future<Output = End>>, moved: &AtomicU64) -> bool {
    loop {
        let before = moved.load(Ordering::Relaxed);
        if timeout(HALF_CLOSED, direction.as_mut()).await.is_ok() {
            return true;
        }
        if moved.load(Ordering::Relaxed) == before {
            return false;
        }
    }
}

/// Copies until the end of `from`, then ends `to`.
async fn one_way(
    from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    direction: &mut Direction,
    moved: &AtomicU64,
) -> End {
    loop {
        // One busy session must not keep its thread from the others.
        consume_budget().await;
        if !direction.left.is_empty()
            && let Err(error) = direction.flush(&to, moved).await
        {
            return End::Write(error);
        }
        if let Err(error) = from.readable().await {
            return End::Read(error);
        }
        match step(&from, &to, direction) {
            Step::Moved(bytes) => {
                moved.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            Step::Nothing => {}
            Step::End(end) => {
                // It may be broken itself, and then knows.
                let _ = to.shutdown().await;
                return end;
            }
        }
    }
}

/// One read and one write that do not wait.
enum Step {
    /// So many bytes were written; others may wait in the direction.
    Moved(usize),
    Nothing,
    End(End),
}

fn step(from: &ReadHalf<'_>, to: &WriteHalf<'_>, direction: &mut Direction) -> Step {
    BUFFER.with_borrow_mut(|buffer| {
        let bytes = match from.try_read(&mut buffer[..]) {
            Ok(0) => return Step::End(End::Closed),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Step::Nothing,
            Err(error) => return Step::End(End::Read(error)),
        };
        direction.frames.follow(&buffer[..bytes]);
        let written = match to.try_write(&buffer[..bytes]) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Step::End(End::Write(error)),
        };
        if written < bytes {
            (direction.left, direction.written) = (buffer[written..bytes].to_vec(), 0);
        }
        Step::Moved(written)
    })
}
