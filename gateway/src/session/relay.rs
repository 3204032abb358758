//! Relays the bytes of an admitted session both ways, unchanged.

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

use super::upstream::Upstream;

/// Once one side has ended its half, the other may go on as long as it sends something within
/// this time.
const HALF_CLOSED: Duration = Duration::from_secs(10);

/// Bytes moved at once.
const CHUNK: usize = 16 * 1024;

thread_local! {
    /// One buffer per thread: bytes do not stay in it from one step to the next, so an idle
    /// session needs none.
    static BUFFER: RefCell<Box<[u8; CHUNK]>> = RefCell::new(Box::new([0; CHUNK]));
}

/// How a session ended.
#[derive(Debug)]
pub struct Ending {
    /// In words.
    pub why: String,
    /// Bytes from the client to the upstream, after the handshake.
    pub bytes_up: u64,
    /// Bytes from the upstream to the client, after the handshake.
    pub bytes_down: u64,
}

/// What both sides hear first.
#[derive(Debug)]
pub struct Greetings {
    /// What the gate says to the client.
    pub to_client: Vec<u8>,
    /// What the client sent before it was admitted.
    pub to_upstream: Vec<u8>,
}

/// Bytes that have arrived in the buffers of the kernel.
#[derive(Debug, Default)]
struct Moved {
    up: AtomicU64,
    down: AtomicU64,
}

/// Greets both sides and relays until either ends, or `cut` cuts.
///
/// Only now, when the upstream has validly accepted, is anything sent on that the client sent
/// early.
pub async fn run(
    mut client: TcpStream,
    upstream: Upstream,
    greetings: Greetings,
    cut: &CancellationToken,
) -> Ending {
    let Upstream { mut stream, rest, .. } = upstream;
    let moved = Moved::default();
    let session = async {
        match greet(&mut client, &mut stream, greetings, rest, &moved).await {
            Ok(()) => both_ways(&mut client, &mut stream, &moved).await,
            Err(why) => why,
        }
    };
    let why = tokio::select! {
        why = session => why,
        () = cut.cancelled() => "the gate stopped".to_owned(),
    };
    Ending { why, bytes_up: moved.up.load(Ordering::Relaxed), bytes_down: moved.down.load(Ordering::Relaxed) }
}

/// Sends each side what the other said so far.
async fn greet(
    client: &mut TcpStream,
    upstream: &mut TcpStream,
    Greetings { to_client, to_upstream }: Greetings,
    rest: Vec<u8>,
    moved: &Moved,
) -> Result<(), String> {
    let down = [to_client.as_slice(), &rest].concat();
    client.write_all(&down).await.map_err(|error| Side::Client.broke(&error))?;
    moved.down.fetch_add(rest.len() as u64, Ordering::Relaxed);
    upstream.write_all(&to_upstream).await.map_err(|error| Side::Upstream.broke(&error))?;
    moved.up.fetch_add(to_upstream.len() as u64, Ordering::Relaxed);
    Ok(())
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

async fn both_ways(client: &mut TcpStream, upstream: &mut TcpStream, moved: &Moved) -> String {
    let (client_read, client_write) = client.split();
    let (upstream_read, upstream_write) = upstream.split();
    let mut up = pin!(one_way(client_read, upstream_write, &moved.up));
    let mut down = pin!(one_way(upstream_read, client_write, &moved.down));
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
async fn one_way(from: ReadHalf<'_>, mut to: WriteHalf<'_>, moved: &AtomicU64) -> End {
    loop {
        // One busy session must not keep its thread from the others.
        consume_budget().await;
        if let Err(error) = from.readable().await {
            return End::Read(error);
        }
        match step(&from, &to) {
            Step::Moved(bytes) => {
                moved.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            Step::Stuck(bytes, left) => {
                moved.fetch_add(bytes as u64, Ordering::Relaxed);
                let count = left.len() as u64;
                if let Err(error) = to.write_all(&left).await {
                    return End::Write(error);
                }
                moved.fetch_add(count, Ordering::Relaxed);
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
    Moved(usize),
    /// So many bytes were written; the others have to wait.
    Stuck(usize, Vec<u8>),
    Nothing,
    End(End),
}

fn step(from: &ReadHalf<'_>, to: &WriteHalf<'_>) -> Step {
    BUFFER.with_borrow_mut(|buffer| {
        let bytes = match from.try_read(&mut buffer[..]) {
            Ok(0) => return Step::End(End::Closed),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Step::Nothing,
            Err(error) => return Step::End(End::Read(error)),
        };
        match to.try_write(&buffer[..bytes]) {
            Ok(written) if written == bytes => Step::Moved(bytes),
            Ok(written) => Step::Stuck(written, buffer[written..bytes].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Step::Stuck(0, buffer[..bytes].to_vec())
            }
            Err(error) => Step::End(End::Write(error)),
        }
    })
}
