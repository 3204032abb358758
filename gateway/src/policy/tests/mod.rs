//! Promises of the policy as a whole.

mod difference;
mod edits;
mod model;
mod overlaps;
mod promises;
mod recompiled;
mod tables;

use std::sync::Arc;

use ipnet::IpNet;

use super::*;

/// A list whose lines are numbered from 1.
fn list(tier: Tier, name: &str, prefixes: impl IntoIterator<Item = IpNet>) -> Arc<List> {
    let entries = prefixes.into_iter().zip(1..).map(|(prefix, line)| ListEntry { prefix, line }).collect();
    Arc::new(List { tier, name: name.into(), entries })
}

fn compiled(default: Verdict, lists: Vec<Arc<List>>) -> Generation {
    let input = PolicyInput { default, lists };
    let limits = CompileLimits::default();
    compile(7, &input, &limits, &mut SourceTable::default()).unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}
