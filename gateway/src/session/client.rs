//! A client of our own, for `gatehouse connect`.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderValue, Uri};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::answer::{Answer, AnswerError, Offer};
use super::headers::{push, values};
use super::stream::Stream;
use super::tls::{self, TlsError};
use crate::rejection::http::{HEADER, Problem};

/// Bytes of a rejection's body.
const MAX_BODY: u64 = 64 * 1024;
/// From the head of a rejection to the end of its body.
const BODY: Duration = Duration::from_secs(1);
/// Bytes of a message.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// An open session.
pub type Client = WebSocketStream<Stream>;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL or the token cannot be sent.
    #[error("{0}")]
    Invalid(&'static str),
    /// The name has no address.
    #[error("{host} has no address{}", if *.same_family { " of the source's family" } else { "" })]
    Name {
        /// The name.
        host: String,
        /// Whether a source address limited the family.
        same_family: bool,
    },
    /// Nobody answered the connection: this is how it looks when a firewall drops.
    #[error(
        "no answer in time: the packets are dropped on the way, most likely by a firewall; \
         `gatehouse explain --address` on the gate's host tells whether by its own"
    )]
    Dropped,
    /// The connection was made, but the handshake was not answered in time.
    #[error("connected, but the handshake was not answered in time")]
    Silent,
    /// The authorities to trust cannot be used.
    #[error(transparent)]
    Authorities(#[from] TlsError),
    /// The handshake of TLS failed, on either side.
    #[error(
        "the handshake of TLS failed ({0}): is TLS spoken there, and the authority of its certificate trusted?"
    )]
    Tls(#[source] io::Error),
    /// The connection was refused or broke.
    #[error("the connection failed: {0}")]
    Broken(#[from] io::Error),
    /// The handshake was answered with something else than 101.
    #[error("{0}")]
    Rejected(Box<Rejected>),
    /// The answer breaks the protocol.
    #[error("the answer is no valid WebSocket handshake: {0}")]
    Protocol(#[from] AnswerError),
}

/// The answer to a rejected handshake.
#[derive(Debug)]
pub struct Rejected {
    /// The HTTP status.
    pub status: u16,
    /// What the header says; `None` when it was not a gate that answered.
    pub header: Option<Header>,
    /// The problem document.
    pub problem: Option<Problem>,
    /// After how many seconds to come back.
    pub retry_after: Option<u64>,
}

/// The header that says which layer rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The layer.
    pub layer: String,
    /// The reason within the layer.
    pub reason: String,
    /// Finds the same rejection in the journal.
    pub id: String,
}

impl Header {
    /// Reads the dictionary (RFC 9651 §3.2) of the header; members that are not known are skipped.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let dictionary: sfv::Dictionary = sfv::Parser::new(text).parse().ok()?;
        let item = |key: &str| match dictionary.get(key)? {
            sfv::ListEntry::Item(item) => Some(&item.bare_item),
            sfv::ListEntry::InnerList(_) => None,
        };
        Some(Self {
            layer: item("layer")?.as_token()?.as_str().to_owned(),
            reason: item("reason")?.as_token()?.as_str().to_owned(),
            id: item("id")?.as_string()?.as_str().to_owned(),
        })
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Header { layer, reason, id }) = &self.header else {
            return write!(f, "refused with HTTP {}, and not by a gate: there is no {HEADER}", self.status);
        };
        writeln!(f, "rejected: layer {layer}, reason {reason} (HTTP {})", self.status)?;
        if let Some(problem) = &self.problem {
            // Who answers must not be able to move the cursor.
            writeln!(f, "  {}", printable(&problem.detail))?;
            writeln!(f, "  fix: {}", printable(&problem.fix))?;
            let again = if problem.retryable { "can succeed later" } else { "will be rejected again" };
            write!(f, "  the same request {again}")?;
            match self.retry_after {
                Some(seconds) => writeln!(f, "; try again in {seconds} s")?,
                None => writeln!(f)?,
            }
        }
        write!(f, "  id:  {id}")
    }
}

fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).collect()
}

