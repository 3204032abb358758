//! The results as a table.

use std::fmt;
use std::time::Duration;

use crate::lane::Seat;
use crate::loading::{Loading, Steps};
use crate::measure::Rate;
use crate::peers::{Cost, GATEHOUSE, IPSET, LIMIT, NFTABLES, PARSE_ONLY, SILENT, TRIE};
use crate::scene::{Family, Path};

/// All results.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// One for each peer and scene.
    pub(crate) rows: Vec<Row>,
    /// From file to enforced.
    pub(crate) loading: Vec<Loading>,
    absent: Vec<String>,
}

/// One peer in one scene.
#[derive(Debug)]
pub(crate) struct Row {
    /// Name of the peer.
    pub(crate) peer: &'static str,
    /// IP version.
    pub(crate) family: Family,
    /// Prefixes in the list.
    pub(crate) size: u32,
    /// What becomes of the packets.
    pub(crate) path: Path,
    /// For each round, one for each [`Seat`].
    pub(crate) rates: Vec<[Rate; 2]>,
    cost: Cost,
}

impl Row {
    /// Without results yet.
    pub(crate) fn new(peer: &'static str, family: Family, size: u32, path: Path, cost: Cost) -> Self {
        Self { peer, family, size, path, rates: Vec::new(), cost }
    }

    /// Median of the packets in one second of CPU time, in millions.
    pub(crate) fn mpps(&self, seat: Seat) -> f64 {
        median(&self.sorted(seat, |rate| rate.mpps))
    }

    /// This one's rate as a multiple of another's: the median of the rounds, in each of which they were
    /// measured one after the other. What the machine does meanwhile changes from round to round.
    fn times(&self, seat: Seat, other: &Self) -> f64 {
        let rounds = self.rates.iter().zip(&other.rates);
        let mut ratios: Vec<f64> =
            rounds.map(|(own, other)| own[seat as usize].mpps / other[seat as usize].mpps).collect();
        ratios.sort_by(f64::total_cmp);
        median(&ratios)
    }

    fn sorted(&self, seat: Seat, figure: impl Fn(&Rate) -> f64) -> Vec<f64> {
        let mut figures: Vec<f64> = self.rates.iter().map(|rates| figure(&rates[seat as usize])).collect();
        figures.sort_by(f64::total_cmp);
        figures
    }

    /// Median, lowest and highest, and how busy.
    fn shown(&self, seat: Seat) -> String {
        let rates = self.sorted(seat, |rate| rate.mpps);
        let (low, high) = (rates.first().copied().unwrap_or(0.0), rates.last().copied().unwrap_or(0.0));
        let busy = self.sorted(seat, |rate| rate.busy);
        let busy = median(&busy) * 100.0;
        format!("{:.2} ({low:.2}–{high:.2}; {busy:.0} %)", self.mpps(seat))
    }

    fn ratio(&self, seat: Seat, other: Option<&Self>) -> String {
        other.map_or_else(|| "–".to_owned(), |other| format!("{:.2}", self.times(seat, other)))
    }
}

/// The median of what is sorted.
fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What the address policy should reach: Gatehouse's rate as a multiple of another's.
struct Target {
    path: Path,
    family: Option<Family>,
    size: Option<u32>,
    against: &'static str,
    least: f64,
}

const fn drops(family: Option<Family>, size: u32, against: &'static str, least: f64) -> Target {
    Target { path: Path::Drop, family, size: Some(size), against, least }
}

const TARGETS: [Target; 8] = [
    drops(Some(Family::V4), 10_000, LIMIT, 0.9),
    drops(Some(Family::V4), 1_000_000, LIMIT, 0.75),
    drops(Some(Family::V4), 1_000_000, TRIE, 8.0),
    drops(Some(Family::V4), 1_000_000, NFTABLES, 10.0),
    drops(Some(Family::V4), 1_000_000, IPSET, 3.0),
    drops(Some(Family::V6), 1_000_000, TRIE, 4.0),
    // The report of the dropped clients.
    Target { path: Path::Drop, family: None, size: None, against: SILENT, least: 0.9 },
    Target { path: Path::Pass, family: None, size: None, against: PARSE_ONLY, least: 1.0 / 1.5 },
];

/// What loading should reach.
const WHOLE_LIST: Duration = Duration::from_millis(500);
const ONE_LINE: Duration = Duration::from_millis(50);

impl Report {
    /// Notes that `peer` cannot run here; once for each reason.
    pub(crate) fn absent(&mut self, peer: &str, why: &str) {
        let line = format!("{peer} cannot run here: {why}");
        if !self.absent.contains(&line) {
            self.absent.push(line);
        }
    }

