//! What was measured, as a table for the documentation, and whether the targets are met.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::Kind;
use crate::gateways::tokens::Algorithm;

/// One measurement.
pub(crate) struct Sample {
    pub(crate) count: usize,
    pub(crate) clock: Duration,
    /// Seconds of the gateway's CPU time.
    pub(crate) cpu: Option<f64>,
}

/// All measurements: by gateway, algorithm and kind.
#[derive(Default)]
pub(crate) struct Report(BTreeMap<(&'static str, &'static str, Kind), Vec<Sample>>);

const GATES: [&str; 4] = ["gatehouse", "HAProxy", "Envoy", "no gateway"];

impl Report {
    pub(crate) fn add(&mut self, gate: &'static str, algorithm: Algorithm, kind: Kind, sample: Sample) {
        self.0.entry((gate, algorithm.name(), kind)).or_default().push(sample);
    }

    /// Handshakes in a second of the clock, and of the gateway's CPU time.
    fn rates(&self, gate: &'static str, algorithm: Algorithm, kind: Kind) -> (Option<f64>, Option<f64>) {
        let Some(samples) = self.0.get(&(gate, algorithm.name(), kind)) else { return (None, None) };
        let by_clock = samples.iter().map(|sample| sample.count as f64 / sample.clock.as_secs_f64());
        // The kernel counts CPU time in ticks: together, they are many.
        let handshakes: usize = samples.iter().map(|sample| sample.count).sum();
        let cpu: Option<f64> = samples.iter().map(|sample| sample.cpu).sum();
        (median(by_clock.collect()), cpu.filter(|cpu| *cpu > 0.0).map(|cpu| handshakes as f64 / cpu))
    }

    fn cell(&self, gate: &'static str, algorithm: Algorithm, kind: Kind) -> String {
        let number = |rate: Option<f64>| rate.map_or("–".to_owned(), |rate| format!("{rate:.0}"));
        let (clock, cpu) = self.rates(gate, algorithm, kind);
        format!("{} / {}", number(clock), number(cpu))
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nHandshakes in a second of the clock (median) / of the gateway's CPU time (all rounds).\n"
        )?;
        writeln!(
            f,
            "| gateway, algorithm | fresh tokens | repeated | refused: bad signature | expired | garbage |"
        )?;
        writeln!(f, "|---|--:|--:|--:|--:|--:|")?;
        for algorithm in Algorithm::ALL {
            for gate in GATES {
                write!(f, "| {gate}, {} |", algorithm.name())?;
                for kind in Kind::ALL {
                    write!(f, " {} |", self.cell(gate, algorithm, kind))?;
                }
                writeln!(f)?;
            }
        }
        writeln!(f, "\n| target, by the clock | measured | |\n|---|--:|---|")?;
        for algorithm in Algorithm::ALL {
            let rate = |gate, kind| self.rates(gate, algorithm, kind).0;
            let name = algorithm.name();
            for (peer, kind, least) in [
                ("HAProxy", Kind::Fresh, 1.0),
                ("HAProxy", Kind::Repeated, 1.0),
                ("Envoy", Kind::Fresh, 3.0),
                ("Envoy", Kind::Repeated, 3.0),
            ] {
                let what = format!("{name}, {kind:?} tokens: {least} times {peer}");
                target(f, &what, rate("gatehouse", kind), rate(peer, kind), least)?;
            }
            for kind in [Kind::Forged, Kind::Expired, Kind::Garbage] {
                let what = format!("{name}, {kind:?}: refusals 3 times admissions of fresh tokens");
                target(f, &what, rate("gatehouse", kind), rate("gatehouse", Kind::Fresh), 3.0)?;
            }
        }
        Ok(())
    }
}

/// A line about a target; none where there is nothing to compare with.
fn target(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    ours: Option<f64>,
    theirs: Option<f64>,
    least: f64,
) -> fmt::Result {
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return Ok(()) };
    let ratio = ours / theirs;
    writeln!(f, "| {what} | {ratio:.2} | {} |", if ratio >= least { "met" } else { "NOT met" })
}
