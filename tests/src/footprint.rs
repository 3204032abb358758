//! What a process takes of the host.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// Open files and resident memory of a process.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// Open file descriptors.
    pub files: usize,
    /// Resident memory, in KiB.
    pub memory: u64,
}

impl Footprint {
    /// Of the process `pid` now.
    pub fn of(pid: u64) -> Result<Self> {
        let files = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let memory =
            line.and_then(|line| line.trim().strip_suffix(" kB")).context("VmRSS")?.trim().parse()?;
        Ok(Self { files, memory })
    }
}

/// Looks again and again until `done`, for `patience` at most; what was there last.
pub fn eventually<T: std::fmt::Debug>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Result<T>,
    done: impl Fn(&T) -> bool,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        let seen = look()?;
        if done(&seen) {
            return Ok(seen);
        }
        ensure!(Instant::now() < deadline, "{what}: still {seen:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
