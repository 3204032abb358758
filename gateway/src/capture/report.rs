//! What a policy would have done with captured traffic.

use std::cmp::Reverse;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

/// What a policy would have done with a capture.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CaptureReport {
    /// Packets that were judged.
    pub packets: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// Those that would be dropped.
    pub dropped_packets: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// What each list, and the default, decides.
    pub lists: Vec<ListPackets>,
    /// Packets that pass whatever the lists say, by the reason.
    pub passed_otherwise: Vec<(String, u64)>,
    /// Dropped sources with the most packets.
    pub top_dropped: Vec<TopSource>,
    /// Different sources that verdicts apply to.
    pub sources: usize,
    /// Packets of sources beyond those that can be told apart: in the sums, but in no comparison.
    pub packets_of_more_sources: u64,
    /// Packets of kinds that are not judged.
    pub other_packets: u64,
    /// The file is cut off or damaged: what stands before that was judged.
    pub cut_off: bool,
    /// What changes by the policy; `None` without a daemon to compare with.
    pub changes: Option<Changes>,
}

/// What one list decides.
#[derive(Clone, Debug, Serialize)]
pub struct ListPackets {
    /// Its tier.
    pub tier: String,
    /// Its name; `None` for the default.
    pub list: Option<String>,
    /// What happens to the packets.
    pub verdict: String,
    /// How many.
    pub packets: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
}

/// A source and the rule that decides about it.
#[derive(Clone, Debug, Serialize)]
pub struct TopSource {
    /// The source.
    pub source: IpAddr,
    /// Packets that the verdict applies to.
    pub packets: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// The prefix; `None` when the default decides.
    pub prefix: Option<String>,
    /// The list.
    pub list: Option<String>,
    /// Its line; 0 when it has none.
    pub line: u32,
}

/// What changes from the policy in force.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Changes {
    /// Who passed, and would be dropped.
    pub newly_dropped: Change,
    /// Who was dropped, and would pass.
    pub newly_passing: Change,
}

/// Sources whose verdict changes in one direction.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Change {
    /// How many.
    pub sources: u64,
    /// Their packets.
    pub packets: u64,
    /// Those with the most packets.
    pub top: Vec<TopSource>,
}

impl Change {
    /// Adds a source.
    pub(super) fn add(&mut self, source: TopSource) {
        self.sources += 1;
        self.packets += source.packets;
        self.top.push(source);
    }

    /// Keeps the busiest.
    pub(super) fn keep(&mut self, most: usize) {
        busiest(&mut self.top, most);
    }
}

/// Keeps those with the most packets, the busiest first.
pub(super) fn busiest(sources: &mut Vec<TopSource>, most: usize) {
    sources.sort_unstable_by_key(|source| (Reverse(source.packets), source.source));
    sources.truncate(most);
}

impl fmt::Display for CaptureReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "of {} captured packets ({} bytes), {} ({} bytes) would be dropped:",
            self.packets, self.bytes, self.dropped_packets, self.dropped_bytes
        )?;
        for ListPackets { tier, list, verdict, packets, bytes } in &self.lists {
            let list = list.as_deref().unwrap_or("in no list");
            writeln!(f, "  {tier:11} {packets:>12} packets {bytes:>15} bytes {verdict}  {list}")?;
        }
        for (reason, packets) in &self.passed_otherwise {
            writeln!(f, "  {:11} {packets:>12} packets passed whatever the lists say: {reason}", "")?;
        }
        top(f, "most dropped", &self.top_dropped)?;
        if let Some(Changes { newly_dropped, newly_passing }) = &self.changes {
            for (what, change) in [("newly dropped", newly_dropped), ("newly passing", newly_passing)] {
                writeln!(f, "{what}: {} packets of {} sources", change.packets, change.sources)?;
                top(f, what, &change.top)?;
            }
        }
        if self.packets_of_more_sources > 0 {
            writeln!(
                f,
                "{} packets came from more sources than the {} that are told apart: they are in the sums only",
                self.packets_of_more_sources, self.sources
            )?;
        }
        if self.other_packets > 0 {
            writeln!(f, "{} packets are of kinds that are not judged", self.other_packets)?;
        }
        if self.cut_off {
            writeln!(f, "the file is cut off or damaged: what stands before that was judged")?;
        }
        Ok(())
    }
}

fn top(f: &mut fmt::Formatter<'_>, what: &str, sources: &[TopSource]) -> fmt::Result {
    for TopSource { source, packets, prefix, list, line, .. } in sources {
        write!(f, "  {what}: {source}, {packets} packets")?;
        match (prefix, list) {
            (Some(prefix), Some(list)) => writeln!(f, ", {prefix} at {list}:{line}")?,
            _ => writeln!(f, ", in no list")?,
        }
    }
    Ok(())
}
