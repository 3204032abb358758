//! Tells when files in a set of folders change.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{Instant, timeout, timeout_at};

/// Quiet time after which a change counts as complete: editors write in several steps.
const QUIET: Duration = Duration::from_millis(50);
/// A file that changes all the time is read after this long at the latest.
const PATIENCE: Duration = Duration::from_millis(400);
/// How often to look all the same: network file systems and replaced folders send no events.
const TICK: Duration = Duration::from_secs(5);
/// How long a file that seems half written is given.
const SOON: Duration = Duration::from_millis(550);

/// Watches folders, not files: files are replaced by renaming, and globs gain new ones.
#[derive(Debug)]
pub(super) struct FolderWatch {
    watcher: RecommendedWatcher,
    events: Receiver<()>,
    wanted: BTreeSet<PathBuf>,
    watched: BTreeSet<PathBuf>,
    soon: bool,
}

impl FolderWatch {
    /// Watches nothing yet.
    pub(super) fn new() -> notify::Result<Self> {
        // Room for one: a change that waits to be handled covers all that come after it.
        let (sender, events) = channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error means lost events: look, to be sure.
            if event.map_or(true, |event| changes(event.kind)) {
                // Full means that a look is due already.
                let _ = sender.try_send(());
            }
        })?;
        Ok(Self { watcher, events, wanted: BTreeSet::new(), watched: BTreeSet::new(), soon: false })
    }

    /// Watches `folders` from now on, and no others.
    pub(super) fn set(&mut self, folders: BTreeSet<PathBuf>) {
        for gone in self.watched.difference(&folders) {
            // The folder may not exist any more.
            let _ = self.watcher.unwatch(gone);
        }
        self.watched = self.watched.intersection(&folders).cloned().collect();
        self.wanted = folders;
        self.watch_missing();
    }

    /// Waits until something has changed, or it is time to look all the same.
    pub(super) async fn changed(&mut self) {
        let tick = if std::mem::take(&mut self.soon) { SOON } else { TICK };
        if timeout(tick, self.events.recv()).await.is_err() {
            self.watched.retain(|folder| folder.is_dir());
            self.watch_missing();
            return;
        }
        let latest = Instant::now() + PATIENCE;
        while timeout_at((Instant::now() + QUIET).min(latest), self.events.recv()).await.is_ok() {}
    }

    /// Makes the next look due soon, whether something changes or not.
    pub(super) fn soon(&mut self) {
        self.soon = true;
    }

    fn watch_missing(&mut self) {
        for folder in self.wanted.difference(&self.watched).cloned().collect::<Vec<_>>() {
            match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(folder);
                }
                Err(error) => log::debug!("{} cannot be watched: {error}", folder.display()),
            }
        }
    }
}

/// Whether an event can mean a changed file. Reading must not count, or looking at a file would
/// be a reason to look at it again.
fn changes(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far longer than any change takes to be seen, and shorter than the tick.
    const PROMPTLY: Duration = Duration::from_secs(4);

    #[tokio::test]
    async fn a_file_written_in_place_or_replaced_by_renaming_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("deny.list");
        let mut watch = FolderWatch::new().expect("a watcher");
        watch.set(BTreeSet::from([folder.path().to_owned()]));

        std::fs::write(&file, "192.0.2.1\n").expect("written");
        timeout(PROMPTLY, watch.changed()).await.expect("seen");

        let other = folder.path().join("other");
        std::fs::write(&other, "192.0.2.2\n").expect("written");
        timeout(PROMPTLY, watch.changed()).await.expect("seen");
        std::fs::rename(&other, &file).expect("renamed");
        timeout(PROMPTLY, watch.changed()).await.expect("seen");
    }

    #[test]
    fn reading_a_file_is_not_a_change() {
        assert!(!changes(EventKind::Access(AccessKind::Open(AccessMode::Read))));
        assert!(!changes(EventKind::Access(AccessKind::Close(AccessMode::Read))));
        assert!(changes(EventKind::Access(AccessKind::Close(AccessMode::Write))));
    }
}
