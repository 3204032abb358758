//! The PROXY protocol, versions 1 and 2: a proxy says whose connection it passes on, before anything
//! else (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).

use std::io;
use std::net::SocketAddr;

use ppp::v1;
use ppp::v2::{self, Command};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// How a header of version 2 begins (§2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of a header of version 2 before its addresses (§2.2).
const FIXED: usize = 16;
/// Bytes of the shortest header of version 1: `PROXY UNKNOWN` and the end of its line (§2.1).
const SHORTEST: usize = 15;
/// Bytes of the longest (§2.1).
const LONGEST: usize = 107;
/// Bytes behind the fixed part of version 2 that are accepted: addresses, and what else proxies say.
/// They may say up to 64 KiB; none is known to say more than a few hundred bytes.
const MOST: usize = 4096;

/// Says that the client came over TLS, in the first byte behind the type and length of `PP2_TYPE_SSL`
/// (§2.2.6).
const CLIENT_SSL: u8 = 0x01;

/// Whose connection a proxy passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxied {
    /// The client.
    pub client: SocketAddr,
    /// Whether it came over TLS, as far as the proxy says.
    pub secure: bool,
}

impl Proxied {
    fn of(client: impl Into<SocketAddr>) -> Self {
        Self { client: client.into(), secure: false }
    }
}

/// Why a proxy cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum ProxyHeaderError {
    /// It closed the connection without a word, as a look whether the port is open does.
    #[error("the proxy closed the connection without a word")]
    Closed,
    /// The connection broke, or ended in the middle of the header.
    #[error("the header ends too early")]
    Cut,
    /// It does not speak the protocol.
    #[error("there is no valid header: {0}")]
    Invalid(String),
}

/// Reads the header from `stream`, and not a byte more. The caller sets the deadline. `None`: the proxy
/// speaks for itself (§2.2, `LOCAL`), or for nobody that has an address (`UNKNOWN`, Unix sockets).
///
/// # Errors
///
/// See [`ProxyHeaderError`].
pub(super) async fn read(stream: &mut TcpStream) -> Result<Option<Proxied>, ProxyHeaderError> {
    let mut bytes = vec![0; SHORTEST];
    let mut read = 0;
    while read < SHORTEST {
        match stream.read(&mut bytes[read..]).await {
            Ok(0) | Err(_) if read == 0 => return Err(ProxyHeaderError::Closed),
            Ok(0) | Err(_) => return Err(ProxyHeaderError::Cut),
            Ok(count) => read += count,
        }
        // Whoever says something else altogether is told so at once.
        if !begins(&bytes[..read]) {
            return Err(ProxyHeaderError::Invalid("it begins with something else".to_owned()));
        }
    }
    let rest = if bytes.starts_with(SIGNATURE) {
        binary(stream, &mut bytes).await
    } else {
        line(stream, &mut bytes).await
    };
    match rest {
        Ok(()) => parse(&bytes),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(ProxyHeaderError::Invalid(error.to_string()))
        }
        Err(_) => Err(ProxyHeaderError::Cut),
    }
}

fn begins(bytes: &[u8]) -> bool {
    let common = |full: &[u8]| bytes.iter().zip(full).all(|(one, other)| one == other);
    common(b"PROXY ") || common(SIGNATURE)
}

/// The rest of a header of version 2.
async fn binary(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.resize(FIXED, 0);
    stream.read_exact(&mut bytes[SHORTEST..]).await?;
    let length = usize::from(u16::from_be_bytes([bytes[FIXED - 2], bytes[FIXED - 1]]));
    if length > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is longer than {MOST} bytes")));
    }
    bytes.resize(FIXED + length, 0);
    stream.read_exact(&mut bytes[FIXED..]).await?;
    Ok(())
}

/// The rest of a line of version 1. What is behind it is left where it is.
async fn line(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    while !bytes.ends_with(b"\n") {
        if bytes.len() >= LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its line does not end"));
        }
        let mut ahead = [0; LONGEST];
        let seen = stream.peek(&mut ahead[..LONGEST - bytes.len()]).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = ahead[..seen].iter().position(|byte| *byte == b'\n');
        let start = bytes.len();
        bytes.resize(start + end.map_or(seen, |end| end + 1), 0);
        stream.read_exact(&mut bytes[start..]).await?;
    }
    Ok(())
}

