//! `gatehouse token`: an access token of the local issuer.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::Value;

use super::{ConfigFile, FAILED};
use crate::auth::sign::{Claims, sign};

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
    /// Whom it is for, instead of the issuer's audience; may stand several times
    #[arg(long, value_name = "NAME")]
    audience: Vec<String>,
    /// A further claim, such as tenant=acme or level=3; the value is JSON, or else a string
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, Value)>,
    /// Claim to come from this issuer instead; no gate that knows its keys will believe it
    #[arg(long, value_name = "URL")]
    iss: Option<String>,
}

/// The claims that have options of their own, or that only the signer may set.
const RESERVED: [&str; 8] = ["iss", "sub", "aud", "scope", "iat", "exp", "jti", "client_id"];

fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    if name.is_empty() || RESERVED.contains(&name) {
        return Err(format!("`{name}` cannot be set like this"));
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}

impl Token {
    pub(super) fn run(self) -> ExitCode {
        let config = match self.config.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let Some((issuer, key)) = super::key::signer(&config, self.issuer.as_deref()) else {
            return ExitCode::from(FAILED);
        };
        let claims = Claims {
            issuer: self.iss.clone().unwrap_or_else(|| issuer.issuer.clone()),
            subject: self.subject.clone(),
            audience: if self.audience.is_empty() { issuer.audience.clone() } else { self.audience.clone() },
            scopes: self.scope.split_whitespace().map(str::to_owned).collect(),
            ttl: self.ttl,
            more: self.claims.iter().cloned().collect(),
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
}
