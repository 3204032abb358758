//! Reads the certificates of listeners and keeps the last good ones.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::stamp::Stamp;
use crate::admin::status::ListenerStatus;
use crate::auth::read_as;
use crate::config::{Config, Diagnostic, ListenTls};
use crate::edge::{Listener, Material, MaterialError, Tls, validity};

/// A certificate that ceases to be valid within so many seconds is warned about: two weeks, in which
/// whoever renews it has time to notice; one that lives for less than six, in the last third of its life.
const SOON: i64 = 14 * 24 * 3600;

/// What listeners with TLS use, by address.
#[derive(Debug)]
pub(super) struct Certificates {
    known: BTreeMap<SocketAddr, Known>,
}

#[derive(Debug)]
struct Known {
    tls: Option<Arc<Tls>>,
    stamps: Stamps,
    /// When the first certificate ceases to be valid, in seconds since 1970.
    until: Option<i64>,
    error: Option<String>,
}

type Stamps = Vec<Option<Stamp>>;

/// What a refresh found.
#[derive(Debug, Default)]
pub(super) struct Refreshed {
    /// Whether any is another one than before.
    pub changed: bool,
    /// Errors and warnings about files that have changed.
    pub diagnostics: Vec<Diagnostic>,
}

impl Certificates {
    /// The certificates of all listeners of `config`, with everything that is wrong with them.
    pub(super) fn load(config: &Config) -> (Self, Vec<Diagnostic>) {
        let mut this = Self { known: BTreeMap::new() };
        let mut diagnostics = Vec::new();
        for (address, rules) in with_tls(config) {
            let stamps = stamps(rules);
            let mut warnings = Vec::new();
            let (tls, until) = match make(rules, config.limits.certificate_file, &mut warnings) {
                Ok((tls, until)) => (Some(tls), until),
                Err(fault) => {
                    warnings.push(fault);
                    (None, None)
                }
            };
            diagnostics.extend(warnings);
            this.known.insert(address, Known { tls, stamps, until, error: None });
        }
        (this, diagnostics)
    }

