//! Copying a folder again and again without losing what somebody edited in the copy.
//!
//! Beside the copy, `.shipped/` keeps each file as it was written. A file that still equals what
//! was written is brought up to date; one that differs was edited, and stays.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What became of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was up to date.
    Same,
    /// It was new or out of date, and was written.
    Written,
    /// It was edited, differs from what would have been written, and was left alone.
    Kept,
}

/// Brings the copy of `parts` of `from` in `to` up to date; `adapt` gets each relative path and content.
pub(super) fn refresh(
    from: &Path,
    parts: &[&str],
    to: &Path,
    adapt: impl Fn(&Path, String) -> Result<String>,
) -> Result<Vec<(PathBuf, Outcome)>> {
    let mut outcomes = Vec::new();
    for name in files(from)?.iter().filter(|name| parts.iter().any(|part| name.starts_with(part))) {
        let text = fs::read_to_string(from.join(name))
            .with_context(|| format!("{} cannot be read", from.join(name).display()))?;
        let outcome = file(&adapt(name, text)?, &to.join(name), &to.join(".shipped").join(name))?;
        outcomes.push((name.clone(), outcome));
    }
    Ok(outcomes)
}

fn file(wanted: &str, copy: &Path, shipped: &Path) -> Result<Outcome> {
    let present = read(copy)?;
    if present.as_deref() == Some(wanted.as_bytes()) {
        write(shipped, wanted)?;
        return Ok(Outcome::Same);
    }
    if present.is_some() && present != read(shipped)? {
        return Ok(Outcome::Kept);
    }
    // First the copy: if this is interrupted, the next time takes the first branch.
    write(copy, wanted)?;
    write(shipped, wanted)?;
    Ok(Outcome::Written)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("{} cannot be written: was it made by another user?", path.display()))
}

/// All files below `folder`, relative to it, in order.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = vec![PathBuf::new()];
    let mut files = Vec::new();
    while let Some(within) = folders.pop() {
        let path = folder.join(&within);
        for entry in fs::read_dir(&path).with_context(|| format!("{} cannot be read", path.display()))? {
            let entry = entry?;
            let name = within.join(entry.file_name());
            if entry.file_type()?.is_dir() { folders.push(name) } else { files.push(name) }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folders(PathBuf);

    impl Folders {
        fn new(test: &str) -> Self {
            let root = std::env::temp_dir().join(format!("xtask-{}-{test}", std::process::id()));
            fs::create_dir_all(root.join("from/lists")).unwrap();
            fs::write(root.join("from/main"), "one\n").unwrap();
            fs::write(root.join("from/lists/deny"), "list\n").unwrap();
            fs::write(root.join("from/unit"), "not to be copied\n").unwrap();
            Self(root)
        }

        fn ship(&self, text: &str) {
            fs::write(self.0.join("from/main"), text).unwrap();
        }

        fn edit(&self, text: &str) {
            fs::write(self.0.join("to/main"), text).unwrap();
        }

        /// What became of `main`, and its content.
        fn refresh(&self) -> (Outcome, String) {
            let to = self.0.join("to");
            let outcomes =
                refresh(&self.0.join("from"), &["main", "lists"], &to, |_, text| Ok(text)).unwrap();
            assert!(!to.join("unit").exists());
            assert_eq!(fs::read_to_string(self.0.join("to/lists/deny")).unwrap(), "list\n");
            let outcome = outcomes.iter().find(|(name, _)| name == Path::new("main")).unwrap().1;
            (outcome, fs::read_to_string(self.0.join("to/main")).unwrap())
        }
    }

    impl Drop for Folders {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn an_untouched_copy_follows_its_original() {
        let folders = Folders::new("follow");
        assert_eq!(folders.refresh(), (Outcome::Written, "one\n".to_owned()));
        assert_eq!(folders.refresh(), (Outcome::Same, "one\n".to_owned()));
        folders.ship("two\n");
        assert_eq!(folders.refresh(), (Outcome::Written, "two\n".to_owned()));
    }

    #[test]
    fn an_edited_copy_is_never_overwritten() {
        let folders = Folders::new("edited");
        folders.refresh();
        folders.edit("mine\n");
        assert_eq!(folders.refresh(), (Outcome::Kept, "mine\n".to_owned()));
        folders.ship("two\n");
        assert_eq!(folders.refresh(), (Outcome::Kept, "mine\n".to_owned()));
        // An edit that arrives at the new default is no edit any more.
        folders.edit("two\n");
        assert_eq!(folders.refresh(), (Outcome::Same, "two\n".to_owned()));
        folders.ship("three\n");
        assert_eq!(folders.refresh(), (Outcome::Written, "three\n".to_owned()));
    }

    #[test]
    fn a_deleted_copy_comes_back_and_other_files_stay() {
        let folders = Folders::new("deleted");
        folders.refresh();
        folders.edit("mine\n");
        fs::write(folders.0.join("to/key"), "secret").unwrap();
        fs::remove_file(folders.0.join("to/main")).unwrap();
        assert_eq!(folders.refresh(), (Outcome::Written, "one\n".to_owned()));
        assert_eq!(fs::read_to_string(folders.0.join("to/key")).unwrap(), "secret");
    }
}
