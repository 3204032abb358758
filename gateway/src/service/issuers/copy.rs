//! The last good key set on disk, for a start while the issuer is down. Public keys only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::config::{self, FetchedKeys, KeysPlace};

/// The folder of all copies in that of the state.
const FOLDER: &str = "issuers";

/// The place of one copy.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    file: PathBuf,
}

/// What was kept.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// When the issuer said that these are its keys, in seconds since 1970.
    pub confirmed: u64,
    /// The JWK set.
    pub set: String,
}

impl Copy {
    /// The place in the folder `state` for the keys of `issuer`. Another URL is another place: its
    /// keys are somebody else's.
    pub(super) fn of(state: &Path, issuer: &config::Issuer, keys: &FetchedKeys) -> Self {
        let place = match &keys.place {
            KeysPlace::Set(url) => url.expose().as_str(),
            KeysPlace::Metadata([url, _]) => url.as_str(),
        };
        let hash = digest(&SHA256, format!("{}\n{}\n{place}", issuer.name, issuer.issuer).as_bytes());
        let name: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { file: state.join(FOLDER).join(name).with_extension("json") }
    }

    /// Removes from the folder `state` what was kept for issuers, or places of their keys, that are none
    /// of `known`: keys that nobody confirms any more must not come back with a name. The files removed.
    pub(super) fn remove_all_but(known: &[Self], state: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(state.join(FOLDER)) {
            Ok(entries) => entries,
            // Nothing was ever kept.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut removed = Vec::new();
        for entry in entries {
            let file = entry?.path();
            if is_copy(&file) && !known.iter().any(|copy| copy.file == file) {
                fs::remove_file(&file)?;
                removed.push(file);
            }
        }
        Ok(removed)
    }

    /// What was kept last, as far as it is less than `most` bytes.
    pub(super) fn read(&self, most: u64) -> Option<Kept> {
        let mut text = Vec::new();
        // In JSON, a text is at most six times as long.
        let most = most.saturating_mul(6).saturating_add(1024);
        File::open(&self.file).ok()?.take(most).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Keeps `kept` in place of what was kept.
    pub(super) fn write(&self, kept: &Kept) -> io::Result<()> {
        let folder = self.file.parent().unwrap_or(Path::new("/"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let fresh = self.file.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&serde_json::to_vec(kept)?)?;
        file.sync_all()?;
        fs::rename(fresh, &self.file)?;
        File::open(folder)?.sync_all()
    }
}

/// Whether a file has a name that [`Copy::of`] gives, or one that is being written: others are not ours.
fn is_copy(file: &Path) -> bool {
    let text = |part: Option<&std::ffi::OsStr>| part.and_then(|part| part.to_str().map(str::to_owned));
    let hash = text(file.file_stem())
        .is_some_and(|stem| stem.len() == 64 && stem.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hash && matches!(text(file.extension()).as_deref(), Some("json" | "new"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_others_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(Copy::remove_all_but(&[], folder.path()).expect("nothing there").is_empty());
        let copy = |letter: &str| {
            let file = folder.path().join(FOLDER).join(letter.repeat(64)).with_extension("json");
            Copy { file }
        };
        let (own, left) = (copy("a"), copy("b"));
        for copy in [&own, &left] {
            copy.write(&Kept { confirmed: 1, set: String::new() }).expect("written");
        }
        let half = left.file.with_extension("new");
        let foreign = folder.path().join(FOLDER).join("notes.json");
        for file in [&half, &foreign] {
            fs::write(file, "").expect("written");
        }
        let mut removed = Copy::remove_all_but(std::slice::from_ref(&own), folder.path()).expect("removed");
        removed.sort();
        assert_eq!(removed, [left.file, half]);
        assert!(own.file.exists() && foreign.exists());
    }
}