/// Opens a session at `url` (`ws://host:port/path`, or `wss://` over TLS, where the authorities in the
/// file `ca` are trusted, or those of the system), with `token` as bearer token, from the address
/// `source`. The connection and the handshake may take `limit` each.
///
/// # Errors
///
/// See [`ConnectError`].
pub async fn connect(
    url: &str,
    token: Option<&str>,
    source: Option<IpAddr>,
    ca: Option<&Path>,
    limit: Duration,
) -> Result<Client, ConnectError> {
    let url = Url::parse(url)?;
    if token.is_some_and(|token| HeaderValue::from_str(token).is_err()) {
        return Err(ConnectError::Invalid("the token has characters that no header has"));
    }
    let dialled = timeout(limit, async { dial(url.resolve(source).await?, source).await });
    let stream = dialled.await.map_err(|_| ConnectError::Dropped)??;
    stream.set_nodelay(true)?;
    let opening = async {
        let stream = if url.secure { secure(stream, &url, ca).await? } else { stream.into() };
        handshake(stream, &url, token).await
    };
    timeout(limit, opening).await.map_err(|_| ConnectError::Silent)?
}

/// The handshake of TLS.
async fn secure(stream: TcpStream, url: &Url, ca: Option<&Path>) -> Result<Stream, ConnectError> {
    let name = ServerName::try_from(url.host.clone())
        .map_err(|_| ConnectError::Invalid("the host in the URL can have no certificate"))?;
    let connector = TlsConnector::from(tls::client(ca)?);
    let stream = connector.connect(name, stream).await.map_err(ConnectError::Tls)?;
    Ok(Stream::Tls(Box::new(stream.into())))
}

struct Url {
    secure: bool,
    authority: String,
    host: String,
    port: u16,
    target: PathAndQuery,
}

impl Url {
    fn parse(text: &str) -> Result<Self, ConnectError> {
        let uri: Uri = text.parse().map_err(|_| ConnectError::Invalid("the URL is not valid"))?;
        let secure = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(ConnectError::Invalid("the URL has to start with ws:// or wss://")),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or(ConnectError::Invalid("the URL needs a host and no user name"))?;
        Ok(Self {
            secure,
            authority: authority.to_string(),
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            target: uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")),
        })
    }

    async fn resolve(&self, source: Option<IpAddr>) -> Result<SocketAddr, ConnectError> {
        let fits = |address: &SocketAddr| source.is_none_or(|source| source.is_ipv4() == address.is_ipv4());
        let found = lookup_host((self.host.as_str(), self.port)).await?.find(fits);
        found.ok_or_else(|| ConnectError::Name { host: self.host.clone(), same_family: source.is_some() })
    }
}

async fn dial(target: SocketAddr, source: Option<IpAddr>) -> Result<TcpStream, ConnectError> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    match socket.connect(target).await {
        // The kernel has given up before we did.
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(ConnectError::Dropped),
        connected => Ok(connected?),
    }
}

async fn handshake(mut stream: Stream, url: &Url, token: Option<&str>) -> Result<Client, ConnectError> {
    let key = generate_key();
    let mut request = format!("GET {} HTTP/1.1\r\n", url.target).into_bytes();
    push(&mut request, "Host", url.authority.as_bytes());
    push(&mut request, "Connection", b"Upgrade");
    push(&mut request, "Upgrade", b"websocket");
    push(&mut request, "Sec-WebSocket-Version", b"13");
    push(&mut request, "Sec-WebSocket-Key", key.as_bytes());
    if let Some(token) = token {
        push(&mut request, "Authorization", format!("Bearer {token}").as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;

    let (answer, rest) = Answer::read(&mut stream).await?;
    if answer.status() != 101 {
        return Err(ConnectError::Rejected(Box::new(rejected(&answer, rest, stream).await)));
    }
    answer.check(Offer { key: &key, protocols: &[], extensions: &[] })?;
    let config = WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    Ok(WebSocketStream::from_partially_read(stream, rest, Role::Client, Some(config)).await)
}

/// The rejection in `answer`, whose body begins with `start` and goes on in `stream`.
async fn rejected(answer: &Answer, start: Vec<u8>, stream: Stream) -> Rejected {
    let number = |name| {
        let value = values(answer.headers(), name).next()?;
        std::str::from_utf8(value).ok()?.parse::<u64>().ok()
    };
    let length = number("content-length").unwrap_or(MAX_BODY).min(MAX_BODY);
    let mut body = start;
    let missing = length.saturating_sub(body.len() as u64);
    // What is missing of the body is missed in the document; the header has said the most.
    let _ = timeout(BODY, stream.take(missing).read_to_end(&mut body)).await;
    Rejected {
        status: answer.status(),
        header: values(answer.headers(), "gatehouse-rejection").next().and_then(Header::parse),
        problem: serde_json::from_slice(&body).ok(),
        retry_after: number("retry-after"),
    }
}
