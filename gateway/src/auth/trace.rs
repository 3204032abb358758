//! The checks that a token went through, for `gatehouse explain`.

use super::judge::Identity;
use crate::rejection::{Layer, Rejection};

/// One check that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The layer that rejects when it fails.
    pub layer: Layer,
    /// Whether the token passed. A failed check is not the end where several issuers have the
    /// same `iss`: another of them may accept the token.
    pub passed: bool,
    /// What was found, in words for the operator.
    pub text: String,
}

/// A judgement with all its steps.
#[derive(Debug)]
pub struct Explanation {
    /// The checks in their order; the one that decided to reject is in `outcome` only.
    pub checks: Vec<Check>,
    /// The same as without an explanation.
    pub outcome: Result<Identity, Box<Rejection>>,
}

/// Takes down the checks. The unit type does not, and costs nothing: judging for real and
/// explaining are the same code.
pub(super) trait Trace {
    fn passed(&mut self, layer: Layer, text: impl FnOnce() -> String);
    fn failed(&mut self, layer: Layer, text: impl FnOnce() -> String);
}

impl Trace for () {
    fn passed(&mut self, _: Layer, _: impl FnOnce() -> String) {}
    fn failed(&mut self, _: Layer, _: impl FnOnce() -> String) {}
}

impl Trace for Vec<Check> {
    fn passed(&mut self, layer: Layer, text: impl FnOnce() -> String) {
        self.push(Check { layer, passed: true, text: text() });
    }

    fn failed(&mut self, layer: Layer, text: impl FnOnce() -> String) {
        self.push(Check { layer, passed: false, text: text() });
    }
}