    fn beside(&self, row: &Row, peer: &str) -> Option<&Row> {
        self.rows.iter().find(|other| {
            (other.family, other.size, other.path) == (row.family, row.size, row.path) && other.peer == peer
        })
    }

    fn table(&self, f: &mut fmt::Formatter<'_>, path: Path, base: &str) -> fmt::Result {
        writeln!(
            f,
            "| list | peer | shared CPU: Mpps | of {base} | Gatehouse × | own CPU: Mpps | of {base} | Gatehouse × | loading | kernel | user |\n\
             |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
        )?;
        for row in self.rows.iter().filter(|row| row.path == path) {
            write!(f, "| {} {} | {} |", thousands(row.size), row.family.name(), row.peer)?;
            for seat in Seat::ALL {
                let of_base = row.ratio(seat, self.beside(row, base));
                let ours =
                    self.beside(row, GATEHOUSE).map_or_else(String::new, |ours| ours.ratio(seat, Some(row)));
                write!(f, " {} | {of_base} | {ours} |", row.shown(seat))?;
            }
            let Cost { loading, kernel, user } = row.cost;
            writeln!(f, " {} | {} | {} |", time(loading), mib(kernel), mib(user))?;
        }
        writeln!(f)
    }

    fn targets(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Targets:")?;
        for target in &TARGETS {
            let ours = self.rows.iter().filter(|row| {
                row.peer == GATEHOUSE
                    && row.path == target.path
                    && target.family.is_none_or(|family| family == row.family)
                    && target.size.is_none_or(|size| size == row.size)
            });
            let mut ratios = Vec::new();
            for row in ours {
                let name = format!("{} {}, {:?} path", thousands(row.size), row.family.name(), row.path);
                let Some(other) = self.beside(row, target.against) else {
                    writeln!(f, "- not measured: {name}, against {}", target.against)?;
                    continue;
                };
                for seat in Seat::ALL {
                    let ratio = row.times(seat, other);
                    ratios.push(ratio);
                    writeln!(
                        f,
                        "- {}: {name}, {seat:?} CPU: {ratio:.2} times {}, at least {:.2} wanted",
                        verdict(ratio >= target.least),
                        target.against,
                        target.least
                    )?;
                }
            }
            if target.size.is_none() && !ratios.is_empty() {
                ratios.sort_by(f64::total_cmp);
                let ratio = median(&ratios);
                let verdict = verdict(ratio >= target.least);
                writeln!(f, "- {verdict}: the median of these: {ratio:.2} times {}", target.against)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nMpps: millions of packets in one second of CPU time, median of the rounds (lowest to \
             highest; which part of the time the receiving threads had their CPU). On a shared CPU the \
             time of sending is part of it."
        )?;
        writeln!(f, "\nEvery packet from a random listed prefix; all must be dropped.\n")?;
        self.table(f, Path::Drop, LIMIT)?;
        writeln!(f, "Every packet from a random prefix in no list; all must pass.\n")?;
        self.table(f, Path::Pass, PARSE_ONLY)?;
        for line in &self.absent {
            writeln!(f, "{line}")?;
        }
        self.targets(f)?;
        for loading in &self.loading {
            write!(f, "{loading}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Loading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, lines, whole, edit } = self;
        let line = |f: &mut fmt::Formatter<'_>, what: &str, steps: &Steps, most: Duration| {
            writeln!(
                f,
                "- {}: {what}: {}: read and parse {}, compile {}, publish {}; at most {} wanted",
                verdict(steps.sum() <= most),
                time(steps.sum()),
                time(steps.parse),
                time(steps.compile),
                time(steps.publish),
                time(most)
            )
        };
        line(
            f,
            &format!("{} lines of {} from file to enforced", thousands(*lines), family.name()),
            whole,
            WHOLE_LIST,
        )?;
        line(f, "an edit of one line of it", edit, ONE_LINE)
    }
}

const fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "NOT met" }
}

fn thousands(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn time(duration: Duration) -> String {
    match duration.as_micros() {
        0 => "–".to_owned(),
        micros @ 1..10_000 => format!("{:.1} ms", f64::from(u32::try_from(micros).unwrap_or(0)) / 1e3),
        micros @ 10_000..1_000_000 => format!("{} ms", micros / 1000),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure to be read")]
fn mib(bytes: u64) -> String {
    if bytes == 0 { "–".to_owned() } else { format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)) }
}
