//! The last good key set on disk, for a start while the issuer is down. Public keys only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::config::{self, FetchedKeys, KeysPlace};

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
        Self { file: state.join("issuers").join(name).with_extension("json") }
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
