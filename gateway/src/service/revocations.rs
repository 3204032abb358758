//! Keeps the revocations: those of the operator's file, and those of `gatehouse revoke`, which outlive
//! the daemon.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::stamp::Stamp;
use crate::admin::revocations::{Kept, Order, Report};
use crate::auth::revocation::{self, InForce, Revocation, Revocations};
use crate::config::{Config, Diagnostic};

/// Bytes of one revocation at most, on the average: what bounds a file.
const BYTES_EACH: u64 = 512;
/// Bytes that a file may have however few revocations there may be.
const BYTES: u64 = 64 * 1024;

/// The name of the file in the state folder.
const NAME: &str = "revocations";

/// The revocations, and where they come from.
#[derive(Debug)]
pub(super) struct Book {
    in_force: InForce,
    /// The operator's file.
    file: Option<PathBuf>,
    /// What `gatehouse revoke` has written; `None`: there is no state folder.
    kept: Option<PathBuf>,
    most: usize,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    of_file: Vec<Revocation>,
    kept: Vec<Revocation>,
    stamp: Option<Stamp>,
    kept_stamp: Option<Stamp>,
}

impl Book {
    /// The revocations of `config`, with everything that is wrong with them.
    pub(super) fn load(config: &Config) -> (Self, Vec<Diagnostic>) {
        let book = Self {
            in_force: InForce::default(),
            file: config.revocation.file.clone(),
            kept: config.state.as_ref().map(|folder| folder.join(NAME)),
            most: config.limits.revocations,
            pages: Mutex::default(),
        };
        let mut faults = Vec::new();
        let mut pages = Pages::default();
        if let Some(file) = &book.file {
            pages.stamp = Stamp::of(file).ok();
            match book.read(file) {
                Ok(all) => pages.of_file = all,
                Err(fault) => faults.push(fault),
            }
        }
        pages.kept_stamp = book.kept_stamp();
        match book.kept.as_deref().map(|kept| book.read_kept(kept)) {
            Some(Ok(all)) => pages.kept = all,
            Some(Err(fault)) => faults.push(fault),
            None => {}
        }
        book.enforce(&pages);
        *book.pages() = pages;
        (book, faults)
    }

    /// What judges ask.
    pub(super) fn in_force(&self) -> &InForce {
        &self.in_force
    }

    /// Reads what has changed anew; whether others are in force then. A file that is faulty or gone leaves
    /// its last good revocations in force.
    pub(super) fn refresh(&self) -> (bool, Vec<Diagnostic>) {
        let mut pages = self.pages();
        let (mut changed, mut faults) = (false, Vec::new());
        if let Some(file) = &self.file {
            let stamp = Stamp::of(file).ok();
            if stamp != pages.stamp {
                pages.stamp = stamp;
                match self.read(file) {
                    Ok(all) => {
                        pages.of_file = all;
                        changed = true;
                    }
                    Err(fault) => faults.push(fault),
                }
            }
        }
        // Another process may have revoked something.
        let stamp = self.kept_stamp();
        if let Some(kept) = self.kept.as_deref().filter(|_| stamp != pages.kept_stamp) {
            pages.kept_stamp = stamp;
            match self.read_kept(kept) {
                Ok(all) => {
                    changed |= all != pages.kept;
                    pages.kept = all;
                }
                Err(fault) => faults.push(fault),
            }
        }
        if changed {
            self.enforce(&pages);
        }
        (changed, faults)
    }

    fn kept_stamp(&self) -> Option<Stamp> {
        Stamp::of(self.kept.as_deref()?).ok()
    }

    /// Carries out `order`. A revocation is in force, and on disk, when this returns.
    pub(super) fn obey(&self, order: &Order) -> Result<Report, String> {
        let mut pages = self.pages();
        let changed = match order {
            Order::List => None,
            Order::Add { line } => {
                let mut added = revocation::parse(line, 1).map_err(|fault| fault.message)?;
                let added = added.pop().ok_or("nothing is said to be revoked")?;
                Some(self.change(|kept| {
                    kept.retain(|known| known.id() != added.id());
                    kept.push(added);
                    Ok(())
                })?)
            }
            Order::Undo { id } => Some(self.change(|kept| {
                let before = kept.len();
                kept.retain(|known| known.id() != *id);
                if kept.len() < before { Ok(()) } else { Err(not_kept(id, &pages.of_file)) }
            })?),
        };
        if let Some(kept) = changed {
            pages.kept = kept;
            self.enforce(&pages);
        }
        let line = |kept: bool| {
            move |revocation: &Revocation| Kept {
                id: revocation.id(),
                line: revocation::print(revocation),
                kept,
            }
        };
        let revocations = pages.kept.iter().map(line(true)).chain(pages.of_file.iter().map(line(false)));
        Ok(Report { revocations: revocations.collect() })
    }

