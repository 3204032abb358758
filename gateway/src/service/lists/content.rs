//! The content of a list file: read whole, within limits, and only when it has changed.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::super::stamp::Stamp;
use crate::config::{Diagnostic, Limits};
use crate::policy::{self, ListEntry, ParseOptions, Tier};

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
    Ok(Some((now, text)))
}

/// Whether `text` ends within a line and was written just now: then the rest of the line is
/// probably on its way, and `10.0.0.0/1` is about to become `10.0.0.0/16`.
pub(super) fn unfinished(stamp: &Stamp, text: &[u8]) -> bool {
    text.last().is_some_and(|byte| *byte != b'\n') && stamp.age(SystemTime::now()) < SETTLED
}

/// The entries in `text`, the content of the list at `path`, with warnings; or what is wrong with it.
pub(super) fn parse(
    tier: Tier,
    path: &Path,
    text: &[u8],
    limits: &Limits,
) -> Result<(Vec<ListEntry>, Vec<Diagnostic>), Vec<Diagnostic>> {
    match policy::parse_list(text, &ParseOptions { tier, prefixes: limits.prefixes }) {
        Ok(parsed) => {
            let warnings = located(path, parsed.warnings, "warnings").into_iter();
            Ok((parsed.entries, warnings.map(Diagnostic::warning).collect()))
        }
        Err(faults) => Err(located(path, faults, "faults")),
    }
}

fn located(path: &Path, found: policy::Diagnostics, what: &str) -> Vec<Diagnostic> {
    let more = (found.more > 0).then(|| Diagnostic::of_file(path, format!("and {} more {what}", found.more)));
    let first = found.first.into_iter().map(|fault| Diagnostic {
        line: fault.line,
        column: fault.column,
        ..Diagnostic::of_file(path, fault.message)
    });
    first.chain(more).collect()
}
