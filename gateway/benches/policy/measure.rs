//! One measurement.

use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::generator::Traffic;
use crate::lane::{Counters, Lane, Seat};
use crate::scene::Path;

/// How long the first packets may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Packets before the measurement begins.
const WARM_UP: u64 = 100_000;

/// How a peer's work shows at the host.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Survivors {
    /// What it lets through comes to the host's IP.
    ReachIp,
    /// It works inside the host's IP: what it lets through is delivered.
    Delivered,
}

/// What one measurement found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Packets in one second of the time of the threads that receive, in millions.
    pub(crate) mpps: f64,
    /// Which part of the time they were running.
    pub(crate) busy: f64,
}

/// Sends `traffic` for `window`, and makes sure that it met the fate that it should.
pub(crate) fn measure(
    lane: &Lane,
    seat: Seat,
    traffic: Traffic,
    path: Path,
    survivors: Survivors,
    window: Duration,
) -> Outcome<Rate> {
    let receivers = lane.seat(seat)?;
    let read = || lane.counters(traffic.family, &receivers);
    let (from, to) = lane.generator.during(traffic, || {
        let first = read()?;
        let deadline = Instant::now() + PATIENCE;
        let mut from = first;
        while from.packets < first.packets + WARM_UP {
            if Instant::now() > deadline {
                return Err(format!("only {} packets arrived", from.packets - first.packets).into());
            }
            thread::sleep(Duration::from_millis(2));
            from = read()?;
        }
        // The measurement itself: nothing else tells that the time is over.
        thread::sleep(window);
        Ok((from, read()?))
    })?;
    verify(&from, &to, path, survivors)?;
    rate(&from, &to)
}

fn verify(from: &Counters, to: &Counters, path: Path, survivors: Survivors) -> Outcome<()> {
    let packets = to.packets - from.packets;
    let survived = match survivors {
        Survivors::ReachIp => to.reached_ip - from.reached_ip,
        Survivors::Delivered => to.delivered - from.delivered,
    };
    // Counters are read one after the other while packets come, and the host has a few of its own.
    let (few, most) = (packets / 100, packets - packets / 20);
    match path {
        Path::Drop if survived > few => Err(format!("{survived} of {packets} packets got through").into()),
        Path::Pass if survived < most => Err(format!("only {survived} of {packets} packets passed").into()),
        Path::Drop | Path::Pass => Ok(()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
fn rate(from: &Counters, to: &Counters) -> Outcome<Rate> {
    let packets = (to.packets - from.packets) as f64;
    let cpu = to.cpu.saturating_sub(from.cpu).as_secs_f64();
    let time = to.at.duration_since(from.at).as_secs_f64();
    if packets == 0.0 || cpu == 0.0 || time == 0.0 {
        return Err("nothing arrived while it was measured".into());
    }
    Ok(Rate { mpps: packets / cpu / 1e6, busy: cpu / time })
}
