//! How many files the daemon may have open, and how many sessions that is.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files that are not connections: lists, keys, the journal, the control socket, the tables and
/// links of the XDP program, and the connections of clients that are being turned away.
const RESERVE: u64 = 512;
/// Less would not let the daemon serve at all on a small limit.
const LEAST_RESERVE: u64 = 64;
/// A session is a connection of the client and one to the upstream.
const FILES_PER_SESSION: u64 = 2;

/// Takes as many open files as the host allows, and returns how many of the `wanted` sessions
/// they are enough for. Running out of files would leave clients without an answer, and lists and
/// keys unread.
pub(super) fn sessions(wanted: usize) -> usize {
    let limit = match raise() {
        Ok(limit) => limit,
        Err(error) => {
            log::warn!("the limit on open files is not known ({error}): [limits] sessions stays as it is");
            return wanted;
        }
    };
    let possible = fit(limit);
    if possible >= wanted {
        return wanted;
    }
    log::warn!(
        "[limits] sessions is {wanted}, but {limit} open files are enough for {possible}: more clients are told \
         limit/capacity. Raise the limit (LimitNOFILE= in a systemd unit, ulimit -n in a shell), or lower sessions"
    );
    possible
}

/// Raises the soft limit to the hard one; the limit in force.
fn raise() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return Ok(hard);
    }
    Ok(soft)
}

/// The sessions that `files` open files are enough for; at least one.
fn fit(files: u64) -> usize {
    let reserve = RESERVE.min(files / 4).max(LEAST_RESERVE);
    let sessions = files.saturating_sub(reserve) / FILES_PER_SESSION;
    usize::try_from(sessions).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_and_the_reserve_fit_into_the_open_files() {
        for files in [64, 100, 256, 1024, 20_000, 1 << 20] {
            let sessions = fit(files) as u64;
            assert!(sessions >= 1, "{files}");
            assert!(sessions * FILES_PER_SESSION <= files.saturating_sub(LEAST_RESERVE).max(2), "{files}");
        }
        assert_eq!(fit(20_000), 9_744);
        assert_eq!(fit(u64::MAX), usize::try_from((u64::MAX - RESERVE) / 2).expect("64 bits"));
    }
}
