//! Looks whether the upstreams can be reached among which sessions can choose.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::edge::Gate;
use crate::session::upstream::probe;

/// Runs until `stop`. Each upstream is connected to once per `interval`, within that time.
pub(super) async fn watch(gate: Arc<Gate>, interval: Duration, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        // As many as the configuration has.
        let mut probes = JoinSet::new();
        for node in gate.snapshot().choices() {
            probes.spawn(async move { probe(&node, interval).await });
        }
        tokio::select! {
            () = stop.cancelled() => return,
            _ = probes.join_all() => {}
        }
    }
}
