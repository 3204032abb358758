//! Requests and sessions byte by byte, and what comes back.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::host::{GATE_V4, Host};
use crate::process::PATIENCE;

/// What a client was told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The status of the HTTP answer; 101 when a session opened.
    pub status: u16,
    /// The code of the Close frame that ended the session.
    pub code: Option<u16>,
    /// The layer.
    pub layer: String,
    /// The reason.
    pub reason: String,
    /// The identifier of the handshake.
    pub id: String,
    /// Everything, for error messages.
    pub text: String,
}

/// The head of an opening handshake on `path`, with these lines besides.
pub fn opening(path: &str, lines: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: gate.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    )
}

/// A short masked text frame (RFC 6455 §5.2).
pub fn message(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap_or(125).min(125);
    [0x81, 0x80 | length, 0, 0, 0, 0].into_iter().chain(text.bytes().take(length.into())).collect()
}

/// Connects to `port` of the gate from the clients' namespace.
pub fn connect(host: &Host, port: u16) -> Result<TcpStream> {
    host.client.enter(|| {
        let stream = TcpStream::connect_timeout(&SocketAddr::new(GATE_V4, port), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    })
}

/// Sends `bytes` to `port`, and reads until the gate closes.
pub fn say(host: &Host, port: u16, bytes: &[u8]) -> Result<Told> {
    let mut stream = connect(host, port)?;
    // A gate that has seen enough may close before it has read everything.
    let _ = stream.write_all(bytes);
    hear(&mut stream)
}

/// Reads until the gate closes.
pub fn hear(stream: &mut TcpStream) -> Result<Told> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => return Err(error).context("the gate does not close"),
    }
    Ok(told(&bytes))
}

/// Reads the head of the answer, which opens a session: what it says.
pub fn open(stream: &mut TcpStream, request: &str) -> Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).context("no answer")?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// What stands in `bytes`: an HTTP answer, Close frames, or both.
pub fn told(bytes: &[u8]) -> Told {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0);
    let mut told = Told { status, ..Told::default() };
    // The last one counts: an opened session is told in its Close frame.
    let rest = text.rsplit("layer=").next().filter(|_| text.contains("layer=")).unwrap_or_default();
    told.layer = word(rest);
    told.reason = rest.split("reason=").nth(1).map(word).unwrap_or_default();
    told.id = rest.split("id=\"").nth(1).map(word).unwrap_or_default();
    let close = bytes.windows(8).rposition(|part| part[0] == 0x88 && &part[4..] == b"laye");
    told.code = close.map(|at| u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
    Told { text, ..told }
}

fn word(text: &str) -> String {
    text.split([',', '"', '\r']).next().unwrap_or_default().to_owned()
}

/// A service in the gate's namespace that answers `most` connections with `answer`, each once it has heard
/// something, and keeps them open. Then nobody listens there any more. It ends with the test.
pub fn service(host: &Host, address: &str, most: usize, answer: impl Into<String>) -> Result<()> {
    let listener = host.gate.enter(|| Ok(TcpListener::bind(address)?))?;
    let answer = answer.into();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming().take(most) {
            let Ok(mut stream) = stream else { return };
            // One that has gone, or says nothing, is none of the tests that look here.
            let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
            if !answer.is_empty() {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer.as_bytes());
            }
            kept.push(stream);
        }
    });
    Ok(())
}

/// The first line of a proxy that passes on a connection of `client` (PROXY protocol, version 1).
pub fn proxied(client: IpAddr) -> String {
    format!("PROXY TCP4 {client} {GATE_V4} 4000 8080\r\n")
}
