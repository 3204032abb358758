//! How far a list may change at once.

use toml::Spanned;

use super::model::Bounds;
use super::validate::Checker;

/// The keys as they were given, for all lists or for one.
pub(super) struct Given<'a> {
    pub(super) max_shrink: &'a Option<Spanned<u32>>,
    pub(super) max_growth: &'a Option<Spanned<u32>>,
    pub(super) change_freely_below: &'a Option<Spanned<u32>>,
}

/// The bounds that `given` says, and `default` where it says nothing.
pub(super) fn check(checker: &mut Checker<'_>, given: &Given<'_>, default: Bounds) -> Bounds {
    if let Some(percent) = given.max_shrink.as_ref().filter(|percent| *percent.get_ref() > 100) {
        let message = "a list cannot lose more than all of its entries: max_shrink is a number of per cent from \
                       0 to 100";
        checker.fault(&percent.span(), message);
    }
    let or = |given: &Option<Spanned<u32>>, default| given.as_ref().map_or(default, |value| *value.get_ref());
    Bounds {
        max_shrink: or(given.max_shrink, default.max_shrink),
        max_growth: or(given.max_growth, default.max_growth),
        change_freely_below: or(given.change_freely_below, default.change_freely_below),
    }
}
