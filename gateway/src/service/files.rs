//! How many files the daemon may have open, and how many sessions that is.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files that are not connections: lists, keys, the journal, the control socket, the tables and
/// links of the XDP program, and the connections of clients that are being turned away.
const RESERVE: u64 = 512;
/// Less would not let the daemon serve at all on a small limit.
const LEAST_RESERVE: u64 = 64;
/// A session is a connection of the client and one to the upstream.
const FILES_PER_SESSION: usize = 2;

/// Takes as many open files as the host allows, and returns how many of them connections can be, those to
/// upstreams included. Says so when they are not enough for the `wanted` sessions. Running out of files would
/// leave clients without an answer, and lists and keys unread.
pub(super) fn of_connections(wanted: usize) -> usize {
    let limit = match raise() {
        Ok(limit) => limit,
        Err(error) => {
            log::warn!(
                "the limit on open files is not known ({error}): nothing but [limits] sessions bounds the connections"
            );
            return usize::MAX;
        }
    };
    let files = fit(limit);
    let possible = files / FILES_PER_SESSION;
    if possible < wanted {
        log::warn!(
            "[limits] sessions is {wanted}, but {limit} open files are enough for {possible}: more clients are told \
             limit/capacity. Raise the limit (LimitNOFILE= in a systemd unit, ulimit -n in a shell), or lower sessions"
        );
    }
    files
}

/// Raises the soft limit to the hard one; the limit in force.
fn raise() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return Ok(hard);
    }
    Ok(soft)
}

/// How many of `files` open files connections can be; at least those of one session.
fn fit(files: u64) -> usize {
    let reserve = RESERVE.min(files / 4).max(LEAST_RESERVE);
    usize::try_from(files.saturating_sub(reserve)).unwrap_or(usize::MAX).max(FILES_PER_SESSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_the_reserve_fit_into_the_open_files() {
        for files in [64, 100, 256, 1024, 20_000, 1 << 20] {
            let connections = fit(files);
            assert!(connections >= FILES_PER_SESSION, "{files}");
            let least = usize::try_from(files - LEAST_RESERVE).expect("64 bits");
            assert!(connections <= least.max(FILES_PER_SESSION), "{files}");
        }
        assert_eq!(fit(20_000), 19_488);
        assert_eq!(fit(u64::MAX), usize::try_from(u64::MAX - RESERVE).expect("64 bits"));
    }
}
