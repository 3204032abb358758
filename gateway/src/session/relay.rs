//! Relays the bytes of an admitted session both ways, unchanged, and ends it when its right to exist
//! ends.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::control::Controls;
use super::direction::{Direction, End, Inbound};
use super::farewell::{self, Farewell};
use super::pool::Seat;
use super::stream::Stream;
use super::traffic::Meter;
use super::upstream::Upstream;
use super::watched::Watched;
use crate::rejection::Reason;

/// Once one side has ended its half, the other may go on as long as it sends something within
/// this time.
const HALF_CLOSED: Duration = Duration::from_secs(10);

/// How a session ended.
#[derive(Debug)]
pub struct Ending {
    /// Why.
    pub why: Why,
    /// Bytes from the client to the upstream, after the handshake.
    pub bytes_up: u64,
    /// Bytes from the upstream to the client, after the handshake.
    pub bytes_down: u64,
    /// Whole messages of the client.
    pub messages_up: u64,
    /// Whole messages of the upstream.
    pub messages_down: u64,
}

/// Why a session ended.
#[derive(Debug)]
pub enum Why {
    /// One side ended it: in words.
    Side(String),
    /// The gate ended it.
    Gate(Farewell),
    /// The gate had no time left for a farewell.
    Cut,
}

/// Bytes that have arrived in the buffers of the kernel, and what else whoever ends the session has to
/// notice.
#[derive(Debug, Default)]
pub struct Moved {
    pub(super) up: AtomicU64,
    pub(super) down: AtomicU64,
    excess: OnceLock<Reason>,
    /// One for all that there is to notice: an idle session takes room for each that is waited for.
    notice: Notify,
}

impl Moved {
    /// Bytes both ways.
    pub fn total(&self) -> u64 {
        self.up.load(Ordering::Relaxed).wrapping_add(self.down.load(Ordering::Relaxed))
    }

    /// Bytes from the client and to it.
    pub fn bytes(&self) -> [u64; 2] {
        [self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed)]
    }

    fn exceed(&self, reason: Reason) {
        if self.excess.set(reason).is_ok() {
            self.notice();
        }
    }

    /// Lets whoever waits for [`Self::noticed`] look at the session.
    pub fn notice(&self) {
        self.notice.notify_one();
    }

    /// Waits until there is something to look at: the client has sent too much, or whatever else
    /// [`Self::notice`] was called for.
    pub fn noticed(&self) -> Notified<'_> {
        self.notice.notified()
    }

    /// The limit that the client has sent too much for.
    pub fn excess(&self) -> Option<Reason> {
        self.excess.get().copied()
    }
}

/// What both sides hear first.
#[derive(Debug)]
pub struct Greetings {
    /// What the gate says to the client: the answer to its handshake, or whole frames.
    pub to_client: Vec<u8>,
    /// What the client sent before it was admitted.
    pub to_upstream: Vec<u8>,
}

/// A session that may begin.
#[derive(Debug)]
pub struct Session {
    /// The client.
    pub client: Stream,
    /// The upstream, which has accepted.
    pub upstream: Upstream,
    /// What both sides hear first.
    pub greetings: Greetings,
    /// How long a farewell may take.
    pub patience: Duration,
    /// What client and gate tell each other in between.
    pub controls: Option<Controls>,
    /// What the client counts for; `None`: it may send any number.
    pub meter: Option<Meter>,
}

/// A session that is relayed. It is where everything of it is kept that lasts as long: what only its
/// start and its end need is not held in between.
#[derive(Debug)]
pub struct Relay<'a> {
    pair: Pair<'a>,
    to_client: Vec<u8>,
    patience: Duration,
    _seat: Seat,
}

impl<'a> Relay<'a> {
    /// Begins with what both sides hear first. Nothing is sent yet.
    pub fn new(session: Session, moved: &'a Moved) -> Self {
        let Session { client, upstream, greetings, patience, controls, meter } = session;
        let Upstream { stream, rest, seat, .. } = upstream;
        let Greetings { to_client, to_upstream } = greetings;
        let mut inbound =
            (controls.is_some() || meter.is_some()).then(|| Box::new(Inbound { controls, meter }));
        let to_upstream = match inbound.as_deref_mut() {
            Some(Inbound { controls: Some(controls), .. }) => {
                let mut passed = Vec::new();
                controls.sift(&to_upstream, &mut passed);
                passed
            }
            _ => to_upstream,
        };
        let (up, down) = (Direction::holding(to_upstream), Direction::holding(rest));
        let pair = Pair { client, upstream: stream, up, down, moved, inbound, turn: Side::Client };
        Self { pair, to_client, patience, _seat: seat }
    }

