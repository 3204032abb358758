//! Last good copies of the lists on disk, so that a list that is broken when the daemon starts does
//! not take the policy with it.
//!
//! A copy is one file: a line of JSON that says what it is a copy of, and the content as it was
//! read. What does not fit together is damaged, and ignored.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};

use super::content;
use crate::policy::Tier;

/// The form that is written here.
const FORM: u32 = 1;
/// Bytes of the first line; a path is much shorter.
const MAX_HEADER: u64 = 64 * 1024;
/// How much of a list's name stands in the name of its copy.
const MAX_NAME: usize = 64;
/// How names of copies end.
const COPY: &str = ".copy";
/// How names of copies end that are being written.
const FRESH: &str = ".copy.new";

/// The folder of the copies.
#[derive(Clone, Debug)]
pub(in super::super) struct Copies {
    folder: PathBuf,
}

/// The content of a list.
#[derive(Debug)]
pub(in super::super) struct Copy {
    /// The tier of the list.
    pub tier: Tier,
    /// The name of the list.
    pub name: Arc<str>,
    /// How many entries the list has.
    pub entries: usize,
    /// When the content came.
    pub changed: SystemTime,
    /// The content, as it was read.
    pub text: Vec<u8>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Header {
    gatehouse_copy: u32,
    tier: String,
    list: String,
    entries: usize,
    /// Seconds since 1970.
    changed: u64,
    /// In hexadecimal digits.
    sha256: String,
}

impl Header {
    /// The digest of everything that is relied on, `text` with what the header says about it.
    fn seal(&self, text: &[u8]) -> String {
        let mut sealed = Context::new(&SHA256);
        let Self { tier, list, entries, changed, .. } = self;
        sealed.update(format!("{tier}\n{list}\n{entries}\n{changed}\n").as_bytes());
        sealed.update(text);
        hexadecimal(sealed.finish().as_ref())
    }
}

impl Copies {
    /// The copies in the folder for state `state`, which is made when it is not there.
    pub(in super::super) fn open(state: &Path) -> io::Result<Self> {
        let folder = state.join("lists");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        // Whoever can write here decides who is denied.
        std::fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        Ok(Self { folder })
    }

    /// The copy of the list `name` of `tier`, of at most `max` bytes; `None` when there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is damaged.
    pub(super) fn read(&self, tier: Tier, name: &Arc<str>, max: u64) -> io::Result<Option<Copy>> {
        let path = self.path(tier, name);
        let mut text = match content::open(&path, None, max.saturating_add(MAX_HEADER)) {
            Ok(found) => found.map_or_else(Vec::new, |(_, text)| text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let damaged = || io::Error::other(format!("{} is damaged", path.display()));
        let end = text.iter().position(|&byte| byte == b'\n').ok_or_else(damaged)?;
        let header: Header = serde_json::from_slice(&text[..end]).map_err(|_| damaged())?;
        text.drain(..=end);
        let same = header.gatehouse_copy == FORM
            && header.tier == tier.name()
            && header.list == **name
            && header.sha256 == header.seal(&text);
        let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(header.changed));
        match changed {
            Some(changed) if same => {
                Ok(Some(Copy { tier, name: Arc::clone(name), entries: header.entries, changed, text }))
            }
            _ => Err(damaged()),
        }
    }

    /// The names of the lists of `tier` of which there are copies.
    pub(super) fn names(&self, tier: Tier) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let copies = entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with(COPY));
        let headers = copies.filter_map(|path| {
            let mut line = Vec::new();
            BufReader::new(File::open(path).ok()?.take(MAX_HEADER)).read_until(b'\n', &mut line).ok()?;
            serde_json::from_slice::<Header>(&line).ok()
        });
        headers.filter(|header| header.tier == tier.name()).map(|header| header.list.into()).collect()
    }

    /// Writes `copy`, whole or not at all, unless it is there already.
    pub(super) fn write(&self, copy: &Copy) -> io::Result<()> {
        let mut header = Header {
            gatehouse_copy: FORM,
            tier: copy.tier.name().to_owned(),
            list: copy.name.to_string(),
            entries: copy.entries,
            changed: copy.changed.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
            sha256: String::new(),
        };
        header.sha256 = header.seal(&copy.text);
        // A damaged one is replaced.
        if let Ok(Some(there)) = self.read(copy.tier, &copy.name, copy.text.len() as u64)
            && there.text == copy.text
            && there.entries == copy.entries
        {
            return Ok(());
        }
        let path = self.path(copy.tier, &copy.name);
        let fresh = path.with_extension(&FRESH[1..]);
        let written = self.write_fresh(&fresh, &header, &copy.text).and_then(|()| {
            std::fs::rename(&fresh, &path)?;
            File::open(&self.folder)?.sync_all()
        });
        if written.is_err() {
            // Half a copy only takes room, and there may be none. The first error is the one that matters.
            let _ = std::fs::remove_file(&fresh);
        }
        written
    }

