//! The content of a list file: read whole, within limits, and only when it has changed.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::super::stamp::Stamp;
use super::expand::Place;
use crate::config::{Diagnostic, Limits};
use crate::policy::{self, List, ListReading, ListText, ParseOptions};

/// For how long a list without a final line feed must not have changed. Half of the second in
/// which an edit has to be in force.
const SETTLED: Duration = Duration::from_millis(500);

/// The content of `path` unless it is still the one of `stamp`; at most `max` bytes.
pub(super) fn open(path: &Path, stamp: Option<Stamp>, max: u64) -> io::Result<Option<(Stamp, Vec<u8>)>> {
    // Without O_NONBLOCK, opening a FIFO would wait for its writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let now = Stamp::from(&metadata);
    if stamp == Some(now) {
        return Ok(None);
    }
    let too_large = || io::Error::other(format!("it is larger than [limits] list_size, {max} bytes"));
    if now.size() > max {
        return Err(too_large());
    }
    let mut text = Vec::with_capacity(usize::try_from(now.size()).unwrap_or(0));
    file.take(max.saturating_add(1)).read_to_end(&mut text)?;
    if text.len() as u64 > max {
        return Err(too_large());
    }
    Ok(Some((now, policy::unpack_list(text, max).map_err(io::Error::other)?)))
}

/// Whether `text` ends within a line and was written just now: then the rest of the line is
/// probably on its way, and `10.0.0.0/1` is about to become `10.0.0.0/16`.
pub(super) fn unfinished(stamp: &Stamp, text: &[u8]) -> bool {
    text.last().is_some_and(|byte| *byte != b'\n') && stamp.age(SystemTime::now()) < SETTLED
}

/// Content as it was read, with warnings; or what is wrong with it. Only those lines are read in which `text`
/// differs from `kept`, what `list` was read from, when that is enough.
pub(super) fn parse(
    list: &List,
    kept: Option<&ListText>,
    place: &Place,
    text: &[u8],
    limits: &Limits,
) -> Result<(ListReading, Vec<Diagnostic>), Vec<Diagnostic>> {
    let options = ParseOptions { tier: list.tier, prefixes: limits.prefixes };
    match ListReading::of(text, list, kept, &options) {
        Ok(reading) => {
            let warnings = located(place, reading.warnings().clone(), "warnings").into_iter();
            Ok((reading, warnings.map(Diagnostic::warning).collect()))
        }
        Err(faults) => Err(located(place, faults, "faults")),
    }
}

fn located(place: &Place, found: policy::Diagnostics, what: &str) -> Vec<Diagnostic> {
    let more = (found.more > 0).then(|| place.fault(format!("and {} more {what}", found.more)));
    let first = found.first.into_iter().map(|fault| Diagnostic {
        line: fault.line,
        column: fault.column,
        ..place.fault(fault.message)
    });
    first.chain(more).collect()
}
