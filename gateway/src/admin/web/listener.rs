//! Accepting connections.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::access::{Access, TokenFile};
use super::routes::{self, Ask};
use crate::admin::control;
use crate::config::{Admin, AdminListen};

/// Connections served at once; more wait.
const MAX_CONNECTIONS: usize = 64;
/// For the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For a connection with all its requests: a browser comes again.
const LIFETIME: Duration = Duration::from_secs(120);
/// Bytes of the head of a request, and of what hyper reads ahead.
const MAX_HEAD: usize = 16 * 1024;

/// The admin listener is not available.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// It cannot be made.
    #[error("{place} cannot be listened on for [admin]: is it free, and of this host?")]
    Bind {
        /// The address or the socket.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// There is no token.
    #[error("the token of [admin] cannot be used: {0}")]
    Token(String),
}

/// The admin listener.
#[derive(Debug)]
pub struct AdminListener {
    listener: Listener,
    access: Access,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, path: PathBuf, users: Vec<u32> },
}

impl AdminListener {
    /// Listens as `admin` says; `bind` makes the socket of an address.
    ///
    /// # Errors
    ///
    /// When the place is taken, or the token cannot be read.
    pub fn bind(
        admin: &Admin,
        bind: impl FnOnce(SocketAddr) -> io::Result<TcpListener>,
    ) -> Result<Self, AdminError> {
        let token = admin.token_file.clone().map(TokenFile);
        if let Some(token) = &token {
            token.read().map_err(AdminError::Token)?;
        }
        let fail = |source| AdminError::Bind { place: admin.listen.to_string(), source };
        let (listener, address) = match &admin.listen {
            AdminListen::Tcp(address) => (Listener::Tcp(bind(*address).map_err(fail)?), Some(*address)),
            AdminListen::Unix(path) => {
                // Others than the owner are let in by who they are, not by the mode.
                let mode = if admin.users.is_empty() { 0o600 } else { 0o666 };
                let listener = control::place(path, mode).map_err(fail)?;
                (Listener::Unix { listener, path: path.clone(), users: admin.users.clone() }, None)
            }
        };
        Ok(Self { listener, access: Access { address, token } })
    }

    /// Answers with what `ask` says until `stop`.
    pub async fn serve(self, ask: impl Ask, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let shared = Arc::new((self.access.clone(), ask));
        loop {
            let permit = tokio::select! {
                () = stop.cancelled() => return,
                permit = Arc::clone(&room).acquire_owned() => permit,
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let shared = Arc::clone(&shared);
            let stop = stop.clone();
            match accepted {
                Ok(Some(stream)) => {
                    tokio::spawn(async move {
                        let _permit = permit;
                        tokio::select! {
                            () = stop.cancelled() => {}
                            _ = timeout(LIFETIME, serve_one(stream, shared)) => {}
                        }
                    });
                }
                Ok(None) => {}
                // Out of files, for instance: not at full speed.
                Err(error) => {
                    log::warn!("the admin listener cannot accept: {error}");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

type Stream = Box<dyn Both>;

trait Both: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

impl Listener {
    /// The next connection; `None`: of somebody who may not ask.
    async fn accept(&self) -> io::Result<Option<Stream>> {
        match self {
            Self::Tcp(listener) => Ok(Some(Box::new(listener.accept().await?.0))),
            Self::Unix { listener, users, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok(may_ask(&stream, users)?.then(|| Box::new(stream) as Stream))
            }
        }
    }
}

fn may_ask(stream: &UnixStream, users: &[u32]) -> io::Result<bool> {
    let user = stream.peer_cred()?.uid();
    let own = nix::unistd::geteuid().as_raw();
    let may = user == 0 || user == own || users.contains(&user);
    if !may {
        log::warn!("user {user} may not ask at the admin socket: add it to `users` in [admin]");
    }
    Ok(may)
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix { path, .. } = self {
            // It may belong to a successor that replaced it, or be gone; both are fine.
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn serve_one(stream: Stream, shared: Arc<(Access, impl Ask)>) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(routes::answer(request, &shared.0, &shared.1).await) }
    });
    // A client that went away or stalls is its own problem.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
