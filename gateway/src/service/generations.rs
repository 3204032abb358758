//! The generation in force and the one before it.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::policy::{Generation, MatchedRule};

/// A packet dropped by the generation before may be reported after the next one was published, so
/// both are kept.
#[derive(Debug)]
pub(super) struct Generations(ArcSwap<Pair>);

#[derive(Debug)]
struct Pair {
    current: Arc<Generation>,
    before: Option<Arc<Generation>>,
}

impl Generations {
    /// Starts with `first`.
    pub(super) fn new(first: Arc<Generation>) -> Self {
        Self(ArcSwap::from_pointee(Pair { current: first, before: None }))
    }

    /// The generation in force.
    pub(super) fn current(&self) -> Arc<Generation> {
        Arc::clone(&self.0.load().current)
    }

    /// Puts `next` in force.
    pub(super) fn advance(&self, next: Arc<Generation>) {
        let before = Some(self.current());
        self.0.store(Arc::new(Pair { current: next, before }));
    }

    /// The rule by which generation `number` decided about `address`. When that generation is
    /// gone, the oldest one that is left answers; its own number stands in the rule.
    pub(super) fn explain(&self, number: u64, address: IpAddr) -> MatchedRule {
        let pair = self.0.load();
        let generation = match &pair.before {
            Some(before) if number <= before.number() => before,
            _ => &pair.current,
        };
        generation.explain(address)
    }
}
