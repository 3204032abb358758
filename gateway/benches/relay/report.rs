//! What was measured, as tables for the documentation, and whether the targets are met.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::{NO_GATEWAY, Traffic};

/// KiB of an idle session, at most.
const MEMORY: f64 = 4.0;
/// The same with TLS.
const SECURED_MEMORY: f64 = 24.0;
const GATES: [&str; 4] = ["gatehouse", "HAProxy", "Envoy", NO_GATEWAY];

/// One measurement.
pub(crate) struct Sample {
    pub(crate) clock: Duration,
    /// How long each message took there and back.
    pub(crate) latencies: Vec<Duration>,
    /// Seconds of the gateway's CPU time.
    pub(crate) cpu: Option<f64>,
}

/// What remains of a measurement.
struct Row {
    /// Messages in a second.
    rate: f64,
    messages: usize,
    cpu: Option<f64>,
    /// Microseconds that half of the messages took at most, and 99 of 100.
    middle: f64,
    slow: f64,
}

/// All measurements, by gateway and traffic, and KiB of an idle session by gateway.
#[derive(Default)]
pub(crate) struct Report {
    rows: BTreeMap<(&'static str, Traffic), Vec<Row>>,
    memory: BTreeMap<&'static str, f64>,
    /// The same with TLS.
    secured: BTreeMap<&'static str, f64>,
}

impl Report {
    pub(crate) fn add(&mut self, gate: &'static str, traffic: Traffic, mut sample: Sample) {
        sample.latencies.sort_unstable();
        let part = |percent: usize| {
            let at = (sample.latencies.len() * percent / 100).min(sample.latencies.len().saturating_sub(1));
            sample.latencies.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
        };
        let row = Row {
            rate: sample.latencies.len() as f64 / sample.clock.as_secs_f64(),
            messages: sample.latencies.len(),
            cpu: sample.cpu,
            middle: part(50),
            slow: part(99),
        };
        self.rows.entry((gate, traffic)).or_default().push(row);
    }

    pub(crate) fn remember(&mut self, gate: &'static str, kib: f64) {
        self.memory.insert(gate, kib);
    }

    pub(crate) fn remember_secured(&mut self, gate: &'static str, kib: f64) {
        self.secured.insert(gate, kib);
    }

    fn median(&self, gate: &'static str, traffic: Traffic, of: fn(&Row) -> f64) -> Option<f64> {
        let mut values: Vec<f64> = self.rows.get(&(gate, traffic))?.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    /// Messages in a second of the gateway's CPU time, of all rounds: the kernel counts it in ticks.
    fn by_cpu(&self, gate: &'static str, traffic: Traffic) -> Option<f64> {
        let rows = self.rows.get(&(gate, traffic))?;
        let messages: usize = rows.iter().map(|row| row.messages).sum();
        let cpu: Option<f64> = rows.iter().map(|row| row.cpu).sum();
        cpu.filter(|cpu| *cpu > 0.0).map(|cpu| messages as f64 / cpu)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: std::collections::BTreeSet<Traffic> =
            self.rows.keys().map(|(_, traffic)| *traffic).collect();
        let number = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.0}"));
        writeln!(
            f,
            "\n| sessions, bytes | gateway | messages/s by the clock | by CPU time | p50, µs | p99, µs |"
        )?;
        writeln!(f, "|---|---|--:|--:|--:|--:|")?;
        for &traffic in &kinds {
            for gate in GATES {
                let Some(rate) = self.median(gate, traffic, |row| row.rate) else { continue };
                let middle = self.median(gate, traffic, |row| row.middle);
                let slow = self.median(gate, traffic, |row| row.slow);
                writeln!(
                    f,
                    "| {}, {} | {gate} | {rate:.0} | {} | {} | {} |",
                    traffic.sessions,
                    traffic.size,
                    number(self.by_cpu(gate, traffic)),
                    number(middle),
                    number(slow)
                )?;
            }
        }
        writeln!(f, "\n| memory of an idle session | KiB | with TLS |\n|---|--:|--:|")?;
        for (gate, kib) in &self.memory {
            let secured = self.secured.get(gate).map_or("–".to_owned(), |kib| format!("{kib:.1}"));
            writeln!(f, "| {gate} | {kib:.1} | {secured} |")?;
        }
        writeln!(f, "\n| target | measured | |\n|---|--:|---|")?;
        let met = |met: bool| if met { "met" } else { "NOT met" };
        for &traffic in &kinds {
            let of = |gate, what| self.median(gate, traffic, what);
            let name = format!("{} sessions, {} bytes", traffic.sessions, traffic.size);
            let rates = (of("gatehouse", |row| row.rate), of("HAProxy", |row| row.rate));
            if let (Some(ours), Some(theirs)) = rates {
                let ratio = ours / theirs;
                writeln!(f, "| {name}: at least HAProxy's rate | {ratio:.2} | {} |", met(ratio >= 1.0))?;
            }
            let slow = (of("gatehouse", |row| row.slow), of("HAProxy", |row| row.slow));
            if let (Some(ours), Some(theirs)) = slow {
                let ratio = ours / theirs;
                writeln!(f, "| {name}: at most HAProxy's p99 | {ratio:.2} | {} |", met(ratio <= 1.0))?;
            }
        }
        if let Some(kib) = self.memory.get("gatehouse") {
            writeln!(f, "| an idle session: at most {MEMORY} KiB | {kib:.1} | {} |", met(*kib <= MEMORY))?;
        }
        if let Some(kib) = self.secured.get("gatehouse") {
            let limit = SECURED_MEMORY;
            writeln!(f, "| the same with TLS: at most {limit} KiB | {kib:.1} | {} |", met(*kib <= limit))?;
        }
        Ok(())
    }
}
