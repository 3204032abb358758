//! Changing the keys in a file: a new one, or one less. One process at a time does that, and whoever
//! reads the file finds the keys before or after, never half of them.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::Algorithm;
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;

use super::{MAX_KEY_FILE, SigningKey, parse_all, read, signing};
use crate::auth::keys::Fault;
use crate::config::Diagnostic;

/// Keys in one file; each can verify tokens. Nobody sets this: a rotation needs two keys, and a token
/// without `kid` is tried with no more of an issuer.
const MOST: usize = 16;

/// A key, without its private half. The JSON form of `gatehouse key list --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The `kid` of its tokens.
    pub kid: String,
    /// The algorithm of its tokens.
    pub algorithm: String,
    /// From which second since 1970 on it signs.
    pub signs_from: u64,
    /// Whether it signs now.
    pub signs: bool,
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = UNIX_EPOCH + std::time::Duration::from_secs(self.signs_from);
        let from = humantime::format_rfc3339_seconds(from);
        let signs = if self.signs { "  signs now" } else { "" };
        write!(f, "{}  {:5}  from {from}{signs}", self.kid, self.algorithm)
    }
}

/// The keys in the file `path`, with a warning when others can read it.
///
/// # Errors
///
/// What is wrong with the file.
pub fn list(path: &Path, now: SystemTime) -> Result<(Vec<Listed>, Vec<Diagnostic>), Diagnostic> {
    let (keys, warnings) = keys(path)?;
    Ok((listed(&keys, now), warnings))
}

/// Adds a key to the file `path`, made when it is not there, that signs from `from` on.
///
/// # Errors
///
/// What is wrong with the file, or why it cannot be written.
pub fn add(path: &Path, algorithm: Algorithm, from: SystemTime) -> Result<Listed, Diagnostic> {
    change(path, |keys| {
        if keys.len() >= MOST {
            return Err(format!("has {MOST} keys already: retire those whose tokens have expired"));
        }
        let from = from.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let key = SigningKey::generate(algorithm, from).ok_or("gets no key: the host has no randomness")?;
        keys.push(key);
        Ok(())
    })?;
    let (mut all, _) = list(path, SystemTime::now())?;
    all.pop().ok_or_else(|| Diagnostic::of_file(path, "has lost its keys again".to_owned()))
}

/// Takes the key `kid` out of the file `path`: its tokens are not accepted any more.
///
/// # Errors
///
/// What is wrong with the file, or there is no such key, or it signs now and `force` is not said.
pub fn retire(path: &Path, kid: &str, now: SystemTime, force: bool) -> Result<(), Diagnostic> {
    change(path, |keys| {
        let Some(at) = keys.iter().position(|key| key.id() == kid) else {
            return Err(format!("has no key {kid}: `gatehouse key list` shows them"));
        };
        if keys.len() == 1 {
            return Err("would have no key left: make a new one first (`gatehouse key new`)".to_owned());
        }
        if signing(keys, now) == at && !force {
            return Err("signs with this key now: wait until the next one does, or say --force".to_owned());
        }
        keys.remove(at);
        Ok(())
    })
}

fn listed(keys: &[SigningKey], now: SystemTime) -> Vec<Listed> {
    let signing = signing(keys, now);
    let listed = keys.iter().enumerate().map(|(at, key)| Listed {
        kid: key.id().to_owned(),
        algorithm: format!("{:?}", key.algorithm()),
        signs_from: key.from().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        signs: at == signing,
    });
    listed.collect()
}

fn keys(path: &Path) -> Result<(Vec<SigningKey>, Vec<Diagnostic>), Diagnostic> {
    let (bytes, warnings) = read(path, MAX_KEY_FILE)?.private(path);
    let keys = parse_all(&bytes).map_err(|fault: Fault| Diagnostic::of_file(path, fault.to_string()))?;
    Ok((keys, warnings))
}

