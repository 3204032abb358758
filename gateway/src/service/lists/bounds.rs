//! Whether a list may change as far as new content would change it.

use crate::config::Bounds;

/// Why a list with `in_force` entries may not get `entries` entries at once; `None` when it may.
pub(super) fn excess(bounds: &Bounds, in_force: usize, entries: usize) -> Option<String> {
    let (before, after) = (in_force as u128, entries as u128);
    // With nothing in force, there is nothing to compare with.
    if before == 0 || before < u128::from(bounds.change_freely_below) {
        return None;
    }
    let (change, allowed, words, key) = if after < before {
        (before - after, bounds.max_shrink, "lose", "max_shrink")
    } else {
        (after - before, bounds.max_growth, "gain", "max_growth")
    };
    (change * 100 > before * u128::from(allowed)).then(|| {
        // Rounded up, so that it never looks as if it were allowed.
        let tenths = (change * 1000).div_ceil(before);
        format!(
            "would {words} {change} entries and have {after} instead of {before}: {}.{} %, and {key} allows {allowed} %",
            tenths / 10,
            tenths % 10
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { max_shrink: 50, max_growth: 100, change_freely_below: 10 };

    #[test]
    fn a_change_up_to_the_bound_is_taken_and_one_entry_more_is_not() {
        for (in_force, entries) in [(100, 50), (100, 200), (100, 100), (11, 6), (10, 20)] {
            assert_eq!(excess(&BOUNDS, in_force, entries), None, "{in_force} -> {entries}");
        }
        for (in_force, entries) in [(100, 49), (100, 201), (10, 0), (11, 5), (10, 21), (usize::MAX, 0)] {
            assert!(excess(&BOUNDS, in_force, entries).is_some(), "{in_force} -> {entries}");
        }
        let why = excess(&BOUNDS, 1000, 3).expect("too much");
        let barely = excess(&BOUNDS, 10_001, 5_000).expect("too much");
        assert!(barely.contains("50.1 %, and max_shrink allows 50 %"), "{barely}");
        assert!(why.contains("lose 997 entries") && why.contains("3 instead of 1000: 99.7 %"), "{why}");
    }

    #[test]
    fn a_short_list_and_a_new_one_change_as_they_like() {
        assert_eq!(excess(&BOUNDS, 9, 0), None);
        assert_eq!(excess(&BOUNDS, 9, 1_000_000), None);
        let strict = Bounds { max_shrink: 0, max_growth: 0, change_freely_below: 0 };
        assert_eq!(excess(&strict, 0, 7), None);
        assert!(excess(&strict, 1, 2).is_some());
    }
}