    /// Greets both sides and relays until either ends, `over` says why the gate has to
    /// end it, or `cut` cuts.
    ///
    /// Only now, when the upstream has validly accepted, is anything sent on that the client sent
    /// early.
    pub async fn run(
        &mut self,
        over: Pin<&mut impl Future<Output = Farewell>>,
        cut: &CancellationToken,
    ) -> Ending {
        let why = match self.greet(cut).await {
            Ok(()) => self.relay(over, cut).await,
            Err(why) => why,
        };
        let Pair { up, down, moved, .. } = &self.pair;
        Ending {
            why,
            bytes_up: moved.up.load(Ordering::Relaxed),
            bytes_down: moved.down.load(Ordering::Relaxed),
            messages_up: up.frames.messages(),
            messages_down: down.frames.messages(),
        }
    }

    async fn greet(&mut self, cut: &CancellationToken) -> Result<(), Why> {
        let to_client = std::mem::take(&mut self.to_client);
        tokio::select! {
            greeted = self.pair.client.write_all(&to_client) => {
                greeted.map_err(|error| Why::Side(Side::Client.broke(&error)))
            }
            () = cut.cancelled() => Err(Why::Cut),
        }
    }

    /// Relays until the session ends, with a farewell where there is one to tell.
    async fn relay(
        &mut self,
        over: Pin<&mut impl Future<Output = Farewell>>,
        cut: &CancellationToken,
    ) -> Why {
        let pair = &mut self.pair;
        let gate = pin!(async {
            tokio::select! {
                farewell = over => Some(farewell),
                () = cut.cancelled() => None,
            }
        });
        let farewell = tokio::select! {
            biased;
            farewell = Watched::new(gate) => match farewell {
                Some(farewell) => farewell,
                None => return Why::Cut,
            },
            why = pair.both_ways() => return Why::Side(why),
        };
        // Boxed, because most of the time it is not there.
        tokio::select! {
            () = Box::pin(farewell::tell(&farewell, pair, self.patience)) => {}
            () = cut.cancelled() => {}
        }
        Why::Gate(farewell)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Upstream,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Client => Self::Upstream,
            Self::Upstream => Self::Client,
        }
    }

    fn broke(self, error: &io::Error) -> String {
        format!("the connection of the {} broke: {error}", self.name())
    }
}

/// Both sides of a session, and what is between them.
#[derive(Debug)]
pub(super) struct Pair<'a> {
    pub(super) client: Stream,
    pub(super) upstream: Stream,
    pub(super) up: Direction,
    pub(super) down: Direction,
    pub(super) moved: &'a Moved,
    pub(super) inbound: Option<Box<Inbound>>,
    /// Whose bytes are moved first the next time, so that neither side starves the other.
    turn: Side,
}

impl Pair<'_> {
    /// Moves bytes until the session ends: how it ended, in words.
    async fn both_ways(&mut self) -> String {
        let (from, end) = poll_fn(|context| self.poll_either(context)).await;
        let to = from.other();
        match end {
            End::Excess(reason) => reason.title().to_owned(),
            // Nobody is left to send to.
            End::Read(error) => from.broke(&error),
            // What it sent before it broke can still be there.
            End::Write(error) => {
                Box::pin(self.finish(to)).await;
                to.broke(&error)
            }
            End::Closed if Box::pin(self.finish(to)).await => format!("the {} closed", from.name()),
            End::Closed => {
                format!("the {} closed, and the {} did not follow in time", from.name(), to.name())
            }
        }
    }

    /// The side whose direction has ended first.
    fn poll_either(&mut self, context: &mut Context<'_>) -> Poll<(Side, End)> {
        let first = self.turn;
        self.turn = first.other();
        for from in [first, first.other()] {
            if let Poll::Ready(end) = self.poll_from(from, context) {
                return Poll::Ready((from, end));
            }
        }
        Poll::Pending
    }

    fn poll_from(&mut self, from: Side, context: &mut Context<'_>) -> Poll<End> {
        let Self { client, upstream, up, down, moved, inbound, .. } = self;
        match from {
            Side::Client => match up.poll(context, client, upstream, &moved.up, inbound.as_deref_mut()) {
                Poll::Ready(End::Excess(reason)) => {
                    moved.exceed(reason);
                    Poll::Pending
                }
                other => other,
            },
            Side::Upstream => {
                if let Some(Inbound { controls: Some(controls), .. }) = inbound.as_deref_mut()
                    && !down.has_insertion()
                    && let Poll::Ready(Some(frame)) = controls.to_client.poll_recv(context)
                {
                    down.insert(frame);
                }
                down.poll(context, upstream, client, &moved.down, None)
            }
        }
    }

    /// Waits for the direction of `from` as long as it moves something; whether it came to its end.
    async fn finish(&mut self, from: Side) -> bool {
        loop {
            let before = self.moved.total();
            if timeout(HALF_CLOSED, poll_fn(|context| self.poll_from(from, context))).await.is_ok() {
                return true;
            }
            if self.moved.total() == before {
                return false;
            }
        }
    }
}