fn change(
    path: &Path,
    change: impl FnOnce(&mut Vec<SigningKey>) -> Result<(), String>,
) -> Result<(), Diagnostic> {
    let fault = |message: String| Diagnostic::of_file(path, message);
    let failed = |error: io::Error| {
        fault(format!("cannot be written ({error}): its folder must exist and be writable for this user"))
    };
    let _lock = lock(path).map_err(failed)?;
    let there = path.try_exists().map_err(failed)?;
    let mut all = if there { keys(path)?.0 } else { Vec::new() };
    change(&mut all).map_err(fault)?;
    write(path, &all, there).map_err(failed)
}

/// Waits until nobody else changes the key file `path`. The lock belongs to whom its folder belongs to:
/// root may be the first to take it.
pub(super) fn lock(path: &Path) -> io::Result<Flock<File>> {
    let mut options = OpenOptions::new();
    let file =
        options.create(true).truncate(false).write(true).mode(0o600).open(path.with_extension("lock"))?;
    let owner = fs::metadata(folder(path))?;
    // Only root can, and nobody else needs it.
    let _ = std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()));
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Replaces the file in one step, with the owner and the permissions that it had.
fn write(path: &Path, keys: &[SigningKey], there: bool) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
    let folder = folder(path);
    // Only root can give a file away, to whom the one before belonged or else the folder does; whoever
    // else changes it owns it.
    let owner = fs::metadata(if there { path } else { folder })?;
    let _ = std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()));
    if there {
        file.set_permissions(fs::Permissions::from_mode(owner.mode() & 0o7777))?;
    }
    let text: String = keys.iter().map(SigningKey::text).collect();
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_key_is_published_before_it_signs_and_stays_until_it_is_retired() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("issuer.pem");
        let now = SystemTime::now();
        let later = now + Duration::from_secs(600);
        let first = add(&path, Algorithm::EdDSA, now - Duration::from_secs(9)).expect("made");
        let second = add(&path, Algorithm::ES256, later).expect("made");
        assert!(first.signs && !second.signs);
        let signs = |now| {
            let all = list(&path, now).expect("readable").0;
            assert_eq!(all.len(), 2);
            all.iter().position(|key| key.signs)
        };
        assert_eq!((signs(now), signs(later)), (Some(0), Some(1)));
        assert!(retire(&path, &first.kid, now, false).is_err(), "it signs");
        retire(&path, &first.kid, later, false).expect("retired");
        assert!(retire(&path, &second.kid, later, true).is_err(), "the last one");
        assert!(retire(&path, "another", later, true).is_err());
        assert_eq!(list(&path, now).expect("readable").0.len(), 1);
    }

    #[test]
    fn a_key_file_that_others_can_read_is_warned_about_when_it_is_listed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("issuer.pem");
        add(&path, Algorithm::EdDSA, SystemTime::now()).expect("made");
        for (mode, warned) in [(0o600, 0), (0o640, 0), (0o644, 1), (0o620, 1)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
            let (keys, warnings) = list(&path, SystemTime::now()).expect("readable");
            assert_eq!((keys.len(), warnings.len()), (1, warned), "{mode:o}: {warnings:?}");
        }
    }

    #[test]
    fn a_first_key_that_the_daemon_makes_is_not_lost_to_one_that_is_added_meanwhile() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("issuer.pem");
            let first = std::thread::scope(|scope| {
                scope.spawn(|| add(&path, Algorithm::ES256, SystemTime::now()).expect("made"));
                let made = scope.spawn(|| {
                    SigningKey::create(&path).expect("made");
                    list(&path, SystemTime::now()).expect("readable").0
                });
                made.join().expect("no panic")
            });
            let all = list(&path, SystemTime::now()).expect("readable").0;
            assert!(first.iter().all(|key| all.iter().any(|now| now.kid == key.kid)), "{first:?} {all:?}");
        }
    }

    #[test]
    fn keys_that_are_made_at_the_same_time_are_all_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("issuer.pem");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| add(&path, Algorithm::EdDSA, SystemTime::now()).expect("made"));
            }
        });
        let all = list(&path, SystemTime::now()).expect("readable").0;
        let kids: std::collections::HashSet<_> = all.iter().map(|key| &key.kid).collect();
        assert_eq!((all.len(), kids.len()), (8, 8));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }
}
