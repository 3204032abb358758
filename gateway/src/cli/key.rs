//! `gatehouse key`: the keys of an issuer of this host.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand, ValueEnum};
use jsonwebtoken::Algorithm;

use super::{ConfigFile, FAILED};
use crate::auth::sign;
use crate::config::{Config, Diagnostic, Issuer, KeySource};

/// How long others may keep the set that the gate serves.
const PUBLISHED: Duration = Duration::from_secs(300);

/// Make, show and retire the keys that sign `gatehouse token`
///
/// A running daemon notices the change by itself.
#[derive(Args, Debug)]
pub(super) struct Key {
    #[command(flatten)]
    config: ConfigFile,
    /// Name of the issuer; may be left out when only one has a signing_key
    #[arg(long, value_name = "NAME", global = true)]
    issuer: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a key. The present ones stay, and verify their tokens until they are retired
    New {
        /// What it is for: ES256 for verifiers that do not know EdDSA
        #[arg(long, value_enum, default_value = "eddsa")]
        algorithm: Kind,
        /// Sign with it only after this time, so that others have it by then (default: 5m where the gate
        /// serves the keys, else at once)
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        activate_after: Option<Duration>,
    },
    /// Show the keys
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a key: its tokens are not accepted any more
    Retire {
        /// Its `kid`
        #[arg(allow_hyphen_values = true)]
        kid: String,
        /// Even if it signs now
        #[arg(long)]
        force: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Eddsa,
    Es256,
}

impl Key {
    pub(super) fn run(self) -> ExitCode {
        let config = match self.config.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let Some((issuer, path)) = signer(&config, self.issuer.as_deref()) else {
            return ExitCode::from(FAILED);
        };
        match carry_out(self.verb, issuer, path) {
            Ok(code) => code,
            Err(fault) => {
                super::print_diagnostics(&[fault]);
                ExitCode::from(FAILED)
            }
        }
    }
}

fn carry_out(verb: Verb, issuer: &Issuer, path: &Path) -> Result<ExitCode, Diagnostic> {
    let now = SystemTime::now();
    match verb {
        Verb::New { algorithm, activate_after } => {
            let algorithm = match algorithm {
                Kind::Eddsa => Algorithm::EdDSA,
                Kind::Es256 => Algorithm::ES256,
            };
            if !issuer.algorithms.contains(&algorithm) {
                let message =
                    format!("is for an issuer whose algorithms lack {algorithm:?}: add it there first");
                return Err(Diagnostic::of_file(path, message));
            }
            let wait = activate_after.unwrap_or(if issuer.serve_keys { PUBLISHED } else { Duration::ZERO });
            let made = sign::add(path, algorithm, now.checked_add(wait).unwrap_or(now))?;
            out!("{made}");
        }
        Verb::List { json } => {
            let (keys, warnings) = sign::list(path, now)?;
            super::print_diagnostics(&warnings);
            if json {
                return Ok(super::print_json(&keys));
            }
            keys.iter().for_each(|key| out!("{key}"));
        }
        Verb::Retire { kid, force } => {
            sign::retire(path, &kid, now, force)?;
            out!("retired: {kid}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The issuer with this name that has a signing_key, or the only one, and the file with its keys.
pub(super) fn signer<'a>(config: &'a Config, name: Option<&str>) -> Option<(&'a Issuer, &'a Path)> {
    let mut signers = config.issuers.iter().filter_map(|issuer| match &issuer.keys {
        KeySource::SigningKey(path) => Some((issuer, path.as_path())),
        _ => None,
    });
    let found = match name {
        Some(name) => signers.find(|(issuer, _)| issuer.name == name),
        None => {
            let first = signers.next();
            if signers.next().is_some() {
                complain!("gatehouse: several issuers have a signing_key: choose one with --issuer");
                return None;
            }
            first
        }
    };
    if found.is_none() {
        complain!("gatehouse: {} has no such issuer with a signing_key", config.file.display());
    }
    found
}
