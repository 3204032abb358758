//! Saying what happens, and how long it took.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Says a line to the person at the terminal.
pub(crate) fn say(text: impl AsRef<str>) {
    eprintln!("xtask: {}", text.as_ref());
}

/// Does one of several steps and says what it is, and how long it took.
pub(crate) fn step(number: usize, of: usize, title: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    say(format!("[{number}/{of}] {title}"));
    let started = Instant::now();
    work()?;
    say(format!("[{number}/{of}] done in {}", readable(started.elapsed())));
    Ok(())
}

/// A duration for people.
pub(crate) fn readable(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        seconds @ 1..60 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_readable() {
        assert_eq!(readable(Duration::from_millis(450)), "450 ms");
        assert_eq!(readable(Duration::from_secs(59)), "59 s");
        assert_eq!(readable(Duration::from_secs(125)), "2 min 5 s");
    }
}
