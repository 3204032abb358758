//! `gatehouse token`: an access token of the local issuer.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;

use super::{ConfigFile, FAILED};
use crate::auth::sign::{Claims, sign};
use crate::config::{Config, Issuer, KeySource};

/// Print an access token signed by an issuer of this host (one with a signing_key)
#[derive(Args, Debug)]
pub(super) struct Token {
    #[command(flatten)]
    config: ConfigFile,
    /// Name of the issuer; may be left out when only one has a signing_key
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Whom the token stands for
    #[arg(long, value_name = "NAME", default_value = "alice")]
    subject: String,
    /// Scopes, separated by spaces
    #[arg(long, value_name = "SCOPES", default_value = "")]
    scope: String,
    /// How long it is good for
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// Claim to come from this issuer instead; no gate that knows its keys will believe it
    #[arg(long, value_name = "URL")]
    iss: Option<String>,
}

impl Token {
    pub(super) fn run(self) -> ExitCode {
        let config = match self.config.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let Some((issuer, key)) = self.signer(&config) else {
            return ExitCode::from(FAILED);
        };
        let claims = Claims {
            issuer: self.iss.clone().unwrap_or_else(|| issuer.issuer.clone()),
            subject: self.subject.clone(),
            audience: issuer.audience.clone(),
            scopes: self.scope.split_whitespace().map(str::to_owned).collect(),
            ttl: self.ttl,
        };
        match sign(key, &claims, SystemTime::now()) {
            Ok(token) => {
                out!("{token}");
                ExitCode::SUCCESS
            }
            Err(fault) => {
                super::print_diagnostics(&[fault]);
                ExitCode::from(FAILED)
            }
        }
    }

    fn signer<'a>(&self, config: &'a Config) -> Option<(&'a Issuer, &'a std::path::Path)> {
        let mut signers = config.issuers.iter().filter_map(|issuer| match &issuer.keys {
            KeySource::SigningKey(path) => Some((issuer, path.as_path())),
            _ => None,
        });
        let found = match &self.issuer {
            Some(name) => signers.find(|(issuer, _)| &issuer.name == name),
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
}