/// What a whole header says; see [`read`].
///
/// # Errors
///
/// [`ProxyHeaderError::Invalid`].
pub fn parse(bytes: &[u8]) -> Result<Option<Proxied>, ProxyHeaderError> {
    let invalid = |reason: String| ProxyHeaderError::Invalid(reason.escape_debug().to_string());
    if bytes.starts_with(SIGNATURE) {
        let header = v2::Header::try_from(bytes).map_err(|error| invalid(error.to_string()))?;
        if header.header.len() != bytes.len() {
            return Err(invalid("something stands behind it".to_owned()));
        }
        if header.command == Command::Local {
            return Ok(None);
        }
        let client = match header.addresses {
            v2::Addresses::IPv4(ip) => Proxied::of((ip.source_address, ip.source_port)),
            v2::Addresses::IPv6(ip) => Proxied::of((ip.source_address, ip.source_port)),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => return Ok(None),
        };
        let tls = |one: v2::TypeLengthValue<'_>| {
            one.kind == u8::from(v2::Type::SSL) && one.value.first().is_some_and(|set| set & CLIENT_SSL != 0)
        };
        let mut secure = false;
        for one in header.tlvs() {
            secure |= tls(one.map_err(|error| invalid(error.to_string()))?);
        }
        return Ok(Some(Proxied { secure, ..client }));
    }
    let header = v1::Header::try_from(bytes).map_err(|error| invalid(error.to_string()))?;
    if header.header.len() != bytes.len() {
        return Err(invalid("something stands behind it".to_owned()));
    }
    Ok(match header.addresses {
        v1::Addresses::Tcp4(ip) => Some(Proxied::of((ip.source_address, ip.source_port))),
        v1::Addresses::Tcp6(ip) => Some(Proxied::of((ip.source_address, ip.source_port))),
        v1::Addresses::Unknown => None,
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).expect("short").to_be_bytes();
        [SIGNATURE.as_slice(), &[0x20 | command, family], &length, addresses].concat()
    }

    const IPV4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];

    /// What is read when `sent` comes piece by piece, and what is left behind it.
    async fn receive(sent: &[u8], piece: usize) -> (Result<Option<Proxied>, ProxyHeaderError>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut client =
            TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
        client.set_nodelay(true).expect("possible");
        let (mut server, _) = listener.accept().await.expect("accepted");
        let sent = sent.to_vec();
        let sending = tokio::spawn(async move {
            for piece in sent.chunks(piece) {
                // The reader may have had enough.
                let _ = client.write_all(piece).await;
                tokio::task::yield_now().await;
            }
        });
        let read = read(&mut server).await;
        sending.await.expect("sent");
        let mut rest = Vec::new();
        let _ = server.read_to_end(&mut rest).await;
        (read, rest)
    }

    #[tokio::test]
    async fn the_header_is_read_to_its_last_byte_and_no_further_however_it_comes() {
        let long = b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        let tlv = [&IPV4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
        for (header, expected) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 8080 80\r\n".to_vec(), Some("192.0.2.1:8080")),
            (b"PROXY TCP6 2001:db8::1 ::1 8080 80\r\n".to_vec(), Some("[2001:db8::1]:8080")),
            (long.to_vec(), Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (v2(1, 0x11, &IPV4), Some("192.0.2.1:8080")),
            (v2(1, 0x11, &tlv), Some("192.0.2.1:8080")),
            (v2(0, 0x00, &[]), None),
            (v2(0, 0x11, &IPV4), None),
            (v2(1, 0x31, &[0; 216]), None),
        ] {
            for piece in [1, 7, 4096] {
                let (read, rest) = receive(&[&header[..], b"\x16\x03\x01"].concat(), piece).await;
                let read = read.expect("a header").map(|proxied| proxied.client.to_string());
                assert_eq!((read.as_deref(), &rest[..]), (expected, &b"\x16\x03\x01"[..]), "{header:?}");
            }
        }
    }

    #[test]
    fn a_proxy_says_whether_its_client_came_over_tls() {
        let ssl = |set: u8| [&IPV4[..], &[0x20, 0, 5, set, 0, 0, 0, 0]].concat();
        for (addresses, secure) in [(ssl(1), true), (ssl(5), true), (ssl(0), false), (IPV4.to_vec(), false)] {
            let proxied = parse(&v2(1, 0x11, &addresses)).expect("a header").expect("a client");
            assert_eq!(proxied.secure, secure, "{addresses:?}");
        }
        assert!(parse(&v2(1, 0x11, &[&IPV4[..], &[0x20, 0, 9, 1]].concat())).is_err(), "cut off");
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused_and_never_waited_for() {
        let endless = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
        let huge = [SIGNATURE.as_slice(), &[0x21, 0x11, 0xff, 0xff], &[0; 64]].concat();
        for sent in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"PROXX",
            b"proxy TCP4 192.0.2.1 10.0.0.1 8080 80\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 8080\r\n",
            b"PROXY TCP4 192.0.2.01 10.0.0.1 8080 80\r\n",
            b"PROXY TCP4 2001:db8::1 ::1 8080 80\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 8080 99999\r\n",
            &endless,
            &huge,
            &v2(1, 0x11, &IPV4[..8]),
            &v2(7, 0x11, &IPV4),
        ] {
            let (read, _) = receive(sent, 4096).await;
            assert!(matches!(read, Err(ProxyHeaderError::Invalid(_))), "{:?}: {read:?}", sent.escape_ascii());
        }
        assert!(matches!(receive(b"", 1).await.0, Err(ProxyHeaderError::Closed)));
        assert!(matches!(receive(b"PROXY TCP4 192.0", 1).await.0, Err(ProxyHeaderError::Cut)));
        assert!(matches!(receive(&v2(1, 0x11, &IPV4)[..20], 1).await.0, Err(ProxyHeaderError::Cut)));
    }
}
