//! What an edited policy would have done with captured packets.

use std::collections::HashMap;
use std::fs::File;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use super::progress::Progress;
use super::{CONFIG, FAILED, print_diagnostics};
use crate::admin::control::{self, Request};
use crate::capture::{CaptureReport, Tally, frames};
use crate::config::Config;
use crate::service;

/// Sources that the daemon is asked about at once: with the longest addresses they fit into a
/// request.
const AT_ONCE: usize = 1000;

/// Judges the capture in `file` by the files of `config`. With `daemon`, it is compared with the
/// policy in force there.
pub(super) fn rehearse(
    config: &Config,
    file: &Path,
    daemon: Option<&Path>,
) -> Result<CaptureReport, ExitCode> {
    let (generation, ports) = match service::policy(config) {
        Ok(Some(policy)) => policy,
        Ok(None) => return Err(failed(file, "cannot be judged: the configuration has no [firewall]")),
        Err(faults) => {
            print_diagnostics(&faults);
            return Err(ExitCode::from(CONFIG));
        }
    };
    let capture = File::open(file).map_err(|error| failed(file, &format!("cannot be read: {error}")))?;
    let mut tally = Tally::new(&generation, &ports);
    let length = capture.metadata().map_or(0, |metadata| metadata.len());
    let progress = Progress::out_of("judging the capture", length);
    let end = frames(progress.reading(capture), |frame, length| tally.add(frame, length))
        .map_err(|error| failed(file, &error.to_string()))?;
    drop(progress);
    let mut report = tally.report();
    report.other_packets = end.other_packets;
    report.cut_off = end.cut_off;
    if let Some(socket) = daemon {
        let sources: Vec<IpAddr> = tally.sources().collect();
        let dropped = dropped_now(socket, &sources).map_err(|error| {
            failed(file, &format!("cannot be compared, the daemon does not answer: {error}"))
        })?;
        report.changes = Some(tally.changes(|source| dropped.get(&source).copied()));
    }
    Ok(report)
}

/// Whom of `sources` the policy in force drops.
fn dropped_now(socket: &Path, sources: &[IpAddr]) -> std::io::Result<HashMap<IpAddr, bool>> {
    let mut dropped = HashMap::with_capacity(sources.len());
    let progress = Progress::out_of("comparing with the daemon", sources.len() as u64);
    for some in sources.chunks(AT_ONCE) {
        let answer: Option<Vec<bool>> = control::ask(socket, &Request::Drops { addresses: some.to_vec() })?;
        let answer = answer.ok_or_else(|| std::io::Error::other("it has just ended"))?;
        dropped.extend(some.iter().copied().zip(answer));
        progress.advance(some.len() as u64);
    }
    Ok(dropped)
}

fn failed(file: &Path, why: &str) -> ExitCode {
    complain!("gatehouse: {} {why}", file.display());
    ExitCode::from(FAILED)
}
