//! Keeps the revocations: those of the operator's file, and those of `gatehouse revoke`, which outlive
//! the daemon.

pub(super) mod file;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use self::file::Look;
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
    /// What `gatehouse revoke` has written; `None`: there is no state folder.
    kept: Option<PathBuf>,
    most: AtomicUsize,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    /// The operator's file.
    file: Option<PathBuf>,
    of_file: Vec<Revocation>,
    kept: Vec<Revocation>,
    stamp: Option<Stamp>,
    kept_stamp: Option<Stamp>,
}

/// What another configuration says about revocations.
#[derive(Debug)]
pub(super) struct Turned {
    most: usize,
    /// The operator's file, if it is another one or read by another limit, and what is in it.
    file: Option<(Option<PathBuf>, Option<Stamp>, Vec<Revocation>)>,
}

/// What a refresh found.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Refreshed {
    /// Whether other revocations are in force than before.
    pub changed: bool,
    /// The operator's file seems to be half written: it has to be looked at again soon.
    pub unfinished: bool,
    /// What is wrong with files that have changed.
    pub faults: Vec<Diagnostic>,
}

impl Book {
    /// The revocations of `config`, with everything that is wrong with them.
    pub(super) fn load(config: &Config) -> (Self, Vec<Diagnostic>) {
        let book = Self {
            in_force: InForce::default(),
            kept: config.state.as_ref().map(|folder| folder.join(NAME)),
            most: AtomicUsize::new(config.limits.revocations),
            pages: Mutex::default(),
        };
        let mut faults = Vec::new();
        let mut pages = Pages { file: config.revocation.file.clone(), ..Pages::default() };
        if let Some(file) = &pages.file {
            pages.stamp = Stamp::of(file).ok();
            match read(file, book.most()) {
                Ok(all) => pages.of_file = all,
                Err(fault) => faults.push(fault),
            }
        }
        pages.kept_stamp = book.kept_stamp();
        match book.kept.as_deref().map(|kept| read_kept(kept, book.most())) {
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

    /// What `config` says about revocations. Nothing is changed.
    ///
    /// # Errors
    ///
    /// What is wrong with a file that is another one, or with the number of revocations.
    pub(super) fn prepare(&self, config: &Config) -> Result<Turned, Diagnostic> {
        let most = config.limits.revocations;
        let file = &config.revocation.file;
        if most == self.most() && *file == self.pages().file {
            return Ok(Turned { most, file: None });
        }
        if let Some(kept) = &self.kept {
            read_kept(kept, most)?;
        }
        let stamp = file.as_deref().and_then(|file| Stamp::of(file).ok());
        let of_file = file.as_deref().map_or_else(|| Ok(Vec::new()), |file| read(file, most))?;
        Ok(Turned { most, file: Some((file.clone(), stamp, of_file)) })
    }

    /// Puts what was prepared in force.
    pub(super) fn take(&self, Turned { most, file }: Turned) {
        self.most.store(most, Ordering::Relaxed);
        if let Some((file, stamp, of_file)) = file {
            let mut pages = self.pages();
            (pages.file, pages.stamp, pages.of_file) = (file, stamp, of_file);
            self.enforce(&pages);
        }
    }

    /// Reads what has changed anew. A file that is faulty, gone or cut off leaves its last good
    /// revocations in force.
    pub(super) fn refresh(&self) -> Refreshed {
        let mut pages = self.pages();
        let mut refreshed = Refreshed::default();
        if let Some(file) = pages.file.clone() {
            self.look(&file, &mut pages, &mut refreshed);
        }
        // Another process may have revoked something.
        let stamp = self.kept_stamp();
        if let Some(kept) = self.kept.as_deref().filter(|_| stamp != pages.kept_stamp) {
            pages.kept_stamp = stamp;
            match read_kept(kept, self.most()) {
                Ok(all) => {
                    refreshed.changed |= all != pages.kept;
                    pages.kept = all;
                }
                Err(fault) => refreshed.faults.push(fault),
            }
        }
        if refreshed.changed {
            self.enforce(&pages);
        }
        refreshed
    }

    /// Looks at the operator's file.
    fn look(&self, file: &Path, pages: &mut Pages, refreshed: &mut Refreshed) {
        let stamp = Stamp::of(file).ok();
        if stamp == pages.stamp {
            return;
        }
        let look = file::look(file, limit(self.most()), self.most(), &pages.of_file, SystemTime::now());
        // What is still being written is looked at again although nothing may change any more.
        if !matches!(look, Look::Unfinished) {
            pages.stamp = stamp;
        }
        match look {
            Look::Good(all) => {
                pages.of_file = all;
                refreshed.changed = true;
            }
            Look::Unfinished => refreshed.unfinished = true,
            Look::Bad(fault) => refreshed.faults.push(fault),
        }
    }

    fn kept_stamp(&self) -> Option<Stamp> {
        Stamp::of(self.kept.as_deref()?).ok()
    }

    /// Carries out `order`. A revocation is in force, and on disk, when this returns. While it waits for
    /// another process that changes the file, nobody else waits for it.
    pub(super) fn obey(&self, order: &Order) -> Result<Report, String> {
        match order {
            Order::List => {}
            Order::Add { line } => {
                let mut added = revocation::parse(line, 1).map_err(|fault| fault.message)?;
                let added = added.pop().ok_or("nothing is said to be revoked")?;
                self.change(|kept| {
                    kept.retain(|known| known.id() != added.id());
                    kept.push(added);
                    Ok(())
                })?;
            }
            Order::Undo { id } => self.change(|kept| {
                let before = kept.len();
                kept.retain(|known| known.id() != *id);
                if kept.len() < before { Ok(()) } else { Err(not_kept(id, &self.pages().of_file)) }
            })?,
        }
        let pages = self.pages();
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

    /// Changes what is kept on disk, and puts it in force. One at a time does that, of all processes:
    /// the lock of the file is taken before that of the pages, and never after it.
    fn change(&self, change: impl FnOnce(&mut Vec<Revocation>) -> Result<(), String>) -> Result<(), String> {
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
        let _lock = file::lock(&kept.with_extension("lock")).map_err(failed)?;
        let mut all = read_kept(kept, self.most()).map_err(|fault| fault.to_string())?;
        let now = revocation::seconds(SystemTime::now());
        all.retain(|known| known.until.is_none_or(|until| until > now));
        change(&mut all)?;
        if all.len() > self.most() {
            return Err(format!(
                "there are {} revocations already: raise [limits] revocations, or take some back",
                self.most()
            ));
        }
        let text = file::text(&all);
        if text.len() as u64 > limit(self.most()) {
            return Err("the notes of all revocations together are too long: write shorter ones".to_owned());
        }
        file::write(kept, &text).map_err(failed)?;
        let mut pages = self.pages();
        pages.kept = all;
        self.enforce(&pages);
        Ok(())
    }

    fn enforce(&self, pages: &Pages) {
        let all = pages.of_file.iter().chain(&pages.kept).cloned();
        self.in_force.set(Revocations::new(all, SystemTime::now()));
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is kept; nothing when nothing ever was.
fn read_kept(kept: &Path, most: usize) -> Result<Vec<Revocation>, Diagnostic> {
    match kept.try_exists() {
        Ok(false) => Ok(Vec::new()),
        // Nothing can ever have been kept in what is no folder.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(Vec::new()),
        Ok(true) | Err(_) => read(kept, most),
    }
}

fn read(file: &Path, most: usize) -> Result<Vec<Revocation>, Diagnostic> {
    let text = file::read(file, limit(most))?;
    file::parse(file, &text, most)
}

/// Bytes of a file with so many revocations.
fn limit(most: usize) -> u64 {
    BYTES_EACH.saturating_mul(most as u64).max(BYTES)
}

fn not_kept(id: &str, of_file: &[Revocation]) -> String {
    if of_file.iter().any(|known| known.id() == id) {
        return format!("{id} stands in the file of [revocation] file: remove its line there");
    }
    format!("there is no revocation {id}: `gatehouse revoke --list` shows them")
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
mod tests;
