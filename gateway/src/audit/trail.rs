//! The queue between those who record and the thread that writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use super::entry::Entry;
use super::fold::{Due, Fold};
use super::past::Remembered;
use super::record::Record;
use super::sink::Sink;

/// Takes entries of the audit trail.
pub trait AuditSink: Send + Sync {
    /// Records `entry` without waiting.
    fn record(&self, entry: Entry);
}

/// How much is kept before it is written, and after.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Entries that wait to be written.
    pub queue: usize,
    /// Rejections of a client for one reason that are written at once, before repeats are held.
    pub at_once: u32,
    /// The longest time for which repeats of a rejection are held, to be written as one; zero: none are.
    pub fold: Duration,
    /// Clients and reasons of which repeats are held.
    pub folded: usize,
    /// Handshakes that are remembered.
    pub remembered: usize,
}

/// Records entries without ever waiting. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Trail {
    queue: SyncSender<Entry>,
    lost: Arc<Losses>,
    remembered: Remembered,
}

/// Entries that were lost.
#[derive(Debug, Default)]
struct Losses {
    /// And not yet reported in the trail itself.
    unreported: AtomicU64,
    /// Since the start.
    total: AtomicU64,
}

impl Losses {
    fn add(&self, entries: u64) {
        self.unreported.fetch_add(entries, Ordering::Relaxed);
        self.total.fetch_add(entries, Ordering::Relaxed);
    }
}

impl Trail {
    /// A trail, and the thread that writes it to `sink`.
    pub fn start(mut sink: Box<dyn Sink>, settings: Settings) -> std::io::Result<(Self, Writer)> {
        let (sender, receiver) = sync_channel(settings.queue);
        let remembered = Remembered::new(settings.remembered);
        let lost = Arc::new(Losses::default());
        let trail = Self { queue: sender, lost: Arc::clone(&lost), remembered: remembered.clone() };
        let (running, done) = sync_channel(0);
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || {
            let _running: SyncSender<()> = running;
            let fold = Fold::new(settings.at_once, settings.fold, settings.folded);
            write_all(
                &receiver,
                fold,
                &remembered,
                &mut Out { sink: sink.as_mut(), lost: &lost, unwritten: 0 },
            );
        })?;
        Ok((trail, Writer { done }))
    }

    /// Entries lost since the start and not yet reported in the trail itself.
    pub fn lost(&self) -> u64 {
        self.lost.unreported.load(Ordering::Relaxed)
    }

    /// The handshakes of the last while.
    pub fn remembered(&self) -> &Remembered {
        &self.remembered
    }

    /// Entries lost since the start.
    pub fn lost_total(&self) -> u64 {
        self.lost.total.load(Ordering::Relaxed)
    }
}

impl AuditSink for Trail {
    /// Records `entry`, or counts it as lost when the queue is full.
    fn record(&self, entry: Entry) {
        if self.queue.try_send(entry).is_err() {
            self.lost.add(1);
        }
    }
}

/// The writing thread.
#[derive(Debug)]
pub struct Writer {
    done: Receiver<()>,
}

impl Writer {
    /// Waits until everything recorded is written, for `patience` at most; whether it was. All
    /// clones of the trail must be gone.
    pub fn finish(self, patience: Duration) -> bool {
        // The thread never sends: it hangs up when it ends.
        self.done.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }
}

/// How long the writer rests after it has written what there was. Who records while it rests wakes
/// nobody, and what comes in bursts is written in one piece: a handshake costs its thread a system
/// call and a switch less (`cargo xtask bench handshake`). It is less than anybody notices.
const REST: Duration = Duration::from_millis(2);

fn write_all(queue: &Receiver<Entry>, mut fold: Fold, remembered: &Remembered, out: &mut Out<'_>) {
    loop {
        let first = match fold.next() {
            None => queue.recv().map_err(RecvTimeoutError::from),
            Some(end) => queue.recv_timeout(end.saturating_duration_since(Instant::now())),
        };
        match first {
            Ok(first) => {
                let now = Instant::now();
                for entry in std::iter::once(first).chain(queue.try_iter()) {
                    remembered.note(&entry, SystemTime::now());
                    fold.take(entry, now).into_iter().for_each(|due| out.write(due));
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        fold.due(Instant::now()).into_iter().for_each(|due| out.write(due));
        out.flush();
        std::thread::sleep(REST);
    }
    fold.finish().into_iter().for_each(|due| out.write(due));
    out.flush();
    out.report_losses();
}

/// Where entries are written to.
struct Out<'a> {
    sink: &'a mut dyn Sink,
    lost: &'a Losses,
    /// What the entries that the sink keeps stand for.
    unwritten: u64,
}

impl Out<'_> {
    fn write(&mut self, (entry, repeats): Due) {
        let (record, count) = match repeats {
            None => (Record::from(&entry), 1),
            Some(repeats) => (Record::from(&entry).standing_for(&repeats), repeats.count),
        };
        match self.sink.write(&record) {
            Ok(()) => self.unwritten += count,
            Err(_) => self.lost.add(count),
        }
    }

    fn flush(&mut self) {
        let unwritten = std::mem::take(&mut self.unwritten);
        if self.sink.flush().is_err() {
            self.lost.add(unwritten);
        } else if unwritten > 0 {
            self.report_losses();
        }
    }

    fn report_losses(&mut self) {
        let missing = self.lost.unreported.swap(0, Ordering::Relaxed);
        let written = || self.sink.write(&Record::losses(missing)).and_then(|()| self.sink.flush());
        if missing > 0 && { written }().is_err() {
            self.lost.unreported.fetch_add(missing, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes into a channel that holds one record, so it blocks until the test takes it.
    struct Slow(SyncSender<Record>);

    impl Sink for Slow {
        fn write(&mut self, record: &Record) -> std::io::Result<()> {
            self.0.send(record.clone()).map_err(std::io::Error::other)
        }
    }

    fn settings(queue: usize) -> Settings {
        Settings { queue, at_once: 1, fold: Duration::from_secs(60), folded: 16, remembered: 16 }
    }

    #[test]
    fn a_sink_that_blocks_for_ever_does_not_keep_the_daemon_from_ending() {
        let (sender, records) = sync_channel(0);
        let (trail, writer) = Trail::start(Box::new(Slow(sender)), settings(4)).expect("a thread");
        trail.record(Entry::DroppedUnreported { reports: 1, packets: 1 });
        drop(trail);
        assert!(!writer.finish(Duration::from_millis(10)));
        drop(records);
    }

    #[test]
    fn a_full_queue_loses_entries_counts_them_and_says_so() {
        let (sender, records) = sync_channel(0);
        let (trail, writer) = Trail::start(Box::new(Slow(sender)), settings(4)).expect("a thread");
        // The writer holds at most one entry besides the queue's four, and nobody takes it.
        for packets in 0..10 {
            trail.record(Entry::DroppedUnreported { reports: 1, packets });
        }
        assert!(trail.lost() >= 5);
        drop(trail);
        let all: Vec<Record> = records.iter().collect();
        assert!(writer.finish(Duration::from_secs(5)));
        let said: u64 = all
            .iter()
            .flat_map(|record| record.fields.iter())
            .filter(|(name, _)| *name == "GATEHOUSE_LOST")
            .map(|(_, value)| value.parse::<u64>().expect("a number"))
            .sum();
        let kept = all.iter().filter(|record| record.message.contains("dropped at the card")).count() as u64;
        assert_eq!(kept + said, 10, "{all:#?}");
    }
}
