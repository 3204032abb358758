//! The control socket: one JSON request per connection, one JSON answer, both a single line.
//!
//! The socket is for the owner of the daemon only (mode 0600): a request may hold a token.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::apply::{Order, Verdict};
use super::bans;
use super::explain::Query;
use super::revocations;
use super::sessions::SessionFilter;

/// Bytes of a request; a token of the largest accepted size fits.
const MAX_REQUEST: u64 = 64 * 1024;
/// Connections served at once; more wait.
const MAX_CONNECTIONS: usize = 16;
/// For a whole request, and for the answer to most.
const DEADLINE: Duration = Duration::from_secs(5);
/// For the answer to an order for which lists are read, compiled and published, or others are asked.
const LONG_DEADLINE: Duration = Duration::from_secs(120);

/// What can be asked.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Request {
    /// How the daemon is.
    Status,
    /// Everything at a glance.
    Overview,
    /// Whether clients can be served, and why not.
    Ready,
    /// Which layer would reject a client.
    Explain(Query),
    /// The lists of the address policy.
    Lists,
    /// The open sessions.
    Sessions(SessionFilter),
    /// Close an open session.
    CloseSession {
        /// Its identifier.
        id: String,
    },
    /// Put content of this list in force that was held back.
    AcceptList {
        /// Its name, or the end of its path.
        list: String,
    },
    /// Put edits in force.
    Apply(Order),
    /// Read the whole configuration anew.
    Reload,
    /// End the trial of a policy.
    Trial {
        /// How.
        verdict: Verdict,
    },
    /// Ban, show who is banned, or lift a ban.
    Bans(bans::Order),
    /// Revoke, show what is revoked, or take a revocation back.
    Revoke(revocations::Order),
    /// Whom of these the policy in force drops.
    Drops {
        /// These.
        addresses: Vec<IpAddr>,
    },
}

impl Request {
    /// How long the answer may take.
    const fn patience(&self) -> Duration {
        match self {
            // For an explanation, an issuer may have to be asked.
            Self::Apply(_)
            | Self::Reload
            | Self::Trial { .. }
            | Self::AcceptList { .. }
            | Self::Bans(_)
            | Self::Explain(_) => LONG_DEADLINE,
            Self::Status
            | Self::Overview
            | Self::Ready
            | Self::Sessions(_)
            | Self::CloseSession { .. }
            | Self::Lists
            | Self::Revoke(_)
            | Self::Drops { .. } => DEADLINE,
        }
    }
}

/// An answer, or why there is none.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Answer<T> {
    Ok(T),
    Error(String),
}

/// The control socket is not available.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another daemon answers on it.
    #[error("a daemon already answers at {0}: stop it first, or give this one another [control] socket")]
    InUse(PathBuf),
    /// It cannot be made.
    #[error("the control socket {path} cannot be made: is its folder there and writable?")]
    Bind {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The socket, removed when dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Makes the socket at `path`. One left behind by a daemon that is gone is replaced.
    pub fn bind(path: &Path) -> Result<Self, ControlError> {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(ControlError::InUse(path.to_owned()));
        }
        let fail = |source| ControlError::Bind { path: path.to_owned(), source };
        let listener = place(path, 0o600).map_err(fail)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Answers requests with `answer` until `stop`.
    pub async fn serve<A, F, T>(self, answer: A, stop: CancellationToken)
    where
        A: Fn(Request) -> F + Clone + Send + 'static,
        F: Future<Output = Result<T, String>> + Send,
        T: Serialize + Send,
    {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let permit = tokio::select! {
                () = stop.cancelled() => return,
                permit = Arc::clone(&room).acquire_owned() => permit,
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let answer = answer.clone();
                    tokio::spawn(async move {
                        let _permit = permit;
                        // A client that went away or stalls is its own problem.
                        let _ = serve_one(stream, answer).await;
                    });
                }
                // Out of files, for instance: not at full speed.
                Err(error) => {
                    log::warn!("the control socket cannot accept: {error}");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

/// A socket at `path` with this `mode`, in the place of what is there.
pub(super) fn place(path: &Path, mode: u32) -> io::Result<UnixListener> {
    // Made beside its place and moved there once its mode is right, so nobody else can ever
    // connect and nobody ever finds it half made.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(fresh);
    let listener = UnixListener::bind(&fresh)?;
    let placed = std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(mode))
        .and_then(|()| std::fs::rename(&fresh, path));
    if let Err(error) = placed {
        // The first error is the one that matters.
        let _ = std::fs::remove_file(&fresh);
        return Err(error);
    }
    Ok(listener)
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // It may be gone already, or belong to a successor that replaced it; both are fine.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn serve_one<A, F, T>(mut stream: UnixStream, answer: A) -> io::Result<()>
where
    A: Fn(Request) -> F,
    F: Future<Output = Result<T, String>>,
    T: Serialize,
{
    let mut line = Vec::new();
    let (read, mut write) = stream.split();
    timeout(DEADLINE, BufReader::new(read.take(MAX_REQUEST)).read_until(b'\n', &mut line)).await??;
    let result = match serde_json::from_slice::<Request>(&line) {
        Ok(request) => timeout(request.patience(), answer(request)).await?,
        // The text of the error could quote the request, and with it a token.
        Err(error) => Err(format!("the request is not understood at column {}", error.column())),
    };
    let mut text = serde_json::to_vec(&match result {
        Ok(value) => Answer::Ok(value),
        Err(message) => Answer::Error(message),
    })?;
    text.push(b'\n');
    timeout(DEADLINE, write.write_all(&text)).await??;
    write.shutdown().await
}

/// Asks the daemon at `path`. `Ok(None)` when no daemon answers there.
pub fn ask<T: DeserializeOwned>(path: &Path, request: &Request) -> io::Result<Option<T>> {
    use std::io::{Read, Write};
    let mut stream = match std::os::unix::net::UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(request.patience() + DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    match serde_json::from_slice(&answer)? {
        Answer::Ok(value) => Ok(Some(value)),
        Answer::Error(message) => Err(io::Error::other(message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(request: Request) -> Result<String, String> {
        match request {
            Request::Status => Ok("fine".to_owned()),
            _ => Err("no".to_owned()),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_socket_answers_its_owner_replaces_a_dead_one_and_goes_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("c.sock");
        // Left behind by a daemon that was killed.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        let socket = ControlSocket::bind(&path).expect("bound");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(ControlSocket::bind(&path), Err(ControlError::InUse(_))));

        let stop = CancellationToken::new();
        let serving = tokio::spawn(socket.serve(answer, stop.clone()));
        let asked = path.clone();
        let (status, explain) = tokio::task::spawn_blocking(move || {
            let status: io::Result<Option<String>> = ask(&asked, &Request::Status);
            let explain: io::Result<Option<String>> = ask(&asked, &Request::Explain(Query::default()));
            (status, explain)
        })
        .await
        .expect("asked");
        assert_eq!(status.expect("answered").as_deref(), Some("fine"));
        assert_eq!(explain.expect_err("refused").to_string(), "no");

        stop.cancel();
        serving.await.expect("ended");
        assert!(!path.exists());
        assert!(ask::<String>(&path, &Request::Status).expect("no daemon is no error").is_none());
    }
}