    fn write_fresh(&self, fresh: &Path, header: &Header, text: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(fresh)?;
        let mut line = serde_json::to_vec(header)?;
        line.push(b'\n');
        file.write_all(&line)?;
        file.write_all(text)?;
        file.sync_all()
    }

    /// Removes the copies of all lists but `lists`, and what was left half written.
    pub(super) fn retain(&self, lists: &BTreeSet<(Tier, Arc<str>)>) -> io::Result<()> {
        let wanted: BTreeSet<PathBuf> = lists.iter().map(|(tier, name)| self.path(*tier, name)).collect();
        let mut result = Ok(());
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let ours = path.to_str().is_some_and(|name| name.ends_with(COPY) || name.ends_with(FRESH));
            if ours && !wanted.contains(&path) {
                // One that stays is no reason for the others to stay.
                result = result.and(std::fs::remove_file(&path));
            }
        }
        result
    }

    /// Where the copy of a list is: its name says what it is to people, its digest to us.
    fn path(&self, tier: Tier, name: &str) -> PathBuf {
        let last = name.rsplit('/').next().unwrap_or(name);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let readable: String =
            last.bytes().take(MAX_NAME).map(|byte| if plain(byte) { byte.into() } else { '_' }).collect();
        let identity = sha256(name.as_bytes());
        self.folder.join(format!("{}-{readable}-{}{COPY}", tier.name(), &identity[..16]))
    }
}

fn sha256(bytes: &[u8]) -> String {
    hexadecimal(digest(&SHA256, bytes).as_ref())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(name: &str, text: &str) -> Copy {
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        Copy { tier: Tier::Deny, name: name.into(), entries: 1, changed, text: text.into() }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("readable");
        entries.map(|entry| entry.expect("there").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_copy_is_read_as_it_was_written_and_only_for_its_list() {
        let folder = tempfile::tempdir().expect("a folder");
        let copies = Copies::open(&folder.path().join("state")).expect("made");
        let mode = std::fs::metadata(&copies.folder).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let a: Arc<str> = "/etc/a.list".into();
        copies.write(&copy(&a, "192.0.2.1\n")).expect("written");
        let found = copies.read(Tier::Deny, &a, 100).expect("good").expect("there");
        assert_eq!((found.text.as_slice(), found.entries), (&b"192.0.2.1\n"[..], 1));
        assert_eq!(found.changed, copy("", "").changed);
        assert!(copies.read(Tier::Allow, &a, 100).expect("no copy").is_none());
        assert!(copies.read(Tier::Deny, &"/srv/a.list".into(), 100).expect("no copy").is_none());
        assert!(names(&copies.folder)[0].starts_with("deny-a.list-"), "{:?}", names(&copies.folder));
    }

    #[test]
    fn a_copy_that_changed_in_any_byte_is_damaged_and_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let copies = Copies::open(folder.path()).expect("made");
        let good = copy("a", "192.0.2.1\n");
        copies.write(&good).expect("written");
        let path = copies.path(Tier::Deny, "a");
        let whole = std::fs::read(&path).expect("readable");
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).expect("written");
            assert!(copies.read(Tier::Deny, &good.name, 100).is_err(), "byte {at}");
            std::fs::write(&path, &whole[..at]).expect("written");
            assert!(copies.read(Tier::Deny, &good.name, 100).is_err(), "cut at {at}");
        }
        copies.write(&good).expect("written");
        assert!(copies.read(Tier::Deny, &good.name, 100).expect("good again").is_some());
    }

    #[test]
    fn copies_of_lists_that_are_gone_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let copies = Copies::open(folder.path()).expect("made");
        for name in ["a", "b"] {
            copies.write(&copy(name, "192.0.2.1\n")).expect("written");
        }
        std::fs::write(copies.folder.join("deny-c-0.copy.new"), "half").expect("written");
        std::fs::write(copies.folder.join("README"), "not ours").expect("written");
        copies.retain(&BTreeSet::from([(Tier::Deny, "a".into())])).expect("removed");
        let mut left = names(&copies.folder);
        left.sort();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left[0] == "README" && left[1].starts_with("deny-a-"), "{left:?}");
    }

    #[test]
    fn a_copy_that_cannot_be_written_leaves_the_last_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let copies = Copies::open(folder.path()).expect("made");
        copies.write(&copy("a", "192.0.2.1\n")).expect("written");
        // What stands in the way of the fresh file is a folder, whoever runs the test.
        let fresh = copies.path(Tier::Deny, "a").with_extension("copy.new");
        std::fs::create_dir(&fresh).expect("made");
        assert!(copies.write(&copy("a", "192.0.2.2\n")).is_err());
        let left = copies.read(Tier::Deny, &"a".into(), 100).expect("good").expect("there");
        assert_eq!(left.text, b"192.0.2.1\n");
    }
}
