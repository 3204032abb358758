//! A client of our own, for `gatehouse connect`.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::rejection::http::{HEADER, Problem};

/// An open session.
pub type Client = WebSocketStream<TcpStream>;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL or the token cannot be sent.
    #[error("{0} is not valid")]
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
    /// The connection was refused or broke.
    #[error("the connection failed")]
    Broken(#[from] io::Error),
    /// The handshake was answered with something else than 101.
    #[error("{0}")]
    Rejected(Box<Answer>),
    /// The answer breaks the protocol.
    #[error("the answer is no valid WebSocket handshake")]
    Protocol(#[source] Box<Error>),
}

/// The answer to a rejected handshake.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The header that says which layer rejected; `None` when it was not a gate that answered.
    pub rejection: Option<String>,
    /// The problem document.
    pub problem: Option<Problem>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Some(problem) => {
                writeln!(
                    f,
                    "rejected: layer {}, reason {} (HTTP {})",
                    problem.layer, problem.reason, self.status
                )?;
                writeln!(f, "  {}", problem.detail)?;
                writeln!(f, "  fix: {}", problem.fix)?;
                write!(f, "  id:  {}", problem.id)
            }
            None => write!(f, "refused with HTTP {}, and not by a gate: there is no {HEADER}", self.status),
        }
    }
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        let header = response.headers().get(HEADER).and_then(|value| value.to_str().ok());
        Self {
            status: response.status().as_u16(),
            rejection: header.map(str::to_owned),
            problem: response.body().as_ref().and_then(|body| serde_json::from_slice(body).ok()),
        }
    }
}

/// Opens a session at `url` (`ws://host:port/path`), with `token` as bearer token, from the address
/// `source`. The connection and the handshake may take `limit` each.
///
/// # Errors
///
/// See [`ConnectError`].
pub async fn connect(
    url: &str,
    token: Option<&str>,
    source: Option<IpAddr>,
    limit: Duration,
) -> Result<Client, ConnectError> {
    let mut request = url.into_client_request().map_err(|_| ConnectError::Invalid("the URL"))?;
    if request.uri().scheme_str() != Some("ws") {
        return Err(ConnectError::Invalid("the URL's scheme (ws:// is expected)"));
    }
    if let Some(token) = token {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| ConnectError::Invalid("the token"))?;
        value.set_sensitive(true);
        request.headers_mut().insert("authorization", value);
    }
    let host = request.uri().host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = request.uri().port_u16().unwrap_or(80);
    let target = resolve(&host, port, source).await?;
    let stream = match timeout(limit, dial(target, source)).await {
        Ok(stream) => stream?,
        Err(_) => return Err(ConnectError::Dropped),
    };
    match timeout(limit, client_async(request, stream)).await {
        Err(_) => Err(ConnectError::Silent),
        Ok(Ok((session, _))) => Ok(session),
        Ok(Err(Error::Http(response))) if response.status() != StatusCode::SWITCHING_PROTOCOLS => {
            Err(ConnectError::Rejected(Box::new((*response).into())))
        }
        Ok(Err(Error::Io(error))) => Err(ConnectError::Broken(error)),
        Ok(Err(error)) => Err(ConnectError::Protocol(Box::new(error))),
    }
}

async fn resolve(host: &str, port: u16, source: Option<IpAddr>) -> Result<SocketAddr, ConnectError> {
    let fits = |address: &SocketAddr| source.is_none_or(|source| source.is_ipv4() == address.is_ipv4());
    let found = lookup_host((host, port)).await?.find(fits);
    found.ok_or_else(|| ConnectError::Name { host: host.to_owned(), same_family: source.is_some() })
}

async fn dial(target: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(target).await
}