    /// Reads what has changed. A certificate or key that is broken, or a certificate whose key is still
    /// that of the one before, leaves the last good ones of its listener in force.
    pub(super) fn refresh(&mut self, config: &Config) -> Refreshed {
        let mut refreshed = Refreshed::default();
        for (address, rules) in with_tls(config) {
            let Some(known) = self.known.get_mut(&address) else { continue };
            let stamps = stamps(rules);
            if known.stamps == stamps {
                continue;
            }
            known.stamps = stamps;
            match make(rules, config.limits.certificate_file, &mut refreshed.diagnostics) {
                Ok((tls, until)) => {
                    (known.tls, known.until, known.error) = (Some(tls), until, None);
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

    /// The listeners of `config`, by address.
    pub(super) fn listeners(&self, config: &Config) -> HashMap<SocketAddr, Arc<Listener>> {
        let tls = |address| self.known.get(address).and_then(|known| known.tls.clone());
        let listeners = config
            .listen
            .iter()
            .map(|rules| (rules.address, Arc::new(Listener::new(rules, tls(&rules.address)))));
        listeners.collect()
    }

    /// How the listeners of `config` are.
    pub(super) fn status(&self, config: &Config) -> Vec<ListenerStatus> {
        let status = config.listen.iter().map(|rules| {
            let known = self.known.get(&rules.address);
            ListenerStatus {
                address: rules.address.to_string(),
                tls: rules.tls.is_some(),
                certificate_until: known.and_then(|known| known.until),
                error: known.and_then(|known| known.error.clone()),
            }
        });
        status.collect()
    }
}

/// The folders in which the files of listeners are.
pub(super) fn folders(config: &Config) -> BTreeSet<PathBuf> {
    let files = with_tls(config).flat_map(|(_, rules)| files(rules));
    files.filter_map(|file| file.parent().map(Path::to_owned)).collect()
}

fn with_tls(config: &Config) -> impl Iterator<Item = (SocketAddr, &ListenTls)> {
    config.listen.iter().filter_map(|listen| Some((listen.address, listen.tls.as_ref()?)))
}

fn files(rules: &ListenTls) -> impl Iterator<Item = &Path> {
    let pairs = rules.certificates.iter().flat_map(|files| [&*files.certificate, &*files.key]);
    pairs.chain(rules.client_ca.as_deref())
}

fn stamps(rules: &ListenTls) -> Stamps {
    files(rules).map(|file| Stamp::of(file).ok()).collect()
}

/// TLS of one listener, and when its first certificate ceases to be valid.
fn make(
    rules: &ListenTls,
    limit: usize,
    warnings: &mut Vec<Diagnostic>,
) -> Result<(Arc<Tls>, Option<i64>), Diagnostic> {
    let read = |file: &Path| read_as(file, limit, "certificate_file");
    let mut pairs = Vec::new();
    for files in &rules.certificates {
        let (certificate, key) = (read(&files.certificate)?, read(&files.key)?);
        if let Some(mode) = key.open_to_others() {
            let message = format!(
                "is a private key with the permissions {mode:o}: whoever can read it can pose as this service; \
                 chmod it to 600 or 640"
            );
            warnings.push(Diagnostic::of_file(&files.key, message).warning());
        }
        pairs.push((certificate.bytes, key.bytes));
    }
    let client_ca = rules.client_ca.as_deref().map(read).transpose()?;
    let material = Material {
        certificates: pairs.iter().map(|(certificate, key)| (&certificate[..], &key[..])).collect(),
        client_ca: client_ca.as_ref().map(|ca| &ca.bytes[..]),
        client_certificate_required: rules.client_certificate_required,
        tls12: rules.tls12,
        http2: rules.http2,
    };
    let tls = Tls::new(&material).map_err(|error| fault(rules, &error))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let validities: Vec<_> = pairs.iter().map(|(certificate, _)| validity(certificate)).collect();
    for (files, validity) in rules.certificates.iter().zip(&validities) {
        let message = match *validity {
            Some((from, _)) if now < from => "is not valid yet: clients refuse it until it is",
            Some((_, until)) if now >= until => "has expired: clients refuse it; renew it",
            Some((from, until)) if now >= until - SOON.min((until - from) / 3) => "expires soon: renew it",
            _ => continue,
        };
        warnings.push(Diagnostic::of_file(&files.certificate, message).warning());
    }
    let until = validities.first().copied().flatten().map(|(_, until)| until);
    Ok((Arc::new(tls), until))
}

fn fault(rules: &ListenTls, error: &MaterialError) -> Diagnostic {
    let files = |index: usize| &rules.certificates[index];
    let (file, remedy) = match error {
        MaterialError::Certificate(index, _) => {
            (&*files(*index).certificate, "put the certificate, and those up to its authority, there as PEM")
        }
        MaterialError::Key(index, _) => {
            (&*files(*index).key, "put the private key of the certificate there as PEM, not encrypted")
        }
        MaterialError::ClientCa(_) => (
            rules.client_ca.as_deref().unwrap_or(Path::new("")),
            "put the certificates of the authorities there as PEM",
        ),
        MaterialError::Tls(_) => (&*files(0).certificate, "look at the settings of the host"),
    };
    Diagnostic::of_file(file, format!("{error}: {remedy}"))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;
    use crate::config;

    struct Folder {
        folder: tempfile::TempDir,
        config: Config,
    }

    /// A certificate and its key.
    fn pair(last_year: i32) -> (String, String) {
        let mut params = CertificateParams::new(vec!["gate.test".to_owned()]).expect("a name");
        params.not_after = date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
    }

    impl Folder {
        fn new((certificate, key): &(String, String), more: &str) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let text = format!(
                "[[listen]]\naddress = \"127.0.0.1:1\"\n[listen.tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n{more}"
            );
            let config = config::parse(&folder.path().join("g.toml"), &text).expect("valid").0;
            let this = Self { folder, config };
            this.write("c.pem", certificate);
            this.write("k.pem", key);
            this
        }

        /// Renamed into place, as tools that renew certificates do.
        fn write(&self, name: &str, content: &str) {
            let fresh = self.folder.path().join("fresh");
            std::fs::write(&fresh, content).expect("written");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&fresh, mode).expect("set");
            std::fs::rename(fresh, self.folder.path().join(name)).expect("renamed");
        }
    }

    #[test]
    fn a_new_certificate_is_in_force_once_its_key_is_there_too() {
        let folder = Folder::new(&pair(2099), "");
        let (mut certificates, faults) = Certificates::load(&folder.config);
        assert_eq!(faults, []);
        assert!(!certificates.refresh(&folder.config).changed);
        let before = certificates.listeners(&folder.config);

        let (certificate, key) = pair(2098);
        folder.write("c.pem", &certificate);
        let half = certificates.refresh(&folder.config);
        assert!(!half.changed && half.diagnostics[0].to_string().contains("k.pem: it is not the key"));
        assert!(certificates.status(&folder.config)[0].error.is_some());
        let kept = certificates.listeners(&folder.config);
        assert_eq!(format!("{before:?}"), format!("{kept:?}"));

        folder.write("k.pem", &key);
        assert!(certificates.refresh(&folder.config).changed);
        let status = &certificates.status(&folder.config)[0];
        // 2098-01-01
        assert_eq!((status.certificate_until, &status.error), (Some(4_039_372_800), &None));
    }

    #[test]
    fn broken_files_are_named_with_what_to_do() {
        let good = pair(2099);
        for (name, content, expected) in [
            ("c.pem", "", "c.pem: it has no certificate"),
            ("c.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "c.pem: its first"),
            ("k.pem", "", "k.pem: it has no private key"),
            ("k.pem", &pair(2099).1, "k.pem: it is not the key"),
            ("ca.pem", "x", "ca.pem: it has no certificate"),
        ] {
            let folder = Folder::new(&good, "client_ca = \"ca.pem\"\n");
            folder.write("ca.pem", &good.0);
            folder.write(name, content);
            let faults = Certificates::load(&folder.config).1;
            assert!(faults.len() == 1 && faults[0].to_string().contains(expected), "{faults:?}");
        }
        let folder = Folder::new(&good, "");
        std::fs::remove_file(folder.folder.path().join("k.pem")).expect("removed");
        assert!(Certificates::load(&folder.config).1[0].to_string().contains("k.pem: cannot be read"));
    }

    #[test]
    fn a_certificate_that_has_expired_is_used_and_warned_about() {
        let folder = Folder::new(&pair(2020), "");
        let (certificates, warnings) = Certificates::load(&folder.config);
        assert!(warnings.len() == 1 && warnings[0].message.starts_with("has expired"), "{warnings:?}");
        assert!(certificates.status(&folder.config)[0].certificate_until.is_some());
    }
}
