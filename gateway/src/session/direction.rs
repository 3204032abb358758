//! One direction of a session: what has been read from one side, and has to reach the other.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::control::Controls;
use super::frames::Frames;
use super::stream::Stream;
use super::traffic::Meter;
use crate::rejection::Reason;

/// Bytes moved at once.
pub(super) const CHUNK: usize = 16 * 1024;

thread_local! {
    /// One buffer per thread: bytes do not stay in it from one step to the next, so an idle
    /// session needs none.
    static BUFFER: RefCell<Box<[u8; CHUNK]>> = RefCell::new(Box::new([0; CHUNK]));
}

/// How one direction ended.
#[derive(Debug)]
pub(super) enum End {
    /// Its source ended its half.
    Closed,
    /// Its source broke.
    Read(io::Error),
    /// Its destination broke.
    Write(io::Error),
    /// Its source sends more than it may; nothing more is read from it.
    Excess(Reason),
}

/// What is done with the bytes of a client besides sending them on.
#[derive(Debug)]
pub(super) struct Inbound {
    /// Takes the messages for the gate out.
    pub(super) controls: Option<Controls>,
    /// Counts.
    pub(super) meter: Option<Meter>,
}

/// What has been read from one side: followed, and not yet written in full.
#[derive(Debug, Default)]
pub(super) struct Direction {
    pub(super) frames: Frames,
    left: Vec<u8>,
    written: usize,
    /// Something was written that the destination may still hold.
    unflushed: bool,
    /// The source has come to its end; the destination has to hear it.
    ending: bool,
    /// The source has sent more than it may.
    excess: Option<Reason>,
    /// A whole frame of the gate's own, to be put in where no message is under way.
    insertion: Option<Vec<u8>>,
}

impl Direction {
    /// These bytes have been read already.
    pub(super) fn holding(bytes: Vec<u8>) -> Self {
        let mut frames = Frames::default();
        frames.follow(&bytes);
        Self { frames, left: bytes, ..Self::default() }
    }

    /// What waits to be written.
    pub(super) fn waiting(&self) -> &[u8] {
        &self.left[self.written..]
    }

    /// Whether a frame of the gate's own still waits for its place.
    pub(super) fn has_insertion(&self) -> bool {
        self.insertion.is_some()
    }

    /// Puts the whole frame `bytes` in, at the next place where no message is under way.
    pub(super) fn insert(&mut self, bytes: Vec<u8>) {
        self.insertion = Some(bytes);
    }

    /// The frame to put in now, behind all that was followed.
    fn insertion(&mut self) -> Option<Vec<u8>> {
        // Behind a Close frame nothing may be sent (RFC 6455 §5.5.1).
        if self.frames.is_closed() || self.frames.is_lost() {
            self.insertion = None;
        }
        self.insertion.take_if(|_| self.frames.is_between())
    }

    /// Moves what there is, as long as neither side has to be waited for. Nothing is lost or written
    /// twice when it is not polled to its end. The streams take care that one busy session does not
    /// keep its thread from the others. Bytes of a client go through
    /// `inbound`, where there is one.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        moved: &AtomicU64,
        mut inbound: Option<&mut Inbound>,
    ) -> Poll<End> {
        loop {
            if let Err(error) = ready!(self.poll_write(context, to, moved)) {
                return Poll::Ready(End::Write(error));
            }
            if self.ending {
                // It may be broken itself, and then knows.
                let _ = ready!(Pin::new(to).poll_shutdown(context));
                return Poll::Ready(End::Closed);
            }
            if let Some(frame) = self.insertion() {
                self.left = frame;
                continue;
            }
            if let Some(reason) = self.excess {
                return Poll::Ready(End::Excess(reason));
            }
            match ready!(self.poll_step(context, from, to, moved, inbound.as_deref_mut())) {
                Ok(0) => {
                    self.ending = true;
                    if let Some(Inbound { controls: Some(controls), .. }) = &mut inbound {
                        self.left = controls.release();
                        self.frames.follow(&self.left);
                    }
                }
                Ok(_) => {}
                Err(end) => return Poll::Ready(end),
            }
        }
    }

    /// Writes what waits.
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        to: &mut Stream,
        moved: &AtomicU64,
    ) -> Poll<io::Result<()>> {
        while self.written < self.left.len() {
            let count = ready!(Pin::new(&mut *to).poll_write(context, &self.left[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
            self.unflushed = true;
            moved.fetch_add(count as u64, Ordering::Relaxed);
        }
        if self.written > 0 {
            (self.left, self.written) = (Vec::new(), 0);
        }
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// One read, and a write if it does not have to wait; the bytes read.
    fn poll_step(
        &mut self,
        context: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        moved: &AtomicU64,
        inbound: Option<&mut Inbound>,
    ) -> Poll<Result<usize, End>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(&mut buffer[..]);
            if let Err(error) = ready!(Pin::new(from).poll_read(context, &mut buffer)) {
                return Poll::Ready(Err(End::Read(error)));
            }
            let bytes = buffer.filled();
            let read = bytes.len();
            if read == 0 {
                return Poll::Ready(Ok(0));
            }
            let mut passed = Vec::new();
            let (controls, meter) =
                inbound.map_or((None, None), |inbound| (inbound.controls.as_mut(), inbound.meter.as_ref()));
            let bytes = match controls {
                Some(controls) => {
                    controls.sift(bytes, &mut passed);
                    &passed
                }
                None => bytes,
            };
            if self.insertion.is_some()
                && let Some(whole) = self.frames.follow_to_boundary(bytes)
            {
                let frame = self.insertion().unwrap_or_default();
                self.frames.follow(&bytes[whole..]);
                self.left = [&bytes[..whole], &frame, &bytes[whole..]].concat();
                return Poll::Ready(Ok(read));
            }
            let messages = self.frames.messages();
            if self.insertion.is_none() {
                self.frames.follow(bytes);
            }
            if let Some(meter) = meter
                && let Err(reason) = meter.take(read, self.frames.messages() - messages)
            {
                self.excess = Some(reason);
            }
            if bytes.is_empty() {
                return Poll::Ready(Ok(read));
            }
            let written = match Pin::new(to).poll_write(context, bytes) {
                Poll::Ready(Ok(written)) => written,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(End::Write(error))),
                Poll::Pending => 0,
            };
            moved.fetch_add(written as u64, Ordering::Relaxed);
            self.unflushed |= written > 0;
            if written < bytes.len() {
                (self.left, self.written) = (bytes[written..].to_vec(), 0);
            }
            Poll::Ready(Ok(read))
        })
    }
}
