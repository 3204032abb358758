//! `gatehouse run`: the daemon, in the foreground.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;

use super::{CONFIG, ConfigFile, failed, print_diagnostics};
use crate::audit::Destination;
use crate::config::Config;
use crate::service::{self, StartError};

/// Run the daemon in the foreground, until SIGTERM or Ctrl-C
#[derive(Args, Debug)]
pub(super) struct Run {
    #[command(flatten)]
    config: ConfigFile,
    /// Where the audit trail and messages go
    #[arg(long, value_enum, default_value_t = Destination::Auto)]
    log: Destination,
    /// Once ready, print commands that show an admitted session and one rejection per layer
    /// (for the default configuration)
    #[arg(long)]
    examples: bool,
}

impl Run {
    pub(super) fn run(&self) -> ExitCode {
        let config = match self.config.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let ready = |config: &Config| {
            if self.examples {
                // They are a courtesy: the daemon runs without them.
                let _ = writeln!(std::io::stdout(), "{}", examples(config));
            }
        };
        match service::run(config, self.log, ready) {
            Ok(()) => ExitCode::SUCCESS,
            Err(StartError::Config(faults)) => {
                print_diagnostics(&faults);
                ExitCode::from(CONFIG)
            }
            Err(error) => failed(&error),
        }
    }
}

/// Commands to paste into another terminal. They fit `config/gatehouse.toml`.
fn examples(config: &Config) -> String {
    let binary = std::env::current_exe().unwrap_or_else(|_| "gatehouse".into());
    let file = std::path::absolute(&config.file).unwrap_or_else(|_| config.file.clone());
    let gate = config.listen.first().map_or_else(String::new, |listen| listen.address.to_string());
    let (binary, file) = (binary.display(), file.display());
    format!(
        r#"
Try it: paste this into another terminal, then any of the lines below.

  gatehouse() {{ {binary} "$@"; }}; export GATEHOUSE_CONFIG={file}

# admitted: the echo upstream answers
  gatehouse token --scope chat:read | gatehouse connect ws://{gate}/chat --token - --send hello
# 1 firewall: a source in a denied range is dropped at the card; see the log of the daemon, too
  gatehouse connect ws://{gate}/chat --source 127.66.0.1; gatehouse explain --address 127.66.0.1
# 2 handshake: there is no such route
  gatehouse connect ws://{gate}/nowhere
# 3 credentials: no token
  gatehouse connect ws://{gate}/chat
# 4 expiry: the token was good for a second
  token=$(gatehouse token --scope chat:read --ttl 1s); sleep 2; gatehouse connect ws://{gate}/chat --token "$token"
# 5 scope: /admin needs another one
  gatehouse token --scope chat:read | gatehouse connect ws://{gate}/admin --token -
# 6 auth_system: the keys of the issuer "partner" are not there, which is not the client's fault
  gatehouse token --iss https://partner.example | gatehouse connect ws://{gate}/partner --token -
# 7 limit: one session too many from one address
  gatehouse token --scope chat:read | gatehouse connect ws://{gate}/chat --token - --sessions 9
# 8 upstream: nothing listens behind /down
  gatehouse token --scope chat:read | gatehouse connect ws://{gate}/down --token -
"#
    )
}
