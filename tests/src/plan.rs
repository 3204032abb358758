//! The configuration that a test gives to the daemon.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::host::{DENIED_RANGE_V4, DENIED_RANGE_V6, GATE_INTERFACE, GATE_V4, GATE_V6};
use crate::token::{Key, Token, jwk_set};
use crate::upstream::UPSTREAM;

/// The issuer that the usual configuration trusts.
pub const ISSUER: &str = "https://idp.test";
/// What its tokens must be for.
pub const AUDIENCE: &str = "https://gate.test";
/// The scope that the route `/chat` needs.
pub const SCOPE: &str = "chat:read";

/// Everything that the daemon reads, as text. [`Plan::usual`] has both layers; a test changes what
/// it is about.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The tables `[[listen]]`.
    pub listen: String,
    /// The table `[firewall]`.
    pub firewall: String,
    /// The tables `[[issuer]]`.
    pub issuers: String,
    /// The tables `[[route]]`.
    pub routes: String,
    /// Whatever else stands at the end.
    pub more: String,
    /// Files beside the configuration: name and content.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Plan {
    /// A firewall in native mode with a deny list, an issuer with the key `key`, the route `/chat`
    /// to the echo server, and the route `/down` to nothing.
    pub fn usual(key: &Key) -> Self {
        let port = crate::client::GATE_PORT;
        Self {
            listen: format!(
                "[[listen]]\naddress = \"{GATE_V4}:{port}\"\n[[listen]]\naddress = \"[{GATE_V6}]:{port}\"\n"
            ),
            firewall: format!(
                "[firewall]\ninterfaces = [\"{GATE_INTERFACE}\"]\nmode = \"native\"\nports = \"all\"\n\
                 pins = \"none\"\n\
                 deny = [\"deny.list\"]\n"
            ),
            issuers: issuer("main", "keys = \"keys.json\"", &[key.algorithm()]),
            routes: [route("/chat", UPSTREAM), route("/down", "127.0.0.1:9")].concat(),
            more: String::new(),
            files: vec![
                ("deny.list".to_owned(), deny_list()),
                ("keys.json".to_owned(), jwk_set(&[key]).into_bytes()),
            ],
        }
    }

    /// The same with a file, in place of the one of that name if there is one.
    #[must_use]
    pub fn file(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.retain(|(known, _)| known != name);
        self.files.push((name.to_owned(), content.into()));
        self
    }

    /// Writes everything into `folder`; the path of the configuration.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        for (name, content) in &self.files {
            let file = folder.join(name);
            fs::write(&file, content).with_context(|| file.display().to_string())?;
        }
        let file = folder.join("gatehouse.toml");
        let control = "[control]\nsocket = \"control.sock\"\n";
        let text =
            [&*self.listen, &self.firewall, &self.issuers, &self.routes, control, &self.more].join("\n");
        fs::write(&file, text).with_context(|| file.display().to_string())?;
        Ok(file)
    }
}

/// The usual deny list: the entries stand on the lines 2 and 3.
fn deny_list() -> Vec<u8> {
    format!("# denied in every test\n{DENIED_RANGE_V4}\n{DENIED_RANGE_V6} # IPv6, too\n").into_bytes()
}

/// A table `[[issuer]]` of [`ISSUER`].
pub fn issuer(name: &str, keys: &str, algorithms: &[&str]) -> String {
    format!(
        "[[issuer]]\nname = \"{name}\"\nissuer = \"{ISSUER}\"\naudience = [\"{AUDIENCE}\"]\n{keys}\n\
         algorithms = {algorithms:?}\n"
    )
}

/// A table `[[route]]` that needs [`SCOPE`] of the issuer `main`.
pub fn route(path: &str, upstream: &str) -> String {
    format!(
        "[[route]]\npath = \"{path}\"\nupstream = \"ws://{upstream}\"\nissuers = [\"main\"]\nscopes = [\"{SCOPE}\"]\n"
    )
}

/// A token that the usual configuration admits.
pub fn good_token() -> Result<Token> {
    Ok(Token::new(ISSUER, AUDIENCE)?.claim("scope", format!("other {SCOPE}")))
}
