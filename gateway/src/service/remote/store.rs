//! Copies of remote lists on disk, with what the servers told to ask with next time.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// Bytes of the file beside a copy; ours never come close.
const MAX_NOTE: u64 = 16 * 1024;

/// What a server said to tell one content from another by (RFC 9110 §8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Validators {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
}

/// What stands beside a copy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    /// What to ask with.
    pub validators: Validators,
    /// When the server last said that this is the newest, in seconds since 1970.
    pub confirmed: u64,
    /// SHA-256 of the copy that the validators are about. The copy is replaced first: with another
    /// one the validators would keep it for ever.
    sha256: Vec<u8>,
}

impl Note {
    /// When the server last said that this is the newest.
    pub(super) fn confirmed(&self) -> SystemTime {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.confirmed)).unwrap_or(UNIX_EPOCH)
    }
}

/// The place of one copy.
#[derive(Clone, Debug)]
pub(super) struct Store {
    copy: PathBuf,
}

impl Store {
    /// The store of the copy in the file `copy`; its folder is made if need be.
    pub(super) fn open(copy: &Path) -> io::Result<Self> {
        if let Some(folder) = copy.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        Ok(Self { copy: copy.to_owned() })
    }

    /// Where a download goes until it is complete and known to be a list.
    pub(super) fn download(&self) -> PathBuf {
        self.copy.with_extension("download")
    }

    /// What is known about the copy; `None` without a copy, or when they do not belong together.
    pub(super) fn note(&self) -> Option<Note> {
        let mut text = Vec::new();
        File::open(self.beside()).ok()?.take(MAX_NOTE).read_to_end(&mut text).ok()?;
        let note: Note = serde_json::from_slice(&text).ok()?;
        (hash(&self.copy).ok()? == note.sha256).then_some(note)
    }

    /// Makes the download the copy, with `validators` as of `now`.
    pub(super) fn adopt(&self, validators: Validators, now: SystemTime) -> io::Result<Note> {
        let download = self.download();
        let note = Note { validators, confirmed: seconds(now), sha256: hash(&download)? };
        File::open(&download)?.sync_all()?;
        fs::rename(&download, &self.copy)?;
        self.write(&note)?;
        Ok(note)
    }

    /// Notes that the copy is still the newest at `now`.
    pub(super) fn confirm(&self, note: Note, now: SystemTime) -> io::Result<Note> {
        let note = Note { confirmed: seconds(now), ..note };
        self.write(&note)?;
        Ok(note)
    }

    fn beside(&self) -> PathBuf {
        self.copy.with_extension("json")
    }

    fn write(&self, note: &Note) -> io::Result<()> {
        let fresh = self.copy.with_extension("json.new");
        let options = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
        let mut file = options.open(&fresh)?;
        file.write_all(&serde_json::to_vec(note)?)?;
        file.sync_all()?;
        fs::rename(fresh, self.beside())?;
        match self.copy.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn hash(file: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(file)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(context.finish().as_ref().to_vec()),
            length => context.update(&buffer[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("lists/a.list")).expect("made");
        (folder, store)
    }

    #[test]
    fn a_copy_and_what_is_known_about_it_outlive_the_process() {
        let (folder, store) = store();
        assert_eq!(store.note(), None);
        fs::write(store.download(), "192.0.2.1\n").expect("written");
        let validators = Validators { etag: Some("\"1\"".to_owned()), last_modified: None };
        let note = store.adopt(validators, UNIX_EPOCH + Duration::from_secs(5)).expect("adopted");
        assert_eq!(fs::read(folder.path().join("lists/a.list")).expect("there"), b"192.0.2.1\n");
        let later = Store::open(&folder.path().join("lists/a.list")).expect("there");
        assert_eq!(later.note(), Some(note.clone()));
        let confirmed = later.confirm(note, UNIX_EPOCH + Duration::from_secs(9)).expect("noted");
        assert_eq!((confirmed.confirmed, store.note()), (9, Some(confirmed)));
    }

    #[test]
    fn validators_of_another_copy_are_not_asked_with() {
        let (folder, store) = store();
        fs::write(store.download(), "192.0.2.1\n").expect("written");
        store.adopt(Validators::default(), UNIX_EPOCH).expect("adopted");
        fs::write(folder.path().join("lists/a.list"), "192.0.2.2\n").expect("written");
        assert_eq!(store.note(), None);
    }
}
