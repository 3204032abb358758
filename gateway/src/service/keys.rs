//! Reads the key files and keeps the last good keys of each issuer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::stamp::Stamp;
use crate::admin::status::IssuerStatus;
use crate::auth::{Issuer, KeySet};
use crate::config::{self, Config, Diagnostic, KeySource};

/// The issuers with their keys, in the order of the configuration.
#[derive(Debug)]
pub struct Keys {
    issuers: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    issuer: Arc<Issuer>,
    error: Option<String>,
    stamp: Option<Stamp>,
}

/// What a refresh found.
#[derive(Debug, Default)]
pub struct Refreshed {
    /// Whether keys differ from before.
    pub changed: bool,
    /// Errors and warnings about files that have changed.
    pub diagnostics: Vec<Diagnostic>,
}

/// Whether our own signing keys may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Make those that are not there.
    Create,
    /// Write nothing.
    Leave,
}

impl Keys {
    /// The issuers of `config`, with everything that is wrong with their keys. An issuer whose
    /// keys cannot be read is left out.
    pub fn load(config: &Config, missing: Missing) -> (Self, Vec<Diagnostic>) {
        let mut issuers = Vec::new();
        let mut diagnostics = Vec::new();
        for issuer in &config.issuers {
            let stamp = Stamp::of(path(issuer)).ok();
            let load = match missing {
                Missing::Create => KeySet::load_or_create,
                Missing::Leave => KeySet::load,
            };
            match load(&issuer.keys, config.limits.key_file) {
                Ok(loaded) => {
                    diagnostics.extend(loaded.warnings);
                    let issuer = Arc::new(Issuer::new(issuer, loaded.keys));
                    issuers.push(Known { issuer, error: None, stamp });
                }
                Err(fault) => diagnostics.push(fault),
            }
        }
        (Self { issuers }, diagnostics)
    }

    /// Reads what has changed. A faulty file leaves its issuer's last good keys in force.
    pub fn refresh(&mut self, config: &Config) -> Refreshed {
        let mut refreshed = Refreshed::default();
        for (known, issuer) in self.issuers.iter_mut().zip(&config.issuers) {
            let stamp = Stamp::of(path(issuer)).ok();
            if stamp == known.stamp {
                continue;
            }
            known.stamp = stamp;
            match KeySet::load(&issuer.keys, config.limits.key_file) {
                // An issuer does not lose all its keys at once by intent: a set that is emptied
                // is a set being written, or a fault of whoever writes it.
                Ok(loaded) if loaded.keys.is_empty() && !known.issuer.keys().is_empty() => {
                    let message = "holds no key any more: the last good keys stay in force until it does";
                    let fault = Diagnostic::of_file(path(issuer), message);
                    known.error = Some(fault.to_string());
                    refreshed.diagnostics.push(fault);
                }
                Ok(loaded) => {
                    refreshed.diagnostics.extend(loaded.warnings);
                    known.issuer = Arc::new(Issuer::new(issuer, loaded.keys));
                    known.error = None;
                    refreshed.changed = true;
                }
                Err(fault) => {
                    known.error = Some(fault.to_string());
                    refreshed.diagnostics.push(fault);
                }
            }
        }
        refreshed
    }

    /// The issuers.
    pub fn issuers(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.issuers.iter().map(|known| &known.issuer)
    }

    /// How the issuers are.
    pub fn status(&self) -> Vec<IssuerStatus> {
        let status = |known: &Known| IssuerStatus {
            issuer: known.issuer.name().to_owned(),
            keys: known.issuer.keys().len(),
            error: known.error.clone(),
        };
        self.issuers.iter().map(status).collect()
    }
}

/// The folders in which key files are.
pub fn folders(config: &Config) -> BTreeSet<PathBuf> {
    config.issuers.iter().filter_map(|issuer| path(issuer).parent().map(Path::to_owned)).collect()
}

fn path(issuer: &config::Issuer) -> &Path {
    match &issuer.keys {
        KeySource::JwkSet(path) | KeySource::Pem(path) | KeySource::Secret(path) | KeySource::SigningKey(path) => path,
    }
}
