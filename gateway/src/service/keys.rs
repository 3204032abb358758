//! Reads the key files and keeps the last good keys of each issuer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::introspection::{Introspector, Introspectors, Place};
use super::outgoing::check_certificates;
use super::stamp::Stamp;
use crate::admin::status::IssuerStatus;
use crate::auth::introspection::Introspect;
use crate::auth::{Authenticator, Issuer, KeySet, LiveKeys};
use crate::config::{self, Config, Diagnostic, FetchedKeys, KeySource};

/// The keys of every issuer, in the order of the configuration.
#[derive(Debug)]
pub(super) struct Keys {
    known: Vec<Known>,
}

#[derive(Clone, Debug)]
struct Known {
    keys: Arc<KeySet>,
    error: Option<String>,
    stamp: Option<Stamp>,
    /// The keys, where they are fetched.
    live: Option<Arc<LiveKeys>>,
    /// Who asks about tokens that only the issuer can read.
    introspector: Option<Arc<Introspector>>,
}

/// What a refresh found.
#[derive(Debug, Default)]
pub(super) struct Refreshed {
    /// Whether keys differ from before.
    pub changed: bool,
    /// Errors and warnings about files that have changed.
    pub diagnostics: Vec<Diagnostic>,
}

/// An issuer whose keys are fetched.
#[derive(Debug)]
pub(super) struct Fetched<'a> {
    /// Its rules.
    pub issuer: &'a config::Issuer,
    /// How its keys are fetched.
    pub keys: &'a FetchedKeys,
    /// Where they go.
    pub live: Arc<LiveKeys>,
    /// Where its introspection endpoint goes, when its metadata names it.
    pub introspection: Option<Place>,
}

/// Whether our own signing keys may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Make those that are not there.
    Create,
    /// Write nothing.
    Leave,
}

impl Keys {
    /// The keys of all issuers of `config`, with everything that is wrong with them. Keys that
    /// cannot be read are an empty set.
    pub(super) fn load(config: &Config, missing: Missing) -> (Self, Vec<Diagnostic>) {
        Self::load_after(config, missing, None)
    }

    /// The same, after the keys of another configuration: an issuer that has its keys from where it had
    /// them goes on with them, and with all that is known of them.
    pub(super) fn load_after(
        config: &Config,
        missing: Missing,
        before: Option<(&Config, &Self)>,
    ) -> (Self, Vec<Diagnostic>) {
        let mut all = Vec::new();
        let mut diagnostics = Vec::new();
        for issuer in &config.issuers {
            if let Some(known) = before.and_then(|(config, keys)| keys.of(config, issuer)) {
                all.push(known.clone());
                continue;
            }
            let introspector = issuer.introspection.as_ref().and_then(|rules| {
                let introspector = Introspector::new(rules, &config.limits).map(Arc::new);
                introspector.map_err(|fault| diagnostics.push(fault)).ok()
            });
            if let KeySource::Fetched(fetched) = &issuer.keys {
                diagnostics.extend(fetched.ca.iter().filter_map(|ca| check_certificates(ca).err()));
                let live = Some(Arc::new(LiveKeys::new(fetched.max_stale)));
                all.push(Known { keys: Arc::default(), error: None, stamp: None, live, introspector });
                continue;
            }
            let stamp = stamp(issuer);
            let load = match missing {
                Missing::Create => KeySet::load_or_create,
                Missing::Leave => KeySet::load,
            };
            let keys = match load(&issuer.keys, config.limits.key_file) {
                Ok(loaded) => {
                    diagnostics.extend(loaded.warnings);
                    Arc::new(loaded.keys.remembering(config.limits.verified_tokens))
                }
                Err(fault) => {
                    diagnostics.push(fault);
                    Arc::default()
                }
            };
            diagnostics.extend(oddities(issuer, &keys));
            // A key that was made just now has none from before.
            let stamp = stamp.or_else(|| self::stamp(issuer));
            all.push(Known { keys, error: None, stamp, live: None, introspector });
        }
        (Self { known: all }, diagnostics)
    }

    /// What is known of the issuer of `config` that is called like `issuer`, has its keys from where it
    /// has them, and is asked as it is.
    fn of(&self, config: &Config, issuer: &config::Issuer) -> Option<&Known> {
        let same = |own: &config::Issuer| {
            (&own.name, &own.issuer, &own.keys, &own.introspection)
                == (&issuer.name, &issuer.issuer, &issuer.keys, &issuer.introspection)
        };
        let issuers = config.issuers.iter().zip(&self.known);
        issuers.filter(|(own, _)| same(own)).map(|(_, known)| known).next()
    }