    /// Changes what is kept on disk; all that is kept then. One process at a time does that.
    fn change(
        &self,
        change: impl FnOnce(&mut Vec<Revocation>) -> Result<(), String>,
    ) -> Result<Vec<Revocation>, String> {
        let kept = self.kept.as_deref().ok_or(
            "there is no folder in which a revocation could outlive the daemon: set [state] folder, or write it \
             into the file of [revocation] file",
        )?;
        let failed = |error: io::Error| {
            format!("{} cannot be written ({error}): nothing is revoked by this", kept.display())
        };
        if let Some(folder) = kept.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let _lock = lock(&kept.with_extension("lock")).map_err(failed)?;
        let mut all = self.read_kept(kept).map_err(|fault| fault.to_string())?;
        let now = revocation::seconds(SystemTime::now());
        all.retain(|known| known.until.is_none_or(|until| until > now));
        change(&mut all)?;
        if all.len() > self.most {
            return Err(format!(
                "there are {} revocations already: raise [limits] revocations, or take some back",
                self.most
            ));
        }
        let text = text(&all);
        if text.len() as u64 > self.limit() {
            return Err("the notes of all revocations together are too long: write shorter ones".to_owned());
        }
        write(kept, &text).map_err(failed)?;
        Ok(all)
    }

    fn enforce(&self, pages: &Pages) {
        let all = pages.of_file.iter().chain(&pages.kept).cloned();
        self.in_force.set(Revocations::new(all, SystemTime::now()));
    }

    /// What is kept; nothing when nothing ever was.
    fn read_kept(&self, kept: &Path) -> Result<Vec<Revocation>, Diagnostic> {
        match kept.try_exists() {
            Ok(false) => Ok(Vec::new()),
            // Nothing can ever have been kept in what is no folder.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(Vec::new()),
            Ok(true) | Err(_) => self.read(kept),
        }
    }

    fn read(&self, file: &Path) -> Result<Vec<Revocation>, Diagnostic> {
        let fault = |message: String| Diagnostic::of_file(file, message);
        let limit = self.limit();
        let mut text = Vec::new();
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file);
        let read = opened.and_then(|file| file.take(limit + 1).read_to_end(&mut text));
        read.map_err(|error| {
            fault(format!(
                "cannot be read ({error}): revoked tokens must not be accepted again, so it has to be readable, or \
                 its name has to go from the configuration"
            ))
        })?;
        if text.len() as u64 > limit {
            return Err(fault(format!("is larger than {limit} bytes: raise [limits] revocations")));
        }
        let text = String::from_utf8(text).map_err(|_| fault("is not text in UTF-8".to_owned()))?;
        revocation::parse(&text, self.most).map_err(|found| Diagnostic {
            line: found.line,
            column: found.column,
            ..fault(found.message)
        })
    }

    /// Bytes of a file.
    fn limit(&self) -> u64 {
        BYTES_EACH.saturating_mul(self.most as u64).max(BYTES)
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_kept(id: &str, of_file: &[Revocation]) -> String {
    if of_file.iter().any(|known| known.id() == id) {
        return format!("{id} stands in the file of [revocation] file: remove its line there");
    }
    format!("there is no revocation {id}: `gatehouse revoke --list` shows them")
}

/// Waits for the lock, which goes with what is returned.
fn lock(path: &Path) -> io::Result<nix::fcntl::Flock<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, error)| error.into())
}

/// The content of the file with these.
fn text(all: &[Revocation]) -> String {
    let mut text = String::from("# Written by gatehouse revoke.\n");
    for revocation in all {
        text.push_str(&revocation::print(revocation));
        text.push('\n');
    }
    text
}

