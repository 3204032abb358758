//! `[admin]`: the listener for the page, the metrics and the health of the daemon.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::form;
use super::validate::Checker;

/// Where the page, the metrics and the health of the daemon are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where to connect.
    pub listen: AdminListen,
    /// The file with the bearer token that is asked for; `None`: nobody is asked.
    pub token_file: Option<PathBuf>,
    /// Users of the host that may connect to a Unix socket, beside root and the daemon's own.
    pub users: Vec<u32>,
}

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminListen {
    /// To an address and port.
    Tcp(SocketAddr),
    /// To a Unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for AdminListen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}/"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The model of `form`.
pub(super) fn check(checker: &mut Checker<'_>, form: form::Admin) -> Option<Admin> {
    let form::Admin { listen, token_file, users } = form;
    let token_file = token_file.map(|file| checker.path(file.get_ref()));
    if let Some(path) = listen.get_ref().strip_prefix("unix:") {
        let listen = AdminListen::Unix(checker.path(path));
        return Some(Admin {
            listen,
            token_file,
            users: users.map(toml::Spanned::into_inner).unwrap_or_default(),
        });
    }
    if let Some(users) = users {
        checker.fault(
            &users.span(),
            "`users` is for a Unix socket: write `listen = \"unix:FILE\"`, or remove it",
        );
    }
    let address = checker.address(&listen)?;
    if !address.ip().to_canonical().is_loopback() {
        if token_file.is_none() {
            let message = format!(
                "`{address}` can be reached from outside this host: listen on the loopback or on a Unix socket, or set \
                 `token_file`"
            );
            checker.fault(&listen.span(), message);
        } else {
            let message = "the token and the pages travel unencrypted: let only a network that you trust reach \
                           this address";
            checker.warn(&listen.span(), message);
        }
    }
    Some(Admin { listen: AdminListen::Tcp(address), token_file, users: Vec::new() })
}