    /// Reads what has changed. A faulty file leaves its issuer's last good keys in force.
    pub(super) fn refresh(&mut self, config: &Config) -> Refreshed {
        let mut refreshed = Refreshed::default();
        for (known, issuer) in self.known.iter_mut().zip(&config.issuers) {
            let asking = known.introspector.as_ref().map_or(Ok(()), |introspector| introspector.refresh());
            refreshed.diagnostics.extend(asking.err());
            let stamp = stamp(issuer);
            if stamp == known.stamp || known.live.is_some() {
                continue;
            }
            known.stamp = stamp;
            match KeySet::load(&issuer.keys, config.limits.key_file) {
                // An issuer does not lose all its keys at once by intent: a set that is emptied
                // is a set being written, or a fault of whoever writes it.
                Ok(loaded) if loaded.keys.is_empty() && !known.keys.is_empty() => {
                    let message = "holds no key any more: the last good keys stay in force until it does";
                    let fault = Diagnostic::of_file(path(issuer).unwrap_or(Path::new("")), message);
                    known.error = Some(fault.to_string());
                    refreshed.diagnostics.push(fault);
                }
                Ok(loaded) => {
                    refreshed.diagnostics.extend(loaded.warnings);
                    known.keys = Arc::new(loaded.keys.remembering(config.limits.verified_tokens));
                    refreshed.diagnostics.extend(oddities(issuer, &known.keys));
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

    /// The issuers of `config` with these keys.
    pub(super) fn authenticator(&self, config: &Config) -> Authenticator {
        let issuers = config.issuers.iter().zip(&self.known);
        Authenticator::new(issuers.map(|(rules, known)| {
            let issuer = match &known.live {
                Some(live) => Issuer::live(rules.clone(), Arc::clone(live)),
                None => Issuer::new(rules.clone(), Arc::clone(&known.keys)),
            };
            let introspector = known.introspector.clone();
            issuer.asked_by(introspector.map(|introspector| introspector as Arc<dyn Introspect>))
        }))
    }

    /// Who asks about tokens of the issuers of `config`.
    pub(super) fn introspectors(&self, config: &Config) -> Introspectors {
        let issuers = config.issuers.iter().zip(&self.known);
        let known = issuers.filter_map(|(issuer, known)| {
            Some((issuer.name.clone(), Arc::clone(known.introspector.as_ref()?)))
        });
        Introspectors::new(known.collect())
    }

    /// The issuers of `config` whose keys are fetched, and where these go.
    pub(super) fn fetched<'a>(&self, config: &'a Config) -> Vec<Fetched<'a>> {
        let issuers = config.issuers.iter().zip(&self.known);
        let fetched = issuers.filter_map(|(issuer, known)| match (&issuer.keys, &known.live) {
            (KeySource::Fetched(keys), Some(live)) => Some(Fetched {
                issuer,
                keys,
                live: Arc::clone(live),
                introspection: known.introspector.as_ref().and_then(|introspector| introspector.place()),
            }),
            _ => None,
        });
        fetched.collect()
    }

    /// How the issuers of `config` are.
    pub(super) fn status(&self, config: &Config) -> Vec<IssuerStatus> {
        let issuers = config.issuers.iter().zip(&self.known);
        let status = issuers.map(|(rules, known)| IssuerStatus {
            issuer: rules.name.clone(),
            keys: known.keys.len(),
            error: known.error.clone(),
            fetched: None,
            introspection: None,
        });
        status.collect()
    }
}

/// What is odd about the keys of `issuer`, though each is valid.
fn oddities(issuer: &config::Issuer, keys: &Arc<KeySet>) -> impl Iterator<Item = Diagnostic> {
    let file = path(issuer).unwrap_or(Path::new("")).to_owned();
    let issuer = Issuer::new(issuer.clone(), Arc::clone(keys));
    let messages = [issuer.mismatch(), issuer.crowd()].into_iter().flatten();
    messages.map(move |message| Diagnostic::of_file(&file, message).warning())
}

/// The folders in which key files are, and what issuers are asked with.
pub(super) fn folders(config: &Config) -> BTreeSet<PathBuf> {
    let asking = config.issuers.iter().filter_map(|issuer| issuer.introspection.as_ref());
    let files = config.issuers.iter().filter_map(path).chain(asking.flat_map(Introspector::files));
    files.filter_map(|file| file.parent().map(Path::to_owned)).collect()
}

fn stamp(issuer: &config::Issuer) -> Option<Stamp> {
    Stamp::of(path(issuer)?).ok()
}

/// The file with the keys, where they are in one.
fn path(issuer: &config::Issuer) -> Option<&Path> {
    match &issuer.keys {
        KeySource::JwkSet(path)
        | KeySource::Pem(path)
        | KeySource::Secret(path)
        | KeySource::SigningKey(path) => Some(path),
        KeySource::Fetched(_) | KeySource::Nothing => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An Ed25519 public key (RFC 8037 appendix A.2).
    const ONE_KEY: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    const NO_KEY: &str = r#"{"keys":[]}"#;

    struct Folder {
        folder: tempfile::TempDir,
        config: Config,
    }

    impl Folder {
        fn new(content: &str) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let text = "[[issuer]]\nname = \"main\"\nissuer = \"i\"\naudience = [\"a\"]\nkeys = \"k.json\"\n";
            let config = config::parse(&folder.path().join("g.toml"), text).expect("valid").0;
            let this = Self { folder, config };
            this.write(content);
            this
        }

        fn write(&self, content: &str) {
            std::fs::write(self.folder.path().join("k.json"), content).expect("written");
        }
    }

    #[test]
    fn keys_are_read_again_when_their_file_changes() {
        let folder = Folder::new(NO_KEY);
        let (mut keys, _) = Keys::load(&folder.config, Missing::Leave);
        assert_eq!(keys.status(&folder.config)[0].keys, 0);
        assert!(!keys.refresh(&folder.config).changed);
        folder.write(ONE_KEY);
        assert!(keys.refresh(&folder.config).changed);
        assert_eq!(keys.status(&folder.config)[0].keys, 1);
    }

    #[test]
    fn a_broken_or_emptied_key_file_leaves_the_last_good_keys_in_force() {
        let folder = Folder::new(ONE_KEY);
        let (mut keys, faults) = Keys::load(&folder.config, Missing::Leave);
        assert!(faults.is_empty(), "{faults:?}");
        for content in ["{\"keys\":", NO_KEY] {
            folder.write(content);
            let refreshed = keys.refresh(&folder.config);
            assert!(!refreshed.changed, "{content}");
            assert_eq!(refreshed.diagnostics.len(), 1, "{content}");
            let status = &keys.status(&folder.config)[0];
            assert_eq!(status.keys, 1, "{content}");
            assert!(status.error.as_ref().is_some_and(|error| error.contains("k.json")), "{content}");
        }
        folder.write(ONE_KEY);
        assert!(keys.refresh(&folder.config).changed);
        assert!(keys.status(&folder.config)[0].error.is_none());
    }

    #[test]
    fn more_keys_than_are_tried_for_a_token_are_warned_about() {
        let key = |number: u8| {
            // Any 32 bytes that are a point of the curve would do; the same one serves.
            format!(
                r#"{{"kty":"OKP","crv":"Ed25519","kid":"{number}","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}"#
            )
        };
        let set = |count| format!("{{\"keys\":[{}]}}", (0..count).map(key).collect::<Vec<_>>().join(","));
        assert!(Keys::load(&Folder::new(&set(16)).config, Missing::Leave).1.is_empty());
        let warnings = Keys::load(&Folder::new(&set(17)).config, Missing::Leave).1;
        assert!(warnings.len() == 1 && warnings[0].message.starts_with("17 keys"), "{warnings:?}");
    }

    #[test]
    fn certificates_to_trust_that_are_none_are_a_fault_at_the_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = "[[issuer]]\nname = \"main\"\nissuer = \"i\"\naudience = [\"a\"]\n\
                    keys = \"https://idp.example/jwks\"\nca = \"ca.pem\"\n";
        let config = config::parse(&folder.path().join("g.toml"), text).expect("valid").0;
        for content in [None, Some("no certificate"), Some("")] {
            if let Some(content) = content {
                std::fs::write(folder.path().join("ca.pem"), content).expect("written");
            }
            let faults = Keys::load(&config, Missing::Leave).1;
            assert!(faults.len() == 1 && faults[0].to_string().contains("ca.pem: "), "{faults:?}");
        }
    }

    #[test]
    fn a_key_file_that_vanishes_leaves_the_last_good_keys_in_force() {
        let folder = Folder::new(ONE_KEY);
        let (mut keys, _) = Keys::load(&folder.config, Missing::Leave);
        std::fs::remove_file(folder.folder.path().join("k.json")).expect("removed");
        assert_eq!(keys.refresh(&folder.config).diagnostics.len(), 1);
        assert_eq!(keys.refresh(&folder.config).diagnostics.len(), 0, "it is said once");
        assert_eq!(keys.status(&folder.config)[0].keys, 1);
    }
}
