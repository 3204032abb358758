//! The thread that writes last good copies, so that no disk makes the policy wait.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::copies::{Copies, Copy};
use crate::policy::Tier;

/// Writes copies in the background. What waits when it is dropped is still written.
#[derive(Debug)]
pub(in super::super) struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What is in force, for the keeper.
#[derive(Debug, Default)]
pub(in super::super) struct Keep {
    /// New content.
    pub copies: Vec<Copy>,
    /// All lists: the copies of others go.
    pub lists: BTreeSet<(Tier, Arc<str>)>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// The newest content of each list only: a slow disk does not fill the memory.
    copies: BTreeMap<(Tier, Arc<str>), Copy>,
    lists: Option<BTreeSet<(Tier, Arc<str>)>>,
    stop: bool,
}

impl Keeper {
    /// A thread that writes to `copies`.
    pub(in super::super) fn start(copies: Copies) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("list-keeper".to_owned()).spawn(move || own.run(&copies))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Orders `keep` to be written.
    pub(in super::super) fn keep(&self, keep: Keep) {
        let mut queue = self.shared.lock();
        for copy in keep.copies {
            queue.copies.insert((copy.tier, Arc::clone(&copy.name)), copy);
        }
        queue.lists = Some(keep.lists);
        self.shared.wake.notify_one();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_one();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread that keeps last good copies of lists failed");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, copies: &Copies) {
        let mut known = BTreeSet::new();
        loop {
            let queue = self.wake.wait_while(self.lock(), |queue| {
                queue.copies.is_empty() && queue.lists.is_none() && !queue.stop
            });
            let mut queue = queue.unwrap_or_else(PoisonError::into_inner);
            let (next, lists, stop) = (queue.copies.pop_first(), queue.lists.take(), queue.stop);
            drop(queue);
            if let Some(lists) = lists.filter(|lists| *lists != known) {
                match copies.retain(&lists) {
                    Ok(()) => known = lists,
                    // Tried again when lists change the next time.
                    Err(error) => {
                        log::warn!("last good copies of lists that are gone cannot be removed: {error}")
                    }
                }
            }
            match next {
                Some((_, copy)) => {
                    if let Err(error) = copies.write(&copy) {
                        log::error!(
                            "{}: no last good copy can be kept ({error}): the list is in force all the same, but a \
                             restart has only the file; check the room and the permissions of [state] folder",
                            copy.name
                        );
                    }
                }
                None if stop => return,
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_waits_when_the_daemon_stops_is_still_written_and_the_newest_content_remains() {
        let folder = tempfile::tempdir().expect("a folder");
        let copies = Copies::open(folder.path()).expect("made");
        let keeper = Keeper::start(copies.clone()).expect("started");
        let name: Arc<str> = "a".into();
        for text in ["192.0.2.1\n", "192.0.2.2\n", "192.0.2.3\n"] {
            let copy = Copy {
                tier: Tier::Deny,
                name: Arc::clone(&name),
                entries: 1,
                changed: SystemTime::now(),
                text: text.into(),
            };
            let lists = [(Tier::Deny, Arc::clone(&name))].into();
            keeper.keep(Keep { copies: vec![copy], lists });
        }
        drop(keeper);
        let kept = copies.read(Tier::Deny, &name, 100).expect("good").expect("there");
        assert_eq!(kept.text, b"192.0.2.3\n");
    }
}