/// Replaces the file in one step; it is on disk when this returns. It belongs to whom its folder
/// belongs to: root may revoke for a daemon that is not root.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
    if let Some(folder) = path.parent() {
        let owner = fs::metadata(folder)?;
        // Only root can, and nobody else needs it.
        let _ = std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()));
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Carries out `order` without a daemon.
///
/// # Errors
///
/// What is wrong with the files, or why the order cannot be carried out.
pub fn revoke(config: &Config, order: &Order) -> Result<Report, String> {
    let (book, faults) = Book::load(config);
    match faults.first() {
        Some(fault) => Err(fault.to_string()),
        None => book.obey(order),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path, more: &str) -> Config {
        let text = format!("[state]\nfolder = \"state\"\n{more}\n");
        crate::config::parse(&folder.join("g.toml"), &text).expect("valid").0
    }

    fn add(line: &str) -> Order {
        Order::Add { line: line.to_owned() }
    }

    fn lines(book: &Book) -> Vec<String> {
        let report = book.obey(&Order::List).expect("a list");
        report.revocations.into_iter().map(|kept| kept.line).collect()
    }

    #[test]
    fn a_revocation_outlives_the_process_and_can_be_taken_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = config(folder.path(), "");
        let (book, faults) = Book::load(&config);
        assert!(faults.is_empty(), "{faults:?}");
        book.obey(&add("jti=a note=stolen")).expect("revoked");
        book.obey(&add("sub=alice iss=i until=2999-01-01T00:00:00Z")).expect("revoked");
        // Over at once, and forgotten with the next change.
        book.obey(&add("jti=b until=2001-01-01T00:00:00Z")).expect("revoked");
        book.obey(&add("jti=a note=again")).expect("the same, not twice");

        let (book, faults) = Book::load(&config);
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(lines(&book).len(), 2, "{:?}", lines(&book));
        assert_eq!(book.in_force().get().all().len(), 2);
        let report = book.obey(&Order::List).expect("a list");
        for kept in &report.revocations {
            book.obey(&Order::Undo { id: kept.id.clone() }).expect("taken back");
        }
        assert!(book.in_force().get().all().is_empty() && lines(&Book::load(&config).0).is_empty());
        assert!(book.obey(&Order::Undo { id: "0000000000".to_owned() }).is_err());
    }

    #[test]
    fn a_file_of_the_operator_is_read_anew_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("revoked.list");
        fs::write(&file, "jti=a\n").expect("written");
        let config = config(folder.path(), "[revocation]\nfile = \"revoked.list\"");
        let (book, _) = Book::load(&config);
        assert_eq!(book.refresh(), (false, Vec::new()));
        fs::write(&file, "jti=a\njti=b\n").expect("written");
        assert_eq!(book.refresh(), (true, Vec::new()));
        fs::write(&file, "jti=a\nrevoke all\n").expect("written");
        let (changed, faults) = book.refresh();
        let fault = faults.first().expect("a fault").to_string();
        assert!(!changed && fault.contains("revoked.list:2:1: "), "{fault}");
        fs::remove_file(&file).expect("removed");
        assert_eq!(book.refresh().1.len(), 1);
        assert_eq!(book.in_force().get().all().len(), 2);
        let id = book.obey(&Order::List).expect("a list").revocations[0].id.clone();
        let error = book.obey(&Order::Undo { id }).expect_err("of the file");
        assert!(error.contains("[revocation] file"), "{error}");
    }

    #[test]
    fn what_was_revoked_and_cannot_be_read_is_a_fault_and_not_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = config(folder.path(), "");
        fs::create_dir_all(folder.path().join("state")).expect("made");
        fs::write(folder.path().join("state/revocations"), "jti=a\nnonsense\n").expect("written");
        let (book, faults) = Book::load(&config);
        assert!(faults.len() == 1 && faults[0].to_string().contains("revocations:2:1: "), "{faults:?}");
        assert!(book.obey(&add("jti=b")).is_err(), "it is not overwritten");
        let text = fs::read_to_string(folder.path().join("state/revocations")).expect("readable");
        assert!(text.contains("nonsense"));
    }

    #[test]
    fn what_another_process_revokes_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = config(folder.path(), "");
        let (book, _) = Book::load(&config);
        revoke(&config, &add("jti=a")).expect("revoked");
        assert_eq!(book.refresh(), (true, Vec::new()));
        assert_eq!(book.in_force().get().all().len(), 1);
        assert_eq!(book.refresh(), (false, Vec::new()));
    }

    #[test]
    fn a_revocation_that_was_taken_can_be_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = config(folder.path(), "[limits]\nrevocations = 1");
        let (book, _) = Book::load(&config);
        book.obey(&add(&format!("jti=a note={}", "n".repeat(1024)))).expect("revoked");
        assert!(Book::load(&config).1.is_empty());
    }

    #[test]
    fn revocations_are_limited_and_need_a_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let limited = config(folder.path(), "[limits]\nrevocations = 1");
        let (book, _) = Book::load(&limited);
        book.obey(&add("jti=a")).expect("revoked");
        assert!(book.obey(&add("jti=b")).expect_err("one too many").contains("[limits] revocations"));
        assert_eq!(book.in_force().get().all().len(), 1);

        let nowhere = crate::config::parse(&folder.path().join("h.toml"), "").expect("valid").0;
        let error = Book::load(&nowhere).0.obey(&add("jti=a")).expect_err("no folder");
        assert!(error.contains("[state] folder"), "{error}");
    }
}
