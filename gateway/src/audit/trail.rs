//! The queue between those who record and the thread that writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::entry::Entry;
use super::record::Record;
use super::sink::Sink;

/// Takes entries of the audit trail.
pub trait AuditSink: Send + Sync {
    /// Records `entry` without waiting.
    fn record(&self, entry: Entry);
}

/// Records entries without ever waiting. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Trail {
    queue: SyncSender<Entry>,
    lost: Arc<Losses>,
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
    /// A trail with room for `queue` waiting entries, and the thread that writes them to `sink`.
    pub fn start(mut sink: Box<dyn Sink>, queue: usize) -> std::io::Result<(Self, Writer)> {
        let (sender, receiver) = sync_channel(queue);
        let lost = Arc::new(Losses::default());
        let trail = Self { queue: sender, lost: Arc::clone(&lost) };
        let (running, done) = sync_channel(0);
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || {
            let _running: SyncSender<()> = running;
            write_all(&receiver, sink.as_mut(), &lost);
        })?;
        Ok((trail, Writer { done }))
    }

    /// Entries lost since the start and not yet reported in the trail itself.
    pub fn lost(&self) -> u64 {
        self.lost.unreported.load(Ordering::Relaxed)
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

fn write_all(queue: &Receiver<Entry>, sink: &mut dyn Sink, lost: &Losses) {
    while let Ok(first) = queue.recv() {
        let mut unwritten = 0;
        for entry in std::iter::once(first).chain(queue.try_iter()) {
            match sink.write(&Record::from(&entry)) {
                Ok(()) => unwritten += 1,
                Err(_) => lost.add(1),
            }
        }
        if sink.flush().is_err() {
            lost.add(unwritten);
        } else {
            report_losses(sink, lost);
        }
        std::thread::sleep(REST);
    }
    report_losses(sink, lost);
}

fn report_losses(sink: &mut dyn Sink, lost: &Losses) {
    let missing = lost.unreported.swap(0, Ordering::Relaxed);
    if missing > 0 && sink.write(&Record::losses(missing)).and_then(|()| sink.flush()).is_err() {
        lost.unreported.fetch_add(missing, Ordering::Relaxed);
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

    #[test]
    fn a_sink_that_blocks_for_ever_does_not_keep_the_daemon_from_ending() {
        let (sender, records) = sync_channel(0);
        let (trail, writer) = Trail::start(Box::new(Slow(sender)), 4).expect("a thread");
        trail.record(Entry::DroppedUnreported { reports: 1, packets: 1 });
        drop(trail);
        assert!(!writer.finish(Duration::from_millis(10)));
        drop(records);
    }

    #[test]
    fn a_full_queue_loses_entries_counts_them_and_says_so() {
        let (sender, records) = sync_channel(0);
        let (trail, writer) = Trail::start(Box::new(Slow(sender)), 4).expect("a thread");
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
            .flat_map(|record| &record.fields)
            .filter(|(name, _)| *name == "GATEHOUSE_LOST")
            .map(|(_, value)| value.parse::<u64>().expect("a number"))
            .sum();
        let kept = all.iter().filter(|record| record.message.contains("dropped at the card")).count() as u64;
        assert_eq!(kept + said, 10, "{all:#?}");
    }
}
