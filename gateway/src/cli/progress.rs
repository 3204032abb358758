//! How far a long work is. Of a short one nothing is said, and nothing where nobody watches.

use std::io::{self, IsTerminal as _, Read, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What takes no longer is not spoken of.
const SHORT: Duration = Duration::from_millis(500);
/// From one look to the next.
const LOOK: Duration = Duration::from_millis(250);
/// Takes the line away again.
const CLEAR: &str = "\r\u{1b}[K";

/// A line on the terminal, from half a second after its start until this is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    done: Arc<AtomicU64>,
    /// Hung up to end the thread; `None` where there is no terminal.
    watch: Option<(SyncSender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Says that `what` is under way.
    pub(super) fn of(what: &'static str) -> Self {
        Self::out_of(what, 0)
    }

    /// The same, of a work of `total` steps; 0: nobody knows how many.
    pub(super) fn out_of(what: &'static str, total: u64) -> Self {
        let done = Arc::new(AtomicU64::new(0));
        let watch = io::stderr().is_terminal().then(|| {
            let (working, ended) = sync_channel::<()>(0);
            let done = Arc::clone(&done);
            let thread = thread::spawn(move || {
                let (started, mut wait, mut said) = (Instant::now(), SHORT, false);
                while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                    let line = line(what, done.load(Ordering::Relaxed), total, started.elapsed());
                    eprint(&format!("{CLEAR}{line}"));
                    (wait, said) = (LOOK, true);
                }
                if said {
                    eprint(CLEAR);
                }
            });
            (working, thread)
        });
        Self { done, watch }
    }

    /// `source`, whose bytes are the steps.
    pub(super) fn reading<R: Read>(&self, source: R) -> impl Read {
        Watched { source, done: Arc::clone(&self.done) }
    }

    /// Counts steps.
    pub(super) fn advance(&self, steps: u64) {
        self.done.fetch_add(steps, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((working, thread)) = self.watch.take() {
            drop(working);
            // What is printed next begins on a clear line. A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
struct Watched<R> {
    source: R,
    done: Arc<AtomicU64>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.done.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

fn line(what: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    match u128::from(done) * 100 {
        percent if total > 0 => {
            format!("{what}: {} %, {seconds} s", (percent / u128::from(total)).min(100))
        }
        0 => format!("{what}: {seconds} s"),
        _ => format!("{what}: {done}, {seconds} s"),
    }
}

fn eprint(text: &str) {
    // Nobody is left to be told when it fails.
    let _ = write!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_work_is_said() {
        let second = Duration::from_secs(1);
        assert_eq!(line("reading", 50, 200, second), "reading: 25 %, 1 s");
        assert_eq!(line("reading", 300, 200, second), "reading: 100 %, 1 s", "it can grow meanwhile");
        assert_eq!(line("reading", 0, 0, second), "reading: 1 s");
        assert_eq!(line("reading", 7, 0, second), "reading: 7, 1 s");
    }

    #[test]
    fn what_is_read_is_counted() {
        let progress = Progress::out_of("reading", 5);
        let mut text = String::new();
        progress.reading(&b"hello"[..]).read_to_string(&mut text).expect("a text");
        assert_eq!((text.as_str(), progress.done.load(Ordering::Relaxed)), ("hello", 5));
    }
}
