//! What the program does with a frame, for user space: the same parsers and the same lookup in the
//! same order. The program counts on its way, so it has the order once more, and a test in the
//! kernel compares the two.

use crate::counters::Outcome;
use crate::generation::{Blocks, Decision, lookup};
use crate::packet::{Frame, Ip, Network, Source, is_neighbour_discovery, network};
use crate::scope;
use crate::transport::transport;

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The verdict on its source applies.
    Decided(Source, Decision),
    /// It passes for another reason than the verdict on its source.
    Passed(Outcome),
}

impl Judgement {
    /// Whether the frame is dropped.
    pub const fn is_drop(self) -> bool {
        match self {
            Self::Decided(_, decision) => decision.is_drop(),
            Self::Passed(_) => false,
        }
    }
}

/// What becomes of `frame`, by this generation. `guarded` tells the guarded ports; `None`: the
/// verdicts apply to all traffic.
pub fn judge<B, F, G>(generation: &B, frame: &F, guarded: Option<G>) -> Judgement
where
    B: Blocks + ?Sized,
    F: Frame + ?Sized,
    G: FnOnce(u16) -> bool,
{
    let ip = match network(frame) {
        Network::Ip(ip) => ip,
        Network::Other => return Judgement::Passed(Outcome::NotIp),
        Network::Malformed => return Judgement::Passed(Outcome::Malformed),
    };
    let decision = lookup(generation, ip.source);
    if decision.is_clear() {
        return Judgement::Decided(ip.source, decision);
    }
    spared(frame, &ip, guarded).map_or(Judgement::Decided(ip.source, decision), Judgement::Passed)
}

/// Why this packet passes even when its source is denied; `None`: it does not.
pub fn spared<F, G>(frame: &F, ip: &Ip, guarded: Option<G>) -> Option<Outcome>
where
    F: Frame + ?Sized,
    G: FnOnce(u16) -> bool,
{
    if is_neighbour_discovery(frame, ip) {
        return Some(Outcome::NeighbourDiscovery);
    }
    let out_of_scope = guarded.is_some_and(|guarded| !scope::applies(transport(frame, ip), guarded));
    out_of_scope.then_some(Outcome::OutOfScope)
}
