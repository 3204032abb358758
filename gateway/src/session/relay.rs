//! Relays the bytes of an admitted session both ways, unchanged.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::upstream::Upstream;
use crate::audit::HandshakeId;

/// Once one side has ended its half, how long the other may take to end its own.
const HALF_CLOSED: Duration = Duration::from_secs(10);

thread_local! {
    /// One buffer per thread: bytes do not stay in it from one step to the next, so an idle
    /// session needs none.
    static BUFFER: RefCell<Box<[u8; 16 * 1024]>> = RefCell::new(Box::new([0; 16 * 1024]));
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

/// Accepts the client's handshake and relays until either side ends, or `cut` cuts.
///
/// Only now, when the upstream has validly accepted, is anything sent on that the client sent
/// early.
pub async fn run(
    client: &mut TcpStream,
    upstream: Upstream,
    early: &[u8],
    id: HandshakeId,
    cut: &CancellationToken,
) -> Ending {
    let Upstream { mut stream, answer, rest } = upstream;
    let mut ending = Ending { why: String::new(), bytes_up: 0, bytes_down: 0 };
    let Ending { why, bytes_up, bytes_down } = &mut ending;
    let session = async {
        let down = [answer.accept(id).as_slice(), &rest].concat();
        if let Err(error) = client.write_all(&down).await {
            return format!("the client went away: {error}");
        }
        *bytes_down += rest.len() as u64;
        if let Err(error) = stream.write_all(early).await {
            return format!("the upstream went away: {error}");
        }
        *bytes_up += early.len() as u64;
        both_ways(client, &mut stream, bytes_up, bytes_down).await
    };
    let end = tokio::select! {
        end = session => end,
        () = cut.cancelled() => "the gate stopped".to_owned(),
    };
    *why = end;
    ending
}

async fn both_ways(client: &mut TcpStream, upstream: &mut TcpStream, up: &mut u64, down: &mut u64) -> String {
    let (client_read, client_write) = client.split();
    let (upstream_read, upstream_write) = upstream.split();
    let up = one_way(client_read, upstream_write, up);
    let down = one_way(upstream_read, client_write, down);
    tokio::pin!(up, down);
    let (first, second, other) = tokio::select! {
        end = &mut up => (end, timeout(HALF_CLOSED, down).await, "upstream"),
        end = &mut down => (end, timeout(HALF_CLOSED, up).await, "client"),
    };
    let side = if other == "upstream" { "client" } else { "upstream" };
    match (first, second) {
        (Err(error), _) => format!("the connection of the {side} broke: {error}"),
        (Ok(()), Err(_)) => format!("the {side} closed, and the {other} did not follow in time"),
        (Ok(()), Ok(_)) => format!("the {side} closed"),
    }
}

enum Step {
    Moved(usize),
    /// Read, but not all of it could be written at once.
    Stuck(usize, Vec<u8>),
    Nothing,
    End,
}

/// Copies until the end of `from`, then ends `to`.
async fn one_way(from: ReadHalf<'_>, mut to: WriteHalf<'_>, count: &mut u64) -> io::Result<()> {
    loop {
        from.readable().await?;
        match step(&from, &to)? {
            Step::Moved(bytes) => *count += bytes as u64,
            Step::Stuck(bytes, left) => {
                to.write_all(&left).await?;
                *count += bytes as u64;
            }
            Step::Nothing => {}
            Step::End => return to.shutdown().await,
        }
    }
}

fn step(from: &ReadHalf<'_>, to: &WriteHalf<'_>) -> io::Result<Step> {
    BUFFER.with_borrow_mut(|buffer| {
        let bytes = match from.try_read(&mut buffer[..]) {
            Ok(0) => return Ok(Step::End),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Step::Nothing),
            Err(error) => return Err(error),
        };
        match to.try_write(&buffer[..bytes]) {
            Ok(written) if written == bytes => Ok(Step::Moved(bytes)),
            Ok(written) => Ok(Step::Stuck(bytes, buffer[written..bytes].to_vec())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Ok(Step::Stuck(bytes, buffer[..bytes].to_vec()))
            }
            Err(error) => Err(error),
        }
    })
}
