//! Our own client: it sends exactly what it is told, and reads every byte of the answer.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use socket2::{Domain, Socket, Type};

use crate::answer::Answer;
use crate::client::{Attempt, GATE_PORT, Outcome, authority};
use crate::host::{Host, gate_address};

/// The key of RFC 6455 §1.3, and what a server must make of it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const TEXT: &str = "hello from ours";

/// A session that stays open.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
}

impl Session {
    /// Opens a session that must be admitted, in the clients' namespace of `host`.
    pub fn open(host: &Host, attempt: &Attempt) -> Result<Self> {
        host.client.enter(|| match open(attempt)? {
            Ok(session) => Ok(session),
            Err(outcome) => bail!("the client was not admitted: {outcome:#?}"),
        })
    }

    /// Sends one masked text frame and reads one frame (RFC 6455 §5.2).
    pub fn echo(&mut self, text: &str) -> Result<String> {
        let length = u8::try_from(text.len())?;
        ensure!(length < 126, "longer texts need another form of frame");
        let masked = text.bytes().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        let frame: Vec<u8> = [0x81, 0x80 | length].into_iter().chain(MASK).chain(masked).collect();
        self.stream.write_all(&frame)?;
        let mut head = [0; 2];
        self.stream.read_exact(&mut head)?;
        ensure!(head[0] == 0x81 && head[1] < 126, "this is no short text frame: {head:02x?}");
        let mut payload = vec![0; usize::from(head[1])];
        self.stream.read_exact(&mut payload)?;
        Ok(String::from_utf8(payload)?)
    }
}

impl Session {
    /// Sends `bytes` of one masked binary frame after the other, until nobody takes any more for `patience`; how many
    /// were sent. It ends at `most`.
    pub fn flood(&mut self, most: usize, patience: Duration) -> Result<usize> {
        const PAYLOAD: u16 = 4096;
        let mut frame = vec![0x82, 0xfe];
        frame.extend(PAYLOAD.to_be_bytes());
        frame.extend([0; 4 + PAYLOAD as usize]);
        self.stream.set_write_timeout(Some(patience))?;
        let mut sent = 0;
        // Where the last frame was cut off, the next write goes on.
        while sent < most {
            match self.stream.write(&frame[sent % frame.len()..]) {
                Ok(count) => sent += count,
                Err(error) if silent(&error) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(sent)
    }

    /// Reads `count` bytes, whatever they are.
    pub fn swallow(&mut self, count: usize) -> Result<()> {
        let mut left = count;
        let mut buffer = vec![0; 64 * 1024];
        while left > 0 {
            let read = self.stream.read(&mut buffer[..left.min(64 * 1024)])?;
            ensure!(read > 0, "{left} bytes are missing");
            left -= read;
        }
        Ok(())
    }

    /// Waits for so long for what comes next.
    pub fn patient_for(&self, patience: Duration) -> Result<()> {
        Ok(self.stream.set_read_timeout(Some(patience))?)
    }

    /// The code of the Close frame that comes next.
    pub fn closed(&mut self) -> Result<u16> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head)?;
        ensure!(head[0] == 0x88, "this is no Close frame: {head:02x?}");
        Ok(u16::from_be_bytes([head[2], head[3]]))
    }
}

/// Makes one attempt from the network namespace of this thread.
pub(crate) fn attempt(attempt: &Attempt) -> Result<Outcome> {
    Ok(match open(attempt)? {
        Ok(mut session) => Outcome::Admitted { sent: TEXT.to_owned(), echo: session.echo(TEXT)? },
        Err(outcome) => outcome,
    })
}

/// The session, or how it went instead.
fn open(attempt: &Attempt) -> Result<Result<Session, Outcome>> {
    let mut stream = match connect(attempt) {
        Ok(stream) => stream,
        Err(error) if silent(&error) => return Ok(Err(Outcome::Unanswered)),
        Err(error) => return Err(error).context("cannot connect to the gate"),
    };
    let mut request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n",
        attempt.path,
        authority(attempt.source)
    );
    for (name, value) in &attempt.headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes())?;
    let answer = match read_answer(&mut stream) {
        Ok(answer) => answer,
        Err(error) if error.downcast_ref().is_some_and(silent) => {
            return Ok(Err(Outcome::Unanswered));
        }
        Err(error) => return Err(error),
    };
    if answer.status != 101 {
        return Ok(Err(Outcome::Rejected(answer)));
    }
    ensure!(answer.header("Sec-WebSocket-Accept")? == ACCEPT, "RFC 6455 §4.2.2: {answer:#?}");
    ensure!(answer.header("Upgrade")?.eq_ignore_ascii_case("websocket"), "{answer:#?}");
    Ok(Ok(Session { stream }))
}

fn connect(attempt: &Attempt) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(SocketAddr::new(attempt.source, 0)), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(attempt.source, 0).into())?;
    let gate = SocketAddr::new(gate_address(attempt.source), GATE_PORT);
    socket.connect_timeout(&gate.into(), attempt.timeout)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(attempt.timeout))?;
    Ok(stream)
}

/// Whether nothing answered in time.
fn silent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

/// Reads the head byte by byte, so that what follows it stays unread, then the body.
fn read_answer(stream: &mut TcpStream) -> Result<Answer> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < 64 * 1024, "the answer has no end");
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(_) = parsed.parse(&head)? else { bail!("the answer is incomplete") };
    let mut answer = Answer {
        status: parsed.code.context("the answer has no status")?,
        headers: parsed
            .headers
            .iter()
            .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()))
            .collect(),
        body: String::new(),
    };
    if answer.status != 101 {
        let length: u64 = answer.header("Content-Length")?.parse()?;
        stream.take(length).read_to_string(&mut answer.body)?;
        ensure!(answer.body.len() as u64 == length, "the body is cut short: {answer:#?}");
    }
    Ok(answer)
}
