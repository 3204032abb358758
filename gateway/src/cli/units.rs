//! Durations and sizes for people.

use std::time::Duration;

/// Seconds, in the two largest units.
pub(super) fn span(seconds: u64) -> String {
    let text = humantime::format_duration(Duration::from_secs(seconds)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Bytes, in a unit that fits.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..10_240 => format!("{count} B"),
        10_240..10_485_760 => format!("{} KiB", count >> 10),
        _ => format!("{} MiB", count >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_units_of_a_duration_and_one_of_a_size_are_enough() {
        assert_eq!([0, 59, 3_600 + 61, 90_061].map(span), ["0s", "59s", "1h 1m", "1day 1h"]);
        assert_eq!([0, 10_239, 10_240, 11 << 20].map(bytes), ["0 B", "10239 B", "10 KiB", "11 MiB"]);
    }
}
