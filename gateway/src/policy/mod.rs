//! The address policy: list formats, rules, the compiled generation, lookup and explanation.
//!
//! Pure: no file, no socket and no clock is touched here.

mod compile;
mod difference;
mod fold;
mod generation;
pub mod list;
mod overlaps;
mod patch;
mod rules;
mod sort;
mod source;
#[cfg(test)]
mod tests;

use ipnet::IpNet;

pub use compile::{CompileError, CompileLimits, List, PolicyInput, compile, recompile};
pub use difference::{Change, Difference, ListDifference};
pub use generation::{Generation, ListSummary, Overlap};
pub use list::{
    Diagnostic, Diagnostics, ListChange, ListEdit, ListEntry, ListReading, ListText, ParseOptions,
    ParsedList, Reread, UnpackError, parse_list, reread_list, unpack_list,
};
pub use source::{Source, SourceTable};

use crate::rejection::Reason;

/// The tiers of the policy, highest precedence first. Within one tier the longest prefix wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Always passes, so that operators cannot lock themselves out.
    NeverBlock,
    /// Dropped for a while, with an expiry.
    Ban,
    /// Passes.
    Allow,
    /// Dropped.
    Deny,
    /// Passes, and is reported: what would be dropped if its list were enforced. Where the default
    /// drops, such lists have no say: enforced, they would add nothing.
    Observe,
    /// In no list: the policy's default decides.
    Default,
}

impl Tier {
    /// Every tier, the highest first.
    pub const ALL: [Self; 5] = [Self::NeverBlock, Self::Ban, Self::Allow, Self::Deny, Self::Default];

    /// The name in the journal and in `explain`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NeverBlock => "never_block",
            Self::Ban => "ban",
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Observe => "observe",
            Self::Default => "default",
        }
    }

    /// The tier with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::Observe]).find(|tier| tier.name() == name)
    }

    /// What happens to an address that this tier decides about, in a policy whose default is
    /// `default`.
    pub const fn verdict(self, default: Verdict) -> Verdict {
        match self {
            Self::NeverBlock | Self::Allow | Self::Observe => Verdict::Pass,
            Self::Ban | Self::Deny => Verdict::Drop,
            Self::Default => default,
        }
    }
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Goes on to the host.
    Pass,
    /// Dropped.
    Drop,
}

/// The rule that decided about an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchedRule {
    /// The tier that decided.
    pub tier: Tier,
    /// What happens.
    pub verdict: Verdict,
    /// The prefix that matched; `None` when the default decided.
    pub prefix: Option<IpNet>,
    /// The list: a file path or `gatehouse.toml` for prefixes in the configuration itself; `None` for the default.
    pub list: Option<String>,
    /// Line in the list, counted from 1; 0 when the list has no lines.
    pub line: u32,
    /// Number of the generation that decided.
    pub generation: u64,
}

impl MatchedRule {
    /// Why a client to which this rule applies is rejected; `None` when it passes.
    pub const fn reason(&self) -> Option<Reason> {
        match (self.verdict, self.tier) {
            (Verdict::Pass, _) => None,
            (Verdict::Drop, Tier::Ban) => Some(Reason::FirewallBanned),
            (Verdict::Drop, Tier::Default) => Some(Reason::FirewallNotAllowed),
            (Verdict::Drop, Tier::Deny | Tier::Allow | Tier::NeverBlock | Tier::Observe) => {
                Some(Reason::FirewallDeniedRange)
            }
        }
    }
}
